"""The whole engine over a strict DynamoDB in this process: processes that die, freeze and come back, and what remains.

A `Process` is one daemon's engine with connections of its own. A dead one sends nothing more, whatever its tasks still
try, and what it had sent goes on: that is what SIGKILL means to a database. `Trial.check` holds everything that remains
in the tables against the plain fold of the log.

Everything is to run on virtual time (`tests.support.virtual_loop`).
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from random import Random
from typing import Any

import anyio
import anyio.abc
import orjson

from daemon.actors.runtime import EnginePolicy, Runtime
from daemon.actors.supervisor import Supervisor
from daemon.coordination.solo import SoloCoordinator
from daemon.core.batcher import BatchPolicy
from daemon.core.circuit import CircuitPolicy
from daemon.core.events import Event
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.projection import OnError, ProjectionSpec
from daemon.core.window import ENTRY_BYTES
from daemon.loading import compile_class
from daemon.stores.dynamodb import Connections, DynamoDbStore, Tuning
from daemon.testing.dynamodb import Call, Fault, LoopClock, Refuse, StrictDynamoDb
from daemon.testing.memory_source import MemorySource
from daemon.testing.observer import RecordingObserver
from daemon.wire.aws_json import Answer, AwsJson
from tests.support.dynamodb import LocalPools
from tests.support.engine import START_OF_TIME
from tests.support.ledger import PROJECTIONS, Expected, Line, Tally, expected, tally

PREFIX = "trial"
BATCH = 12
HOURS = 3600.0
PATIENCE_SECONDS = 6 * HOURS
"""Virtual time within which a process has to settle its log, whatever it meets."""
WRITE = "TransactWriteItems"
BOOKKEEPING = ("_v", "_src", "_seq", "_expires", "key", "view")


def up_to(seconds: float) -> Callable[[Random], float]:
    """Return a draw between nothing and so many seconds."""
    return lambda chance: chance.uniform(0, seconds)


class TrialClock(LoopClock):
    """The loop's time, and chance from a seed."""

    def __init__(self, seed: int) -> None:
        """Begin."""
        self._chance = Random(seed)

    def draw(self) -> float:
        """Return the next draw."""
        return self._chance.random()

    def unique(self) -> str:
        """Return the next id."""
        return f"{self._chance.getrandbits(128):032x}"


class Moment(StrEnum):
    """When a process dies, as the request sees it."""

    BEFORE = "before"
    """The request never leaves."""
    DURING = "during"
    """It is under way: it arrives, and is applied, after its sender's death."""
    AFTER = "after"
    """It was answered, and nobody is left to hear it."""


type Deadly = Callable[[int, str, str], Moment | None]
"""Says, for a process's request number (from 1), its operation and its connection, whether the process dies of it."""


_TORN = ("Query", "BatchGetItem")


def _immortal(_number: int, _operation: str, _connection: str) -> Moment | None:
    return None


@dataclass(slots=True)
class Life:
    """Whether a process lives, and how long."""

    name: str
    deadly: Deadly = _immortal
    requests: int = 0
    died: anyio.Event = field(default_factory=anyio.Event)
    thawed: anyio.Event | None = None
    """There while it is frozen."""
    freeze_after: bool = False
    """Frozen only once the request in hand was sent."""
    torn_until: float = 0.0
    """Until then, or its first commit, its queries and batches miss the last commit of the process before."""

    def die(self) -> None:
        """Be killed."""
        self.died.set()

    def freeze(self) -> None:
        """Send nothing, hear nothing."""
        self.thawed = anyio.Event()

    @property
    def frozen(self) -> bool:
        """Whether it is frozen."""
        return self.thawed is not None

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        if self.thawed is not None:
            self.thawed.set()
            self.thawed = None

    async def stand(self) -> None:
        """Wait while frozen; for ever once dead."""
        while self.thawed is not None:
            await self.thawed.wait()
        if self.died.is_set():
            await anyio.sleep_forever()


@dataclass(slots=True)
class Mortal:
    """A client of one process."""

    client: AwsJson
    trial: "Trial"
    life: Life
    connection: str

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        """Send a request, as far as the process lives."""
        life = self.life
        await life.stand()
        life.requests += 1
        moment = life.deadly(life.requests, operation, self.connection)
        if moment is Moment.BEFORE:
            life.die()
        elif moment is Moment.DURING:
            self.trial.send_later(operation, body, self.trial.chance.uniform(0, 0.2))
            life.die()
        if life.freeze_after:
            life.freeze_after = False
        else:
            await life.stand()
        now = self.trial.clock.monotonic()
        if self.connection == "commits":
            life.torn_until = 0.0
            self.trial.last_commit = now
        if operation in _TORN and now < life.torn_until:
            body = body.replace(b'"ConsistentRead":true', b'"ConsistentRead":false')
        answer = await self.client.call(operation, body, deadline_seconds)
        if moment is Moment.AFTER:
            life.die()
        await life.stand()
        return answer

    async def aclose(self) -> None:
        """Close; a dead process closes nothing, and nobody can tell."""
        await self.client.aclose()


class Wrong(AssertionError):
    """The tables are not what the log comes to."""

    def __init__(self, trial: "Trial", found: Tally) -> None:
        """Say which trial it was, and what is wrong."""
        told = "\n".join(found.problems[:10])
        super().__init__(f"seed {trial.seed}, {trial.mode}: {found.lost} lost, {found.doubled} doubled\n{told}")
        self.tally = found


@dataclass(slots=True)
class Process:
    """One running engine."""

    name: str
    life: Life
    store: DynamoDbStore
    supervisor: Supervisor
    observer: RecordingObserver
    scope: Scope

    def state(self, shard: str | None = None) -> ShardState | None:
        """Return where a shard stands."""
        scope = self.scope if shard is None else self.scope._replace(shard=shard)
        actor = self.supervisor.actors.get(scope)
        return None if actor is None else actor.state


class Trial:
    """A log, a server and whatever processes a test runs over them."""

    def __init__(
        self,
        logs: Mapping[str, Sequence[Line]],
        *,
        mode: str = "event",
        seed: int = 0,
        batch: int = BATCH,
        tuning: Tuning | None = None,
        policy: EnginePolicy | None = None,
        spec: Mapping[str, Any] | None = None,
        **server: Any,
    ) -> None:
        """`server`: the strict server's settings; by default requests travel and transactions take their time."""
        self.seed = seed
        self.mode = mode
        self.chance = Random(f"{seed}")
        self.clock = TrialClock(seed)
        settings: dict[str, Any] = {
            "latency_seconds": up_to(0.02),
            "hold_seconds": up_to(0.01),
        }
        self.server = StrictDynamoDb(clock=self.clock, seed=seed, **(settings | server))
        compiled = compile_class(PROJECTIONS[mode], ("ledger",))[0]
        self.spec: ProjectionSpec = replace(compiled, **(spec or {}))
        self.generation = Generation(self.spec.name, 1)
        self.tuning = tuning or Tuning()
        circuit = CircuitPolicy(max_in_a_row=1000, max_share=1.0)
        self.policy = policy or EnginePolicy(batch=BatchPolicy(max_events=batch, linger=0.0), circuit=circuit)
        self.lines: dict[str, list[Line]] = {}
        self.source = MemorySource("ledger")
        self.lives: list[Life] = []
        self.torn = 0.0
        """For how long after its start a process reads torn."""
        self.last_commit = 0.0
        """When the newest commit was sent."""
        self.connect: Callable[[str], AwsJson] = self.server.client
        """Makes a client by the name of its connection."""
        for shard, lines in logs.items():
            self.append(shard, *lines)

    def tear(self, seconds: float) -> None:
        """Let each process read, for so long after its start, all but the last commit of the process before."""
        self.torn = seconds
        database = self.server.database
        database.history_seconds = 60.0
        database.read_lag = lambda _: self.clock.monotonic() - self.last_commit

    # The log

    def append(self, shard: str, *lines: Line, moment: datetime | None = None) -> None:
        """Let a shard's log grow. `moment`: of these events; by default each comes a second after the one before."""
        if shard not in self.lines:
            self.source.add_shard(shard)
            self.lines[shard] = []
        held = self.lines[shard]
        for line in lines:
            held.append(line)
            self.source.append(shard, record_of(line, len(held), moment))

    @property
    def expected(self) -> Expected:
        """What the log comes to."""
        return expected(self.lines, parks=self.spec.on_error is OnError.PARK_KEY)

    # Faults

    def meet(self, *actions: Any, operation: str = WRITE, times: int | None = 1, nth: int | None = None) -> None:
        """Script what the next commits meet, one each; or what calls of another operation meet."""
        when = _of_commits if operation == WRITE else None
        self.server.faults.add(*(Fault(action, operation, when, times=times, nth=nth) for action in actions))

    def count(self, operation: str, when: Callable[[Call], bool] = lambda _: True) -> list[Any]:
        """Keep the bodies of all later calls of an operation."""
        bodies: list[Any] = []

        def note(call: Call) -> bool:
            if when(call):
                bodies.append(call.body)
            return False

        self.server.faults.add(Fault(Refuse(), operation, note, times=None))
        return bodies

    def send_later(self, operation: str, body: bytes, seconds: float) -> None:
        """Let a request arrive later than its sender believes, or lives."""

        async def travel() -> Any:
            await self.clock.sleep(seconds)
            return await self.server.deliver(operation, body, "late")

        self.server.start(travel())

    # Processes

    def store(self, life: Life | None = None, **settings: Any) -> DynamoDbStore:
        """Make a store, unopened, over connections that end with a life."""
        life = life or Life("tests")

        async def connect() -> Connections:
            clients = (Mortal(self.connect(name), self, life, name) for name in ("commits", "reads", "leases"))
            return LocalPools(*clients)

        return DynamoDbStore(connect, self.clock, prefix=PREFIX, tuning=self.tuning, **settings)

    @asynccontextmanager
    async def process(self, deadly: Deadly = _immortal, **changes: Any) -> AsyncGenerator[Process]:
        """Run an engine for the time of the block; it is drained then, unless it died. `changes`: of its policy."""
        life = Life(f"p{len(self.lives)}", deadly, torn_until=self.clock.monotonic() + self.torn)
        self.lives.append(life)
        store, observer = self.store(life), RecordingObserver()
        sources = {"ledger": self.source}
        policy = replace(self.policy, **changes)
        runtime = Runtime(store, sources, {self.generation: self.spec}, self.clock, observer, policy, replica=life.name)
        follows = {self.generation: self.spec.sources}
        supervisor = Supervisor(runtime, SoloCoordinator(follows, sources, self.clock, look_seconds=1.0))
        scope = Scope(self.spec.name, 1, "ledger", next(iter(self.lines)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_with, life, tasks)
            tasks.start_soon(self._run, store, supervisor)
            yield Process(life.name, life, store, supervisor, observer, scope)
            if not life.died.is_set():
                await supervisor.drain(60.0)
            tasks.cancel_scope.cancel()

    async def _run(self, store: DynamoDbStore, supervisor: Supervisor) -> None:
        await store.open()
        try:
            await store.create_generation(self.generation, self.spec.version, live=True)
            await supervisor.run()
        finally:
            await store.aclose()

    @staticmethod
    async def _end_with(life: Life, tasks: anyio.abc.TaskGroup) -> None:
        await life.died.wait()
        tasks.cancel_scope.cancel()

    async def live(self, deadly: Deadly = _immortal, **changes: Any) -> bool:
        """Run one process until it has settled the log (True) or died."""
        died = True
        async with self.process(deadly, **changes) as process:
            await self.until(lambda: bool(process.supervisor.actors))
            with anyio.fail_after(PATIENCE_SECONDS):
                await process.supervisor.caught_up()
            died = False
        return not died and not self.lives[-1].died.is_set()

    async def settle(self) -> None:
        """Run a process that nothing ails, until the log is settled and nothing is under way."""
        assert await self.live()
        with anyio.fail_after(PATIENCE_SECONDS):
            while self.server.running:
                await self.clock.sleep(1.0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while not condition():
                await self.clock.sleep(0.01)

    # What remains

    def items(self, table: str) -> list[dict[str, Any]]:
        """Return a table's items as plain Python: `state`, `markers`, `effects`, or `rows`."""
        name = self.generation.label if table == "rows" else table
        return self.server.snapshot().get(f"{PREFIX}-{name}", [])

    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return every row by view and key, without bookkeeping."""
        return {
            (item["view"], item["key"]): {name: value for name, value in item.items() if name not in BOOKKEEPING}
            for item in self.items("rows")
            if "_gone" not in item
        }

    def checkpoint(self, shard: str = "s0") -> dict[str, Any]:
        """Return a shard's checkpoint as it is stored."""
        pk = f"{self.generation.label}:ledger/{shard}"
        return next(item for item in self.items("state") if item["pk"] == pk and item["sk"] == "checkpoint")

    @property
    def settled(self) -> int:
        """Lines whose fate is committed."""
        shards = [item for item in self.items("state") if item["sk"] == "checkpoint"]
        return int(sum(item["counters"].get("read", 0) for item in shards))

    def check(self) -> Tally:
        """Hold everything that remains against the plain fold of the log; return it if all is right."""
        wanted = self.expected
        found = tally(self.rows(), wanted)
        problems = [*found.problems, *self._counters(wanted), *self._marks(wanted), *self._sources(wanted)]
        effects = Counter(item["event_id"] for item in self.items("effects"))
        if effects != Counter(wanted.effects):
            problems.append(f"effects: {effects} instead of {wanted.effects}")
        for prefix, due in (("dead#", wanted.dead), ("parked#", wanted.parked)):
            held = Counter(item["event_id"] for item in self.items("state") if item["sk"].startswith(prefix))
            if held != Counter(due):
                problems.append(f"{prefix}: {held} instead of {due}")
        if found.lost or found.doubled or problems:
            raise Wrong(self, Tally(found.lost, found.doubled, tuple(problems)))
        return found

    def _counters(self, wanted: Expected) -> list[str]:
        total: Counter[str] = Counter()
        for item in self.items("state"):
            if item["sk"] == "checkpoint":
                total.update({name: int(count) for name, count in item["counters"].items()})
        layer = "duplicate_version" if self.mode == "sequence" else "duplicate_marker"
        due = {
            "read": wanted.read,
            "applied": len(wanted.applied),
            layer: wanted.duplicates,
            "dead_lettered": len(wanted.dead),
            "parked": len(wanted.parked),
        }
        return [f"{name} is {total[name]}, not {count}" for name, count in due.items() if total[name] != count]

    def _marks(self, wanted: Expected) -> list[str]:
        """Tell whether each id is marked exactly once."""
        if self.mode == "event":
            label = f"{self.generation.label}/"
            marked = Counter(item["pk"].removeprefix(label) for item in self.items("markers"))
            return [] if marked == Counter(wanted.ids) else [f"markers: {marked - Counter(wanted.ids)}"]
        if self.mode == "sequence":
            return []
        entries: Counter[bytes] = Counter()
        for item in self.items("state"):
            if item["sk"].startswith("segment#"):
                held: bytes = item["entries"]
                entries.update(held[at : at + ENTRY_BYTES][:16] for at in range(0, len(held), ENTRY_BYTES))
        due = Counter(blake2b(name.encode(), digest_size=16).digest() for name in wanted.ids)
        return (
            [] if entries == due else [f"packed markers: {len(entries - due)} too many, {len(due - entries)} missing"]
        )

    def _sources(self, wanted: Expected) -> list[str]:
        """Tell whether each account's row names the event that has to have touched it last."""
        if self.mode == "sequence":  # a duplicate or a dead letter advances the row, too
            return []
        return [
            f"row {item['key']} was touched last by {item['_src']}, not by {wanted.sources.get(item['key'])}"
            for item in self.items("rows")
            if item["view"] == "main" and item["_src"].partition("#")[2] != wanted.sources.get(item["key"])
        ]


def record_of(line: Line, position: int, moment: datetime | None = None) -> Event:
    """Return a line as the event that a source would make of it."""
    raw = orjson.dumps(line.payload, option=orjson.OPT_SORT_KEYS)
    moment = moment or START_OF_TIME + timedelta(seconds=position)
    digest = blake2b(raw, digest_size=16).digest()
    return Event(line.id, "Moved", "/ledger", None, moment, line.payload, {}, (position,), digest, raw)


def _of_commits(call: Call) -> bool:
    return call.client == "commits"
