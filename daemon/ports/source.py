"""The Source port: one followed log, cut into shards.

How every log fits is the table "Ports and their adapters" in DESIGN.md. The contract suite is
`tests/contracts/source.py`.

Invariants: a reader returns records in position order, strictly after the position it was opened at, and never twice
within one opening. Reading is cancellable without loss: a record that was not returned is returned by the next opening.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from daemon.core.batcher import Chunk, Passed
from daemon.core.events import Record
from daemon.core.positions import Position


@dataclass(frozen=True, slots=True)
class SourceTraits:
    """What kind of log this is.

    `positioned`: records have positions; a queue has none, and its marker is the checkpoint. `rereadable`: a range can
    be read again. `ordered`: a key's records stay in order. `acknowledged`: records are given back after the commit
    (queues).
    """

    positioned: bool = True
    rereadable: bool = True
    ordered: bool = True
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard as the source lists it. `parents` must be done before it begins (splits, merges, new partitions)."""

    shard: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far a position lies behind the log's end; None where the log cannot tell.

    `held`: what lies behind the events that can be read now, kept back by a transaction that nobody ends.
    `seconds_to_loss`: until retention removes the next record, if nothing more is read; None while nothing waits, where
    nothing is ever removed, and where nobody can tell: `untold` says why then.
    """

    events: int | None = None
    bytes: int | None = None
    end: Position | None = None
    held: int | None = None
    seconds_to_loss: float | None = None
    untold: str = ""


class Reader(Protocol):
    """One opening of one shard, owned by one actor."""

    async def read(self, max_events: int, max_bytes: int) -> Chunk:
        """Return the next records, waiting for some.

        An empty chunk moves the position or says that the log is at its end.

        Waits at most for the source's poll interval. Raises SourceUnavailable, LogLost.
        """
        ...

    async def skim(self, before: Position | None, max_bytes: int) -> Passed:
        """Pass over the next records, but none at or above `before`, counting them; nothing of them is decoded.

        Counts 0 where the next one lies there, or none came within the poll interval. Raises as `read` does.
        """
        ...

    def identity(self, last: Record | None, through: Position) -> str | None:
        """Return the log's incarnation to keep with a checkpoint at `through`, whose newest record is `last`."""
        ...

    async def acknowledge(self, records: Sequence[Record]) -> None:
        """Tell a queue that these are committed. Logs do nothing. Failing must be harmless: the marker stands."""
        ...

    async def aclose(self) -> None:
        """Give back whatever the opening holds."""
        ...


class Source(Protocol):
    """One followed log."""

    @property
    def name(self) -> str:
        """The name projections follow it by."""
        ...

    @property
    def traits(self) -> SourceTraits:
        """What kind of log this is."""
        ...

    async def shards(self, within: float = 0.0) -> Sequence[ShardInfo]:
        """List the shards there are now; called again from time to time. Raises SourceUnavailable.

        Who only tells of them takes a listing that somebody else had up to `within` seconds ago, where there is one.
        """
        ...

    async def open(self, shard: str, after: Position, incarnation: str | None, until: Position | None = None) -> Reader:
        """Open `shard` strictly after `after`, up to and including `until` (None: follow it).

        `incarnation` is what `Reader.identity` returned for that position, None at the origin. Several openings of one
        shard may live side by side (a bounded range beside the live one). Raises LogLost when the log at `after` is not
        what was applied, SourceUnavailable.
        """
        ...

    async def locate(self, shard: str, start: datetime | str) -> Position:
        """Return the position after which reading meets `start`.

        `earliest`, `latest`, or the first record at or after a time.
        """
        ...

    async def restore(self, shard: str, kept: Sequence[tuple[Position, bytes]]) -> Sequence[Record | None]:
        """Make records again, decoded as they would be now, of what was kept of them: position and raw bytes, whole.

        None for one that neither its bytes nor the log can give again. Raises SourceUnavailable.
        """
        ...

    async def backlog(self, shard: str, after: Position) -> Backlog:
        """Return how much lies after a position, without reading it. Raises SourceUnavailable."""
        ...

    async def aclose(self) -> None:
        """Close every reader and connection."""
        ...
