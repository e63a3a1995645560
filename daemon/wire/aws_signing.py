"""AWS Signature Version 4, by botocore's own signer, at the cost of what really changes between two calls.

Owns the signature and the headers of one AWS JSON call. Must not know connections, or where credentials come from.

Two calls of one service under the same credentials differ in second, operation and body only. So botocore's signer
writes the canonical request once, with holes for these three, and the signing key of a day is derived once. Invariant:
the result is the stock `SigV4Auth`'s, byte for byte.
"""

import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple, Protocol, cast

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]

from daemon.wire.aws_json import Service

_DATE_HOLE = "\0date\0"
_OPERATION_HOLE = "\0operation\0"
_DIGEST_OF_NOTHING = sha256(b"").hexdigest()
_DAY_LENGTH = len("20260301")


class FrozenCredentials(Protocol):
    """What botocore calls `ReadOnlyCredentials`: one set of keys, as it was at one moment."""

    @property
    def access_key(self) -> str:
        """The public half."""
        ...

    @property
    def secret_key(self) -> str:
        """The secret half."""
        ...

    @property
    def token(self) -> str | None:
        """The session token of temporary credentials."""
        ...


class _Moment(NamedTuple):
    """As much of a botocore request as scopes and strings to sign are made from."""

    context: Mapping[str, str]


class _Second(NamedTuple):
    """What all calls of one second have in common."""

    stamp: str
    to_sign: str
    """The string to sign, up to the digest of the canonical request."""
    scope: str
    key: bytes


class _StockSigner(Protocol):
    """What is used of botocore's `SigV4Auth`, which has no types."""

    def headers_to_sign(self, request: AWSRequest) -> Mapping[str, str]: ...
    def signed_headers(self, headers_to_sign: Mapping[str, str]) -> str: ...
    def canonical_request(self, request: AWSRequest) -> str: ...
    def string_to_sign(self, request: _Moment, canonical_request: str) -> str: ...
    def scope(self, request: _Moment) -> str: ...


class CallSigner:
    """Signs POSTs of one service's calls to `url` under one set of credentials.

    Raises ValueError for credentials that no HTTP header can carry.
    """

    def __init__(self, credentials: FrozenCredentials, service: Service, region: str, url: str) -> None:
        self.credentials = credentials
        token = credentials.token
        for text in (credentials.access_key, token or "", region):
            if not (text.isascii() and text.isprintable()):
                raise ValueError(
                    "the access key, session token or region holds a character that no HTTP header can carry"
                )
        self._key_parts = (region, service.signing, "aws4_request")
        self._target = f"{service.target}."
        self._now = -1
        self._second = _Second("", "", "", b"")
        self._day = ""
        self._key = b""
        self._stock = stock = cast("_StockSigner", SigV4Auth(credentials, service.signing, region))
        self._fixed = {"Content-Type": f"application/x-amz-json-{service.version}"}
        if token:
            self._fixed["X-Amz-Security-Token"] = token
        form = AWSRequest(
            "POST", url, {**self._fixed, "X-Amz-Date": _DATE_HOLE, "X-Amz-Target": f"{self._target}{_OPERATION_HOLE}"}
        )
        names = stock.headers_to_sign(form)
        self._fixed = {"Host": names["host"], **self._fixed}
        self._signed_names = stock.signed_headers(names)
        self._to_date, rest = stock.canonical_request(form).split(_DATE_HOLE)
        self._to_operation, rest = rest.split(_OPERATION_HOLE)
        self._to_digest = rest[: rest.rindex("\n") + 1]

    def headers(self, operation: str, body: bytes, now: float) -> dict[str, str]:
        """Return the headers of one call, all that are signed and the signature; `now` is in seconds since 1970."""
        second = self._second if int(now) == self._now else self._second_at(int(now))
        stamp = second.stamp
        digest = sha256(body).hexdigest()
        canonical = f"{self._to_date}{stamp}{self._to_operation}{operation}{self._to_digest}{digest}"
        to_sign = second.to_sign + sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(second.key, to_sign.encode(), "sha256").hex()
        return self._fixed | {
            "X-Amz-Date": stamp,
            "X-Amz-Target": self._target + operation,
            "Authorization": (
                f"AWS4-HMAC-SHA256 Credential={second.scope}, SignedHeaders={self._signed_names}, Signature={signature}"
            ),
        }

    def _key_of(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self.credentials.secret_key}".encode()
            for part in (day, *self._key_parts):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = key
            self._day = day
        return self._key

    def _second_at(self, now: int) -> _Second:
        moment = _Moment({"timestamp": time.strftime(SIGV4_TIMESTAMP, time.gmtime(now))})
        stamp = moment.context["timestamp"]
        to_sign = self._stock.string_to_sign(moment, "").removesuffix(_DIGEST_OF_NOTHING)
        self._second = _Second(stamp, to_sign, self._stock.scope(moment), self._key_of(stamp[:_DAY_LENGTH]))
        self._now = now
        return self._second
