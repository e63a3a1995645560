"""Commands in any order, among events, failures, kills and shards that change hands: rows stay the log's pure fold.

`CONTROL_EXAMPLES` in the environment says how many sequences are tried (default 25, which CI runs).
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.core.again import (
    Filter,
    KeysRelease,
    LettersDiscard,
    LettersRetry,
    PlanReport,
    ReplayAbort,
    ReplayApply,
    ReplayPlan,
    Rewind,
)
from daemon.core.checkpoint import CheckpointState
from daemon.core.commands import Command, Drain, Pause, Restart, Resume, Skip, Target
from daemon.core.errors import CommandRefused
from daemon.core.events import Event
from daemon.core.identity import MAIN_VIEW, Generation, RowKey
from daemon.core.lifecycle import ShardState
from daemon.core.operations import due
from daemon.core.projection import Handler, OnError
from daemon.core.view import View
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.support.engine import ALICE, PATIENCE_SECONDS, counting, event
from tests.support.replicas import Killed, Replica, replica

SHARDS = ("s0", "s1")
KEYS = [f"{shard}-k{number}" for shard in SHARDS for number in range(3)]
COMMANDS = (
    "pause", "resume", "drain", "restart", "skip", "rewind", "replay", "abort", "retry", "discard", "release",
)  # fmt: skip


@dataclass(frozen=True)
class Append:
    """New events; `fails`: the first of them does, until all is mended; `repeats`: an earlier event comes once more."""

    shard: str
    count: int
    fails: bool = False
    repeats: bool = False


@dataclass(frozen=True)
class Ask:
    """A command, of one replica; `again`: the request is sent to the other one too, afterwards."""

    name: str
    shard: str | None
    via: int
    again: bool


@dataclass(frozen=True)
class Kill:
    """A replica dies at so many calls from now, before or after it; another takes its shards."""

    which: int
    step: int
    after: bool


@dataclass(frozen=True)
class Move:
    """A shard is given to the other replica, whatever the first one does."""

    shard: str


@dataclass(frozen=True)
class Mend:
    """No event fails any more, of those that are there."""


type Step = Append | Ask | Kill | Move | Mend

SHARD = st.sampled_from(SHARDS)
STEPS = st.lists(
    st.one_of(
        st.builds(Append, SHARD, st.integers(1, 12), st.booleans(), st.booleans()),
        st.builds(Ask, st.sampled_from(COMMANDS), st.one_of(st.none(), SHARD), st.integers(0, 1), st.booleans()),
        st.builds(Kill, st.integers(0, 1), st.integers(0, 24), st.booleans()),
        st.builds(Move, SHARD),
        st.builds(Mend),
    ),
    min_size=3,
    max_size=18,
)


@dataclass
class World:
    """Two replicas on one store, and who was granted what."""

    tasks: TaskGroup
    on_error: OnError
    stop: anyio.Event = field(default_factory=anyio.Event)
    data: MemoryData = field(default_factory=MemoryData)
    source: MemorySource = field(default_factory=MemorySource)
    replicas: list[Replica] = field(default_factory=list[Replica])
    holders: dict[str, int] = field(default_factory=lambda: {"s0": 0, "s1": 1})
    broken: set[str] = field(default_factory=set[str])
    ever_broken: set[str] = field(default_factory=set[str])
    started: int = 0
    asked: int = 0

    def _added(self, view: View, event: Event) -> None:
        if event.id in self.broken:
            raise ValueError("broken")
        row = view.row or {"n": 0, "seen": []}
        view.put(n=row["n"] + event.data["amount"], seen=[*row["seen"], event.id])

    async def start(self, which: int) -> None:
        """Start a replica in a place, with the shards of that place."""
        self.started += 1
        self.replicas[which : which + 1] = [await self.tasks.start(self._run, f"r-{self.started}", which)]

    async def _run(self, name: str, which: int, *, task_status: TaskStatus[Replica]) -> None:
        """Run a replica until all is over, or until it is killed, which is nobody else's trouble."""
        mine = [shard for shard, holder in self.holders.items() if holder == which]
        spec = counting(handlers={"Added": (Handler("added", self._added),)}, on_error=self.on_error)
        async with replica(name, MemoryStore(self.data), spec, self.source, *mine) as running:
            task_status.started(running)
            await self.stop.wait()

    def append(self, step: Append) -> None:
        shard = step.shard
        held = self.source.shards_by_name[shard]
        begin = held.end[0] if held.end else 0
        if step.fails:
            self.broken.add(f"{shard}-{begin + 1}")
            self.ever_broken.add(f"{shard}-{begin + 1}")
        places = range(begin + 1, begin + step.count + 1)
        made = [event(at, f"{shard}-k{at % 3}", id=f"{shard}-{at}") for at in places]
        if step.repeats:
            first = made[-1] if begin < 2 else held.records[begin // 2]
            assert isinstance(first, Event)
            made.append(event(begin + step.count + 1, first.data["key"], id=first.id))
        self.source.append(shard, *made)

    async def ask(self, step: Ask) -> None:
        self.asked += 1
        request = f"request-{self.asked}"
        try:
            command = await self._command(step)
            for via in [step.via] + [1 - step.via] * step.again:
                if command is None:
                    return
                await self.replicas[via].ask(command, request, wait=0.02)
        except (CommandRefused, Killed):
            return
        except BaseExceptionGroup as group:
            if group.split(Killed)[1] is not None:
                raise

    async def _command(self, step: Ask) -> Command | None:
        target = Target("counting") if step.shard is None else Target("counting", 1, "memory", step.shard)
        plain: Mapping[str, Command] = {
            "pause": Pause(target),
            "resume": Resume(target),
            "drain": Drain(target),
            "restart": Restart(target),
            "rewind": Rewind(target, "earliest"),
            "abort": ReplayAbort(target),
            "retry": LettersRetry(target, Filter(every=True)),
            "discard": LettersDiscard(target, Filter(every=True)),
            "release": KeysRelease(target, every=True),
        }
        if step.name in plain:
            return plain[step.name]
        if step.name == "replay":
            query = ReplayPlan(target, "earliest")
            plan = await self.replicas[step.via].control.run(query, ALICE, "plan", lambda _: None)
            assert isinstance(plan, PlanReport)
            return ReplayApply(target, "earliest", "now", plan.plan)
        shard = step.shard or "s0"
        end = self.source.shards_by_name[shard].end
        return Skip(Target("counting", 1, "memory", shard), end) if end else None

    async def kill(self, step: Kill) -> None:
        """Kill a replica, and start another in its place."""
        dying = self.replicas[step.which]
        dying.line.arm(step.step, after=step.after)
        with anyio.move_on_after(0.05):
            while not dying.line.dead:  # noqa: ASYNC110 - it polls, so it dies soon
                await anyio.sleep(0.001)
        dying.line.dead = True
        await self.start(step.which)

    def move(self, shard: str) -> None:
        self.holders[shard] = 1 - self.holders[shard]
        self.replicas[self.holders[shard]].grant(shard)

    async def settle(self) -> None:
        """Have every shard run somewhere, go on, apply all that waits, and come to the log's end."""
        self.broken.clear()
        waiting: Sequence[Command] = (
            Resume(Target("counting")),
            LettersRetry(Target("counting"), Filter(every=True)),
            KeysRelease(Target("counting"), every=True),
        )
        with anyio.fail_after(PATIENCE_SECONDS):
            while not await self._done():
                for shard in SHARDS:
                    if self.replicas[self.holders[shard]].state(shard) in {None, ShardState.FENCED, ShardState.DONE}:
                        self.replicas[self.holders[shard]].grant(shard)
                for command in waiting:
                    self.asked += 1
                    try:
                        await self.replicas[0].ask(command, f"request-{self.asked}", wait=0.3)
                    except CommandRefused:
                        continue
                    except Killed:
                        await self.start(0)

    async def _done(self) -> bool:
        store = MemoryStore(self.data)
        await store.open()
        for shard in SHARDS:
            scope = self.replicas[0].scope(shard)
            end, stands = self.source.shards_by_name[shard].end, self.data.checkpoints.get(scope)
            if end and (stands is None or stands.position < end or stands.state is not CheckpointState.RUNNING):
                return False
            if stands is not None and stands.redelivery is not None and stands.redelivery.active:
                return False
            waits = await store.waiting(scope)
            if waits.letters or waits.parked:
                return False
            if stands is not None and due(await store.operations(scope.of, 0, 1_000), scope, stands):
                return False
        return True


async def live(on_error: OnError, steps: Sequence[Step]) -> None:
    """Take all steps, and then look."""
    async with anyio.create_task_group() as tasks:
        world = World(tasks, on_error)
        for shard in SHARDS:
            world.source.add_shard(shard)
            world.append(Append(shard, 5))
        for which in (0, 1):
            await world.start(which)
        for step in steps:
            match step:
                case Append():
                    world.append(step)
                case Ask():
                    await world.ask(step)
                case Kill():
                    await world.kill(step)
                case Move():
                    world.move(step.shard)
                case Mend():
                    world.broken.clear()
            await anyio.lowlevel.checkpoint()
        await world.settle()
        in_order = on_error is not OnError.DEAD_LETTER and not any(
            isinstance(step, Ask) and step.name == "skip" for step in steps
        )
        await check(world, in_order=in_order)
        world.stop.set()


async def check(world: World, *, in_order: bool) -> None:
    """Rows are the fold of all that was not given up; every event ended as one thing; nothing is left to obey."""
    store = MemoryStore(world.data)
    await store.open()
    passed: set[tuple[str, int]] = set()
    skipped = 0
    for shard in SHARDS:
        scope = world.replicas[0].scope(shard)
        for one in (await store.waiting(scope)).skipped:
            passed |= {(shard, place) for place in range((one.after or (0,))[0] + 1, one.through[0] + 1)}
        checkpoint = world.data.checkpoints[scope]
        counters = checkpoint.counters
        ends = ("applied", "duplicate_position", "duplicate_marker", "skipped", "dead_lettered", "parked")
        assert counters["read"] == sum(counters.get(name, 0) for name in ends), counters
        assert counters["read"] == checkpoint.position[0]
        skipped += counters.get("skipped", 0)
        operations = await store.operations(scope.of, 0, 1_000)
        assert [one.sequence for one in operations] == [*range(1, len(operations) + 1)]
        assert len({one.request for one in operations}) == len(operations)
        assert not due(operations, scope, checkpoint)
    rows = await store.load_rows(Generation("counting", 1), [RowKey(MAIN_VIEW, key) for key in KEYS])
    found = {key.key: row.attributes for key, row in rows.items() if row is not None and row.attributes}
    wanted = there(world.source, passed)
    seen = Counter(name for row in found.values() for name in row["seen"])
    discarded = wanted.keys() - seen.keys()
    assert discarded <= world.ever_broken
    assert skipped == len(passed) + len(discarded)
    assert seen == Counter(wanted.keys() - discarded)
    for key, row in found.items():
        assert row["n"] == len(row["seen"])
        assert {wanted[name][1] for name in row["seen"]} == {key}
        assert not in_order or row["seen"] == sorted(row["seen"], key=lambda name: wanted[name][0])


def there(source: MemorySource, passed: set[tuple[str, int]]) -> dict[str, tuple[int, str]]:
    """Return the first place and the key of each event that stands anywhere but in a skipped range, by its id."""
    found: dict[str, tuple[int, str]] = {}
    for shard, held in source.shards_by_name.items():
        for record in held.records:
            if isinstance(record, Event) and (shard, record.position[0]) not in passed:
                found.setdefault(record.id, (record.position[0], record.data["key"]))
    return found


@settings(
    max_examples=int(os.environ.get("CONTROL_EXAMPLES", "25")),
    deadline=None,
    derandomize="CONTROL_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.sampled_from(OnError), STEPS)
def test_rows_are_the_fold_whatever_was_asked(on_error: OnError, steps: list[Step]) -> None:
    """No sequence of commands, sent to any replica, with events that fail and come twice, replicas that die and shards
    that move, loses, repeats or invents anything.
    """
    anyio.run(live, on_error, steps)
