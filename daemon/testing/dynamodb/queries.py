"""Query and Scan: pages of items in order, over a table or an index.

Owns key conditions held against a schema, pages, and what reading them costs. Must not know writes.

Invariants: a page ends after `Limit` items *evaluated* or before it passes 1 MB, whichever comes first, and then names
its last item, even when nothing follows; a filter changes what is returned, never what is read and paid.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from daemon.testing.dynamodb.capacity import Meter, mode_of, read_units
from daemon.testing.dynamodb.database import Database
from daemon.testing.dynamodb.errors import ServiceError, invalid, invalid_value
from daemon.testing.dynamodb.expressions import Condition, Expressions, KeyTerm, Projection, projected
from daemon.testing.dynamodb.parameters import require, take
from daemon.testing.dynamodb.tables import Index, Key, Order, Record, Table
from daemon.testing.dynamodb.values import Item, measured, sortable

PAGE_BYTES = 1024 * 1024
_COMMON = {
    "TableName": str,
    "IndexName": str,
    "Limit": int,
    "Select": str,
    "ConsistentRead": bool,
    "ExclusiveStartKey": dict,
    "FilterExpression": str,
    "ProjectionExpression": str,
    "ExpressionAttributeNames": dict,
    "ExpressionAttributeValues": dict,
    "ReturnConsumedCapacity": str,
}
_QUERY = {**_COMMON, "KeyConditionExpression": str, "ScanIndexForward": bool}
_SCAN = {**_COMMON, "Segment": int, "TotalSegments": int}


@dataclass(slots=True)
class _Page:
    request: dict[str, Any]
    mode: str
    table: Table
    index: Index | None
    expressions: Expressions
    filter: Condition | None
    projection: Projection | None
    consistent: bool
    then: float | None

    def answer(self, database: Database, candidates: Iterable[tuple[Order, Record]]) -> dict[str, Any]:
        """Evaluate candidates until the page is full."""
        limit = self.request.get("Limit")
        counting = self.request.get("Select") == "COUNT"
        items: list[Item] = []
        evaluated = size = matched = 0
        last: Record | None = None
        full = False
        for _, record in candidates:
            if evaluated and size + record.size > PAGE_BYTES:
                full = True
                break
            evaluated += 1
            size += record.size
            last = record
            if self.filter is None or self.filter.test(record.item, self.expressions.values):
                matched += 1
                if not counting:
                    tree = self.projection.tree if self.projection else None
                    items.append(record.item if tree is None else projected(record.item, tree))
            if evaluated == limit:
                full = True
                break
        answer: dict[str, Any] = {"Count": matched, "ScannedCount": evaluated}
        if not counting:
            answer["Items"] = items
        if full and last is not None:
            answer["LastEvaluatedKey"] = self.table.key_attributes(last.item, self.index)
        return answer | self._charged(database, size)

    def _charged(self, database: Database, size: int) -> dict[str, Any]:
        meter = Meter()
        spent = meter.on(self.table.name)
        units = read_units(size, consistent=self.consistent)
        database.admit_read(self.table, units)
        if self.index is None:
            spent.read += units
        else:
            spent.index_read[self.index.name] = units
            if self.index.local:
                spent.local.add(self.index.name)
        database.settle(meter)
        return meter.one(self.mode)


def _page(database: Database, request: dict[str, Any], expressions: Expressions) -> _Page:
    mode = mode_of(request)
    table = database.table(request["TableName"])
    index = None
    name = request.get("IndexName")
    if name is not None:
        index = table.indexes.get(name)
        if index is None:
            raise invalid(f"The table does not have the specified index: {name}")
    consistent = request.get("ConsistentRead", False)
    if consistent and index is not None and not index.local:
        raise invalid("Consistent reads are not supported on global secondary indexes")
    limit = request.get("Limit")
    if limit is not None and limit < 1:
        raise invalid(
            f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1"
        )
    condition = expressions.condition(request.get("FilterExpression"), "FilterExpression")
    projection = expressions.projection(request.get("ProjectionExpression"))
    _check_select(request, index, projection)
    then = database.then(consistent=consistent)
    return _Page(request, mode, table, index, expressions, condition, projection, consistent, then)


def _check_select(request: dict[str, Any], index: Index | None, projection: Projection | None) -> None:
    select = request.get("Select")
    if select is None:
        return
    allowed = ("ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES", "SPECIFIC_ATTRIBUTES", "COUNT")
    if select not in allowed:
        raise invalid(
            f"1 validation error detected: Value '{select}' at 'select' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(allowed)}]"
        )
    if select == "ALL_PROJECTED_ATTRIBUTES" and index is None:
        raise invalid_value("ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName")
    if (select == "SPECIFIC_ATTRIBUTES") != (projection is not None):
        raise invalid(
            "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES"
            if projection is None
            else f"Cannot specify the ProjectionExpression when choosing to get {select}"
        )
    if select == "ALL_ATTRIBUTES" and index is not None and index.attributes is not None and not index.local:
        raise invalid_value(
            f"Select type ALL_ATTRIBUTES is not supported for global secondary index {index.name} because its "
            "projection type is not ALL"
        )


def query(database: Database, body: Any) -> dict[str, Any]:
    """Query."""
    request = take(body, _QUERY)
    require(request, "TableName")
    expressions = Expressions(request)
    condition = expressions.key_condition(request.get("KeyConditionExpression"))
    if condition is None:
        raise invalid("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
    page = _page(database, request, expressions)
    expressions.done()
    table, index = page.table, page.index
    hash_name, range_name = (index or table.schema).hash, (index or table.schema).range
    if page.filter is not None:
        for name in (hash_name, range_name):
            if name in page.filter.attributes:
                raise invalid(
                    f"Filter Expression can only contain non-primary key attributes: Primary key attribute: {name}"
                )
    content, term = _key_terms(table, condition.terms, expressions.values, hash_name, range_name)
    if index is None:
        candidates = list(table.partition(content, page.then))
    else:
        candidates = [pair for pair in table.index_entries(index, page.then) if pair[0][1] == content]
    if term is not None:
        candidates = _matching(candidates, term, expressions.values)
    if not request.get("ScanIndexForward", True):
        candidates.reverse()
    start = request.get("ExclusiveStartKey", {}).get(hash_name)
    if isinstance(start, dict) and content not in cast("dict[str, Any]", start).values():
        raise invalid("The provided starting key is outside query boundaries based on provided conditions")
    return page.answer(database, _after(page, candidates))


def _key_terms(
    table: Table, terms: tuple[KeyTerm, ...], values: Item, hash_name: str, range_name: str | None
) -> tuple[str, KeyTerm | None]:
    by_name = {term.attribute: term for term in terms}
    hashed = by_name.pop(hash_name, None)
    if hashed is None:
        raise invalid(f"Query condition missed key schema element: {hash_name}")
    if hashed.operator != "=":
        raise invalid("Query key condition not supported")
    ranged = by_name.pop(range_name, None) if range_name is not None else None
    if by_name:
        if range_name is not None and ranged is None:
            raise invalid(f"Query condition missed key schema element: {range_name}")
        raise invalid("Query key condition not supported")
    for term in (hashed, ranged):
        for name in term.operands if term is not None else ():
            value, kind = values[name], table.schema.types[cast("KeyTerm", term).attribute]
            if kind not in value:
                raise invalid_value("Condition parameter type does not match schema type")
            if value[kind] == "" and cast("KeyTerm", term).operator != "begins_with":
                raise invalid(
                    "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain "
                    f"an empty string value. Key: {cast('KeyTerm', term).attribute}"
                )
    if ranged is not None and ranged.operator == "begins_with" and table.schema.types[ranged.attribute] == "N":
        raise invalid(
            "Invalid KeyConditionExpression: Incorrect operand type for operator or function; "
            "operator or function: begins_with, operand type: N"
        )
    value = values[hashed.operands[0]]
    return next(iter(value.values())), ranged


def _matching(candidates: list[tuple[Order, Record]], term: KeyTerm, values: Item) -> list[tuple[Order, Record]]:
    bounds = [sortable(values[name]) for name in term.operands]
    if term.operator == "BETWEEN" and bounds[0] > bounds[1]:
        raise invalid(
            "Invalid KeyConditionExpression: The BETWEEN operator requires upper bound to be greater than or equal to "
            f"lower bound; lower bound operand: AttributeValue: {values[term.operands[0]]}, "
            f"upper bound operand: AttributeValue: {values[term.operands[1]]}"
        )

    def matches(record: Record) -> bool:
        found = sortable(record.item[term.attribute])
        match term.operator:
            case "=":
                return found == bounds[0]
            case "<":
                return found < bounds[0]
            case "<=":
                return found <= bounds[0]
            case ">":
                return found > bounds[0]
            case ">=":
                return found >= bounds[0]
            case "BETWEEN":
                return bounds[0] <= found <= bounds[1]
            case _:
                return found.startswith(bounds[0])

    return [pair for pair in candidates if matches(pair[1])]


def _after(page: _Page, candidates: list[tuple[Order, Record]]) -> Iterable[tuple[Order, Record]]:
    """Leave out everything up to the ExclusiveStartKey, whether that item is still there or not."""
    start = page.request.get("ExclusiveStartKey")
    if start is None:
        return candidates
    order = _start_order(page, start)
    if page.request.get("ScanIndexForward", True):
        return [pair for pair in candidates if pair[0] > order]
    return [pair for pair in candidates if pair[0] < order]


def _start_order(page: _Page, start: dict[str, Any]) -> Order:
    table, index = page.table, page.index
    given = {name: measured(value)[0] for name, value in start.items()}
    names = {*table.schema.keys, *(index.keys if index else ())}
    if set(given) != names or any(table.schema.types[name] not in value for name, value in given.items()):
        raise invalid("The provided starting key is invalid: The provided key element does not match the schema")
    key, _ = _key(table, given)
    scanning = table.scan_order(key)
    if index is not None:
        content = next(iter(given[index.hash].values()))
        ranged = sortable(given[index.range]) if index.range is not None else ""
        return (table.scan_order(Key(content))[0], content, ranged, scanning)
    if "KeyConditionExpression" in page.request:
        return (table.scan_order(key)[2], key)
    return scanning


def _key(table: Table, given: Item) -> tuple[Key, Item]:
    try:
        return table.key_of_key({name: given[name] for name in table.schema.keys})
    except ServiceError as refused:
        raise invalid(f"The provided starting key is invalid: {refused.message}") from None


def scan(database: Database, body: Any) -> dict[str, Any]:
    """Scan."""
    request = take(body, _SCAN)
    require(request, "TableName")
    expressions = Expressions(request)
    page = _page(database, request, expressions)
    expressions.done()
    segment, total = request.get("Segment"), request.get("TotalSegments")
    if (segment is None) != (total is None):
        raise invalid(
            "The TotalSegments parameter is required but was not present in the request when Segment parameter is "
            "present"
            if total is None
            else "The Segment parameter is required but was not present in the request when parameter TotalSegments "
            "is present"
        )
    if page.index is None:
        candidates = list(page.table.everything(page.then))
    else:
        candidates = list(page.table.index_entries(page.index, page.then))
    if segment is not None and total is not None:
        if not 0 <= segment < total:
            raise invalid(
                "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
                f"Segment: {segment} is not less than TotalSegments: {total}"
            )
        # Both orders begin with the partition key's hash.
        candidates = [pair for pair in candidates if pair[0][0] % total == segment]
    return page.answer(database, _after(page, candidates))
