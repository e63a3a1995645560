"""What operations cost in capacity units, and how much of it a provisioned table has left.

Owns the arithmetic of units and the shape of ConsumedCapacity. Must not know items.

Invariants: sizes are rounded up per item, to 1 KB for writes and 4 KB for reads; a transaction costs twice that; an
eventually consistent read half of it; nothing costs nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from daemon.testing.dynamodb.errors import invalid

WRITE_UNIT_BYTES = 1024
READ_UNIT_BYTES = 4096


def write_units(size: int) -> int:
    """Return the units of writing an item of `size` bytes (the larger of before and after)."""
    return max(1, -(-size // WRITE_UNIT_BYTES))


def read_units(size: int, *, consistent: bool) -> float:
    """Return the units of reading `size` bytes at once."""
    units = max(1, -(-size // READ_UNIT_BYTES))
    return float(units) if consistent else units / 2


class Bucket:
    """Capacity that flows in at a rate and is kept for a while; holds tokens, never below zero."""

    def __init__(self, rate: float, burst_seconds: float, monotonic: Callable[[], float]) -> None:
        """Full at the start; `rate` in units a second."""
        self.rate = rate
        self._full = rate * max(1.0, burst_seconds)
        self._left = self._full
        self._monotonic = monotonic
        self._at = monotonic()

    def take(self, units: float) -> bool:
        """Take units if they are there. What is larger than the whole bucket passes when it is full."""
        now = self._monotonic()
        self._left = min(self._full, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < min(units, self._full):
            return False
        self._left = max(0.0, self._left - units)
        return True


@dataclass(slots=True)
class Spent:
    """Units spent on one table: by the table itself and by each of its indexes."""

    read: float = 0.0
    write: float = 0.0
    index_read: dict[str, float] = field(default_factory=dict[str, float])
    index_write: dict[str, float] = field(default_factory=dict[str, float])
    local: set[str] = field(default_factory=set[str])

    @property
    def reads(self) -> float:
        """Read units in all."""
        return self.read + sum(self.index_read.values())

    @property
    def writes(self) -> float:
        """Write units in all."""
        return self.write + sum(self.index_write.values())

    def add(self, other: "Spent") -> None:
        """Count another's units in."""
        self.read += other.read
        self.write += other.write
        for mine, theirs in ((self.index_read, other.index_read), (self.index_write, other.index_write)):
            for name, units in theirs.items():
                mine[name] = mine.get(name, 0.0) + units
        self.local |= other.local


class Meter:
    """What one request spends, table by table, in the order in which the tables were met."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self.tables: dict[str, Spent] = {}

    def on(self, table: str) -> Spent:
        """Return what was spent on a table so far."""
        spent = self.tables.get(table)
        if spent is None:
            spent = self.tables[table] = Spent()
        return spent

    def one(self, mode: str) -> dict[str, Any]:
        """Return the member `ConsumedCapacity` of an operation on one table."""
        if mode == "NONE" or not self.tables:
            return {}
        ((name, spent),) = self.tables.items()
        return {"ConsumedCapacity": _shown(name, spent, mode, split=False)}

    def many(self, mode: str, *, split: bool) -> dict[str, Any]:
        """Return the member `ConsumedCapacity` of an operation on several; `split`: a transaction's, by kind."""
        if mode == "NONE":
            return {}
        return {"ConsumedCapacity": [_shown(name, spent, mode, split=split) for name, spent in self.tables.items()]}


def _units(reads: float, writes: float, *, split: bool) -> dict[str, float]:
    shown = {"CapacityUnits": float(reads + writes)}
    if split and reads:
        shown["ReadCapacityUnits"] = float(reads)
    if split and writes:
        shown["WriteCapacityUnits"] = float(writes)
    return shown


def _shown(name: str, spent: Spent, mode: str, *, split: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"TableName": name, **_units(spent.reads, spent.writes, split=split)}
    if mode == "INDEXES":
        shown["Table"] = _units(spent.read, spent.write, split=split)
        for index in {**spent.index_read, **spent.index_write}:
            kind = "LocalSecondaryIndexes" if index in spent.local else "GlobalSecondaryIndexes"
            shown.setdefault(kind, {})[index] = _units(
                spent.index_read.get(index, 0.0), spent.index_write.get(index, 0.0), split=split
            )
    return shown


def mode_of(request: dict[str, Any]) -> str:
    """Return a request's ReturnConsumedCapacity, checked."""
    mode = request.get("ReturnConsumedCapacity", "NONE")
    if mode not in {"INDEXES", "TOTAL", "NONE"}:
        raise invalid(
            f"1 validation error detected: Value '{mode}' at 'returnConsumedCapacity' failed to satisfy constraint: "
            "Member must satisfy enum value set: [INDEXES, TOTAL, NONE]"
        )
    return mode
