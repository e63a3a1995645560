"""The tables that daemons leave on a DynamoDB server, read by plain requests: nothing of their store takes part."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
"""What a daemon's environment holds to reach a server that takes any credentials."""
BOOKKEEPING = frozenset({"_v", "_src", "_seq", "_expires", "_gone", "key", "view"})
"""Attributes of a row's item that are not the projection's own."""
_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260101/us-east-1/dynamodb/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one prefix, on the server at an address (`host:port`)."""

    address: str
    prefix: str

    def call(self, operation: str, body: Mapping[str, Any]) -> Any:
        """Make one request; None where the server or the table is not there."""
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": _SIGNED,
        }
        host, _, port = self.address.partition(":")
        connection = HTTPConnection(host, int(port), timeout=30.0)
        try:
            connection.request("POST", "/", json.dumps(body), headers)
            answer = connection.getresponse()
            document = json.loads(answer.read())
        except (OSError, ValueError):
            return None
        finally:
            connection.close()
        return document if answer.status == 200 else None

    def read(self, name: str) -> list[dict[str, Any]]:
        """Read a whole table as plain Python."""
        items: list[dict[str, Any]] = []
        request: dict[str, Any] = {"TableName": f"{self.prefix}-{name}", "ConsistentRead": True}
        while True:
            answer = self.call("Scan", request)
            assert answer is not None, f"table {name} cannot be read"
            items += [plain({"M": item}) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return sorted(items, key=lambda item: sorted((name, str(value)) for name, value in item.items()))
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def plain(value: Mapping[str, Any]) -> Any:
    """Return the plain value of typed JSON, as far as the tests' projections use it."""
    ((kind, held),) = value.items()
    match kind:
        case "M":
            return {name: plain(inner) for name, inner in held.items()}
        case "L":
            return [plain(inner) for inner in held]
        case "N":
            return int(held)
        case _:
            return held
