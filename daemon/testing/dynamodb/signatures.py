"""Whether a request is signed, and rightly: Signature Version 4, checked from the service's side.

Owns the check, written from the published algorithm and sharing nothing with the signer it tests. Must not know
operations.

Invariant: without credentials every well-formed signature passes; with them only the right one of a key that is known
and has not expired.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.testing.dynamodb.errors import ServiceError

_FORM = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/"
    r"(?P<scope>(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request),\s*"
    r"SignedHeaders=(?P<signed>[^,]+),\s*Signature=(?P<signature>[0-9a-f]{64})\Z"
).match


@dataclass(slots=True)
class Credentials:
    """Secret keys by access key; those in `expired` are refused as expired. Both may change while the server runs."""

    secrets: dict[str, str] = field(default_factory=dict[str, str])
    expired: set[str] = field(default_factory=set[str])

    def check(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Refuse a request that is not signed, or (with credentials) wrongly; `headers` by lower-case name."""
        given = _FORM(headers.get("authorization", ""))
        if given is None:
            raise ServiceError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
        if given["key"] in self.expired:
            raise ServiceError("ExpiredTokenException", "The security token included in the request is expired")
        if not self.secrets:
            return
        secret = self.secrets.get(given["key"])
        if secret is None:
            raise ServiceError("UnrecognizedClientException", "The security token included in the request is invalid.")
        names = given["signed"].split(";")
        if "host" not in names or "x-amz-date" not in names or "x-amz-target" not in names:
            raise ServiceError(
                "InvalidSignatureException", f"Signed headers lack host, x-amz-date or x-amz-target: {names}"
            )
        canonical = "\n".join(
            [
                method,
                path,
                "",
                *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in names),
                "",
                given["signed"],
                hashlib.sha256(body).hexdigest(),
            ]
        )
        signed = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                headers.get("x-amz-date", ""),
                given["scope"],
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = f"AWS4{secret}".encode()
        for part in (given["day"], given["region"], given["service"], "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(hmac.new(key, signed.encode(), "sha256").hexdigest(), given["signature"]):
            raise ServiceError(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
            )
