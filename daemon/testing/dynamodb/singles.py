"""PutItem, UpdateItem, DeleteItem and GetItem.

Owns single-item operations and their answers. Must not know transactions, except that an item may be held by one.
"""

from typing import Any

from daemon.testing.dynamodb.capacity import Meter, mode_of, read_units
from daemon.testing.dynamodb.database import Database
from daemon.testing.dynamodb.errors import CONFLICT, ServiceError
from daemon.testing.dynamodb.expressions import Expressions, projected, tree_of
from daemon.testing.dynamodb.parameters import one_of, require, take
from daemon.testing.dynamodb.tables import Record
from daemon.testing.dynamodb.values import Item
from daemon.testing.dynamodb.writes import MEMBERS, Write, charge, judge, parse, resolve, store

_ANSWERED = {"ReturnValues": str, "ReturnConsumedCapacity": str, "ReturnItemCollectionMetrics": str}
_GET = {
    "TableName": str,
    "Key": dict,
    "ConsistentRead": bool,
    "ProjectionExpression": str,
    "ExpressionAttributeNames": dict,
    "ReturnConsumedCapacity": str,
}


def put_item(database: Database, body: Any) -> dict[str, Any]:
    """PutItem."""
    return _write(database, "Put", body, ("NONE", "ALL_OLD"))


def update_item(database: Database, body: Any) -> dict[str, Any]:
    """UpdateItem."""
    return _write(database, "Update", body, ("NONE", "ALL_OLD", "UPDATED_OLD", "ALL_NEW", "UPDATED_NEW"))


def delete_item(database: Database, body: Any) -> dict[str, Any]:
    """DeleteItem."""
    return _write(database, "Delete", body, ("NONE", "ALL_OLD"))


def _write(database: Database, kind: str, body: Any, returns: tuple[str, ...]) -> dict[str, Any]:
    request = take(body, {**MEMBERS[kind], **_ANSWERED})
    mode = mode_of(request)
    one_of(request, "ReturnItemCollectionMetrics", ("SIZE", "NONE"), "NONE")
    wanted = one_of(request, "ReturnValues", returns, "NONE")
    write = parse(kind, request)
    resolve(write, database.table(request["TableName"]))
    table, key = write.table, write.key
    if key in table.holders:
        raise ServiceError("TransactionConflictException", f"{CONFLICT}")
    before = table.records.get(key)
    meter = Meter()
    spent = meter.on(table.name)
    try:
        after = judge(write)
    except ServiceError as problem:
        if problem.code == "ConditionalCheckFailedException":
            database.admit_write(table, charge(write, before, before, spent))
            database.settle(meter)
        raise
    database.admit_write(table, charge(write, before, after, spent))
    store(database, write, after)
    database.settle(meter)
    attributes = _returned(write, wanted, before, after)
    return ({"Attributes": attributes} if attributes else {}) | meter.one(mode)


def _returned(write: Write, wanted: str, before: Record | None, after: Record | None) -> Item | None:
    if wanted == "NONE":
        return None
    image = after if wanted.endswith("NEW") else before
    if image is None:
        return None
    if wanted.startswith("ALL"):
        return image.item
    return projected(image.item, tree_of(write.update.targets)) if write.update is not None else None


def get_item(database: Database, body: Any) -> dict[str, Any]:
    """GetItem."""
    request = take(body, _GET)
    mode = mode_of(request)
    require(request, "TableName", "Key")
    expressions = Expressions(request)
    projection = expressions.projection(request.get("ProjectionExpression"))
    expressions.done()
    table = database.table(request["TableName"])
    key, _ = table.key_of_key(request["Key"])
    consistent = request.get("ConsistentRead", False)
    record = table.as_of(key, database.then(consistent=consistent))
    meter = Meter()
    units = read_units(record.size if record else 0, consistent=consistent)
    database.admit_read(table, units)
    meter.on(table.name).read += units
    database.settle(meter)
    answer = meter.one(mode)
    if record is not None:
        answer["Item"] = record.item if projection is None else projected(record.item, projection.tree)
    return answer
