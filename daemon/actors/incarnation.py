"""One ownership of one scope: take the shard, read what it needs, follow the log, and say how it ended.

Compare-and-set first, then every read: nothing is read before the epoch is ours. Three tasks share the batcher: the
reader fills it (and waits while it is full), the folder empties it, the committer sends one commit at a time.

Invariants: an incarnation keeps no memory beyond its end; whatever ends it, the reader is closed; it never leaves a
commit in flight behind.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import anyio

from daemon.actors.committer import Answer, Committer
from daemon.actors.folder import Folder, Prepared
from daemon.actors.runtime import Runtime
from daemon.actors.sightings import committed_facts
from daemon.actors.wake import Wake
from daemon.actors.windows import ShardWindow, WindowMemory
from daemon.core.batcher import Batcher
from daemon.core.checkpoint import Checkpoint, CheckpointState, stands_at
from daemon.core.commit import Commit, Committed, Fenced
from daemon.core.errors import ProjectionProblem, StoreRefused, Superseded
from daemon.core.fold import Stop
from daemon.core.identity import Scope
from daemon.core.leases import Claim, owner_name
from daemon.core.lifecycle import ShardState, Signal
from daemon.core.projection import ProjectionSpec
from daemon.ports.observer import CodeChanged, CommitRefused
from daemon.ports.source import Reader
from daemon.ports.vitals import ShardVitals

_CLOSE_SECONDS = 5.0
_GAP_SECONDS = 1.0
"""Pause before looking again for an event that a sequence waits for."""


class How(StrEnum):
    """How an incarnation ended, when not by an error."""

    DRAINED = "drained"
    DONE = "done"
    PARKED = "parked"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Ended:
    """An incarnation's end. `checkpoint` is what the store holds."""

    how: How
    checkpoint: Checkpoint
    reason: str = ""


@dataclass(slots=True)
class Controls:
    """What a shard is asked to do. Written by the supervisor, obeyed at the next turn of the fold."""

    wake: Wake = field(default_factory=Wake)
    drain: bool = False
    resume: bool = False
    pause: str | None = None
    """The reason to pause, for people."""

    def ask(self, *, drain: bool = False, resume: bool = False, pause: str | None = None) -> None:
        """Record a wish and wake whoever serves it."""
        self.drain = self.drain or drain
        self.resume = self.resume or resume
        self.pause = pause or self.pause
        self.wake.ring()


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
    epoch: int = 0
    _room: Wake = field(default_factory=Wake)
    _outbox: Wake = field(default_factory=Wake)
    _answer: Answer | None = None
    _sent_at: float = 0.0
    _renewed_at: float = 0.0
    """When the newest commit that settled was sent: the lease holds from then on."""
    _source_at_end: bool = False
    _troubled: bool = False
    _following: bool = False
    _folder: Folder | None = None
    """While the log is followed."""

    async def run(self) -> Ended:
        """Own the shard until something ends that. Raises the error that ended it, alone or in a group."""
        checkpoint = await self._take()
        if self.controls.resume and checkpoint.state in _RESUMABLE:
            checkpoint = await self._change(checkpoint, state=CheckpointState.RUNNING, reason=None)
        self.controls.resume = False
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

    async def _take(self) -> Checkpoint:
        """Raise the epoch in our name; refuse code that changed under the same version where settings say so."""
        store, clock = self.runtime.store, self.runtime.clock
        before = await store.read_checkpoint(self.scope)
        if self.claim is not None and not self.claim.holds(before, self.runtime.replica):
            raise Superseded(f"{self.scope.label}: another owner has taken the shard; it carries on")
        initial = Checkpoint(code_digest=self.spec.code_digest)
        if before is None:
            source = self.runtime.sources[self.scope.source]
            start = self.runtime.start_of(self.scope)
            origin = start if isinstance(start, tuple) else await source.locate(self.scope.shard, start)
            initial = replace(initial, position=origin, origin=origin)
        self._renewed_at = clock.monotonic()
        # What a claim was judged by must still hold when the epoch rises: nothing may come between look and take.
        over = None if self.claim is None else stands_at(before)
        checkpoint = await store.take(self.scope, owner_name(self.runtime.replica, clock.unique()), initial, over)
        self.epoch = checkpoint.epoch
        if checkpoint.code_digest == self.spec.code_digest:
            return checkpoint
        self.runtime.observer.see(CodeChanged(self.scope, checkpoint.code_digest, self.spec.code_digest))
        if self.runtime.policy.require_version_bump and checkpoint.code_digest:
            message = (
                f"the code of {self.spec.name} version {self.spec.version} has digest {self.spec.code_digest:.12}, but "
                f"{self.scope.label} was folded by {checkpoint.code_digest:.12}; raise the version and rebuild, "
                "or set daemon.require_version_bump = false"
            )
            raise ProjectionProblem(message)
        return await self._change(checkpoint, code_digest=self.spec.code_digest)

    async def _change(self, checkpoint: Checkpoint, **changes: object) -> Checkpoint:
        """Commit a change of the checkpoint alone."""
        after = replace(checkpoint.next(self.runtime.clock.unique()), **changes)  # pyright: ignore[reportArgumentType]
        answer = await self._committer().send(Commit(self.scope, checkpoint.fence, after), 0)
        if isinstance(answer, Fenced):
            released = answer.checkpoint is not None and answer.checkpoint.owner is None
            raise Superseded(f"{self.scope.label}: another owner took the shard; it carries on", released=released)
        if not isinstance(answer, Committed):
            raise StoreRefused(f"{self.scope.label}: the store answers {answer!r} to a change of the checkpoint alone")
        return after

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
        )

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
        ended = Ended(How.DRAINED, checkpoint)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, reader, batcher, checkpoint)
            tasks.start_soon(self._commit, folder)
            ended = await self._fold(folder)
            tasks.cancel_scope.cancel()
        self._following, self._folder = False, None
        return await self._finish(ended, folder.checkpoint)

    async def _read(self, reader: Reader, batcher: Batcher, checkpoint: Checkpoint) -> None:
        """Fill the batcher; wait while two batches wait already, by count or by bytes."""
        through, told_end = checkpoint.position, checkpoint.caught_up
        max_events, max_bytes = batcher.policy.max_events, self.runtime.policy.read_chunk_bytes
        most = 2 * batcher.policy.max_bytes
        while True:
            while len(batcher) >= 2 * max_events or batcher.size >= most:
                await self._room.wait()
            chunk = await reader.read(max_events, max_bytes)
            news, self._source_at_end = chunk.at_end != self._source_at_end, chunk.at_end
            if chunk.records or chunk.ends_shard or chunk.through > through or (chunk.at_end and not told_end):
                through, told_end = max(through, chunk.through), told_end or chunk.at_end
                batcher.add(chunk)
                news = True
            if news:  # an idle log that still is idle wakes nobody
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
            self.controls.wake.ring()

    async def _fold(self, folder: Folder) -> Ended:
        """Turn until something ends the incarnation; nothing is in flight then."""
        controls, clock, batcher = self.controls, self.runtime.clock, folder.batcher
        while True:
            await self._take_answer(folder)
            if folder.prepared is not None and folder.in_flight is None:
                self._send(folder)
            idle = folder.in_flight is None and folder.prepared is None
            if idle and self._beat_in() == 0.0:
                await self._beat(folder)
            if controls.drain or controls.pause is not None:
                batcher.clear()
                if idle:
                    return self._asked(folder)
            elif folder.ended and idle:
                return Ended(How.DONE, folder.checkpoint)
            elif folder.stop is not None and idle:
                if not folder.waiting_for_gap:
                    return Ended(How.PARKED, folder.checkpoint, _why(folder))
                await self._wait_for_gap(folder)
                continue
            due = self._due_in(batcher, clock.monotonic())
            if folder.prepared is None and not folder.must_wait and due == 0.0:
                await folder.prepare()
                self._room.ring()
                continue
            self.at_end = self._source_at_end and idle and not batcher
            wait = None if folder.prepared is not None or folder.must_wait else due
            await controls.wake.wait(_sooner(wait, self._beat_in() if idle else None))

    def _due_in(self, batcher: Batcher, now: float) -> float | None:
        """Return the seconds until the next batch is to be folded: it is cut, and can be paid for; None: there is none.

        A batch that has to be paid for waits here, unfolded, so that the shard still beats, drains and pauses.
        """
        due = batcher.due_in(now)
        return None if due is None else max(due, self.runtime.spending.wait(self.scope.projection, now))

    def _beat_in(self) -> float | None:
        """Return the seconds until the lease is to be renewed by a commit of its own; None where none looks at it."""
        beat = self.runtime.policy.beat
        return None if beat is None else max(0.0, self._renewed_at + beat - self.runtime.clock.monotonic())

    async def _beat(self, folder: Folder) -> None:
        """Renew the lease of an idle shard: a commit without rows."""
        sent_at = self.runtime.clock.monotonic()
        folder.checkpoint = await self._change(folder.checkpoint)
        self._renewed_at = sent_at

    def _send(self, folder: Folder) -> None:
        folder.in_flight, folder.prepared = folder.prepared, None
        self._sent_at = self.runtime.clock.monotonic()
        self._outbox.ring()

    async def _take_answer(self, folder: Folder) -> None:
        answer, sent = self._answer, folder.in_flight
        if answer is None or sent is None:
            return
        self._answer = None
        before = folder.checkpoint
        seconds = self.runtime.clock.monotonic() - self._sent_at
        if self.runtime.tracing is not None:
            self.runtime.tracing.commit(self.scope, sent.chunk.records, type(answer).__name__, seconds)
        if not isinstance(answer, Committed):
            self.runtime.observer.see(CommitRefused(self.scope, type(answer).__name__))
        folder.resolve(answer)
        if isinstance(answer, Committed):
            self._renewed_at = self._sent_at
            await self._settled(folder, sent, answer, before)

    async def _settled(self, folder: Folder, sent: Prepared, answer: Committed, before: Checkpoint) -> None:
        now = self.runtime.clock.monotonic()
        seconds = now - self._sent_at
        self.runtime.spending.charge(self.scope.projection, answer.consumed, now)
        at = self.runtime.clock.now()
        for fact in committed_facts(self.scope, before, sent, answer, seconds, at):
            self.runtime.observer.see(fact)
        if self.runtime.sources[self.scope.source].traits.acknowledged:
            await folder.reader.acknowledge(sent.chunk.records)

    async def _wait_for_gap(self, folder: Folder) -> None:
        """Wait for the missing event of a sequence, which may come by another shard, then look at the rows anew.

        The next commit that settles tells that the trouble is over.
        """
        self._trouble(troubled=True)
        await self.controls.wake.wait(_GAP_SECONDS)
        folder.look_again()

    def _asked(self, folder: Folder) -> Ended:
        if self.controls.drain:
            return Ended(How.DRAINED, folder.checkpoint)
        reason, self.controls.pause = self.controls.pause or "", None
        return Ended(How.PAUSED, folder.checkpoint, reason)

    async def _finish(self, ended: Ended, checkpoint: Checkpoint) -> Ended:
        """Write down how it ended: the state survives a restart, and a released shard can be taken at once."""
        match ended.how:
            case How.DRAINED:
                after = await self._change(checkpoint, owner=None)
            case How.DONE:
                after = await self._change(checkpoint, state=CheckpointState.DONE)
            case How.PARKED:
                after = await self._change(checkpoint, state=CheckpointState.PARKED, reason=ended.reason)
            case How.PAUSED:
                after = await self._change(checkpoint, state=CheckpointState.PAUSED, reason=ended.reason)
        return replace(ended, checkpoint=after)


_RESUMABLE = frozenset({CheckpointState.PAUSED, CheckpointState.PARKED})
_OBEYED = {
    CheckpointState.PAUSED: How.PAUSED,
    CheckpointState.PARKED: How.PARKED,
    CheckpointState.DONE: How.DONE,
}


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _why(folder: Folder) -> str:
    stop = folder.stop
    if stop is None:  # pragma: no cover - asked only when there is one
        return ""
    if isinstance(stop, Stop):
        return f"{stop.failure.reason}: {stop.failure.detail}"
    return stop.detail
