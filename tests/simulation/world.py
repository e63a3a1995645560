"""One run: replicas of the real engine over one store and one log, disasters as planned, and what it came to.

A replica is the real supervisor, shard actors, lease coordinator and store adapter. A dead one sends nothing more,
whatever its tasks still try; a frozen one is not run at all.
"""

import asyncio
import gc
from collections import Counter
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from unittest.mock import patch

import anyio
import anyio.abc

from daemon.actors.runtime import EnginePolicy, Runtime
from daemon.actors.supervisor import Supervisor
from daemon.control.engine import Control
from daemon.coordination.leases import LeaseCoordinator
from daemon.coordination.solo import SoloCoordinator
from daemon.core.batcher import BatchPolicy
from daemon.core.circuit import CircuitPolicy
from daemon.core.errors import ProjectiondError, SourceUnavailable, StoreProblem
from daemon.core.identity import Generation
from daemon.core.leases import LeaseBook, LeasePolicy
from daemon.core.projection import ProjectionSpec
from daemon.ports.coordinator import Coordinator
from daemon.testing.dynamodb import LoopClock
from daemon.testing.memory_source import MemoryReader, MemorySource
from tests.simulation.asking import Desk, People
from tests.simulation.code import specs_of
from tests.simulation.judge import judge
from tests.simulation.life import Life, Network, simulated
from tests.simulation.loop import REPLICA, SimLoop, Stuck, sealed
from tests.simulation.order import logs_of
from tests.simulation.plan import Ask, Disaster, Plan, plan_of
from tests.simulation.stores import shared_store
from tests.simulation.trace import Telling, Trace
from tests.simulation.watch import Watch
from tests.support.trial import record_of

LIVENESS_SECONDS = 300.0
"""Virtual time within which everything is caught up once the last fault has struck and the last replica is back."""
_LATE_SECONDS = 1000.0
_GRACE_SECONDS = 20.0
_LEASES = LeasePolicy(lease=10.0, settle=3.0)
_DOWN = (0.1, 4.0, 20.0)


class SimClock(LoopClock):
    """The loop's time, with a wall clock that may be wrong, and chance from a seed."""

    def __init__(self, chance: Random, skew: float) -> None:
        self._chance = chance
        self._skew = timedelta(seconds=skew)

    def now(self) -> datetime:
        """Return what the wall clock says."""
        return super().now() + self._skew

    def draw(self) -> float:
        """Return the next draw."""
        return self._chance.random()

    def unique(self) -> str:
        """Return the next id."""
        return f"{self._chance.getrandbits(128):032x}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to: everything that was wrong, and how it went."""

    plan: Plan
    problems: list[str]
    trace: Trace
    steps: int
    seconds: float
    """Virtual."""
    faults: dict[str, int]
    changes: int

    @property
    def fingerprint(self) -> str:
        """What two runs of one seed have in common."""
        return f"{self.trace.digest()} {self.steps} {self.seconds!r}"


@dataclass(slots=True)
class Replica:
    """A replica across its starts."""

    number: int
    starts: int = 0
    life: Life | None = None
    scope: anyio.CancelScope | None = None
    retiring: anyio.Event = field(default_factory=anyio.Event)
    desk: Desk | None = None


class World:
    """See the module. One `run` per instance."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        """Stand ready; to be made inside the loop."""
        self.plan = plan
        self.trace = trace
        self.watch = Watch(trace.note, logs_of(plan), plan.parents)
        self.specs = specs_of(plan)
        self.generation = Generation(self.specs[0].name, 1)
        self.network = Network(plan, Random(f"faults {plan.seed}"), trace, copy_context())
        self.store = shared_store(self.network, self.watch, self.generation)
        self.source = MemorySource("ledger")
        self.replicas = [Replica(number) for number in range(plan.replicas)]
        self.people = People(
            plan, trace, lambda one: self.replicas[one].desk, Random(f"people {plan.seed}"), self.network.count
        )
        self.problems: list[str] = []
        self._tasks: anyio.abc.TaskGroup | None = None
        self._ending = False
        for shard in plan.shards:
            self.source.add_shard(shard, plan.parents.get(shard, ()))

    async def run(self) -> None:
        """Let everything happen, then judge."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for replica in self.replicas:
                tasks.start_soon(self._live, replica)
            for disaster in self.plan.disasters:
                tasks.start_soon(self._strike, disaster)
            tasks.start_soon(self._append)
            for number, ask in enumerate(self.plan.asks):
                tasks.start_soon(self.people.ask, number, ask, simulated().time)
            if self.plan.deploy_at is not None:
                tasks.start_soon(self._deploy, self.plan.deploy_at)
            await self._settled()
            self._ending = True
            for replica in self.replicas:
                replica.retiring.set()
                if self.watch.broken and replica.scope is not None:
                    replica.scope.cancel()
            if self.problems or self.watch.broken:
                tasks.cancel_scope.cancel()
        await self._quiet()
        self.problems += self.watch.broken
        if not self.problems:
            self.problems += judge(self.plan, self.store.found(self.generation), self.watch)
        await self.store.aclose()

    async def _settled(self) -> None:
        """Wait until the log is settled, every command obeyed and every fault over, or until that takes too long."""
        loop, plan = simulated(), self.plan
        total = len(plan.arrivals)
        over = max([plan.faults_end, *(disaster.at + disaster.seconds for disaster in plan.disasters)])
        asked = not plan.asks
        while not self.watch.broken and not self.problems:
            if loop.time() >= over and not asked and not self.people.underway:
                asked = True
                await self._last_words()
                over = max(over, loop.time())
            if loop.time() >= over and asked and self.watch.read >= total and all(one.life for one in self.replicas):
                return
            if loop.time() > over + LIVENESS_SECONDS:
                states = {shard: f"{stand.state} at {stand.position}" for shard, stand in self.watch.stands.items()}
                self._wrong(
                    f"{self.watch.read} of {total} events settled {LIVENESS_SECONDS:g} s after the last fault: {states}"
                )
            await asyncio.sleep(0.5)

    async def _last_words(self) -> None:
        """Have everything resumed, and ask for each accepted command once more: by now all shards have obeyed it."""
        await self._obeyed("resume-all", Ask(0.0, "resume", 0, None, 0.0))
        for request, ask in list(self.people.accepted.items()):
            await self._obeyed(request, ask)

    async def _obeyed(self, request: str, ask: Ask) -> None:
        if self.watch.broken or self.problems:
            return
        answer = await self.people.obtain(request, ask, wait=LIVENESS_SECONDS)
        if answer is None or answer.pending:
            self._wrong(f"{request} ({ask.name} {ask.shard or 'all'}) is not carried out: {answer}")

    async def _deploy(self, at: float) -> None:
        """Have one replica after the other end gracefully: each starts again with the code of then."""
        await asyncio.sleep(at)
        for replica in self.replicas:
            self.network.count("deploy")
            replica.retiring.set()
            await asyncio.sleep(self.network.chance.choice((0.0, 2.0, 10.0)))

    async def _quiet(self) -> None:
        """Wait for what is still under way; nothing but this task may be left then."""
        loop, me = simulated(), asyncio.current_task()
        until = loop.time() + _LATE_SECONDS
        while loop.time() < until and (  # noqa: ASYNC110 - any state, not an event of ours
            self.network.travelling or self.store.busy or asyncio.all_tasks() - {me}
        ):
            await asyncio.sleep(5.0)
        left = sorted(repr(task.get_coro()).partition(" at ")[0] for task in asyncio.all_tasks() - {me})
        if left and not self.problems and not self.watch.broken:
            self._wrong(f"tasks are left: {left}")

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)
        self.trace.note("VIOLATION", problem)

    # The log

    async def _append(self) -> None:
        ends = dict.fromkeys(self.plan.shards, 0)
        left = Counter(arrival.shard for arrival in self.plan.arrivals)
        for shard in self.plan.shards:
            self._end_parent(shard, left[shard])
        for arrival in self.plan.arrivals:
            await asyncio.sleep(max(0.0, arrival.at - simulated().time()))
            before, ends[arrival.shard] = ends[arrival.shard] + 1, arrival.position
            if arrival.position > before:  # positions without a record, which may be read before what comes behind them
                self.network.count("gaps")
                self.source.advance(arrival.shard, (arrival.position - 1,))
                if arrival.position % 2:
                    await asyncio.sleep(0.01)
            if self.network.strikes("log-away"):
                self.source.problems.append(SourceUnavailable("simulated"))
            self.source.append(arrival.shard, record_of(arrival.line, arrival.position))
            left[arrival.shard] -= 1
            self._end_parent(arrival.shard, left[arrival.shard])

    def _end_parent(self, shard: str, left: int) -> None:
        """Close a shard that others continue once all of it has come."""
        if not left and any(shard in parents for parents in self.plan.parents.values()):
            self.source.end_shard(shard)

    # Replicas

    async def _live(self, replica: Replica) -> None:
        """Run one start of a replica, until it is killed or retired; then another, while the run lasts."""
        replica.starts += 1
        name = f"r{replica.number}.{replica.starts}"
        REPLICA.set(name)
        life = replica.life = Life(name, self.network, lambda life: self._crash(replica, life))
        self.trace.note(name, "starts")
        with anyio.CancelScope() as replica.scope:
            replica.retiring = anyio.Event()
            if self._ending:
                return
            try:
                await self._serve(replica, life)
            except* StoreProblem as failed:
                self.trace.note(name, f"ends: {failed.exceptions!r}")
            except* Exception as failed:  # noqa: BLE001 - whatever leaves a process is a finding
                self._wrong(f"{name} ended by {failed.exceptions!r}")
        if not life.dead:
            self.trace.note(name, "is gone")
            replica.life = None
            if not self._ending:
                self._start_again(replica, 1.0)

    async def _serve(self, replica: Replica, life: Life) -> None:
        plan, spec = self.plan, self._code()
        clock = SimClock(Random(f"{plan.seed} {life.name}"), plan.skews[replica.number])
        store = self.store.handle(life, clock)
        host = f"r{replica.number}" if plan.lasting_names else life.name
        sources, follows = {"ledger": self.source}, {self.generation: spec.sources}
        policy = EnginePolicy(
            batch=BatchPolicy(max_events=plan.batch, linger=0.0),
            circuit=CircuitPolicy(max_in_a_row=1000, max_share=1.0),
            beat=None if plan.solo else _LEASES.beat,
            operations_poll=1.0 if plan.asks else 10.0,
        )
        runtime = Runtime(
            store,
            sources,
            {self.generation: spec},
            clock,
            Telling(self.trace, life.name, self.watch.told),
            policy,
            replica=host,
        )
        coordinator: Coordinator = SoloCoordinator(follows, sources, clock)
        if not plan.solo:
            book = LeaseBook(host, follows, _LEASES)
            coordinator = LeaseCoordinator(book, sources, store, clock, poll=2.0, look=5.0, hand_over=_GRACE_SECONDS)
        supervisor = Supervisor(runtime, coordinator)
        control = Control(store, sources, {self.generation: spec}, supervisor, clock)
        desk: Desk | None = None
        await store.open()
        try:
            await store.create_generation(self.generation, spec.version, live=True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(supervisor.run)
                desk = replica.desk = Desk(control, tasks, spec.name, self.watch)
                await replica.retiring.wait()
                self.trace.note(life.name, "retires")
                await supervisor.drain(_GRACE_SECONDS)
                tasks.cancel_scope.cancel()
        finally:
            if replica.desk is desk:  # a killed replica ends later than the next one begins
                replica.desk = None
            await store.aclose()

    def _code(self) -> ProjectionSpec:
        """Return the code that a replica starts with."""
        deploy_at = self.plan.deploy_at
        return self.specs[deploy_at is not None and simulated().time() >= deploy_at]

    def _crash(self, replica: Replica, life: Life) -> None:
        """Kill a start of a replica: nothing more of it reaches anything. Another start comes by and by."""
        if life.dead:
            return
        life.dead = True
        self.trace.note(life.name, "is killed")
        replica.desk = None
        simulated().thaw(life.name)
        if replica.scope is not None:
            replica.scope.cancel()
        replica.life = None
        self._start_again(replica, self.network.chance.choice(_DOWN))

    def _start_again(self, replica: Replica, seconds: float) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            if self._tasks is not None and not self._ending:
                self._tasks.start_soon(self._live, replica)

        self.network.send(later())

    async def _strike(self, disaster: Disaster) -> None:
        await asyncio.sleep(disaster.at)
        replica = self.replicas[disaster.replica]
        life = replica.life
        if life is None:
            return
        self.network.count(disaster.kind)
        if disaster.kind == "crash":
            self._crash(replica, life)
        elif disaster.kind == "retire":
            replica.retiring.set()
        else:
            self.trace.note(life.name, f"stands still for {disaster.seconds:g} s")
            simulated().freeze(life.name)
            await asyncio.sleep(disaster.seconds)
            simulated().thaw(life.name)


def run_seed(seed: int, *, short: bool = False) -> Result:
    """Run one seed."""
    return run_plan(plan_of(seed, short=short))


def run_plan(plan: Plan) -> Result:
    """Run a plan, on a loop of its own, with the real world sealed off."""
    trace, loop = Trace(), SimLoop(Random(f"order {plan.seed}"))
    worlds: list[World] = []
    strays: list[str] = []

    def stray(_loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, ProjectiondError):  # those went to a sender that had died
            strays.append(f"{context['message']}: {error!r}")

    async def main() -> None:
        loop.set_exception_handler(stray)
        with sealed(), patch.object(MemoryReader, "poll_seconds", 5.0):
            world = World(plan, trace)
            worlds.append(world)
            await world.run()

    gc.disable()  # when a cycle is collected must not decide when its finalizers run
    problems: list[str] = []
    try:
        anyio.run(main, backend_options={"loop_factory": lambda: loop})
    except (Stuck, Exception) as error:  # noqa: BLE001 - whatever ends a run is its result
        problems.append(f"the run ended by {error!r}")
    finally:
        gc.enable()
    world = worlds[0]
    return Result(
        plan, [*problems, *world.problems, *strays], trace, loop.steps, loop.time(), world.network.faults,
        world.watch.changes,
    )  # fmt: skip
