"""The second cursor of one owned shard: a range of its log, read and folded between the live batches.

Theory of operation. A task reads the range ahead, at most so many chunks, and pays for its time with pauses while live
events wait. What a chunk holds of applied events is counted at once; only where something listed is met, at the end,
and from time to time, a commit is due, and is made when nothing of the live log is in flight.

Invariants: the live reader, batcher and position are never touched; a cursor in memory is never behind the
checkpoint's, and never ahead of what was counted; trouble with the range's log ends or delays the re-delivery, never
the shard.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import anyio
from anyio.abc import TaskGroup

from daemon.actors.late import Beside, Desk, LateFolder, ListingMoved, Part
from daemon.actors.runtime import Runtime
from daemon.actors.wake import Wake
from daemon.core.cursor import CursorState, Redelivery, told
from daemon.core.errors import LogLost, SourceProblem
from daemon.core.events import Record
from daemon.core.late import passed
from daemon.core.operations import OutcomeStatus, ShardOutcome
from daemon.core.planner import retention_horizon
from daemon.core.positions import Position, position_text
from daemon.core.projection import Dedup
from daemon.core.recovery import backoff
from daemon.core.redelivery import Entry, Listing, advanced
from daemon.core.waiting import Amended, ParkedRef, Settle, Wish
from daemon.ports.observer import RedeliveryProgress
from daemon.ports.source import Reader

_CHUNKS_AHEAD = 3
_SAVE_SECONDS = 1.0
"""How often what was only counted is written down."""
_CHUNK_FACTOR = 4
"""A range is read in larger chunks than the live log: nobody waits for its events."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the range, up to `through`: `count` records, which were only counted where `records` is empty."""

    count: int
    through: Position
    records: Sequence[Record] = ()


@dataclass(slots=True)
class Redeliverer:
    """See the module. `wake` rings the fold loop; `share` is the part of the time that it takes while live is busy."""

    runtime: Runtime
    desk: Desk
    late: LateFolder
    wake: Wake
    share: float
    released: bool = False
    """What queues behind keys that the range unparked was noted to be released."""
    _cursor: Redelivery | None = None
    _scope: anyio.CancelScope | None = None
    _chunks: deque[Span] = field(default_factory=deque["Span"])
    _listed: Wake = field(default_factory=Wake)
    """Rung once what waits is known."""
    _room: Wake = field(default_factory=Wake)
    _lost: str = ""
    _saved_at: float = 0.0
    _not_before: float = 0.0
    _busy: float = 0.0
    """Seconds worked that no cursor holds yet."""

    @property
    def active(self) -> bool:
        """Whether a range is being folded."""
        return self._cursor is not None

    def attend(self, tasks: TaskGroup) -> None:
        """Begin or end what the checkpoint says, and count what was read and needs no commit."""
        held = self.desk.folder.checkpoint.redelivery
        mine = self._cursor
        if mine is not None and (held is None or held.id != mine.id or not held.active):
            self._stop()
        if self._cursor is None and held is not None and held.active:
            self._begin(held, tasks)
        self._count()

    def due_in(self, now: float, *, live: bool) -> float | None:
        """Return the seconds until a commit of the range is due, None while there is nothing for one.

        `live` is busy.
        """
        cursor = self._cursor
        if cursor is None:
            return None
        held = self.desk.folder.checkpoint.redelivery
        if self.desk.listing is None or self._chunks or self._lost or not cursor.active:
            return max(0.0, self._not_before - now) if live else 0.0
        if cursor == held:
            return None
        return max(0.0, self._saved_at + _SAVE_SECONDS - now)

    async def step(self) -> None:
        """Make the commit that is due. Nothing of the live log may be in flight. Raises Superseded, StoreProblem."""
        cursor = self._cursor
        if cursor is None:
            return
        if self.desk.listing is None:
            await self.desk.load()
            self._listed.ring()
            self._count()
            return
        began = self.runtime.clock.monotonic()
        try:
            if self._chunks and cursor.active:
                await self._fold(self._chunks[0], cursor)
            elif self._lost:
                await self._fail(cursor)
            else:
                await self._save(cursor)
        except ListingMoved:
            await self.desk.load()
        took = self.runtime.clock.monotonic() - began
        self._busy += took
        self._not_before = began + took / self.share

    # Reading ahead

    def _begin(self, cursor: Redelivery, tasks: TaskGroup) -> None:
        self._cursor, self._lost, self._busy = cursor, "", 0.0
        self._saved_at = self.runtime.clock.monotonic()
        self._scope = anyio.CancelScope()
        self.desk.listing = None
        tasks.start_soon(self._read, cursor, self._scope)

    def _stop(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        self._cursor = self._scope = None
        self._chunks.clear()
        self.desk.listing = None
        self._room.ring()

    async def _read(self, cursor: Redelivery, scope: anyio.CancelScope) -> None:
        """Read the range into `_chunks`, again and again until its log can be read to the end."""
        after, tries = cursor.position, 0
        with scope:
            while True:
                try:
                    after = await self._read_from(after, cursor.until)
                except LogLost as problem:
                    self._lost = str(problem)
                except SourceProblem:
                    tries += 1
                    policy, clock = self.runtime.policy.retry, self.runtime.clock
                    await clock.sleep(backoff(tries, policy, clock.draw()))
                    after = self._chunks[-1].through if self._chunks else (self._cursor or cursor).position
                    continue
                self.wake.ring()
                return

    async def _read_from(self, after: Position, until: Position) -> Position:
        scope, clock = self.desk.folder.scope, self.runtime.clock
        most = _CHUNK_FACTOR * self.desk.folder.batcher.policy.max_events
        reader = await self.runtime.sources[scope.source].open(scope.shard, after, None, until=until)
        try:
            while after < until:
                while self.desk.listing is None:
                    await self._listed.wait()
                began = clock.monotonic()
                span, ends = await self._next(reader, after, most)
                took = clock.monotonic() - began
                self._busy += took
                after = until if ends or span.through >= until else span.through
                if span.count or after != (self._chunks[-1].through if self._chunks else None):
                    self._chunks.append(Span(span.count, after, span.records))
                self.wake.ring()
                if len(self.desk.folder.batcher) or self.desk.folder.in_flight is not None:
                    await clock.sleep(took * (1 / self.share - 1))
                while len(self._chunks) >= _CHUNKS_AHEAD:
                    await self._room.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await reader.aclose()
        return after

    async def _next(self, reader: Reader, after: Position, most: int) -> tuple[Span, bool]:
        """Read on: pass over what nothing waits in, and read what something does. The bool: the range ends here."""
        size = _CHUNK_FACTOR * self.runtime.policy.read_chunk_bytes
        listing = self.desk.listing
        before = None if listing is None else listing.next_after(after)
        if listing is not None and before != after:
            passed_over = await reader.skim(before, size)
            if passed_over.count or passed_over.ends or passed_over.through > after:
                return Span(passed_over.count, passed_over.through), passed_over.ends
        chunk = await reader.read(most, size)
        return Span(len(chunk.records), chunk.through, chunk.records), chunk.ends_shard

    def _count(self) -> None:
        """Count chunks of which nothing waits: their positions prove that all in them was applied."""
        listing, cursor = self.desk.listing, self._cursor
        if listing is None or cursor is None:
            return
        while self._chunks and cursor.active:
            chunk = self._chunks[0]
            skipped = any(one.after < chunk.through and one.through > cursor.position for one in listing.skipped)
            if chunk.records and (skipped or listing.entries(chunk.records)):
                break
            self._chunks.popleft()
            cursor = self._cursor = self._moved(cursor, chunk.through, _suppressed(chunk.count))
        self._room.ring()

    def _moved(self, cursor: Redelivery, through: Position, tally: dict[str, int]) -> Redelivery:
        worked, self._busy = self._busy, 0.0
        whole = int(worked * 1000)
        self._busy = worked - whole / 1000
        return advanced(cursor, through, {**tally, "busy_ms": whole}, self.runtime.clock.now())

    # Committing

    async def _fold(self, chunk: Span, cursor: Redelivery) -> None:
        """Commit the first part of a chunk, as far as one commit goes."""
        listing = self.desk.listing
        if listing is None:  # pragma: no cover - loaded before
            return
        entries = listing.entries(chunk.records)
        places: list[tuple[Position, int]] = []

        def beside(part: Part) -> Beside:
            through = chunk.through if part.whole else part.through
            count = len(chunk.records)
            if not part.whole:
                count = next(at for at, record in enumerate(chunk.records, 1) if record.position >= through)
            left = [entry for entry, _ in part.left]
            met = len(left) + len(part.entries)
            tally = {**_suppressed(count - met), **part.late.tally, "read": count}
            if left:
                tally["left"] = len(left)
            moved = self._moved(cursor, through, tally)
            stay = _pieces(left, chunk.records, cursor.position)
            settles, skips = passed(listing.skipped, cursor.position, through, stay)
            places[:] = [(through, count)]
            settles += followers(listing, part, cursor.until)
            return Beside(settles, skips, moved, {}, self._outcomes(moved))

        before = self.desk.folder.checkpoint.redelivery
        done = await self.late.apply(entries, listing, beside, asked=False, horizon=self._horizon())
        through, count = places[0]
        self._taken(done.commit.checkpoint.redelivery, through, count)
        self.released = self.released or any(_releases(settle) for settle in done.commit.settles)
        self.desk.noted(done.commit)
        self._tell(before)

    def _taken(self, cursor: Redelivery | None, through: Position, count: int) -> None:
        """Drop what was committed of the first chunk."""
        chunk = self._chunks[0]
        if through >= chunk.through:
            self._chunks.popleft()
        else:
            self._chunks[0] = Span(chunk.count - count, chunk.through, chunk.records[count:])
        self._saved_at = self.runtime.clock.monotonic()
        self._cursor = cursor
        self._room.ring()

    async def _save(self, cursor: Redelivery) -> None:
        """Write down what was counted."""
        before = self.desk.folder.checkpoint.redelivery
        cursor = self._moved(cursor, cursor.position, {"commits": 1})
        commit = await self.late.change(Beside(cursor=cursor, outcomes=self._outcomes(cursor)))
        self._cursor, self._saved_at = commit.checkpoint.redelivery, self.runtime.clock.monotonic()
        self._tell(before)

    async def _fail(self, cursor: Redelivery) -> None:
        ended = replace(cursor, state=CursorState.FAILED, ended=self.runtime.clock.now(), reason=self._lost)
        before = self.desk.folder.checkpoint.redelivery
        await self.late.change(Beside(cursor=ended, outcomes=self._outcomes(ended)))
        self._cursor = ended
        self._tell(before)

    def _outcomes(self, cursor: Redelivery) -> Sequence[ShardOutcome]:
        """Return the outcome of the operation that began a re-delivery, once it has ended."""
        if cursor.active or not cursor.id.isdigit():
            return ()
        status = OutcomeStatus.DONE if cursor.state is CursorState.DONE else OutcomeStatus.ABORTED
        where = {"position": position_text(cursor.position)}
        figures = {**where, **cursor.counters}
        scope, now = self.desk.folder.scope, self.runtime.clock.now()
        detail = told(cursor)
        return (
            ShardOutcome(
                int(cursor.id), scope, status, detail, {"after": position_text(cursor.after)}, figures,
                self.runtime.replica, now,
            ),
        )  # fmt: skip

    def _horizon(self) -> datetime | None:
        spec, checkpoint = self.late.spec, self.desk.folder.checkpoint
        if spec.dedup is Dedup.SEQUENCE or not checkpoint.caught_up:
            return None
        return retention_horizon(checkpoint.watermark, spec.marker_retention)

    def _tell(self, before: Redelivery | None) -> None:
        cursor = self._cursor
        if cursor is None:  # pragma: no cover - told after a commit of it
            return
        known: Mapping[str, int] = {} if before is None else before.counters
        added = {name: count - known.get(name, 0) for name, count in cursor.counters.items()}
        counts = {name: count for name, count in added.items() if count}
        self.runtime.observer.see(RedeliveryProgress(self.desk.folder.scope, cursor, counts))


def followers(listing: Listing, part: Part, until: Position) -> list[Settle]:
    """Return the wish to release what queues behind keys whose events of the range are all folded.

    Nothing holds these keys any more: what follows came after the range's end.
    """
    folded = {entry.ref for entry in part.entries}
    keys = {ref.key for ref in folded if isinstance(ref, ParkedRef)} - part.late.stuck
    heads = [next((ref for ref in listing.queues.get(key, ()) if ref not in folded), None) for key in sorted(keys)]
    release = Amended("", "", "", Wish.RELEASE)
    return [Settle(head, release) for head in heads if head is not None and head.position > until]


def _releases(settle: Settle) -> bool:
    return settle.keep is not None and settle.keep.wish is Wish.RELEASE


def _suppressed(count: int) -> dict[str, int]:
    return {"read": count, "duplicate_position": count}


def _pieces(left: Sequence[Entry], records: Sequence[Record], before: Position) -> list[tuple[Position, Position]]:
    """Return each entry's own piece of the log: from the record before it, exclusive."""
    positions = [before, *(record.position for record in records)]
    places = {position: index for index, position in enumerate(positions)}
    return [(positions[places[one.record.position] - 1], one.record.position) for one in left]
