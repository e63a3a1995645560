"""What a commit will be billed for, foretold: the write units of its items, by table kind.

Owns the arithmetic of bills. Pure; must not know who asks. Secondary indexes are billed besides, and are not foretold.

Invariants: an item that a commit writes whole is counted exactly, by DynamoDB's own rules; what stands there already,
and is larger, or is only removed or added to, counts as one unit of its own size class at the least.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from daemon.core.commit import Commit
from daemon.stores.dynamodb.items import attributes_of
from daemon.stores.dynamodb.requests import Requests
from daemon.stores.dynamodb.sizes import attributes_size
from daemon.stores.dynamodb.tables import Tables

_UNIT_BYTES = 1024
_TRANSACTION = 2
"""Units of a transaction for each unit of a plain write: it is prepared, then committed."""
_NO_TOKEN = b"0" * 32


def pricing(tables: Tables) -> Callable[[Commit], Mapping[str, float]]:
    """Return the function that foretells the units of commits on these tables."""
    requests = Requests(tables)

    def units(commit: Commit) -> Mapping[str, float]:
        body = orjson.loads(requests.body(requests.actions(commit), _NO_TOKEN))
        found: dict[str, float] = {}
        for action in body["TransactItems"]:
            ((_, request),) = action.items()
            kind = f"wcu:{tables.kind(request['TableName'])}"
            found[kind] = found.get(kind, 0.0) + _TRANSACTION * max(1, -(-_size(request) // _UNIT_BYTES))
        return found

    return units


def _size(request: Mapping[str, Any]) -> int:
    """Return the bytes of the item that an action leaves, as far as the action says."""
    if "Item" in request:
        return attributes_size(attributes_of(request["Item"]))
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
    said = attributes_size(attributes_of(values)) + sum(map(len, names.values()))
    return attributes_size(attributes_of(request["Key"])) + said
