"""What the daemon has committed so far, read from its store beside it.

Owns what a look is, and reading SQLite's checkpoints through a connection that cannot write. Must not know how the
daemon is run, nor what is right.

Invariant: what a look shows is durable: counters are committed with the rows they count. All checkpoints of one look at
SQLite are of one moment.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import orjson

from daemon.core.checkpoint import CheckpointState
from daemon.core.identity import Scope
from daemon.stores.sqlite_schema import Tables

LAYERS = ("position", "marker", "version")
"""The layers that stop duplicates, as counters name them after `duplicate_`."""

_SELECT = (
    "SELECT projection, generation, source, shard, position, state, reason, counters "  # noqa: S608 - a name of ours
    f"FROM {Tables('projectiond').checkpoints} ORDER BY projection, generation, source, shard"
)


@dataclass(frozen=True, slots=True)
class ShardLook:
    """One shard's checkpoint."""

    scope: Scope
    position: str
    state: CheckpointState
    reason: str | None
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Look:
    """Every checkpoint at one moment."""

    shards: Sequence[ShardLook] = ()

    def total(self, counter: str, projection: str | None = None) -> int:
        """Add up one counter, of one projection or of all."""
        return sum(
            shard.counters.get(counter, 0) for shard in self.shards if projection in {None, shard.scope.projection}
        )

    @property
    def read(self) -> int:
        """Events settled, each counted once per projection that follows it."""
        return self.total("read")

    def duplicates(self) -> Mapping[str, int]:
        """Duplicates stopped so far, by layer."""
        counts: Counter[str] = Counter()
        for layer in LAYERS:
            counts[layer] = self.total(f"duplicate_{layer}")
        return counts

    def parked(self) -> list[ShardLook]:
        """List the shards that wait for a person."""
        return [shard for shard in self.shards if shard.state is CheckpointState.PARKED]


class Watching(Protocol):
    """Looks at a store, whichever it is. Use it as a context manager."""

    every: float
    """Seconds between two looks that the store can well bear."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        ...

    def close(self) -> None:
        """Close the connection; the next look opens it again."""
        ...

    def look(self) -> Look:
        """Return what is committed now; what was seen last while the store cannot be read."""
        ...


class Watcher:
    """Looks at a store that may not be there yet. Use it as a context manager."""

    every = 0.01

    def __init__(self, database: Path) -> None:
        """Touch nothing yet."""
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._version = -1
        self._last = Look()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next look opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._version = -1

    def look(self) -> Look:
        """Return what is committed now; what was seen last while the store cannot be read."""
        try:
            if self._connection is None:
                if not self._database.exists():
                    return self._last
                uri = f"{self._database.absolute().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=1.0)
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                rows = self._connection.execute(_SELECT).fetchall()
                self._version = version
                self._last = Look([
                    ShardLook(Scope(*row[:4]), row[4], CheckpointState(row[5]), row[6], orjson.loads(row[7]))
                    for row in rows
                ])  # fmt: skip
        except sqlite3.OperationalError:
            self.close()  # it is being made, or locked for a moment
        return self._last
