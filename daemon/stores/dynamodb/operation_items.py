"""What operations look like as items: their keys and forms.

Owns them, under the generation's label: `standing`, one small item that supervisors poll; `operation#N`; `request#ID`,
which names its operation; `outcome#N#SHARD`. Must not know clients or when they are written.

Invariant: what is written reads back equal.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from daemon.core.identity import Generation
from daemon.core.operations import (
    Operation,
    ShardOutcome,
    Standing,
    operation_of,
    operation_values,
    outcome_values,
    shard_outcome_of,
    standing_of,
    standing_values,
)
from daemon.stores.dynamodb.damage import whole
from daemon.stores.dynamodb.items import Item, attributes_of, item_of, scope_key
from daemon.stores.dynamodb.values import Typed

STANDING = "standing"
OPERATION, REQUEST, OUTCOME = "operation#", "request#", "outcome#"
_DIGITS = 12


def standing_key(generation: Generation) -> dict[str, Typed]:
    """Return the key of a generation's standing."""
    return {"pk": {"S": generation.label}, "sk": {"S": STANDING}}


def operation_key(sequence: int) -> str:
    """Return the sort key of an operation."""
    return f"{OPERATION}{sequence:0{_DIGITS}d}"


def outcome_prefix(sequence: int) -> str:
    """Return how the sort keys of one operation's outcomes begin."""
    return f"{OUTCOME}{sequence:0{_DIGITS}d}"


def outcome_item(outcome: ShardOutcome) -> Item:
    """Return the item of what one shard made of one operation."""
    scope = outcome.scope
    shard = blake2b(scope_key(scope).encode(), digest_size=16).hexdigest()
    key = {"pk": scope.of.label, "sk": f"{outcome_prefix(outcome.sequence)}#{shard}"}
    return item_of(key | outcome_values(outcome))


@whole("the outcome of an operation", "remove the item; the shard's checkpoint tells what it obeyed")
def noted_of(item: Mapping[str, Mapping[str, Any]], generation: Generation) -> ShardOutcome:
    """Return the outcome that an item holds."""
    return shard_outcome_of(generation, attributes_of(item))


@whole("an operation", "restore the item from a backup")
def accepted_of(item: Mapping[str, Mapping[str, Any]], generation: Generation) -> Operation:
    """Return the operation that an item holds."""
    return operation_of(generation, attributes_of(item))


@whole("where operations stand", "restore the item from a backup")
def stand_of(item: Mapping[str, Mapping[str, Any]]) -> Standing:
    """Return the standing that an item holds."""
    return standing_of(attributes_of(item))


def unmoved(table: str, generation: Generation, seen: int) -> dict[str, Any]:
    """Return the action by which a transaction holds only while a generation's standing is at `seen`."""
    check: dict[str, Any] = {"TableName": table, "Key": standing_key(generation), **stands_at(seen)}
    return {"ConditionCheck": check}


def stands_at(sequence: int) -> dict[str, Any]:
    """Return the condition that a standing is at a sequence."""
    if not sequence:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": "#s=:s",
        "ExpressionAttributeNames": {"#s": "sequence"},
        "ExpressionAttributeValues": {":s": {"N": str(sequence)}},
    }


def standing_item(generation: Generation, standing: Standing) -> Item:
    """Return a generation's standing."""
    return item_of({"pk": generation.label, "sk": STANDING, **standing_values(standing)})


def operation_item(operation: Operation) -> Item:
    """Return an operation."""
    key = {"pk": operation.generation.label, "sk": operation_key(operation.sequence)}
    return item_of(key | operation_values(operation))


def request_key(generation: Generation, request: str) -> Item:
    """Return the key of what a request became."""
    return item_of({"pk": generation.label, "sk": f"{REQUEST}{request}"})
