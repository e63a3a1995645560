"""Commands in any order, among events, kills and shards that change hands: rows stay the pure fold of the log.

`CONTROL_EXAMPLES` in the environment says how many sequences are tried (default 25, which CI runs).
"""

import os
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.core.again import Rewind
from daemon.core.checkpoint import CheckpointState
from daemon.core.commands import Command, Drain, Pause, Restart, Resume, Skip, Target
from daemon.core.errors import CommandRefused
from daemon.core.lifecycle import ShardState
from daemon.core.operations import due
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.support.engine import PATIENCE_SECONDS, counting, event
from tests.support.replicas import Killed, Replica, plain_fold, replica, totals

SHARDS = ("s0", "s1")
KEYS = [f"{shard}-k{number}" for shard in SHARDS for number in range(3)]


@dataclass(frozen=True)
class Append:
    shard: str
    count: int


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


SHARD = st.sampled_from(SHARDS)
STEPS = st.lists(
    st.one_of(
        st.builds(Append, SHARD, st.integers(1, 12)),
        st.builds(
            Ask,
            st.sampled_from(["pause", "resume", "drain", "restart", "skip", "rewind"]),
            st.one_of(st.none(), SHARD),
            st.integers(0, 1),
            st.booleans(),
        ),
        st.builds(Kill, st.integers(0, 1), st.integers(0, 12), st.booleans()),
        st.builds(Move, SHARD),
    ),
    min_size=3,
    max_size=14,
)


@dataclass
class World:
    """Two replicas on one store, and who was granted what."""

    tasks: TaskGroup
    stop: anyio.Event = field(default_factory=anyio.Event)
    data: MemoryData = field(default_factory=MemoryData)
    source: MemorySource = field(default_factory=MemorySource)
    replicas: list[Replica] = field(default_factory=list[Replica])
    holders: dict[str, int] = field(default_factory=lambda: {"s0": 0, "s1": 1})
    started: int = 0
    asked: int = 0

    async def start(self, which: int) -> None:
        """Start a replica in a place, with the shards of that place."""
        self.started += 1
        self.replicas[which : which + 1] = [await self.tasks.start(self._run, f"r-{self.started}", which)]

    async def _run(self, name: str, which: int, *, task_status: TaskStatus[Replica]) -> None:
        """Run a replica until all is over, or until it is killed, which is nobody else's trouble."""
        mine = [shard for shard, holder in self.holders.items() if holder == which]
        async with replica(name, MemoryStore(self.data), counting(), self.source, *mine) as running:
            task_status.started(running)
            await self.stop.wait()

    def append(self, shard: str, count: int) -> None:
        held = self.source.shards_by_name[shard]
        begin = held.end[0] if held.end else 0
        places = range(begin + 1, begin + count + 1)
        self.source.append(shard, *[event(at, f"{shard}-k{at % 3}", id=f"{shard}-{at}") for at in places])

    async def ask(self, step: Ask) -> None:
        self.asked += 1
        command = self._command(step)
        if command is None:
            return
        request = f"request-{self.asked}"
        for via in [step.via] + [1 - step.via] * step.again:
            try:
                await self.replicas[via].ask(command, request, wait=0.02)
            except (CommandRefused, Killed):
                return

    def _command(self, step: Ask) -> Command | None:
        target = Target("counting") if step.shard is None else Target("counting", 1, "memory", step.shard)
        match step.name:
            case "pause":
                return Pause(target)
            case "resume":
                return Resume(target)
            case "drain":
                return Drain(target)
            case "restart":
                return Restart(target)
            case "rewind":
                return Rewind(target, "earliest")
            case _:
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
        """Have every shard run somewhere, go on, and come to the log's end."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:
                for shard in SHARDS:
                    if self.replicas[self.holders[shard]].state(shard) in {None, ShardState.FENCED, ShardState.DONE}:
                        self.replicas[self.holders[shard]].grant(shard)
                self.asked += 1
                try:
                    answer = await self.replicas[0].ask(Resume(Target("counting")), f"request-{self.asked}", wait=0.3)
                except CommandRefused:
                    continue
                except Killed:
                    await self.start(0)
                    continue
                if answer.pending == 0 and await self._done():
                    return

    async def _done(self) -> bool:
        for shard in SHARDS:
            scope = self.replicas[0].scope(shard)
            end, stands = self.source.shards_by_name[shard].end, self.data.checkpoints.get(scope)
            if end and (stands is None or stands.position < end or stands.state is not CheckpointState.RUNNING):
                return False
            if stands is not None and stands.redelivery is not None and stands.redelivery.active:
                return False
        return True


async def live(steps: list[Append | Ask | Kill | Move]) -> None:
    """Take all steps, and then look."""
    async with anyio.create_task_group() as tasks:
        world = World(tasks)
        for shard in SHARDS:
            world.source.add_shard(shard)
            world.append(shard, 5)
        for which in (0, 1):
            await world.start(which)
        for step in steps:
            match step:
                case Append():
                    world.append(step.shard, step.count)
                case Ask():
                    await world.ask(step)
                case Kill():
                    await world.kill(step)
                case Move():
                    world.move(step.shard)
            await anyio.lowlevel.checkpoint()
        await world.settle()
        await check(world)
        world.stop.set()


async def check(world: World) -> None:
    """Rows are the fold of all that was not skipped; every event ended as one thing; nothing is left to obey."""
    store = MemoryStore(world.data)
    await store.open()
    gone: set[tuple[str, int]] = set()
    for shard in SHARDS:
        scope = world.replicas[0].scope(shard)
        for one in (await store.waiting(scope)).skipped:
            gone |= {(shard, place) for place in range((one.after or (0,))[0] + 1, one.through[0] + 1)}
        checkpoint = world.data.checkpoints[scope]
        counters = checkpoint.counters
        ends = ("applied", "duplicate_position", "duplicate_marker", "skipped")
        assert counters["read"] == sum(counters.get(name, 0) for name in ends), counters
        assert counters["read"] == checkpoint.position[0]
        operations = await store.operations(scope.of, 0, 1_000)
        assert [one.sequence for one in operations] == [*range(1, len(operations) + 1)]
        assert len({one.request for one in operations}) == len(operations)
        assert not due(operations, scope, checkpoint)
    assert await totals(store, KEYS) == plain_fold(world.source, gone)


@settings(
    max_examples=int(os.environ.get("CONTROL_EXAMPLES", "25")),
    deadline=None,
    derandomize="CONTROL_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(STEPS)
def test_rows_are_the_fold_whatever_was_asked(steps: list[Append | Ask | Kill | Move]) -> None:
    """No sequence of commands, sent to any replica, with replicas that die and shards that move, loses, repeats or
    invents anything.
    """
    anyio.run(live, steps)
