"""A harness for the actors: memory fakes around the real supervisor, and projections made of plain functions."""

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import anyio
import orjson

from daemon.actors.runtime import EnginePolicy, Runtime
from daemon.actors.supervisor import Supervisor
from daemon.control.engine import Control
from daemon.coordination.solo import SoloCoordinator
from daemon.core.batcher import BatchPolicy
from daemon.core.checkpoint import Checkpoint
from daemon.core.commands import Actor, Command, Resume, Target
from daemon.core.events import Event
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.positions import Position
from daemon.core.projection import Dedup, Handler, ProjectionSpec
from daemon.core.recovery import RetryPolicy
from daemon.core.reports import Answer
from daemon.core.view import View
from daemon.ports.source import Source
from daemon.ports.store import Store
from daemon.ports.tracing import Tracing
from daemon.testing.memory_source import MemorySource
from daemon.testing.observer import RecordingObserver

START_OF_TIME = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = Actor(1000, "alice", "web-1", 4242)
"""Who asks."""
PATIENCE_SECONDS = 20.0
"""How long a test waits for something that must happen; it never waits that long when all is well."""


class HurriedClock:
    """Real time, but nobody sleeps for long: waits between retries are cut to a millisecond."""

    def __init__(self) -> None:
        """Start with nothing slept."""
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Return the wall-clock time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait a millisecond, or for ever where a whole minute was meant."""
        if seconds >= 30:
            await anyio.sleep_forever()
        self.slept.append(seconds)
        await anyio.sleep(min(seconds, 0.001))

    def draw(self) -> float:
        """Return the middle of the interval."""
        return 0.5

    def unique(self) -> str:
        """Return a fresh id."""
        return str(uuid.uuid4())


def event(
    position: int | Position,
    key: str = "k",
    *,
    id: str | None = None,  # noqa: A002 - the field's own name
    type: str = "Added",  # noqa: A002 - as above
    amount: int = 1,
    moment: datetime | None = START_OF_TIME,
    **data: Any,
) -> Event:
    """Make an event whose payload holds `key`, `amount` and `data`."""
    place = (position,) if isinstance(position, int) else position
    payload: dict[str, Any] = {"key": key, "amount": amount, **data}
    raw = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    digest = blake2b(raw, digest_size=16).digest()
    identity = id or f"e{place}"
    return Event(identity, type, None, None, moment, payload, {}, place, digest, raw)


def payload_key(event: Event) -> str:
    """Return the payload's key."""
    return event.data["key"]


def counting(**changes: Any) -> ProjectionSpec:
    """Return a projection that reads, counts and remembers the order of what it saw, per key."""

    def added(view: View, event: Event) -> None:
        row = view.row or {"n": 0, "seen": []}
        if event.data.get("poison"):
            raise ValueError("poison")
        view.put(n=row["n"] + event.data["amount"], seen=[*row["seen"], event.id][-50:])

    defaults: dict[str, Any] = {
        "name": "counting",
        "version": 1,
        "sources": ("memory",),
        "key": payload_key,
        "handlers": {"Added": (Handler("added", added),)},
        "dedup": Dedup.EVENT,
    }
    return ProjectionSpec(**(defaults | changes))


def summing(**changes: Any) -> ProjectionSpec:
    """Return a projection that only adds."""

    def added(view: View, event: Event) -> None:
        view.add(n=event.data["amount"])

    return counting(**({"handlers": {"Added": (Handler("added", added),)}} | changes))


@dataclass(slots=True)
class Engine:
    """A running engine and what it stands on."""

    store: Store
    sources: Mapping[str, Source]
    supervisor: Supervisor
    observer: RecordingObserver
    runtime: Runtime
    spec: ProjectionSpec
    errors: list[BaseException] = field(default_factory=list[BaseException])

    def scope(self, shard: str = "s0", source: str = "memory") -> Scope:
        """Name a scope of the only generation."""
        return Scope(self.spec.name, 1, source, shard)

    async def caught_up(self) -> None:
        """Wait until every shard has settled what its log holds, or has stopped."""
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.supervisor.caught_up()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - any state, not an event of ours
                await anyio.sleep(0.001)

    def state(self, shard: str = "s0") -> ShardState | None:
        """Return where a shard stands, None before it is granted."""
        actor = self.supervisor.actors.get(self.scope(shard))
        return None if actor is None else actor.state

    def parked_reason(self, shard: str = "s0") -> str:
        """Return why a shard needs a person."""
        return self.supervisor.actors[self.scope(shard)].parked_reason

    @property
    def control(self) -> Control:
        """The commands of this replica."""
        return Control(self.store, self.sources, self.runtime.specs, self.supervisor, self.runtime.clock)

    async def ask(self, command: Command, request: str | None = None, wait: float | None = PATIENCE_SECONDS) -> Answer:
        """Have a command carried out, each under an id of its own unless it is given one."""
        told: list[object] = []
        request = request or self.runtime.clock.unique()
        return await self.control.change(command, ALICE, request, told.append, wait)

    async def resume(self, shard: str = "s0") -> None:
        """Have one shard go on."""
        answer = await self.ask(Resume(Target.at(self.scope(shard))))
        assert (answer.done, answer.pending, answer.refused) == (1, 0, 0), answer

    async def checkpoint(self, shard: str = "s0", source: str = "memory") -> Checkpoint:
        """Read a checkpoint that must be there."""
        found = await self.store.read_checkpoint(self.scope(shard, source))
        assert found is not None
        return found


FAST = EnginePolicy(
    batch=BatchPolicy(max_events=50, linger=0.0),
    retry=RetryPolicy(initial_backoff=0.001, max_backoff=0.002, unknown_window=0.05, max_restarts=3),
    commit_deadline=0.5,
    operations_poll=0.02,
)


@asynccontextmanager
async def engine(
    spec: ProjectionSpec,
    store: Store,
    *sources: MemorySource,
    policy: EnginePolicy = FAST,
    grace: float = 5.0,
    tracing: Tracing | None = None,
) -> AsyncGenerator[Engine]:
    """Run the supervisor over `store` and `sources` for the time of the block, then drain it."""
    await store.open()
    generation = Generation(spec.name, 1)
    await store.create_generation(generation, spec.version, live=True)
    by_name: dict[str, Source] = {source.name: source for source in sources}
    clock, observer = HurriedClock(), RecordingObserver()
    runtime = Runtime(store, by_name, {generation: spec}, clock, observer, policy, tracing=tracing)
    follows: Mapping[Generation, Sequence[str]] = {generation: spec.sources}
    supervisor = Supervisor(runtime, SoloCoordinator(follows, by_name, clock, look_seconds=0.01))
    running = Engine(store, by_name, supervisor, observer, runtime, spec)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        try:
            yield running
        finally:
            with anyio.CancelScope(shield=True):
                await supervisor.drain(grace)
            tasks.cancel_scope.cancel()
