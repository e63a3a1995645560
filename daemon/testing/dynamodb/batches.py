"""BatchGetItem and BatchWriteItem: many single operations in one request, each for itself.

Owns what is left unprocessed and why: 16 MB, throughput, an item held by a transaction, a scripted fault. Must not know
conditions.

Invariant: a batch in which nothing at all could be done is throttled; otherwise it succeeds and names what is left.
"""

from typing import Any

from daemon.testing.dynamodb.capacity import Meter, mode_of, read_units
from daemon.testing.dynamodb.database import Database
from daemon.testing.dynamodb.errors import ServiceError, invalid
from daemon.testing.dynamodb.expressions import Expressions, projected
from daemon.testing.dynamodb.parameters import listed, objects, one_of, require, take
from daemon.testing.dynamodb.tables import Key, Table
from daemon.testing.dynamodb.writes import Write, charge, judge, parse, resolve, store

MAX_GETS = 100
MAX_WRITES = 25
MAX_BYTES = 16 * 1024 * 1024
_TWICE = "Provided list of item keys contains duplicates"
_GET = {"RequestItems": dict, "ReturnConsumedCapacity": str}
_KEYS = {"Keys": list, "ConsistentRead": bool, "ProjectionExpression": str, "ExpressionAttributeNames": dict}
_WRITE = {"RequestItems": dict, "ReturnConsumedCapacity": str, "ReturnItemCollectionMetrics": str}


def _tables(request: dict[str, Any]) -> dict[str, Any]:
    require(request, "RequestItems")
    tables = objects(request["RequestItems"], "RequestItems")
    if not tables:
        raise invalid(
            "1 validation error detected: Value '{}' at 'requestItems' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1"
        )
    return tables


def batch_get_item(database: Database, body: Any) -> dict[str, Any]:
    """BatchGetItem."""
    request = take(body, _GET)
    mode = mode_of(request)
    asked = {name: take(one, _KEYS) for name, one in _tables(request).items()}
    if sum(len(listed(one.get("Keys", []), "Keys")) for one in asked.values()) > MAX_GETS:
        raise invalid("Too many items requested for the BatchGetItem call")
    meter = Meter()
    responses: dict[str, list[Any]] = {}
    unprocessed: dict[str, Any] = {}
    room = [MAX_BYTES]
    for name, one in asked.items():
        if not one.get("Keys"):
            raise invalid(
                f"1 validation error detected: Value '[]' at 'requestItems.{name}.member.keys' failed to satisfy "
                "constraint: Member must have length greater than or equal to 1"
            )
        found, left = _get(database, database.table(name), one, meter, room)
        responses[name] = found
        if left:
            unprocessed[name] = {**one, "Keys": left}
    database.settle(meter)
    return {"Responses": responses, "UnprocessedKeys": unprocessed, **meter.many(mode, split=False)}


def _get(
    database: Database, table: Table, one: dict[str, Any], meter: Meter, room: list[int]
) -> tuple[list[Any], list[Any]]:
    expressions = Expressions(one)
    projection = expressions.projection(one.get("ProjectionExpression"))
    expressions.done()
    consistent = one.get("ConsistentRead", False)
    keys = [table.key_of_key(given)[0] for given in one["Keys"]]
    if len(set(keys)) != len(keys):
        raise invalid(_TWICE)
    then = database.then(consistent=consistent)
    found: list[Any] = []
    left: list[Any] = []
    spent = meter.on(table.name)
    for key, given in zip(keys, one["Keys"], strict=True):
        record = table.as_of(key, then)
        size = record.size if record else 0
        units = read_units(size, consistent=consistent)
        if not _next_of(database) or size > room[0] or not _throughput(table, units):
            left.append(given)
            continue
        room[0] -= size
        spent.read += units
        if record is not None:
            found.append(record.item if projection is None else projected(record.item, projection.tree))
    return found, left


def _throughput(table: Table, units: float) -> bool:
    return table.reads is None or table.reads.take(units)


def _next_of(database: Database) -> bool:
    """Say whether a scripted fault lets one more of the batch through."""
    if database.batch_keys is None:
        return True
    database.batch_keys -= 1
    return database.batch_keys >= 0


def batch_write_item(database: Database, body: Any) -> dict[str, Any]:
    """BatchWriteItem."""
    request = take(body, _WRITE)
    mode = mode_of(request)
    one_of(request, "ReturnItemCollectionMetrics", ("SIZE", "NONE"), "NONE")
    tables = {name: listed(one, "RequestItems") for name, one in _tables(request).items()}
    if not 1 <= sum(map(len, tables.values())) <= MAX_WRITES:
        raise invalid("Too many items requested for the BatchWriteItem call")
    writes = _parsed(database, tables)
    meter = Meter()
    unprocessed: dict[str, list[Any]] = {}
    room = MAX_BYTES
    for name, given, write in writes:
        size = write.put.size if write.put else 0
        if size > room or not _next_of(database) or not _written(database, write, meter):
            unprocessed.setdefault(name, []).append(given)
            continue
        room -= size
    database.settle(meter)
    return {"UnprocessedItems": unprocessed, **meter.many(mode, split=False)}


def _parsed(database: Database, tables: dict[str, list[Any]]) -> list[tuple[str, Any, Write]]:
    writes: list[tuple[str, Any, Write]] = []
    seen: set[tuple[str, Key]] = set()
    for name, requests in tables.items():
        for given in requests:
            one = {kind: inner for kind, inner in objects(given, "A write request").items() if inner is not None}
            if len(one) != 1 or next(iter(one)) not in {"PutRequest", "DeleteRequest"}:
                raise invalid("Supplied AttributeValue has more than one write request or none; exactly one is allowed")
            ((kind, inner),) = one.items()
            members = {"Item": dict} if kind == "PutRequest" else {"Key": dict}
            request = {**take(inner, members), "TableName": name}
            write = parse("Put" if kind == "PutRequest" else "Delete", request)
            resolve(write, database.table(name))
            target = (write.table.name, write.key)
            if target in seen:
                raise invalid(_TWICE)
            seen.add(target)
            writes.append((name, given, write))
    return writes


def _written(database: Database, write: Write, meter: Meter) -> bool:
    if write.key in write.table.holders:
        return False
    before = write.table.records.get(write.key)
    after = judge(write)
    spent = meter.on(write.table.name)
    units = charge(write, before, after, spent)
    try:
        database.admit_write(write.table, units)
    except ServiceError:
        spent.write -= units
        return False
    store(database, write, after)
    return True
