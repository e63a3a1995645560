"""A replica dies at every call that a command makes of the store: the command is done whole, or was never accepted."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from daemon.core.checkpoint import CheckpointState
from daemon.core.commands import Command, Drain, Pause, Restart, Resume, Skip, Target
from daemon.core.operations import OutcomeStatus
from daemon.ports.store import Store
from daemon.stores.sqlite import SqliteStore
from daemon.testing.dynamodb import StrictDynamoDb
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.support.dynamodb import inside, store_on
from tests.support.engine import counting, event
from tests.support.replicas import Replica, plain_fold, replica, totals

pytestmark = pytest.mark.anyio

KEYS = ["k0", "k1", "k2"]
TO = Target("counting", 1, "memory", "s0")
COMMANDS: dict[str, Command] = {
    "pause": Pause(), "drain": Drain(), "resume": Resume(), "restart": Restart(), "skip": Skip(TO, (13,)),
}  # fmt: skip
STORES = {"memory": 1, "sqlite": 5, "dynamodb": 3}
"""Where, and at which of the steps: every one, or one of so many."""


def processes(kind: str, directory: Path) -> Callable[[], Store]:
    """Each call is one more process on the same data."""
    match kind:
        case "sqlite":
            return lambda: SqliteStore(directory / "shared.sqlite")
        case "dynamodb":
            reach = inside(StrictDynamoDb())
            return lambda: store_on(reach, "shared")
        case _:
            data = MemoryData()
            return lambda: MemoryStore(data)


def log() -> MemorySource:
    """A log of two shards."""
    source = MemorySource("memory")
    for shard in ("s0", "s1"):
        source.add_shard(shard)
        grow(source, shard, 10)
    return source


def grow(source: MemorySource, shard: str, count: int) -> None:
    """Let a shard grow."""
    held = source.shards_by_name[shard]
    begin = held.end[0] if held.end else 0
    source.append(
        shard, *[event(place, f"k{place % 3}", id=f"{shard}-{place}") for place in range(begin + 1, begin + count + 1)]
    )


async def ready(running: Replica, name: str, source: MemorySource) -> None:
    """Bring the shards into the state in which a command finds them."""
    await running.until(lambda: len(running.supervisor.actors) == 2)
    await running.caught_up()
    if name in {"resume", "skip"}:
        await running.ask(Pause(), "before")
        for shard in ("s0", "s1"):
            grow(source, shard, 5)


async def die(kind: str, name: str, directory: Path, step: int, *, after: bool) -> bool:
    """Kill the replica at one step, and hold what is left to what must hold. False: the command needs no such step."""
    make, source, spec, command = processes(kind, directory), log(), counting(), COMMANDS[name]
    answered = False
    async with replica("r-1", make(), spec, source, "s0", "s1") as first:
        await ready(first, name, source)
        first.line.arm(step, after=after)
        await first.ask(command, "the one")
        answered = True
    if answered:
        return False
    async with replica("r-2", make(), spec, source, "s0", "s1") as second:
        await second.until(lambda: len(second.supervisor.actors) == 2)
        store, generation = second.line.store, second.scope("s0").of
        accepted = await store.requested(generation, "the one")
        if accepted is not None:
            # Nobody asks again: what was accepted is carried out by whoever has the shards now.
            with anyio.fail_after(10):
                while not await obeyed(second, accepted.sequence, skip=name == "skip"):  # noqa: ASYNC110 - in a store
                    await anyio.sleep(0.002)
        answer = await second.ask(command, "the one")
        assert (answer.pending, answer.refused, answer.repeated) == (0, 0, accepted is not None)
        operation = await store.requested(generation, "the one")
        assert operation is not None
        before = 1 if name in {"resume", "skip"} else 0
        assert [one.sequence for one in await store.operations(generation, 0, 9)] == [*range(1, operation.sequence + 1)]
        assert operation.sequence == before + 1
        for outcome in await store.outcomes(generation, operation.sequence):
            assert outcome.status is OutcomeStatus.DONE
        states = {(await second.checkpoint(shard)).state for shard in ("s0", "s1")}
        still = name in {"pause", "drain", "skip"}
        assert states == {CheckpointState.PAUSED if still else CheckpointState.RUNNING}
        await second.ask(Resume())
        await second.caught_up()
        gone = {("s0", place) for place in (11, 12, 13)} if name == "skip" else set[tuple[str, int]]()
        assert await totals(store, KEYS) == plain_fold(source, gone)
        for shard in ("s0", "s1"):
            counters = (await second.checkpoint(shard)).counters
            assert counters["read"] == source.shards_by_name[shard].end[0]
            assert counters["read"] == counters["applied"] + counters.get("skipped", 0)
    return True


async def obeyed(running: Replica, sequence: int, *, skip: bool) -> bool:
    """Tell whether every shard that is concerned has obeyed."""
    shards = ("s0",) if skip else ("s0", "s1")
    return min([(await running.checkpoint(shard)).operation_seq for shard in shards]) >= sequence


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("name", COMMANDS)
async def test_it_is_done_whole_or_not_at_all(kind: str, name: str, tmp_path: Path) -> None:
    """Before or after every call, on whichever task: whoever runs the shards next finishes it, and asking again adds
    nothing.
    """
    step, needed = 0, True
    while needed:
        needed = False
        for after in (False, True):
            directory = tmp_path / f"{step}{after}"
            directory.mkdir()
            needed |= await die(kind, name, directory, step, after=after)
        step += STORES[kind]
    assert step > 4
