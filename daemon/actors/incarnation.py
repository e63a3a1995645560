"""One ownership of one scope: take the shard, read what it needs, follow the log, and say how it ended.

Compare-and-set first, then every read: nothing is read before the epoch is ours. Three tasks share the batcher: the
reader fills it (and waits while it is full), the folder empties it, the committer sends one commit at a time.

Invariants: an incarnation keeps no memory beyond its end; whatever ends it, the reader is closed; it never leaves a
commit in flight behind.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

import anyio
from anyio.abc import TaskGroup

from daemon.actors.committer import Answer, Committer
from daemon.actors.controls import Controls
from daemon.actors.folder import Folder
from daemon.actors.ownership import Ownership
from daemon.actors.runtime import Runtime
from daemon.actors.sidework import SideWork, side_work
from daemon.actors.sightings import Sent, tell_answered
from daemon.actors.wake import Wake
from daemon.actors.windows import ShardWindow, WindowMemory
from daemon.core.batcher import Batcher
from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commit import Committed
from daemon.core.events import Event, Record
from daemon.core.fold import Stop
from daemon.core.identity import Scope
from daemon.core.leases import Claim
from daemon.core.lifecycle import ShardState, Signal
from daemon.core.operations import Operation, due
from daemon.core.positions import Position
from daemon.core.projection import ProjectionSpec
from daemon.ports.source import Reader
from daemon.ports.vitals import ShardVitals

_CLOSE_SECONDS = 5.0
_READ_AHEAD = 4
"""Commits' worth of records that wait at most."""
_DECODED_AT_ONCE = 256
"""Records of one read: about a millisecond of decoding, during which nobody else has a turn."""
_GAP_SECONDS = 1.0
"""Pause before looking again for an event that a sequence waits for."""


class How(StrEnum):
    """How an incarnation ended, when not by an error."""

    DRAINED = "drained"
    DONE = "done"
    PARKED = "parked"
    PAUSED = "paused"
    AFRESH = "afresh"
    """An operation asks that all memory is dropped and the shard taken again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An incarnation's end. `checkpoint` is what the store holds, `stuck_at` the record that it cannot go past."""

    how: How
    checkpoint: Checkpoint
    reason: str = ""
    stuck_at: Position | None = None


@dataclass(slots=True)
class Incarnation:
    """See the module. `signal` reports what happens to the shard's lifecycle."""

    runtime: Runtime
    scope: Scope
    spec: ProjectionSpec
    controls: Controls
    memory: WindowMemory
    signal: Callable[[Signal], None]
    claim: Claim | None = None
    """Take the shard only where this holds; None: from whoever owns it."""
    at_end: bool = False
    """Everything that the log held when last looked at is settled."""
    event_bytes: float | None = None
    """Bytes of a record, of all that were read until the end."""
    _ownership: Ownership = field(init=False)
    _room: Wake = field(default_factory=Wake)
    _outbox: Wake = field(default_factory=Wake)
    _answer: Answer | None = None
    _sent_at: float = 0.0
    _answered_at: float = 0.0
    _source_at_end: bool = False
    _troubled: bool = False
    _following: bool = False
    _reading: bool = True
    _folder: Folder | None = None
    """While the log is followed."""

    def __post_init__(self) -> None:
        """Own nothing yet."""
        self._ownership = Ownership(self.runtime, self.scope, self.spec, self.controls, self.claim, self._trouble)

    @property
    def epoch(self) -> int:
        """The epoch under which the shard is ours; 0 before it was taken."""
        return self._ownership.epoch

    async def run(self) -> Ended:
        """Own the shard until something ends that. Raises the error that ended it, alone or in a group."""
        checkpoint = await self._ownership.take()
        how = _OBEYED.get(checkpoint.state)
        if how is not None:
            return Ended(how, checkpoint, checkpoint.reason or "")
        source = self.runtime.sources[self.scope.source]
        reader = await source.open(self.scope.shard, checkpoint.position, checkpoint.incarnation)
        window = ShardWindow(self.runtime.store, self.scope, self.spec.marker_window, self.memory)
        try:
            return await self._follow(checkpoint, reader, window)
        finally:
            window.close()
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await reader.aclose()

    def vitals(self, state: ShardState) -> ShardVitals:
        """Return how things stand; little is known while the log is not followed."""
        folder = self._folder
        if folder is None:
            return ShardVitals(self.scope, state, self.epoch)
        checkpoint = folder.checkpoint
        return ShardVitals(
            scope=self.scope,
            state=state,
            epoch=self.epoch,
            position=checkpoint.position,
            watermark=checkpoint.watermark,
            at_end=self.at_end,
            settled=checkpoint.counters.get("read", 0),
            waiting=len(folder.batcher),
            waiting_bytes=folder.batcher.size,
            batches=(folder.in_flight is not None) + (folder.prepared is not None),
            cached_rows=len(folder.cache),
            window_ids=len(folder.window),
            parked_keys=len(folder.parked),
            event_bytes=folder.batcher.mean_bytes,
            since=_moment(folder.next_record) if checkpoint.watermark is None else None,
        )

    @property
    def stuck_at(self) -> Position | None:
        """The position of the first record that was read and not settled, when an error ended it."""
        return None if self._folder is None else self._folder.next_position

    def _committer(self) -> Committer:
        return Committer(self.runtime, self.scope, self._trouble)

    def _trouble(self, troubled: bool) -> None:  # noqa: FBT001 - a state, as the committer's callback has it
        if not self._following:
            return
        if troubled:
            self._troubled = True
            self.signal(Signal.TROUBLE)
        elif self._troubled:
            self._troubled = False
            self.signal(Signal.RECOVERED)

    # Following the log

    async def _follow(self, checkpoint: Checkpoint, reader: Reader, window: ShardWindow) -> Ended:
        batcher = Batcher(self.runtime.policy.batch_of(self.spec.name))
        # The checkpoint names the commit that last changed the parked keys; none did, and none can since the take.
        parked = set(await self.runtime.store.parked_keys(self.scope)) if checkpoint.parked_seq else set[str]()
        folder = Folder(self.runtime, self.scope, self.spec, checkpoint, batcher, reader, window, parked)
        self.signal(Signal.TAKEN)
        self._following, self._folder = True, folder
        side = side_work(self.runtime, folder, self._committer(), self.spec, self.controls.wake)
        ended: Ended | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_contained, self._read(reader, batcher, checkpoint))
            tasks.start_soon(_contained, self._commit(folder))
            ended = await self._fold(folder, side, tasks)
            tasks.cancel_scope.cancel()
        if ended is None:  # the group takes a stray cancellation inside it for its own
            raise RuntimeError("a task of the shard was cancelled from inside: a source or store raised a cancellation")
        self._following, self._folder, self.event_bytes = False, None, folder.batcher.mean_bytes
        return await self._finish(ended, folder.checkpoint)

    async def _read(self, reader: Reader, batcher: Batcher, checkpoint: Checkpoint) -> None:
        """Fill the batcher; wait while two batches wait already, by count or by bytes."""
        through, told_end = checkpoint.position, checkpoint.caught_up
        max_events, max_bytes = batcher.policy.max_events, self.runtime.policy.read_chunk_bytes
        most = 2 * batcher.policy.max_bytes
        while True:
            # What is decoded long before it is folded has left the processor's caches by then.
            count = min(max_events, _READ_AHEAD * batcher.enough)
            while len(batcher) >= 2 * count or batcher.size >= most or self.controls.orders:
                await self._room.wait()
            await self.runtime.turns.between(self.runtime.clock)
            if self.controls.orders:  # first: what is decoded now would make them wait
                continue
            chunk = await reader.read(min(count, _DECODED_AT_ONCE), max_bytes)
            if not self._reading:
                return
            news, self._source_at_end = chunk.at_end != self._source_at_end, chunk.at_end
            if chunk.records or chunk.ends_shard or chunk.through > through or (chunk.at_end and not told_end):
                through, told_end = max(through, chunk.through), told_end or chunk.at_end
                batcher.add(chunk)
                news = True
            if news:  # an idle log that still is idle wakes nobody
                self.at_end = False  # until the folder has seen to it, however long that takes
                self.controls.wake.ring()
            if chunk.ends_shard:
                return

    async def _commit(self, folder: Folder) -> None:
        """Send what the folder put in flight, one at a time."""
        committer = self._committer()
        while True:
            await self._outbox.wait()
            sent = folder.in_flight
            if sent is None:
                continue
            self._answer = await committer.send(sent.planned.commit, len(sent.chunk.records))
            self._answered_at = self.runtime.clock.monotonic()
            self.controls.wake.ring()

    async def _fold(self, folder: Folder, side: SideWork, tasks: TaskGroup) -> Ended:
        """Turn until something ends the incarnation; nothing is in flight then."""
        controls, clock, batcher = self.controls, self.runtime.clock, folder.batcher
        while True:
            await self._take_answer(folder, side)
            side.attend(tasks)
            order = self._next_order(folder)
            if order is not None:
                folder.put_aside()
            elif folder.prepared is not None and folder.in_flight is None:
                self._send(folder)
            idle = folder.in_flight is None and folder.prepared is None
            if controls.drain and order is None:
                batcher.clear()
            if idle:
                ended = await self._at_rest(folder, order, side)
                if isinstance(ended, Ended):
                    return ended
                if ended:
                    continue
            aside = self._aside_in(side, idle=idle) if order is None else None
            wait = None if order is not None or aside == 0.0 else self._due_in(batcher, clock.monotonic())
            if folder.prepared is None and not folder.must_wait and wait == 0.0:
                await self.runtime.turns.between(clock)
                if self._next_order(folder) is None:
                    await folder.prepare()
                    self._room.ring()
                continue
            self.at_end = self._source_at_end and idle and not batcher and not side.active
            if folder.prepared is not None or folder.must_wait:
                wait = None
            if idle:
                wait = _sooner(_sooner(wait, aside), self._beat_in())
            await controls.wake.wait(wait)

    async def _at_rest(self, folder: Folder, order: Operation | None, side: SideWork) -> Ended | bool:
        """Do what waits until nothing is in flight; return how that ends it, or whether to look anew."""
        if self._beat_in() == 0.0:
            await self._beat(folder)
        if order is not None:
            side.look()
            return await self._carry_out(folder, order) or True
        if self.controls.drain:
            return Ended(How.DRAINED, folder.checkpoint)
        if self._aside_in(side, idle=True) == 0.0:
            await side.turn(live=bool(folder.batcher))
            return True
        if folder.ended and not side.active:
            return Ended(How.DONE, folder.checkpoint)
        if folder.stop is None:
            return False
        if not folder.waiting_for_gap:
            return Ended(How.PARKED, folder.checkpoint, _why(folder), folder.next_position)
        await self._wait_for_gap(folder)
        return True

    def _aside_in(self, side: SideWork, *, idle: bool) -> float | None:
        """Return the seconds until a turn beside the live log is due, None while there is none."""
        folder = self._folder
        live = not idle or (folder is not None and bool(folder.batcher))
        return None if self.controls.drain else side.due_in(self.runtime.clock.monotonic(), live=live)

    def _due_in(self, batcher: Batcher, now: float) -> float | None:
        """Return the seconds until the next batch is to be folded: it is cut, and can be paid for; None: there is none.

        A batch that has to be paid for waits here, unfolded, so that the shard still beats, drains and pauses.
        """
        due = batcher.due_in(now)
        return None if due is None else max(due, self.runtime.spending.wait(self.scope.projection, now))

    def _beat_in(self) -> float | None:
        """Return the seconds until the lease is to be renewed by a commit of its own; None where none looks at it."""
        beat = self.runtime.policy.beat
        return None if beat is None else max(0.0, self._ownership.renewed_at + beat - self.runtime.clock.monotonic())

    async def _beat(self, folder: Folder) -> None:
        """Renew the lease of an idle shard: a commit without rows."""
        sent_at = self.runtime.clock.monotonic()
        folder.checkpoint = await self._ownership.change(folder.checkpoint)
        self._ownership.renewed_at = sent_at

    def _send(self, folder: Folder) -> None:
        folder.in_flight, folder.prepared = folder.prepared, None
        self._sent_at = self.runtime.clock.monotonic()
        self._outbox.ring()

    async def _take_answer(self, folder: Folder, side: SideWork) -> None:
        if self._answer is not None:
            await self.runtime.turns.calm(self.runtime.clock)
        answer, sent = self._answer, folder.in_flight
        if answer is None or sent is None:
            return
        self._answer = None
        planned = sent.planned
        told = Sent(folder.checkpoint, planned.commit, sent.chunk.records, planned.folded, sent.loaded)
        tell_answered(self.runtime, told, answer, self._answered_at - self._sent_at)
        folder.resolve(answer)
        if isinstance(answer, Committed):
            self._ownership.renewed_at = self._sent_at
            side.noted(planned.commit)
            self.runtime.spending.charge(self.scope.projection, answer.consumed, self.runtime.clock.monotonic())
            if self.runtime.sources[self.scope.source].traits.acknowledged:
                await folder.reader.acknowledge(sent.chunk.records)

    async def _wait_for_gap(self, folder: Folder) -> None:
        """Wait for the missing event of a sequence, which may come by another shard, then look at the rows anew.

        The next commit that settles tells that the trouble is over.
        """
        self._trouble(troubled=True)
        await self.controls.wake.wait(_GAP_SECONDS)
        folder.look_again()

    def _next_order(self, folder: Folder) -> Operation | None:
        """Return the operation to obey as soon as nothing is in flight, if there is one.

        `drain` waits for what was read; a shard that finds meanwhile that it must park, parks first.
        """
        if not self.controls.orders:
            return None
        orders = due(self.controls.orders, self.scope, folder.checkpoint)
        if not orders:
            self.controls.settle(folder.checkpoint.operation_seq)
            self._room.ring()
            return None
        if orders[0].name == "drain" and not self.controls.drain:
            self._reading = False
            stuck = folder.waiting_for_gap
            if (folder.batcher or folder.prepared is not None or folder.stop is not None) and not stuck:
                return None
        return orders[0]

    async def _carry_out(self, folder: Folder, order: Operation) -> Ended | None:
        """Obey, and tell how the incarnation ends, if it does."""
        self.at_end = False  # the log may have grown since it was looked at
        self._ownership.renewed_at = self.runtime.clock.monotonic()
        obeyed = await self._ownership.obey(folder.checkpoint, order)
        folder.checkpoint = obeyed.checkpoint
        self._room.ring()
        how = _OBEYED.get(obeyed.checkpoint.state)
        if how is not None:
            return Ended(how, obeyed.checkpoint, obeyed.checkpoint.reason or "")
        if not obeyed.afresh:
            return None
        return Ended(How.DRAINED if self.controls.drain else How.AFRESH, obeyed.checkpoint)

    async def _finish(self, ended: Ended, checkpoint: Checkpoint) -> Ended:
        """Write down how it ended: the state survives a restart, and a released shard can be taken at once."""
        match ended.how:
            case How.DRAINED:
                after = await self._ownership.change(checkpoint, owner=None)
            case How.DONE:
                after = await self._ownership.change(checkpoint, state=CheckpointState.DONE)
            case How.PARKED:
                after = await self._ownership.change(
                    checkpoint, state=CheckpointState.PARKED, reason=ended.reason, stuck_at=ended.stuck_at
                )
            case How.PAUSED | How.AFRESH:
                after = checkpoint  # an operation asked for it, and its commit said so
        return replace(ended, checkpoint=after)


_OBEYED = {
    CheckpointState.PAUSED: How.PAUSED,
    CheckpointState.PARKED: How.PARKED,
    CheckpointState.DONE: How.DONE,
}


async def _contained(work: Coroutine[None, None, None]) -> None:
    """Do a part of a shard's work. An exit inside it is a bug like others: the loop would let it end the process."""
    try:
        await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"a source or store raised {type(error).__name__}") from error


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _moment(record: Record | None) -> datetime | None:
    return record.moment if isinstance(record, Event) else None


def _why(folder: Folder) -> str:
    stop = folder.stop
    if stop is None:  # pragma: no cover - asked only when there is one
        return ""
    if isinstance(stop, Stop):
        return f"{stop.failure.reason}: {stop.failure.detail}"
    return stop.detail
