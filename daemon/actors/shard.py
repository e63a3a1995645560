"""The shard actor: the supervised life of one scope, one incarnation after the other.

Owns the lifecycle's state and what becomes of an error: restart with jittered back-off, park (persisted, visible,
resumable), or end because another owner carries on. An error outside our tree parks the shard as a bug, with its
traceback.

Invariant: an error inside a shard never leaves this module; the other shards go on.
"""

import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf

import anyio

from daemon.actors.committer import Committer
from daemon.actors.controls import Controls
from daemon.actors.incarnation import Ended, How, Incarnation
from daemon.actors.runtime import Runtime
from daemon.actors.windows import WindowMemory
from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commit import Commit, Committed, Fenced, Outcome
from daemon.core.errors import ProjectiondError, Superseded
from daemon.core.identity import Scope
from daemon.core.leases import Claim
from daemon.core.lifecycle import ShardState, Signal, step
from daemon.core.operations import Operation
from daemon.core.positions import Position
from daemon.core.projection import ProjectionSpec
from daemon.core.recovery import Fate, backoff, fate_of
from daemon.ports.observer import ShardChanged, ShardRestarted
from daemon.ports.shards import LiveShard
from daemon.ports.vitals import ShardVitals

_REPORT_CHARACTERS = 8_000
_LIVE = frozenset({ShardState.STARTING, ShardState.RUNNING, ShardState.RETRYING})
_STILL = frozenset({ShardState.PARKED, ShardState.PAUSED, ShardState.DONE, ShardState.FENCED})


class ShardActor:
    """The life of one scope. `run` returns when it is drained, done or fenced."""

    def __init__(
        self,
        runtime: Runtime,
        scope: Scope,
        spec: ProjectionSpec,
        memory: WindowMemory,
        claim: Claim | None = None,
    ) -> None:
        """Stand ready to start. `claim`: take the shard only where that holds; None: from whoever owns it."""
        self.scope = scope
        self.state = ShardState.STARTING
        self.reason = ""
        self.parked_reason = ""
        """Why it needs a person; kept when it is drained, forgotten when it is resumed."""
        self.stuck_at: Position | None = None
        """The first record that was read and not settled when an error ended an incarnation."""
        self.ended = False
        """Whether the shard itself is at its end and settled, rather than given back."""
        self.finished = anyio.Event()
        self._runtime = runtime
        self._spec = spec
        self._memory = memory
        self._controls = Controls()
        self._incarnation: Incarnation | None = None
        self._restarts: deque[float] = deque()
        self._claim = claim
        self._epoch = 0
        """The last one of those incarnations that an error ended; 0: none was ours."""
        self._tried = 0
        """The newest operation that was handed over when the newest incarnation began."""
        self._since = runtime.clock.monotonic()
        """When the state last changed, on the monotonic clock."""
        self._retry_at: float | None = None
        self._held = Checkpoint()
        """The checkpoint of a shard that stands still."""
        self._last: ShardVitals | None = None
        """How things stood when an error ended the newest incarnation that had the shard."""

    @property
    def settled(self) -> bool:
        """Tell whether nothing more is to come for now: caught up with the log's end, or stopped for good."""
        if self.state in _STILL:
            return True
        return self._incarnation is not None and self._incarnation.at_end and not self._controls.orders

    def vitals(self) -> ShardVitals:
        """Return how things stand."""
        if self.state not in _STILL:
            now = None if self._incarnation is None else self._incarnation.vitals(self.state)
            if self._last is not None and (now is None or now.position is None):
                return replace(self._last, state=self.state)  # it is as far behind as it was
            if now is not None:
                return now
        held = self._held
        settled = held.counters.get("read", 0)
        position = held.position if held.owner else None
        size = None if self._incarnation is None else self._incarnation.event_bytes
        return ShardVitals(
            self.scope,
            self.state,
            held.epoch,
            position,
            held.watermark,
            settled=settled,
            event_bytes=size,
            since=held.since,
        )

    def live(self) -> LiveShard:
        """Return why it stands as it does."""
        now = self._runtime.clock.monotonic()
        return LiveShard(
            scope=self.scope,
            state=self.state,
            reason=self.reason,
            seconds=now - self._since,
            stuck_at=self._held.stuck_at if self.state in _STILL else self.stuck_at,
            restarts=len(self._restarts),
            retry_seconds=None if self._retry_at is None else max(0.0, self._retry_at - now),
            obeyed=self._controls.obeyed,
        )

    def ask_to_drain(self) -> None:
        """Finish the commit in flight, release the shard, end."""
        if self.state in _LIVE:
            self._signal(Signal.DRAIN)
        self._controls.ask_to_drain()

    def order(self, operations: Iterable[Operation], through: int) -> None:
        """Hand accepted operations over, known up to the sequence `through`: the shard obeys those about it."""
        self._controls.order([one for one in operations if one.concerns(self.scope)], through)

    def behind(self, sequence: int) -> int | None:
        """Return after which operation those up to `sequence` are to be handed over; None when nothing is missing.

        Whoever takes a shard reads for himself what it missed, so that before that the newest operation is enough.
        """
        controls = self._controls
        if sequence <= max(controls.told, controls.obeyed or 0):
            return None
        return sequence - 1 if controls.obeyed is None else max(controls.told, controls.obeyed)

    async def run(self) -> ShardState:
        """Live until drained, done or fenced; return which."""
        try:
            while True:
                ended = await self._incarnate()
                if ended is None:
                    if self.state is ShardState.FENCED:
                        return self.state
                    continue
                if ended.how is How.DRAINED:
                    if self.state is not ShardState.DRAINING:
                        self._signal(Signal.DRAIN)
                    self._signal(Signal.END)
                    return self.state
                if ended.how is How.DONE:
                    self.ended = True
                    self._signal(Signal.END)
                    return self.state
                if ended.how is How.AFRESH and self._controls.drain:
                    self._held = ended.checkpoint
                    await self._give_back()
                    return self.state
                if ended.how is How.AFRESH:
                    self._restarts.clear()
                    self._signal(Signal.RESTART)
                    continue
                self._signal(Signal.PARK if ended.how is How.PARKED else Signal.PAUSE, ended.reason)
                self._held = ended.checkpoint
                if not await self._wait_for_resume():
                    return self.state
        finally:
            self.finished.set()

    async def _incarnate(self) -> Ended | None:
        """Run one incarnation; None when an error ended it and its fate was settled."""
        incarnation = self._incarnation = Incarnation(
            self._runtime, self.scope, self._spec, self._controls, self._memory, self._signal, self._claim
        )
        self._tried = self._controls.told
        try:
            return await incarnation.run()
        except GeneratorExit:  # the loop is gone: nothing can be awaited any more
            raise
        except BaseException as error:  # the fate of every error is decided here, by the error tree
            if _is_cancellation(error):
                raise
            self._incarnation = None
            vitals = incarnation.vitals(self.state)
            if vitals.position is not None:
                self._last = replace(vitals, at_end=False, waiting=0, waiting_bytes=0, batches=0)
            self._epoch = incarnation.epoch or self._epoch
            self.stuck_at = incarnation.stuck_at or self.stuck_at
            return await self._meet_fate(worst(error), incarnation.epoch)
        finally:
            if incarnation.epoch:
                self._claim = Claim()  # once it was had, a later incarnation takes the shard from no other owner

    async def _meet_fate(self, error: BaseException, epoch: int) -> Ended | None:
        policy, clock = self._runtime.policy.retry, self._runtime.clock
        now = clock.monotonic()
        while self._restarts and self._restarts[0] < now - policy.restart_window:
            self._restarts.popleft()
        fate = fate_of(error, len(self._restarts), policy)
        if fate is Fate.FENCED:
            self._signal(Signal.FENCE, str(error))
            return None
        if fate is Fate.RESTART:
            self._restarts.append(now)
            wait = backoff(len(self._restarts), policy, clock.draw())
            self._signal(Signal.TROUBLE, str(error))
            self._runtime.observer.see(ShardRestarted(self.scope, _summary(error), len(self._restarts), wait))
            await self._back_off(wait)
            if self._controls.drain:
                await self._let_go(epoch)
                return Ended(How.DRAINED, Checkpoint())
            self._signal(Signal.RESTART)
            return None
        report = "" if isinstance(error, ProjectiondError) else _report(error)
        reason = f"bug: {_summary(error)}" if fate is Fate.PARK_AS_BUG else _summary(error)
        checkpoint = await self._persist_parked(epoch, reason)
        if checkpoint is None:
            self._signal(Signal.FENCE, "another owner carries on")
            return None
        self._report_bug(report, reason)
        return Ended(How.PARKED, checkpoint, reason)

    async def _back_off(self, seconds: float) -> None:
        """Wait, unless the shard is to be given back, or an operation comes that was not tried to be obeyed yet."""
        controls, clock = self._controls, self._runtime.clock
        self._retry_at = until = clock.monotonic() + seconds
        while not controls.drain and not any(one.sequence > self._tried for one in controls.orders):
            left = until - clock.monotonic()
            if left <= 0:
                break
            await controls.wake.wait(left)
        self._retry_at = None

    def _report_bug(self, report: str, reason: str) -> None:
        if report:
            self._runtime.observer.see(ShardChanged(self.scope, self.state, self.state, reason, self._epoch, report))

    async def _persist_parked(self, epoch: int, reason: str) -> Checkpoint | None:
        """Write the parked state down, as far as the store lets us; None when the shard is another owner's."""
        held = Checkpoint(reason=reason)
        try:
            now = await self._runtime.store.read_checkpoint(self.scope)
            if now is None or now.epoch < epoch:
                return held
            if epoch and now.epoch > epoch:
                return None
            if not epoch and not Claim().holds(now, self._runtime.replica):
                return held if self._claim is None else None  # granted whoever owns it: parked, but here alone
            since = self._runtime.clock.now()
            held = replace(now, state=CheckpointState.PARKED, reason=reason, since=since, stuck_at=self.stuck_at)
            after = held.next(self._runtime.clock.unique())
            with anyio.move_on_after(self._runtime.policy.commit_deadline):
                answer = await self._committer().send(Commit(self.scope, now.fence, after), 0)
                return after if isinstance(answer, Committed) else held
        except Exception:  # noqa: BLE001 - a store that fails here too must not take the other shards along
            return held
        return held

    def _committer(self) -> Committer:
        return Committer(self._runtime, self.scope, lambda _troubled: None)

    async def _wait_for_resume(self) -> bool:
        """Hold the shard still, and its lease, until asked to go on (True) or until it ends here (False)."""
        controls = self._controls
        while not self._ordered() and not controls.drain:
            await controls.wake.wait(self._runtime.policy.beat)
            if self._runtime.policy.beat is None or self._ordered() or controls.drain:
                continue
            now = await self._renew()
            if now is not None and now.owner != self._held.owner:
                if now.owner is not None:
                    self._signal(Signal.FENCE, "another owner carries on")
                    return False
                break  # a command changed the state: the next incarnation obeys it
        if controls.drain:
            await self._give_back()
            return False
        self._restarts.clear()
        self._signal(Signal.RESUME)
        return True

    def _ordered(self) -> bool:
        """Tell whether there is an operation to obey: the next incarnation takes the shard and does.

        One that could not be obeyed so, since whatever parked the shard came first, waits for the next one.
        """
        done = max(self._tried, self._held.operation_seq)
        return any(one.sequence > done for one in self._controls.orders)

    async def _renew(self) -> Checkpoint | None:
        """Renew the lease of a shard that stands still; return what was found in its place instead, if anything."""
        if not self._held.owner:
            return None
        after = self._held.next(self._runtime.clock.unique())
        answer = await self._send(after)
        if isinstance(answer, Committed):
            self._held = after
        if not isinstance(answer, Fenced) or answer.checkpoint is None:
            return None
        if answer.checkpoint.owner == self._held.owner:
            self._held = answer.checkpoint  # an earlier renewal that went unanswered
        return answer.checkpoint

    async def _let_go(self, epoch: int) -> None:
        """Release what an incarnation that ended by an error still owns."""
        try:
            with anyio.move_on_after(self._runtime.policy.commit_deadline):
                now = await self._runtime.store.read_checkpoint(self.scope)
                if now is not None and now.epoch == epoch:
                    self._held = now
                    await self._release()
        except Exception:  # noqa: BLE001 - as above
            return

    async def _give_back(self) -> None:
        """Release a shard that stands still, and end."""
        if self.state is not ShardState.DRAINING:
            self._signal(Signal.DRAIN)
        await self._release()
        self._signal(Signal.END)

    async def _release(self) -> None:
        """Let a peer take the shard at once; failing is harmless, since taking needs no consent."""
        if self._held.owner:
            await self._send(replace(self._held.next(self._runtime.clock.unique()), owner=None))

    async def _send(self, after: Checkpoint) -> Outcome | None:
        """Change the checkpoint of a shard that stands still, once; None when there was no answer."""
        answer: Outcome | None = None
        try:
            with anyio.move_on_after(self._runtime.policy.commit_deadline, shield=True):
                answer = await self._runtime.store.commit(Commit(self.scope, self._held.fence, after), 1)
        except Exception:  # noqa: BLE001 - failing is harmless: it is tried again, or the lease expires
            return None
        return answer

    def _signal(self, signal: Signal, reason: str = "") -> None:
        before, self.state = self.state, step(self.state, signal)
        self.reason = reason
        if signal in {Signal.PARK, Signal.RESUME}:
            self.parked_reason = reason
        if before is not self.state:
            self._since = self._runtime.clock.monotonic()
            epoch = (0 if self._incarnation is None else self._incarnation.epoch) or self._epoch
            self._runtime.observer.see(ShardChanged(self.scope, before, self.state, reason, epoch))


def _is_cancellation(error: BaseException) -> bool:
    """Tell whether an error is the end of the scope around it, and not a stray one that somebody raised."""
    return isinstance(error, anyio.get_cancelled_exc_class()) and anyio.current_effective_deadline() == -inf


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Iterate the errors inside a group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            yield from leaves(inner)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error


def worst(error: BaseException) -> BaseException:
    """Return the error that decides: a bug before anything of our tree, being superseded before the rest."""
    found = list(leaves(error))
    for one in found:
        if not isinstance(one, ProjectiondError):
            return one
    return next((one for one in found if isinstance(one, Superseded)), found[0])


def _summary(error: BaseException) -> str:
    return str(error) if isinstance(error, ProjectiondError) else f"{type(error).__name__}: {error}"


def _report(error: BaseException) -> str:
    """Return where it happened, without the message: that may quote a payload, and belongs into no log."""
    places = "".join(traceback.format_tb(error.__traceback__))[-_REPORT_CHARACTERS:]
    return f"{places}{type(error).__name__}"
