"""One write: put, update, delete or condition check, alone or as an action of a transaction.

Owns reading it from a request, judging it against the stored item, and what it costs. Must not know transactions.

Invariants: `parse` looks at the request only, `resolve` at the table's schema, `judge` at the stored item; each refuses
what can be known at its stage, and nothing is stored before `judge` has passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daemon.testing.dynamodb.capacity import Spent, write_units
from daemon.testing.dynamodb.database import Database
from daemon.testing.dynamodb.errors import CONDITION_FAILED, ServiceError, invalid, invalid_item
from daemon.testing.dynamodb.expressions import Condition, Expressions, Update
from daemon.testing.dynamodb.parameters import require, take
from daemon.testing.dynamodb.tables import MISMATCH, Key, Record, Table
from daemon.testing.dynamodb.values import MAX_ITEM_BYTES, TOO_LARGE, Item, measured_item, stored_size

_COMMON = {
    "TableName": str,
    "ConditionExpression": str,
    "ExpressionAttributeNames": dict,
    "ExpressionAttributeValues": dict,
    "ReturnValuesOnConditionCheckFailure": str,
}
MEMBERS: Mapping[str, Mapping[str, type]] = {
    "Put": {**_COMMON, "Item": dict},
    "Update": {**_COMMON, "Key": dict, "UpdateExpression": str},
    "Delete": {**_COMMON, "Key": dict},
    "ConditionCheck": {**_COMMON, "Key": dict},
}
"""What each kind of write may consist of."""


@dataclass(slots=True)
class Write:
    """One write; `key`, `table` and `attributes` (the key's) are there once it is resolved."""

    kind: str
    request: Mapping[str, Any]
    values: Item
    condition: Condition | None
    update: Update | None
    put: Record | None
    return_failed: bool
    table: Table
    key: Key
    attributes: Item


_NOWHERE = Table("", None)  # type: ignore[arg-type]  # a stand-in until `resolve`; nothing reads it
_NO_KEY = Key("")


def parse(kind: str, request: Mapping[str, Any]) -> Write:
    """Read a write; everything that the request alone gives away is refused here."""
    failed = request.get("ReturnValuesOnConditionCheckFailure", "NONE")
    if failed not in {"NONE", "ALL_OLD"}:
        raise invalid(
            f"1 validation error detected: Value '{failed}' at 'returnValuesOnConditionCheckFailure' failed to satisfy "
            "constraint: Member must satisfy enum value set: [ALL_OLD, NONE]"
        )
    require(request, "TableName", "Item" if kind == "Put" else "Key")
    expressions = Expressions(request)
    condition = expressions.condition(request.get("ConditionExpression"))
    update = expressions.update(request.get("UpdateExpression")) if kind == "Update" else None
    expressions.done()
    if kind == "ConditionCheck" and condition is None:
        require(request, "ConditionExpression")
    put: Record | None = None
    if kind == "Put":
        item, size = measured_item(request["Item"])
        if size > MAX_ITEM_BYTES:
            raise invalid(TOO_LARGE)
        put = Record(item, size)
    return Write(kind, request, expressions.values, condition, update, put, failed == "ALL_OLD", _NOWHERE, _NO_KEY, {})


def read_action(kind: str, request: Any) -> Write:
    """Read an action of a transaction."""
    return parse(kind, take(request, MEMBERS[kind]))


def resolve(write: Write, table: Table) -> None:
    """Find the write's key under its table's schema."""
    write.table = table
    if write.put is not None:
        write.key = table.key_of_item(write.put.item)
        return
    write.key, write.attributes = table.key_of_key(write.request["Key"])
    if write.update is not None:
        for name in table.schema.keys:
            if name in write.update.attributes:
                raise invalid_item(
                    f"One or more parameter values were invalid: Cannot update attribute {name}. "
                    "This attribute is part of the key"
                )


def judge(write: Write) -> Record | None:
    """Return what the item becomes (None: it is gone), or refuse."""
    record = write.table.records.get(write.key)
    condition = write.condition
    if condition is not None and not condition.test({} if record is None else record.item, write.values):
        shown: dict[str, Any] = {"Item": record.item} if write.return_failed and record is not None else {}
        raise ServiceError("ConditionalCheckFailedException", CONDITION_FAILED, item_level=True, **shown)
    if write.put is not None:
        return write.put
    if write.kind == "Delete":
        return None
    if write.kind == "ConditionCheck":
        return record
    before = write.attributes if record is None else record.item
    if write.update is None:
        return Record(before, stored_size(before)) if record is None else record
    after = write.update.apply(before, write.values)
    if write.table.indexes:
        write.table.check_index_keys(after)
    return Record(after, stored_size(after))


def charge(write: Write, before: Record | None, after: Record | None, spent: Spent, factor: int = 1) -> float:
    """Count the units of a write (a failed one too: then `after` is `before`); return them."""
    size = max(before.size if before else 0, after.size if after else 0)
    units = float(write_units(size) * factor)
    spent.write += units
    if write.table.indexes and before is not after:
        for index in write.table.indexes.values():
            index_units = factor * _index_units(write.table, index.name, before, after)
            if index_units:
                spent.index_write[index.name] = spent.index_write.get(index.name, 0.0) + index_units
                units += index_units
                if index.local:
                    spent.local.add(index.name)
    return units


def _index_units(table: Table, name: str, before: Record | None, after: Record | None) -> int:
    index = table.indexes[name]

    def entry(record: Record | None) -> Record | None:
        held = record is not None and all(key in record.item for key in index.keys)
        return table.entry(index, record) if held and record is not None else None

    old, new = entry(before), entry(after)
    if old is None or new is None:
        only = old or new
        return write_units(only.size) if only else 0
    if old.item == new.item:
        return 0
    if all(old.item[key] == new.item[key] for key in index.keys):
        return write_units(max(old.size, new.size))
    return write_units(old.size) + write_units(new.size)


def store(database: Database, write: Write, after: Record | None) -> None:
    """Put a judged write's result in place."""
    if write.kind != "ConditionCheck":
        write.table.store(write.key, after, database.clock.monotonic())


__all__ = ["MEMBERS", "MISMATCH", "Write", "charge", "judge", "parse", "read_action", "resolve", "store"]
