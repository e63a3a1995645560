"""A log in memory: shards of records that tests let grow, end and vanish; or a queue that takes acknowledgements.

Owns the records and who read them. Must not decode: it holds events ready made.

Invariants: a reader returns records in position order, strictly after where it was opened, each once; a shard that was
`ended` says so with the chunk that reaches its end; a queue gives out what is not acknowledged, again at each opening.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import anyio.lowlevel

from daemon.core.batcher import Chunk, Passed
from daemon.core.errors import LogLost, SourceProblem, SourceUnavailable
from daemon.core.events import Event, Record
from daemon.core.positions import START, Position, position_text
from daemon.ports.source import Backlog, ShardInfo, SourceTraits


@dataclass(slots=True)
class MemoryShard:
    """One shard. `end`: positions up to here exist, records or not. `trimmed`: none at or below it can be read."""

    parents: tuple[str, ...] = ()
    records: list[Record] = field(default_factory=list[Record])
    end: Position = START
    ended: bool = False
    trimmed: Position = START
    acknowledged: set[int] = field(default_factory=set[int])


class MemorySource:
    """A Source over shards in memory. `queue=True`: no positions, acknowledged after the commit, not rereadable."""

    def __init__(self, name: str = "memory", *, queue: bool = False, incarnation: str = "memory-1") -> None:
        """Start without shards."""
        self._name = name
        self.incarnation = incarnation
        self.queue = queue
        self.shards_by_name: dict[str, MemoryShard] = {}
        self.problems: list[SourceProblem] = []
        """Raised by the next reads, one each."""
        self._grown = anyio.Event()

    @property
    def name(self) -> str:
        """The name projections follow it by."""
        return self._name

    @property
    def traits(self) -> SourceTraits:
        """A positioned log, or a queue."""
        if self.queue:
            return SourceTraits(positioned=False, rereadable=False, ordered=False, acknowledged=True)
        return SourceTraits()

    # What a test does to the log

    def add_shard(self, shard: str, parents: tuple[str, ...] = ()) -> MemoryShard:
        """Make a shard."""
        made = self.shards_by_name[shard] = MemoryShard(parents)
        return made

    def append(self, shard: str, *records: Record) -> None:
        """Let a shard grow. Positions rise, with gaps or without; a queue's are all START."""
        held = self.shards_by_name[shard]
        for record in records:
            if self.queue:
                record.receipt = len(held.records)
            elif record.position <= held.end:
                message = f"position {record.position} is not above {held.end}, the end of shard {shard!r}; raise it"
                raise ValueError(message)
            else:
                held.end = record.position
            held.records.append(record)
        self._wake()

    def advance(self, shard: str, end: Position) -> None:
        """Move a shard's end without a record: aborted data, control records."""
        self.shards_by_name[shard].end = end
        self._wake()

    def end_shard(self, shard: str) -> None:
        """Say that a shard takes no more."""
        self.shards_by_name[shard].ended = True
        self._wake()

    def trim(self, shard: str, through: Position) -> None:
        """Forget records up to `through`."""
        held = self.shards_by_name[shard]
        held.trimmed = through
        held.records = [record for record in held.records if record.position > through]

    def _wake(self) -> None:
        self._grown.set()
        self._grown = anyio.Event()

    # The port

    async def shards(self, within: float = 0.0) -> Sequence[ShardInfo]:
        """List the shards there are now."""
        del within
        await anyio.lowlevel.checkpoint()
        return [ShardInfo(shard, held.parents) for shard, held in self.shards_by_name.items()]

    async def open(
        self, shard: str, after: Position, incarnation: str | None, until: Position | None = None
    ) -> "MemoryReader":
        """Open a shard strictly after a position. Raises LogLost when that is trimmed or another log's."""
        await anyio.lowlevel.checkpoint()
        held = self._held(shard)
        if incarnation is not None and incarnation != self.incarnation:
            raise LogLost(f"shard {shard!r} is log {self.incarnation!r} now, not {incarnation!r}; rebuild, or rewind")
        if after < held.trimmed:
            raise LogLost(
                f"shard {shard!r} begins after {position_text(held.trimmed)}, past {position_text(after)}; rebuild"
            )
        if not self.queue and after > held.end:
            raise LogLost(
                f"shard {shard!r} ends at {position_text(held.end)}, before {position_text(after)}; "
                "restore it, or rewind"
            )
        return MemoryReader(self, held, after, until)

    async def locate(self, shard: str, start: datetime | str) -> Position:
        """Return the position after which reading meets `start`."""
        await anyio.lowlevel.checkpoint()
        held = self._held(shard)
        if start == "earliest":
            return held.trimmed
        if start == "latest":
            return held.end
        if isinstance(start, str):
            message = f"start {start!r} is neither 'earliest', 'latest' nor a time; give one of them"
            raise ValueError(message)  # noqa: TRY004 - the value is wrong, not its type
        before = held.trimmed
        for record in held.records:
            if isinstance(record, Event) and record.moment is not None and record.moment >= start:
                return before
            before = record.position
        return held.end

    async def restore(self, shard: str, kept: Sequence[tuple[Position, bytes]]) -> Sequence[Record | None]:
        """Find records that the log still holds; what a test changed about them since counts."""
        await anyio.lowlevel.checkpoint()
        held = self._held(shard)
        place = {(record.position, record.raw): record for record in held.records}
        return [place.get(one) for one in kept]

    async def backlog(self, shard: str, after: Position) -> Backlog:
        """Return how much lies after a position."""
        await anyio.lowlevel.checkpoint()
        held = self._held(shard)
        if self.queue:
            waiting = [record for at, record in enumerate(held.records) if at not in held.acknowledged]
            return Backlog(len(waiting), sum(len(record.raw) for record in waiting))
        waiting = [record for record in held.records if record.position > after]
        return Backlog(len(waiting), sum(len(record.raw) for record in waiting), held.end)

    async def aclose(self) -> None:
        """Close; nothing is held."""
        await anyio.lowlevel.checkpoint()

    def _held(self, shard: str) -> MemoryShard:
        if shard not in self.shards_by_name:
            raise SourceUnavailable(f"source {self._name!r} has no shard {shard!r}; list its shards again")
        return self.shards_by_name[shard]

    async def grown(self, seconds: float) -> None:
        """Wait until something changes, at most `seconds`."""
        with anyio.move_on_after(seconds):
            await self._grown.wait()


class MemoryReader:
    """One opening of one shard."""

    poll_seconds = 0.01

    def __init__(self, source: MemorySource, held: MemoryShard, after: Position, until: Position | None) -> None:
        """Start after a position; made by `MemorySource.open`."""
        self._source = source
        self._held = held
        self._through = after
        self._until = until
        self._given: set[int] = set()

    async def read(self, max_events: int, max_bytes: int) -> Chunk:
        """Return the next records; an empty chunk says that the log is at its end, or moves the position."""
        await anyio.lowlevel.checkpoint()
        if self._source.problems:
            raise self._source.problems.pop(0)
        if not self._waiting() and not self._moved() and not self._held.ended:
            await self._source.grown(self.poll_seconds)
        waiting = self._waiting()
        taken = _fitting(waiting, max_events, max_bytes)
        whole = len(taken) == len(waiting)
        if self._source.queue:
            self._given.update(record.receipt for record in taken if isinstance(record.receipt, int))
            return Chunk(taken, START, at_end=whole, ends_shard=whole and self._held.ended)
        limit = self._held.end if self._until is None else min(self._held.end, self._until)
        self._through = max(self._through, limit) if whole else taken[-1].position
        ends = whole and (self._held.ended or (self._until is not None and self._through >= self._until))
        return Chunk(taken, self._through, at_end=whole, ends_shard=ends)

    async def skim(self, before: Position | None, max_bytes: int) -> Passed:
        """Pass over records below a position."""
        limits = [place for place in (before, self._until) if place is not None]
        shorter = MemoryReader(self._source, self._held, self._through, min(limits, default=None))
        if before is not None and self._waiting() and self._waiting()[0].position >= before:
            return Passed(0, self._through)
        chunk = await shorter.read(1 << 30, max_bytes)
        records = [record for record in chunk.records if before is None or record.position < before]
        whole = len(records) == len(chunk.records) and (before is None or chunk.through < before)
        self._through = chunk.through if whole else records[-1].position if records else self._through
        ends = whole and self._until is not None and self._through >= self._until
        return Passed(len(records), self._through, ends or (whole and self._held.ended and chunk.ends_shard))

    def _waiting(self) -> list[Record]:
        held = self._held
        if self._source.queue:
            gone = held.acknowledged | self._given
            return [record for at, record in enumerate(held.records) if at not in gone]
        return [
            record
            for record in held.records
            if record.position > self._through and (self._until is None or record.position <= self._until)
        ]

    def _moved(self) -> bool:
        limit = self._held.end if self._until is None else min(self._held.end, self._until)
        return not self._source.queue and limit > self._through

    def identity(self, last: Record | None, through: Position) -> str | None:
        """Return the log's incarnation."""
        return self._source.incarnation

    async def acknowledge(self, records: Sequence[Record]) -> None:
        """Take a queue's records away for good; logs do nothing."""
        await anyio.lowlevel.checkpoint()
        if self._source.queue:
            self._held.acknowledged.update(record.receipt for record in records if isinstance(record.receipt, int))

    async def aclose(self) -> None:
        """Give back: what a queue's reader was given and nobody acknowledged comes again."""
        await anyio.lowlevel.checkpoint()


def _fitting(records: list[Record], max_events: int, max_bytes: int) -> list[Record]:
    """Return the first records within both limits, one at least."""
    room = max_bytes
    for index, record in enumerate(records[:max_events]):
        room -= len(record.raw)
        if room < 0 and index:
            return records[:index]
    return records[:max_events]
