"""Rows as items, read back. Must not know how they are written beyond their bookkeeping names."""

from collections.abc import Mapping
from typing import Any

from daemon.core.errors import EventProblem, StoreDamaged
from daemon.core.identity import RowKey
from daemon.core.rows import Expectation, RowWrite, StoredRow, WriteKind
from daemon.core.values import add_exact
from daemon.stores.dynamodb.requests import GONE, SEQUENCES, SOURCE, VERSION
from daemon.stores.dynamodb.sizes import check_key
from daemon.stores.dynamodb.values import plain

_KEYS = frozenset({"key", "view"})


def row_key_of(item: Mapping[str, Mapping[str, Any]]) -> RowKey:
    """Return the key of a row's item."""
    return RowKey(item["view"]["S"], item["key"]["S"])


def can_stand(key: RowKey) -> bool:
    """Tell whether a row can have this key at all; the planner says of one that cannot what to do about it."""
    try:
        check_key(key)
    except (EventProblem, UnicodeError):
        return False
    return True


def stored_row(item: Mapping[str, Mapping[str, Any]]) -> StoredRow:
    """Return the row that an item holds. Raises StoreDamaged for one that projectiond did not write."""
    try:
        sequences = item.get(SEQUENCES)
        attributes = None
        if GONE not in item:
            attributes = {name: plain(value) for name, value in item.items() if name[0] != "_" and name not in _KEYS}
        return StoredRow(
            attributes,
            int(item[VERSION]["N"]),
            item[SOURCE]["S"],
            {} if sequences is None else plain(sequences),
        )
    except (KeyError, ValueError) as error:
        raise StoreDamaged(
            f"row {item.get('view')}/{item.get('key')} was not written by projectiond, or damaged ({error!r}); "
            "restore it, or repair the key from the log"
        ) from error


def summed_row(write: RowWrite, held: StoredRow | None) -> RowWrite | None:
    """Return an addition as the whole row it comes to, on condition of the row it was summed on.

    None when it cannot be summed: the row is gone, or holds something else than numbers there.
    """
    if held is None:
        return None
    attributes = dict(held.attributes or {})
    try:
        for name, amount in (write.attributes or {}).items():
            attributes[name] = add_exact(attributes.get(name), amount, name)
    except EventProblem:
        return None
    expect = Expectation(held.version, held.source)
    return RowWrite(write.key, WriteKind.PUT, attributes, expect, write.source, held.sequences, write.expires_at)
