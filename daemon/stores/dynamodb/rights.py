"""Which rights a role lacks, found by asking: every action that the store needs, on every table, without any effect.

Owns what the store does on which table, and a harmless request for each. Must not know policies: a right is there when
its use is not refused.

Invariant: no probe changes anything: writes carry a condition that no item can meet, or delete a key that no item has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.core.errors import StoreUnavailable
from daemon.stores.dynamodb.calls import Caller
from daemon.stores.dynamodb.outcomes import is_open, passes, problem_of
from daemon.stores.dynamodb.tables import Table
from daemon.wire.aws_json import Failure, NotSent, Silence

_NOBODY = "projectiond-check"
"""A key that no item has."""
_ACCESS_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "NotAuthorized"})

type Probe = tuple[str, dict[str, Any]]
"""An operation and its request."""

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "state": (
        "DescribeTable", "GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem",
        "ConditionCheckItem",
    ),
    "markers": ("DescribeTable", "DescribeTimeToLive", "BatchGetItem", "PutItem"),
    "effects": ("DescribeTable", "Query", "PutItem"),
    "rows": (
        "DescribeTable", "DescribeTimeToLive", "GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem",
        "ConditionCheckItem",
    ),
}  # fmt: skip
"""What the store does, by what a table holds. The parts of a transaction need the right of each part."""


@dataclass(frozen=True, slots=True)
class MissingRight:
    """An action that is refused on a table, in the service's own words."""

    action: str
    table: str
    said: str

    def __str__(self) -> str:
        return f"dynamodb:{self.action} on table {self.table} ({self.said})"


async def missing_rights(caller: Caller, table: Table, kind: str) -> list[MissingRight]:
    """Return the actions that are refused on an existing table. Raises StoreUnavailable where nothing can be told."""
    missing: list[MissingRight] = []
    for action, (operation, request) in _probes(table, kind):

        async def attempt(operation: str = operation, request: dict[str, Any] = request) -> str | None:
            answer = await caller.once(operation, request)
            if isinstance(answer, Silence | NotSent) or (
                isinstance(answer, Failure) and (passes(answer) or is_open(answer))
            ):
                raise StoreUnavailable(str(problem_of(answer)))
            return answer.message if isinstance(answer, Failure) and answer.code in _ACCESS_DENIED else None

        said = await caller.patiently(attempt)
        if said is not None:
            missing.append(MissingRight(action, table.name, said))
    return missing


def _probes(table: Table, kind: str) -> Iterator[tuple[str, Probe]]:
    key = {name: {"S": _NOBODY} for name in table.keys}
    named: dict[str, Any] = {"TableName": table.name}
    first = {"#k": table.keys[0]}
    never = {
        "ConditionExpression": "attribute_exists(#k) AND attribute_not_exists(#k)",
        "ExpressionAttributeNames": first,
    }
    check = {"ConditionExpression": "attribute_exists(#k)", "ExpressionAttributeNames": first}
    query = {
        "KeyConditionExpression": "#k=:k",
        "ExpressionAttributeNames": first,
        "ExpressionAttributeValues": {":k": {"S": _NOBODY}},
        "Limit": 1,
    }
    probes: dict[str, Probe] = {
        "DescribeTable": ("DescribeTable", named),
        "DescribeTimeToLive": ("DescribeTimeToLive", named),
        "GetItem": ("GetItem", named | {"Key": key}),
        "BatchGetItem": ("BatchGetItem", {"RequestItems": {table.name: {"Keys": [key]}}}),
        "Query": ("Query", named | query),
        "PutItem": ("PutItem", named | {"Item": key} | never),
        "UpdateItem": ("UpdateItem", named | {"Key": key} | never),
        "DeleteItem": ("DeleteItem", named | {"Key": key} | never),
        "BatchWriteItem": ("BatchWriteItem", {"RequestItems": {table.name: [{"DeleteRequest": {"Key": key}}]}}),
        "ConditionCheckItem": (
            "TransactWriteItems",
            {"TransactItems": [{"ConditionCheck": named | {"Key": key} | check}]},
        ),
    }
    for action in ACTIONS[kind]:
        yield action, probes[action]
