"""Replicas over one store, each granted what a test says, and killed at any step of what they do."""

import inspect
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import anyio.lowlevel

from daemon.actors.runtime import EnginePolicy, Runtime
from daemon.actors.shard import ShardActor
from daemon.actors.supervisor import Supervisor
from daemon.control.engine import Control
from daemon.core.checkpoint import Checkpoint
from daemon.core.commands import Command
from daemon.core.identity import MAIN_VIEW, Generation, RowKey, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.projection import ProjectionSpec
from daemon.core.reports import Answer
from daemon.ports.coordinator import Assignment, Grant
from daemon.ports.source import Source
from daemon.ports.store import Store
from daemon.testing.memory_source import MemorySource
from daemon.testing.observer import RecordingObserver
from tests.support.engine import ALICE, FAST, PATIENCE_SECONDS, HurriedClock


class Killed(BaseException):
    """The replica is dead: nothing that it still does reaches the store."""


class Line:
    """A replica's way to the store: it counts calls, and kills the replica before or after one of them.

    `refuses` may raise instead of a call, given its name and arguments.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: list[str] = []
        self.dead = False
        self.refuses: Callable[[str, Sequence[Any]], None] = lambda _name, _args: None
        self._kill: tuple[int, bool] | None = None

    def arm(self, number: int, *, after: bool) -> None:
        """Have the replica die at a call, counted from now."""
        self.calls.clear()
        self._kill = (number, after)

    def __getattr__(self, name: str) -> Any:
        held = getattr(self.store, name)
        if not inspect.iscoroutinefunction(held):
            return held

        async def call(*args: Any, **named: Any) -> Any:
            if self.dead:
                raise Killed
            number = len(self.calls)
            self.calls.append(name)
            if self._kill == (number, False):
                self.dead = True
                raise Killed
            self.refuses(name, args)
            result = await held(*args, **named)
            if self._kill == (number, True):
                self.dead = True
            if self.dead:
                raise Killed
            return result

        return call


class Granted:
    """A coordinator that grants what a test tells it to."""

    def __init__(self) -> None:
        self._tell, self._told = anyio.create_memory_object_stream[Assignment](10_000)

    def grant(self, scope: Scope) -> None:
        """Have a scope run here."""
        self._tell.send_nowait(Grant(scope))

    async def assignments(self) -> AsyncIterator[Assignment]:
        while True:
            try:
                yield await self._told.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                return

    async def released(self, scope: Scope) -> None:
        await anyio.lowlevel.checkpoint()

    async def finished(self, scope: Scope) -> None:
        await anyio.lowlevel.checkpoint()

    async def elsewhere(self) -> Collection[Scope]:
        return ()

    async def aclose(self) -> None:
        self._tell.close()

    def close(self) -> None:
        """Grant no more."""
        self._tell.close()
        self._told.close()


@dataclass(slots=True)
class Replica:
    """A running replica."""

    name: str
    line: Line
    supervisor: Supervisor
    control: Control
    coordinator: Granted
    runtime: Runtime
    spec: ProjectionSpec
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    def scope(self, shard: str) -> Scope:
        return Scope(self.spec.name, 1, "memory", shard)

    def grant(self, *shards: str) -> None:
        for shard in shards:
            self.coordinator.grant(self.scope(shard))

    async def ask(self, command: Command, request: str | None = None, wait: float | None = PATIENCE_SECONDS) -> Answer:
        """Have a command carried out, under an id of its own unless it is given one."""
        told: list[object] = []
        return await self.control.change(command, ALICE, request or self.runtime.clock.unique(), told.append, wait)

    def state(self, shard: str) -> ShardState | None:
        actor = self.supervisor.actors.get(self.scope(shard))
        return None if actor is None else actor.state

    def told(self, actor: ShardActor) -> int:
        """Return how many operations a shard knows of and has not obeyed."""
        return len(actor._controls.orders)

    async def checkpoint(self, shard: str) -> Checkpoint:
        found = await self.line.store.read_checkpoint(self.scope(shard))
        assert found is not None
        return found

    async def caught_up(self) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.supervisor.caught_up()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - any state, not an event of ours
                await anyio.sleep(0.001)


@asynccontextmanager
async def replica(
    name: str,
    store: Store,
    spec: ProjectionSpec,
    source: MemorySource,
    *shards: str,
    policy: EnginePolicy = FAST,
) -> AsyncGenerator[Replica]:
    """Run a replica that is granted `shards`, for the time of the block; then drain it, unless it was killed."""
    await store.open()
    generation, line, observer = Generation(spec.name, 1), Line(store), RecordingObserver()
    await store.create_generation(generation, spec.version, live=True)
    sources: Mapping[str, Source] = {source.name: source}
    over = cast("Store", line)
    runtime = Runtime(over, sources, {generation: spec}, HurriedClock(), observer, policy, replica=name)
    coordinator = Granted()
    supervisor = Supervisor(runtime, coordinator)
    control = Control(over, sources, runtime.specs, supervisor, runtime.clock)
    running = Replica(name, line, supervisor, control, coordinator, runtime, spec, observer)
    running.grant(*shards)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.run)
            try:
                yield running
            finally:
                if not line.dead:
                    with anyio.CancelScope(shield=True):
                        await supervisor.drain(5.0)
                tasks.cancel_scope.cancel()
    except* Killed:
        await anyio.lowlevel.checkpoint()
    finally:
        coordinator.close()


async def totals(store: Store, keys: Collection[str], name: str = "counting") -> dict[str, int]:
    """Return `n` of those rows that are there, by key."""
    rows = await store.load_rows(Generation(name, 1), [RowKey(MAIN_VIEW, key) for key in keys])
    return {key.key: int(row.attributes["n"]) for key, row in rows.items() if row is not None and row.attributes}


def plain_fold(source: MemorySource, without: Collection[tuple[str, int]] = ()) -> dict[str, int]:
    """Return what the log's events come to, key by key, all but those skipped (shard and position)."""
    total: Counter[str] = Counter()
    for shard, held in source.shards_by_name.items():
        for record in held.records:
            if (shard, record.position[0]) not in without:
                data = cast("Any", record).data
                total[data["key"]] += data["amount"]
    return {key: count for key, count in total.items() if count}
