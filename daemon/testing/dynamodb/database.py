"""What the operations share: the tables, the time, how stale a read may be, and what was spent in all.

Owns finding a table by the name or ARN in a request. Must not know operations.

Invariant: time comes from the clock handed in, chance from the generator handed in; nothing else is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Protocol

from daemon.testing.dynamodb.capacity import Meter, Spent
from daemon.testing.dynamodb.errors import ServiceError, no_such_table, throttled
from daemon.testing.dynamodb.tables import Table

ARN_PREFIX = "arn:aws:dynamodb:us-east-1:000000000000:table/"


class ServerClock(Protocol):
    """What the server needs of a clock; every `daemon.ports.clock.Clock` has it."""

    def now(self) -> datetime:
        """Return the wall-clock time."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(slots=True)
class Database:
    """The state of one account in one region."""

    clock: ServerClock
    random: Random
    read_lag: Callable[[Random], float]
    history_seconds: float = 60.0
    burst_seconds: float = 300.0
    table_seconds: float = 0.0
    tables: dict[str, Table] = field(default_factory=dict[str, Table])
    spent: dict[str, Spent] = field(default_factory=dict[str, Spent])
    forced_lag: float | None = None
    batch_keys: int | None = None
    """How many keys the batch in hand gets through, when a fault says so."""

    def name_of(self, given: Any) -> str:
        """Return a table's name from its name or ARN."""
        if not isinstance(given, str):
            raise ServiceError(
                "ValidationException", "The parameter 'TableName' is required but was not present in the request"
            )
        return given.rpartition("table/")[2] if given.startswith("arn:") else given

    def table(self, given: Any) -> Table:
        """Return a table that data operations may use, or refuse."""
        table = self.tables.get(self.name_of(given))
        if table is None or self.clock.monotonic() < table.settings["ready_at"]:
            raise no_such_table()
        return table

    def then(self, *, consistent: bool) -> float | None:
        """Return as of when a read sees the tables; None: now."""
        if consistent:
            return None
        lag = self.read_lag(self.random) if self.forced_lag is None else self.forced_lag
        return self.clock.monotonic() - lag if lag > 0 else None

    def settle(self, meter: Meter) -> None:
        """Count what a request spent into the totals."""
        for name, spent in meter.tables.items():
            total = self.spent.get(name)
            if total is None:
                total = self.spent[name] = Spent()
            total.add(spent)

    def admit_read(self, table: Table, units: float) -> None:
        """Refuse a read beyond a provisioned table's throughput."""
        if table.reads is not None and not table.reads.take(units):
            raise throttled(provisioned=True)

    def admit_write(self, table: Table, units: float) -> None:
        """Refuse a write beyond a provisioned table's throughput."""
        if table.writes is not None and not table.writes.take(units):
            raise throttled(provisioned=True)
