"""The row cache of one owned shard: bounded, and correct because every write is conditioned on the version read.

Invariants: what it holds was read from, or committed to, the store under this ownership; it is dropped with the
ownership. Two generations of entries stand in for least-recently-used: when the young one is full it becomes the old
one.
"""

from daemon.core.identity import RowKey
from daemon.core.rows import StoredRow
from daemon.core.view import UNLOADED, Base, Unloaded


class RowCache:
    """Rows by key; None stands for a row known to be absent."""

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        """Hold at most `capacity` rows."""
        self._half = max(1, capacity // 2)
        self._young: dict[RowKey, StoredRow | None] = {}
        self._old: dict[RowKey, StoredRow | None] = {}

    def __len__(self) -> int:
        """Count the entries (one that is in both halves counts twice)."""
        return len(self._young) + len(self._old)

    def get(self, key: RowKey) -> Base:
        """Return the row, None when known absent, UNLOADED when not held."""
        row = self._young.get(key, UNLOADED)
        if row is UNLOADED and self._old:
            row = self._old.get(key, UNLOADED)
            if not isinstance(row, Unloaded):
                self.put(key, row)
        return row

    def put(self, key: RowKey, row: StoredRow | None) -> None:
        """Hold a row."""
        if len(self._young) >= self._half and key not in self._young:
            self._old = self._young
            self._young = {}
        self._young[key] = row

    def discard(self, key: RowKey) -> None:
        """Forget a row."""
        self._young.pop(key, None)
        self._old.pop(key, None)
