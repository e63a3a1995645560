"""Tables as such: create, describe, change, delete.

Owns the control plane's rules and descriptions. Must not know items, except to count them.

Invariants: a table is usable from `ready_at` on; what is protected against deletion is never deleted; a description is
made anew from the settings each time.
"""

import re
from typing import Any, cast
from zlib import crc32

from daemon.testing.dynamodb.capacity import Bucket
from daemon.testing.dynamodb.database import ARN_PREFIX, Database
from daemon.testing.dynamodb.errors import ServiceError, invalid, invalid_value, no_such_table
from daemon.testing.dynamodb.parameters import listed, objects, one_of, require, take
from daemon.testing.dynamodb.tables import Index, Schema, Table

_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}\Z").match
MAX_GLOBAL_INDEXES = 20
MAX_LOCAL_INDEXES = 5
_TAKEN_AS_THEY_ARE = ("StreamSpecification", "SSESpecification", "TableClass", "OnDemandThroughput")
_CREATE = {
    "TableName": str,
    "KeySchema": list,
    "AttributeDefinitions": list,
    "BillingMode": str,
    "ProvisionedThroughput": dict,
    "GlobalSecondaryIndexes": list,
    "LocalSecondaryIndexes": list,
    "DeletionProtectionEnabled": bool,
    "Tags": list,
    "StreamSpecification": dict,
    "SSESpecification": dict,
    "TableClass": str,
    "OnDemandThroughput": dict,
}
_UPDATE = {
    name: kind
    for name, kind in _CREATE.items()
    if name not in {"KeySchema", "GlobalSecondaryIndexes", "LocalSecondaryIndexes", "Tags"}
} | {"GlobalSecondaryIndexUpdates": list}
_INDEX = {
    "IndexName": str,
    "KeySchema": list,
    "Projection": dict,
    "ProvisionedThroughput": dict,
    "OnDemandThroughput": dict,
}


def create_table(database: Database, body: Any) -> dict[str, Any]:
    """CreateTable."""
    request = take(body, _CREATE)
    require(request, "TableName", "KeySchema", "AttributeDefinitions")
    name = _checked_name(request["TableName"], "tableName")
    types = _types(request["AttributeDefinitions"])
    hash_name, range_name = _keys(request["KeySchema"], types)
    provisioned = _throughput(request)
    table = Table(name, Schema(hash_name, range_name, types))
    for local, member, most in (
        (False, "GlobalSecondaryIndexes", MAX_GLOBAL_INDEXES),
        (True, "LocalSecondaryIndexes", MAX_LOCAL_INDEXES),
    ):
        given = listed(request.get(member, []), member)
        if len(given) > most:
            raise invalid_value(f"{member} count exceeds the per-table limit of {most}")
        for one in given:
            _add_index(table, one, local=local, provisioned=provisioned is not None)
    _all_used(table, types)
    if name in database.tables:
        raise ServiceError("ResourceInUseException", f"Table already exists: {name}")
    table.history_seconds = database.history_seconds
    table.settings = {
        "created": database.clock.now().timestamp(),
        "ready_at": database.clock.monotonic() + database.table_seconds,
        "provisioned": provisioned,
        "protected": request.get("DeletionProtectionEnabled", False),
        "ttl": None,
        "ttl_changed": None,
        "backups": False,
        **{member: request[member] for member in _TAKEN_AS_THEY_ARE if member in request},
    }
    _fill_buckets(database, table)
    database.tables[name] = table
    return {"TableDescription": describe(database, table) | {"TableStatus": "CREATING"}}


def _checked_name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not _NAME(name):
        raise invalid(
            f"1 validation error detected: Value '{name}' at '{what}' failed to satisfy constraint: "
            "Member must have length between 3 and 255 and satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
        )
    return name


def _types(definitions: Any) -> dict[str, str]:
    types: dict[str, str] = {}
    for one in listed(definitions, "AttributeDefinitions"):
        given = take(one, {"AttributeName": str, "AttributeType": str})
        require(given, "AttributeName", "AttributeType")
        one_of(given, "AttributeType", ("B", "N", "S"), "S")
        if given["AttributeName"] in types:
            raise invalid_value(f"Duplicate AttributeName in AttributeDefinitions: {given['AttributeName']}")
        types[given["AttributeName"]] = given["AttributeType"]
    return types


def _keys(schema: Any, types: dict[str, str]) -> tuple[str, str | None]:
    given = [take(one, {"AttributeName": str, "KeyType": str}) for one in listed(schema, "KeySchema")]
    kinds = [one.get("KeyType") for one in given]
    if kinds not in (["HASH"], ["HASH", "RANGE"]):
        raise invalid("Invalid KeySchema: one HASH key element first, then at most one RANGE key element")
    names = [cast("str", one.get("AttributeName")) for one in given]
    if len(set(names)) != len(names):
        raise invalid("Both the Hash Key and the Range Key element in the KeySchema have the same name")
    for name in names:
        if name not in types:
            raise invalid_value(
                f"Some index key attributes are not defined in AttributeDefinitions. Keys: [{name}], "
                f"AttributeDefinitions: [{', '.join(types)}]"
            )
    return names[0], names[1] if len(names) > 1 else None


def _throughput(request: dict[str, Any]) -> tuple[int, int] | None:
    mode = one_of(request, "BillingMode", ("PROVISIONED", "PAY_PER_REQUEST"), "PROVISIONED")
    given = request.get("ProvisionedThroughput")
    if mode == "PAY_PER_REQUEST":
        if given is not None:
            raise invalid_value(
                "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST"
            )
        return None
    if given is None:
        raise invalid_value(
            "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED"
        )
    return _units(given)


def _units(given: Any) -> tuple[int, int]:
    units = take(given, {"ReadCapacityUnits": int, "WriteCapacityUnits": int})
    require(units, "ReadCapacityUnits", "WriteCapacityUnits")
    for name, value in units.items():
        if value < 1:
            raise invalid(f"{name} is {value}; the least is 1")
    return units["ReadCapacityUnits"], units["WriteCapacityUnits"]


def _add_index(table: Table, one: Any, *, local: bool, provisioned: bool) -> None:
    given = take(one, _INDEX)
    require(given, "IndexName", "KeySchema", "Projection")
    name = _checked_name(given["IndexName"], "indexName")
    hash_name, range_name = _keys(given["KeySchema"], table.schema.types)
    if local and (hash_name != table.schema.hash or range_name is None):
        raise invalid_value(f"Index KeySchema does not have the table's hash key and a range key for index: {name}")
    if name in table.indexes:
        raise invalid_value(f"Duplicate index name: {name}")
    projection = take(given["Projection"], {"ProjectionType": str, "NonKeyAttributes": list})
    kind = one_of(projection, "ProjectionType", ("ALL", "KEYS_ONLY", "INCLUDE"), "")
    attributes = frozenset(cast("list[str]", projection.get("NonKeyAttributes", [])))
    if (kind == "INCLUDE") != bool(attributes):
        raise invalid_value(
            f"ProjectionType is {kind}, but NonKeyAttributes is {'' if attributes else 'not '}specified"
        )
    throughput = given.get("ProvisionedThroughput")
    if throughput is not None and not provisioned:
        raise invalid_value(
            f"ProvisionedThroughput should not be specified for index: {name} when BillingMode is PAY_PER_REQUEST"
        )
    if throughput is None and provisioned and not local:
        raise invalid_value(f"ProvisionedThroughput must be specified for index: {name}")
    table.indexes[name] = Index(
        name,
        hash_name,
        range_name,
        None if kind == "ALL" else attributes,
        local,
        _units(throughput) if throughput else None,
    )


def _all_used(table: Table, types: dict[str, str]) -> None:
    used = {*table.schema.keys, *(name for index in table.indexes.values() for name in index.keys)}
    if set(types) != used:
        raise invalid_value(
            "Some AttributeDefinitions are not used. AttributeDefinitions: "
            f"[{', '.join(types)}], keys used: [{', '.join(sorted(used))}]"
        )


def _fill_buckets(database: Database, table: Table) -> None:
    provisioned = table.settings["provisioned"]
    if provisioned is None:
        table.reads = table.writes = None
        return
    monotonic = database.clock.monotonic
    table.reads = Bucket(provisioned[0], database.burst_seconds, monotonic)
    table.writes = Bucket(provisioned[1], database.burst_seconds, monotonic)


def known(database: Database, given: Any) -> Table:
    """Return a table by name or ARN, whatever its state, or refuse."""
    table = database.tables.get(database.name_of(given))
    if table is None:
        shown = no_such_table()
        shown.message = f"Requested resource not found: Table: {given} not found"
        raise shown
    return table


def describe(database: Database, table: Table) -> dict[str, Any]:
    """Return a table's description."""
    settings = table.settings
    ready = database.clock.monotonic() >= settings["ready_at"]
    made: dict[str, Any] = {
        "TableName": table.name,
        "TableArn": ARN_PREFIX + table.name,
        "TableId": f"00000000-0000-0000-0000-{crc32(table.name.encode()):012d}",
        "TableStatus": "ACTIVE" if ready else "CREATING",
        "CreationDateTime": settings["created"],
        "KeySchema": _schema_of(table.schema),
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in table.schema.types.items()
        ],
        "ItemCount": len(table.records),
        "TableSizeBytes": sum(record.size for record in table.records.values()),
        "DeletionProtectionEnabled": settings["protected"],
        "ProvisionedThroughput": _units_of(settings["provisioned"]),
    }
    if settings["provisioned"] is None:
        made["BillingModeSummary"] = {"BillingMode": "PAY_PER_REQUEST"}
    for index in table.indexes.values():
        shown = _index_description(table, index)
        made.setdefault("LocalSecondaryIndexes" if index.local else "GlobalSecondaryIndexes", []).append(shown)
    return made | {member: settings[member] for member in _TAKEN_AS_THEY_ARE if member in settings}


def _schema_of(keys: Schema | Index) -> list[dict[str, str]]:
    made = [{"AttributeName": keys.hash, "KeyType": "HASH"}]
    return made if keys.range is None else [*made, {"AttributeName": keys.range, "KeyType": "RANGE"}]


def _units_of(provisioned: tuple[int, int] | None) -> dict[str, int]:
    reads, writes = provisioned or (0, 0)
    return {"NumberOfDecreasesToday": 0, "ReadCapacityUnits": reads, "WriteCapacityUnits": writes}


def _index_description(table: Table, index: Index) -> dict[str, Any]:
    names = index.attributes
    kind = "ALL" if names is None else "INCLUDE" if names else "KEYS_ONLY"
    shown: dict[str, Any] = {
        "IndexName": index.name,
        "IndexArn": f"{ARN_PREFIX}{table.name}/index/{index.name}",
        "KeySchema": _schema_of(index),
        "Projection": {"ProjectionType": kind, **({"NonKeyAttributes": sorted(names)} if names else {})},
    }
    if not index.local:
        shown |= {"IndexStatus": "ACTIVE", "ProvisionedThroughput": _units_of(index.throughput)}
    return shown


def describe_table(database: Database, body: Any) -> dict[str, Any]:
    """DescribeTable."""
    request = take(body, {"TableName": str})
    return {"Table": describe(database, known(database, request.get("TableName")))}


def list_tables(database: Database, body: Any) -> dict[str, Any]:
    """ListTables."""
    request = take(body, {"ExclusiveStartTableName": str, "Limit": int})
    limit = request.get("Limit", 100)
    if not 1 <= limit <= 100:  # noqa: PLR2004  # the API reference's own bounds
        raise invalid(f"1 validation error detected: Value '{limit}' at 'limit' must be between 1 and 100")
    names = sorted(name for name in database.tables if name > request.get("ExclusiveStartTableName", ""))
    more: dict[str, Any] = {"LastEvaluatedTableName": names[limit - 1]} if len(names) > limit else {}
    return {"TableNames": names[:limit], **more}


def delete_table(database: Database, body: Any) -> dict[str, Any]:
    """DeleteTable."""
    table = known(database, take(body, {"TableName": str}).get("TableName"))
    if table.settings["protected"]:
        raise invalid(
            "Resource cannot be deleted as it is currently protected against deletion. "
            "Disable deletion protection first."
        )
    del database.tables[table.name]
    return {"TableDescription": describe(database, table) | {"TableStatus": "DELETING"}}


def update_table(database: Database, body: Any) -> dict[str, Any]:
    """UpdateTable: billing, deletion protection, one index made, changed or deleted."""
    request = take(body, _UPDATE)
    table = known(database, request.get("TableName"))
    settings = table.settings
    if "BillingMode" in request or "ProvisionedThroughput" in request:
        kept = "PROVISIONED" if settings["provisioned"] else "PAY_PER_REQUEST"
        settings["provisioned"] = _throughput({"BillingMode": kept, **request})
        _fill_buckets(database, table)
    if "DeletionProtectionEnabled" in request:
        settings["protected"] = request["DeletionProtectionEnabled"]
    settings |= {member: request[member] for member in _TAKEN_AS_THEY_ARE if member in request}
    updates = listed(request.get("GlobalSecondaryIndexUpdates", []), "GlobalSecondaryIndexUpdates")
    if len(updates) > 1:
        raise ServiceError("LimitExceededException", "Only 1 online index can be created or deleted simultaneously")
    for update in updates:
        _update_index(table, objects(update, "A GlobalSecondaryIndexUpdate"), request)
    return {"TableDescription": describe(database, table) | {"TableStatus": "UPDATING"}}


def _update_index(table: Table, update: dict[str, Any], request: dict[str, Any]) -> None:
    ((verb, inner),) = update.items()
    name = objects(inner, verb).get("IndexName")
    if verb == "Create":
        before = dict(table.schema.types)
        table.schema.types |= _types(request.get("AttributeDefinitions", []))
        try:
            _add_index(table, inner, local=False, provisioned=table.settings["provisioned"] is not None)
        except ServiceError:
            table.schema.types = before
            raise
        return
    index = table.indexes.get(cast("str", name))
    if index is None or index.local:
        raise ServiceError("ResourceNotFoundException", "Requested resource not found")
    if verb == "Delete":
        del table.indexes[index.name]
    else:
        index.throughput = _units(inner.get("ProvisionedThroughput"))
