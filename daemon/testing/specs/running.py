"""One run of given events through the real engine: supervisor, shard actors, fold, planner, commits, over memory.

Owns how a delivery is carried out: in which batches, with which deaths in between, and delivered again or not. Must not
know what a run is for.

Theory of operation. The engine runs on an event loop whose time jumps to the next timer, so that back-offs and
deadlines cost nothing. Events are appended feed by feed, each once the one before is settled: what a test gives in one
order across several logs is committed in that order. A process that dies sends nothing more; the next one takes the
shards from it, as after a SIGKILL.

Invariants: no socket, thread or real clock is used; one run leaves nothing behind for the next.
"""

import asyncio
import heapq
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, override

import anyio

from daemon.actors.runtime import EnginePolicy, Runtime
from daemon.actors.supervisor import Supervisor
from daemon.control.engine import Control
from daemon.coordination.solo import SoloCoordinator
from daemon.core.again import Rewind
from daemon.core.batcher import BatchPolicy
from daemon.core.circuit import CircuitPolicy
from daemon.core.commands import Actor, Target
from daemon.core.commit import Commit
from daemon.core.commit import Outcome as Answer
from daemon.core.identity import Generation, Scope, ShardId
from daemon.core.lifecycle import ShardState
from daemon.core.projection import ProjectionSpec
from daemon.ports.source import Source
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from daemon.testing.observer import RecordingObserver
from daemon.testing.specs.outcome import Outcome, outcome_of
from daemon.testing.specs.telling import FIRST_MOMENT, Given

_PATIENCE_SECONDS = 30.0
"""Virtual time without any commit after which a shard is taken to wait for good (for a missing number, say)."""
_LOOK_SECONDS = 0.02
_WHOLE_DAY_SECONDS = 86_400.0
_STILL = frozenset({ShardState.PARKED, ShardState.PAUSED, ShardState.DONE})
_ASKING = Actor(0, "spec", "spec", 0)


@dataclass(frozen=True, slots=True)
class Feed:
    """Events that one shard is given together."""

    shard: ShardId
    events: tuple[Given, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How events reach the projection. `batch`: events folded at once, at most.

    `deaths`: the process dies before and after each commit. `rewound`: all is delivered again, once it was applied.
    `rebuilding`: as a rebuild folds history, without `replay=False` handlers.
    """

    feeds: tuple[Feed, ...]
    batch: int = 1
    deaths: bool = False
    rewound: bool = False
    rebuilding: bool = False


class SpecLoop(asyncio.BaseEventLoop):
    """asyncio's tasks and futures on virtual time, first come, first run."""

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()
        self._now = 0.0
        self._ready: Any
        self._scheduled: Any
        self._stopping: bool

    @override
    def time(self) -> float:
        return self._now

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _run_once(self) -> None:
        """Run what is ready; where nothing is, let the time pass."""
        self._ripen()
        if not self._ready and not self._stopping:
            if not self._scheduled:
                raise RuntimeError("every task waits for something that nothing will bring about; report this")
            self._now = max(self._now, self._scheduled[0].when())
            self._ripen()
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - what a loop does with its handles

    def _ripen(self) -> None:
        timers = self._scheduled
        while timers and (timers[0].cancelled() or timers[0].when() <= self._now):
            handle = heapq.heappop(timers)
            handle._scheduled = False  # noqa: SLF001 - as above
            if not handle.cancelled():
                self._ready.append(handle)


class SpecClock:
    """The loop's time, and ids that count upwards."""

    def __init__(self, start: datetime) -> None:
        """Begin at `start`."""
        self._start = start
        self._ids = 0

    def now(self) -> datetime:
        """Return the start plus the loop's time."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await anyio.sleep(seconds)

    def draw(self) -> float:
        """Return the middle."""
        return 0.5

    def unique(self) -> str:
        """Return the next id."""
        self._ids += 1
        return f"{self._ids:032x}"


@dataclass(slots=True)
class Life:
    """A process. `dies`: at its first commit, before or after that is applied; empty: never."""

    dies: str = ""
    dead: anyio.Event = field(default_factory=anyio.Event)


class MortalStore(MemoryStore):
    """The store as one process sees it: once that is dead, nothing is sent and nothing answered."""

    def __init__(self, data: MemoryData, life: Life) -> None:
        """Stand on the data that all processes share."""
        super().__init__(data)
        self._life = life

    @override
    async def _arrive(self) -> MemoryData:
        if self._life.dead.is_set():
            await anyio.sleep_forever()
        return await super()._arrive()

    @override
    async def commit(self, commit: Commit, attempt: int) -> Answer:
        dies = "" if self._life.dead.is_set() else self._life.dies
        if dies == "before":
            self._life.dead.set()
        answer = await super().commit(commit, attempt)
        if dies == "after":
            self._life.dead.set()
            await anyio.sleep_forever()
        return answer


@dataclass(slots=True)
class Run:
    """The data of one run, and the processes over it."""

    spec: ProjectionSpec
    delivery: Delivery
    data: MemoryData = field(default_factory=MemoryData)
    sources: dict[str, MemorySource] = field(default_factory=dict[str, MemorySource])
    ids: dict[tuple[str, Any], str] = field(default_factory=dict[tuple[str, Any], str])
    commits: list[Commit] = field(default_factory=list[Commit])
    stopped: dict[str, str] = field(default_factory=dict[str, str])
    clock: SpecClock = field(default_factory=lambda: SpecClock(FIRST_MOMENT + timedelta(days=1)))

    @property
    def generation(self) -> Generation:
        """The only one."""
        return Generation(self.spec.name, 1)

    async def outcome(self) -> Outcome:
        """Deliver everything, and read what it came to."""
        for name in self.spec.sources:
            self.sources[name] = MemorySource(name)
        shards = dict.fromkeys(feed.shard for feed in self.delivery.feeds)
        for shard in shards:
            self.sources[shard.source].add_shard(shard.shard)
        if self.delivery.deaths:
            await self._through_deaths()
        else:
            async with self._process(Life()) as (supervisor, control):
                for feed in self.delivery.feeds:
                    self._append(feed)
                    await self._settled(supervisor)
                if self.delivery.rewound and shards:
                    request = Rewind(Target.of(self.spec.name), "earliest")
                    await control.change(request, _ASKING, "again", _tell_nobody, _WHOLE_DAY_SECONDS)
                    await self._settled(supervisor)
        return outcome_of(self.data, self.generation, self.stopped, self.commits, self.ids)

    async def _through_deaths(self) -> None:
        """Have a process die before each commit, and the next one right after it; the last one finds all done."""
        for feed in self.delivery.feeds:
            self._append(feed)
            while self._left() and not self.stopped:
                for dies in ("before", "after"):
                    life = Life(dies)
                    async with self._process(life) as (supervisor, _):
                        await self._settled(supervisor, life)
        async with self._process(Life()) as (supervisor, _):
            await self._settled(supervisor)

    @asynccontextmanager
    async def _process(self, life: Life) -> AsyncGenerator[tuple[Supervisor, Control]]:
        """Run a daemon's engine for the time of the block; it is drained then, unless it died."""
        store = MortalStore(self.data, life)
        await store.open()
        spec, generation = self.spec, self.generation
        await store.create_generation(generation, spec.version, live=True)
        sources: dict[str, Source] = dict(self.sources)
        policy = EnginePolicy(
            batch=BatchPolicy(max_events=self.delivery.batch, linger=0.0),
            circuit=CircuitPolicy(max_in_a_row=1_000_000_000, max_share=1.0),
        )
        runtime = Runtime(store, sources, {generation: spec}, self.clock, RecordingObserver(), policy)
        coordinator = SoloCoordinator({generation: spec.sources}, sources, self.clock, _LOOK_SECONDS)
        supervisor = Supervisor(runtime, coordinator)
        control = Control(store, sources, runtime.specs, supervisor, self.clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.run)
            yield supervisor, control
            if not life.dead.is_set():
                await supervisor.drain(_WHOLE_DAY_SECONDS)
            tasks.cancel_scope.cancel()
        self.commits += [commit for commit, _ in store.commits]

    def _append(self, feed: Feed) -> None:
        source = self.sources[feed.shard.source]
        held = source.shards_by_name[feed.shard.shard]
        for one in feed.events:
            position = held.end[0] + 1 if held.end else 1
            self.ids[feed.shard.label, (position,)] = one.id
            source.append(feed.shard.shard, one.record(position))

    def _left(self) -> list[Scope]:
        """List the scopes that have not come to the end of their log."""
        return [
            Scope(*self.generation, source.name, shard)
            for source in self.sources.values()
            for shard, held in source.shards_by_name.items()
            if held.end and self._position(Scope(*self.generation, source.name, shard)) < held.end
        ]

    def _position(self, scope: Scope) -> tuple[Any, ...]:
        checkpoint = self.data.checkpoints.get(scope)
        return () if checkpoint is None else checkpoint.position

    async def _settled(self, supervisor: Supervisor, life: Life | None = None) -> None:
        """Wait until every shard is at the end of its log, or does not go on, or the process has died."""
        seen, since = -1, self.clock.monotonic()
        while life is None or not life.dead.is_set():
            left = [scope for scope in self._left() if not self._stands_still(supervisor, scope)]
            if not left:
                return
            commits = sum(one.commit_seq for one in self.data.checkpoints.values())
            if commits != seen:
                seen, since = commits, self.clock.monotonic()
            elif self.clock.monotonic() - since > _PATIENCE_SECONDS:
                for scope in left:
                    reason = supervisor.actors[scope].reason if scope in supervisor.actors else "never started"
                    self.stopped[scope.shard_id.label] = reason or "waits for a missing event"
                return
            await anyio.sleep(_LOOK_SECONDS)

    def _stands_still(self, supervisor: Supervisor, scope: Scope) -> bool:
        actor = supervisor.actors.get(scope)
        if actor is None or actor.state not in _STILL:
            return False
        self.stopped[scope.shard_id.label] = actor.parked_reason or actor.reason or actor.state.value
        return True


def run(spec: ProjectionSpec, delivery: Delivery) -> Outcome:
    """Deliver events to a projection, and return what they came to."""
    if delivery.rebuilding:
        spec = _of_history(spec)

    def whole() -> Outcome:
        return anyio.run(Run(spec, delivery).outcome, backend_options={"loop_factory": SpecLoop})

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return whole()
    return _in_a_thread(whole)  # a loop cannot run inside another one: the test is async itself


def _in_a_thread(work: Any) -> Outcome:
    done: list[Outcome] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again where it belongs
            failed.append(error)

    thread = threading.Thread(target=do, name="spec")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _of_history(spec: ProjectionSpec) -> ProjectionSpec:
    """Return the projection as history is folded: without the handlers that never run again."""
    return replace(spec, handlers=spec.dispatch(redelivery=True))


def _tell_nobody(_told: object) -> None:
    """Nobody watches."""


__all__: Sequence[str] = ["Delivery", "Feed", "Run", "run"]
