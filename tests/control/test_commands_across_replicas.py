"""Commands as operations: whichever replica is asked, each shard's owner obeys, once, and says what it did."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from daemon.core.again import Rewind
from daemon.core.checkpoint import CheckpointState
from daemon.core.commands import Drain, Pause, Restart, Resume, Skip, Target
from daemon.core.commit import Commit
from daemon.core.errors import CommandRefused, RefusalCode, SourceUnavailable, StoreRefused, StoreUnavailable
from daemon.core.identity import Generation, ShardId
from daemon.core.lifecycle import ShardState
from daemon.core.operations import Operation, Standing
from daemon.core.projection import OnError
from daemon.core.recovery import RetryPolicy
from daemon.core.reports import Answer
from daemon.ports.observer import ShardChanged, ShardRestarted
from daemon.ports.store import Store
from daemon.stores.sqlite import SqliteStore
from daemon.testing.dynamodb import StrictDynamoDb
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.support.dynamodb import inside, store_on
from tests.support.engine import ALICE, FAST, START_OF_TIME, counting, event
from tests.support.replicas import Replica, plain_fold, replica, totals

pytestmark = pytest.mark.anyio

type Shared = Callable[[], Store]
KEYS = [f"{shard}-k{number}" for shard in ("s0", "s1") for number in range(3)]


@pytest.fixture(params=["memory", "sqlite", "dynamodb"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    """Each call is one more process on the same data."""
    match request.param:
        case "sqlite":
            return lambda: SqliteStore(tmp_path / "shared.sqlite")
        case "dynamodb":
            reach = inside(StrictDynamoDb())
            return lambda: store_on(reach, "shared")
        case _:
            data = MemoryData()
            return lambda: MemoryStore(data)


@pytest.fixture
def in_memory() -> Shared:
    """Each call is one more process on the same memory."""
    data = MemoryData()
    return lambda: MemoryStore(data)


def log(*shards: str, count: int = 20) -> MemorySource:
    """A log of a few keys in each shard."""
    source = MemorySource("memory")
    for shard in shards or ("s0", "s1"):
        source.add_shard(shard)
        grow(source, shard, count)
    return source


def grow(source: MemorySource, shard: str, count: int = 1, **data: Any) -> None:
    """Let a shard grow."""
    held = source.shards_by_name[shard]
    begin = held.end[0] if held.end else 0
    for number in range(begin + 1, begin + count + 1):
        key = f"{shard}-k{number % 3}"
        source.append(shard, event(number, key, id=f"{shard}-{number}", moment=START_OF_TIME, **data))


@asynccontextmanager
async def pair(shared: Shared, source: MemorySource, **changes: Any) -> AsyncGenerator[tuple[Replica, Replica]]:
    """Two replicas, caught up: the first has shard s0, the second s1."""
    async with AsyncExitStack() as stack:
        spec = counting(**changes)
        first = await stack.enter_async_context(replica("r-1", shared(), spec, source, "s0"))
        second = await stack.enter_async_context(replica("r-2", shared(), spec, source, "s1"))
        await first.until(lambda: first.state("s0") is not None and second.state("s1") is not None)
        await first.caught_up()
        await second.caught_up()
        yield first, second


def at(shard: str) -> Target:
    """Name one shard."""
    return Target("counting", 1, "memory", shard)


# ------------------------------------------------------------------------------------------------- pause and resume


async def test_a_pause_reaches_the_shards_of_every_replica_and_lasts(shared: Shared) -> None:
    """Asked of one replica, shards of both stand still, say so, and commit nothing until one is asked to resume."""
    source = log()
    async with pair(shared, source) as (first, second):
        answer = await first.ask(Pause(reason="migration"))
        assert (answer.done, answer.pending, answer.refused) == (2, 0, 0)
        assert all("everything up to 20 is committed" in shard.detail for shard in answer.shards)
        await first.until(lambda: (first.state("s0"), second.state("s1")) == (ShardState.PAUSED, ShardState.PAUSED))
        for shard in ("s0", "s1"):
            grow(source, shard, 10)
        checkpoint = await second.checkpoint("s1")
        assert (checkpoint.state, checkpoint.position) == (CheckpointState.PAUSED, (20,))
        assert checkpoint.reason == "paused by alice@web-1 (operation 1): migration"
        assert checkpoint.since is not None
        answer = await second.ask(Resume())
        assert answer.done == 2
        await first.caught_up()
        await second.caught_up()
        assert await totals(first.line.store, KEYS) == plain_fold(source)


async def test_a_paused_shard_stays_paused_whoever_takes_it_next(shared: Shared) -> None:
    """The state is the checkpoint's: another replica that takes the shard obeys it."""
    source, spec = log("s0"), counting()
    async with replica("r-1", shared(), spec, source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        assert (await first.ask(Pause(at("s0")))).done == 1
    async with replica("r-2", shared(), spec, source, "s0") as second:
        await second.until(lambda: second.state("s0") is ShardState.PAUSED)
        assert (await second.ask(Resume(at("s0")))).done == 1
        await second.caught_up()
        assert await totals(second.line.store, KEYS) == plain_fold(source)


async def test_a_shard_that_was_never_started_begins_as_it_was_asked_to(shared: Shared) -> None:
    """A pause is answered for shards that nobody has taken yet; whoever takes one finds it paused."""
    source, spec = log(), counting()
    async with replica("r-1", shared(), spec, source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        answer = await first.ask(Pause())
        said = {shard.scope.shard: (shard.status, shard.detail) for shard in answer.shards}
        assert said["s1"] == ("done", "was never started; it will begin paused")
        source.add_shard("s2")
        grow(source, "s2", 5)
        first.grant("s1", "s2")
        await first.until(lambda: first.state("s1") is ShardState.PAUSED and first.state("s2") is ShardState.PAUSED)
        assert (await first.checkpoint("s2")).reason == "paused by alice@web-1 (operation 1)"
        assert (await first.ask(Resume(at("s1")))).done == 1
        await first.until(lambda: first.state("s1") is ShardState.RUNNING)
        assert (await first.ask(Pause())).done == 3


@pytest.mark.parametrize("before", [0, 5])
async def test_what_is_asked_while_a_shard_is_taken_is_obeyed_before_it_folds(before: int) -> None:
    """A command accepted between the look and the take is met by the take itself, not by a later look."""
    data, source, spec = MemoryData(), log("s0", count=before), counting()
    for _ in range(bool(before)):
        async with replica("r-0", MemoryStore(data), spec, source, "s0") as earlier:
            await earlier.until(lambda: earlier.state("s0") is not None)
            await earlier.caught_up()
    grow(source, "s0", 10)

    def ask_meanwhile(name: str, _args: Any) -> None:
        if name == "take" and not data.operations:
            shard = ShardId("memory", "s0")
            asked = Operation(Generation("counting", 1), 1, "x", "pause", {}, None, (shard,), ALICE, START_OF_TIME)
            data.operations[asked.generation] = [asked]
            data.standings[asked.generation] = Standing().after(asked)

    never_looks = replace(FAST, operations_poll=3600.0)
    async with replica("r-1", MemoryStore(data), spec, source, policy=never_looks) as first:
        first.line.refuses = ask_meanwhile
        first.grant("s0")
        await first.until(lambda: first.state("s0") is ShardState.PAUSED)
        assert (await first.checkpoint("s0")).position == ((before,) if before else ())


async def test_a_shard_of_a_dead_replica_is_pending_until_another_takes_it(in_memory: Shared) -> None:
    """What nobody can obey now is told as pending, and why; whoever takes the shard obeys before it folds anything."""
    source, spec = log(), counting()
    async with replica("r-1", in_memory(), spec, source, "s0") as first:
        async with replica("r-2", in_memory(), spec, source, "s1") as second:
            await second.until(lambda: second.state("s1") is not None)
            await second.caught_up()
            second.line.arm(0, after=False)
            with anyio.fail_after(5):
                await anyio.sleep_forever()
        answer = await first.ask(Pause(), request="p", wait=0.3)
        said = {shard.scope.shard: (shard.status, shard.detail) for shard in answer.shards}
        assert said["s1"] == ("pending", "replica r-2 owns it and has not obeyed yet")
        grow(source, "s1", 10)
        first.grant("s1")
        again = await first.ask(Pause(), request="p")
        assert (again.done, again.repeated) == (2, True)
        assert (await first.checkpoint("s1")).position == (20,)


async def test_a_shard_that_restarts_over_and_over_is_paused_at_once(shared: Shared) -> None:
    """A shard that waits for its next try obeys without waiting it out; a restart is obeyed as quickly."""
    source = log("s0")
    slow = RetryPolicy(initial_backoff=60.0, max_backoff=60.0, unknown_window=0.05, max_restarts=3)
    async with replica("r-1", shared(), counting(), source, "s0", policy=replace(FAST, retry=slow)) as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        source.problems.append(SourceUnavailable("connection refused"))
        grow(source, "s0", 5)
        await first.until(lambda: first.state("s0") is ShardState.RETRYING)
        assert (await first.ask(Pause())).done == 1
        await first.until(lambda: first.state("s0") is ShardState.PAUSED)
        source.problems.append(SourceUnavailable("connection refused"))
        assert (await first.ask(Resume())).done == 1
        await first.until(lambda: first.state("s0") is ShardState.RETRYING)
        assert (await first.ask(Restart(at("s0")))).done == 1
        await first.caught_up()
        assert await totals(first.line.store, KEYS) == plain_fold(source)


async def test_resuming_a_running_shard_is_forgotten_at_once(in_memory: Shared) -> None:
    """It is answered, and a shard that parks later needs a person again."""
    source = log("s0")
    async with replica("r-1", in_memory(), counting(on_error=OnError.PARK_SHARD), source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        answer = await first.ask(Resume())
        assert [shard.detail for shard in answer.shards] == ["was running already"]
        epoch = (await first.checkpoint("s0")).epoch
        grow(source, "s0", 1, poison=True)
        await first.until(lambda: first.state("s0") is ShardState.PARKED)
        await first.until(lambda: first.observer.of(ShardChanged)[-1].after is ShardState.PARKED)
        checkpoint = await first.checkpoint("s0")
        assert (checkpoint.state, checkpoint.epoch, checkpoint.stuck_at) == (CheckpointState.PARKED, epoch, (21,))


# ------------------------------------------------------------------------------------------------ drain and restart


@pytest.mark.parametrize(("command", "through"), [(Drain(), 30), (Pause(), 25)])
async def test_a_drain_commits_what_was_read_and_a_pause_what_is_in_flight(
    shared: Shared, command: Pause | Drain, through: int
) -> None:
    """Both wait for the commit in flight; a drain folds what was read behind it too, and nothing that comes later."""
    source = log("s0")
    busy = True

    def refuse(name: str, args: Any) -> None:
        if busy and name == "commit" and args[0].rows:
            raise StoreUnavailable("not now")

    async with replica("r-1", shared(), counting(), source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        first.line.refuses = refuse
        actor = first.supervisor.actors[first.scope("s0")]
        grow(source, "s0", 5)
        await first.until(lambda: actor.vitals().batches == 1)
        grow(source, "s0", 5)
        await first.until(lambda: actor.vitals().batches + bool(actor.vitals().waiting) == 2)
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await first.ask(command))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await first.until(lambda: bool(first.told(actor)))
            grow(source, "s0", 5)
            busy = False
        assert [shard.detail for shard in answers[0].shards] == [
            f"stands still; everything up to {through} is committed"
        ]
        verb = "drained" if isinstance(command, Drain) else "paused"
        assert (await first.checkpoint("s0")).reason == f"{verb} by alice@web-1 (operation 1)"


async def test_a_restart_takes_the_shard_anew_and_leaves_a_paused_one_alone(shared: Shared) -> None:
    """A running shard rises by one epoch and goes on; what a person paused stays paused."""
    source = log()
    async with pair(shared, source) as (first, second):
        before = await second.checkpoint("s1")
        await first.ask(Pause(at("s0")))
        answer = await first.ask(Restart())
        said = {shard.scope.shard: shard.detail for shard in answer.shards}
        assert "stays so" in said["s0"]
        assert said["s1"] == "starts afresh after 20"
        grow(source, "s1", 10)
        await second.until(lambda: second.state("s1") is ShardState.RUNNING)
        await second.caught_up()
        after = await second.checkpoint("s1")
        assert (after.epoch, after.position) == (before.epoch + 1, (30,))
        assert (await first.checkpoint("s0")).state is CheckpointState.PAUSED


# ------------------------------------------------------------------------------------------- operators, ids, conflicts


async def test_of_two_operators_at_once_the_later_one_prevails_everywhere(shared: Shared) -> None:
    """Commands that meet are put in one order, which every shard obeys."""
    source = log()
    async with pair(shared, source) as (first, second):
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first.ask, Pause())
                tasks.start_soon(second.ask, Resume())
            newest = (await first.line.store.operations(first.scope("s0").of, 0, 100))[-1]
            wanted = CheckpointState.PAUSED if newest.name == "pause" else CheckpointState.RUNNING
            checkpoints = [await first.checkpoint("s0"), await first.checkpoint("s1")]
            assert [one.state for one in checkpoints] == [wanted, wanted]
            assert {one.operation_seq for one in checkpoints} == {newest.sequence}


async def test_a_request_sent_twice_is_done_once(shared: Shared) -> None:
    """The same id is one operation, sent again later or to two replicas at once; for another command it is refused."""
    source = log()
    async with pair(shared, source) as (first, second):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.ask, Pause(), "one")
            tasks.start_soon(second.ask, Pause(), "one")
        again = await second.ask(Pause(), "one")
        assert (again.done, again.repeated) == (2, True)
        assert len(await first.line.store.operations(first.scope("s0").of, 0, 10)) == 1
        with pytest.raises(CommandRefused, match="request one was another command") as refused:
            await first.ask(Resume(), "one")
        assert refused.value.code is RefusalCode.CONFLICT


async def test_a_command_that_another_excludes_is_refused_by_name(in_memory: Shared) -> None:
    """While a skip waits for its shard, no other skip of that shard is accepted; one of another shard is."""
    source, spec = log(), counting()
    async with replica("r-1", in_memory(), spec, source, "s0", "s1") as first:
        await first.until(lambda: len(first.supervisor.actors) == 2)
        await first.caught_up()
    for shard in ("s0", "s1"):
        grow(source, shard, 5)
    async with replica("r-2", in_memory(), spec, source) as second:
        answer = await second.ask(Skip(at("s0"), (21,)), wait=0.0)
        assert [(one.status, one.detail) for one in answer.shards] == [
            ("pending", "nobody owns it now; whoever takes it obeys")
        ]
        with pytest.raises(CommandRefused, match=r"skip has to wait: skip \(operation 1\) is under way") as refused:
            await second.ask(Skip(at("s0"), (22,)), wait=0.0)
        assert refused.value.code is RefusalCode.CONFLICT
        assert (await second.ask(Skip(at("s1"), (22,)), wait=0.0)).pending == 1
        second.grant("s0", "s1")
        await second.until(lambda: len(second.supervisor.actors) == 2)
        await second.caught_up()
        assert (await second.ask(Pause(at("s0")))).done == 1
        grow(source, "s0", 5)
        assert (await second.ask(Skip(at("s0"), (26,)))).done == 1
        assert (await second.ask(Resume())).done == 2
        await second.caught_up()
        gone = {("s0", 21), ("s1", 21), ("s1", 22), ("s0", 26)}
        assert await totals(second.line.store, KEYS) == plain_fold(source, gone)


async def test_a_rewind_waits_for_the_one_under_way(shared: Shared) -> None:
    """Asked of the other replica, while a range is delivered again and until that ends; a pause excludes nothing."""
    source, held = log(), True

    def refuse(name: str, args: Any) -> None:
        if held and name == "commit":
            cursor = args[0].checkpoint.redelivery
            if cursor is not None and cursor.position > cursor.after:
                raise StoreUnavailable("not now")

    async with pair(shared, source) as (first, second):
        first.line.refuses = refuse
        told: list[object] = []
        begun = await first.control.change(Rewind(at("s0"), "earliest"), ALICE, "first", told.append)
        assert [shard.status for shard in begun.shards] == ["underway"]
        with pytest.raises(CommandRefused, match=r"rewind has to wait: rewind \(operation 1\) is under way") as refused:
            await second.ask(Rewind(Target("counting"), "earliest"))
        assert refused.value.way_out.endswith("or end it: projectionctl replay abort counting-g1")
        with pytest.raises(CommandRefused, match="skip has to wait"):
            await second.ask(Skip(at("s0"), (21,)))
        assert (await second.ask(Pause(at("s1")))).done == 1
        held = False
        assert (await second.ask(Rewind(at("s0"), "earliest"), "first")).done == 1
        assert (await second.ask(Rewind(at("s0"), "earliest"))).done == 1
        assert await totals(first.line.store, KEYS) == plain_fold(source)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("sales", "there is no projection"),
        ("counting-g7", "no generation 7"),
        ("counting:memory/s9", "follows no shard"),
    ],
)
async def test_what_names_nothing_is_refused_with_what_there_is(in_memory: Shared, target: str, said: str) -> None:
    """A mistyped name changes nothing, and the answer lists the names there are."""
    async with replica("r-1", in_memory(), counting(), log("s0"), "s0") as first:
        with pytest.raises(CommandRefused, match=said) as refused:
            await first.ask(Pause(Target.of(target)))
        assert refused.value.code is RefusalCode.NOT_FOUND
        assert await first.line.store.operations(first.scope("s0").of, 0, 10) == []


async def test_every_one_of_256_shards_answers(in_memory: Shared) -> None:
    """A command about everything is answered by each shard."""
    names = [f"s{number}" for number in range(256)]
    source = log(*names, count=2)
    async with replica("r-1", in_memory(), counting(), source, *names) as first:
        await first.until(lambda: len(first.supervisor.actors) == len(names))
        answer = await first.ask(Pause())
        assert (answer.done, len(answer.shards)) == (256, 256)
        assert {one.position for one in (await first.control.landscape.find(Target()))[0].checkpoints.values()} <= {
            (), (1,), (2,),
        }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ skip


async def test_a_crash_loop_is_left_by_skipping_its_event(shared: Shared) -> None:
    """The position that is shown is skipped, counted, and kept as a range; everything else is folded."""
    source = log("s0")

    def refuse(name: str, args: Any) -> None:
        if name == "commit" and isinstance(args[0], Commit):
            keys = {write.key.key for write in args[0].rows}
            if "bad" in keys:
                raise StoreRefused("no")

    often = RetryPolicy(initial_backoff=0.001, max_backoff=0.002, unknown_window=0.05, max_restarts=100_000)
    async with replica("r-1", shared(), counting(), source, "s0", policy=replace(FAST, retry=often)) as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        first.line.refuses = refuse
        source.append("s0", event(21, "bad", id="s0-21"))
        await first.until(lambda: len(first.observer.of(ShardRestarted)) > 3)
        status = await first.control.reading.shards(at("s0"))
        assert status.shards[0].stuck_at in {"21", None}
        answer = await first.ask(Skip(at("s0"), (21,), standing=(20,)))
        assert [shard.detail for shard in answer.shards] == ["skipped 1 events, after 20 up to 21"]
        grow(source, "s0", 5)
        await first.until(lambda: first.state("s0") is ShardState.RUNNING)
        await first.caught_up()
        assert await totals(first.line.store, [*KEYS, "bad"]) == plain_fold(source, {("s0", 21)})
        (skipped,) = (await first.line.store.waiting(first.scope("s0"))).skipped
        assert (skipped.after, skipped.through, skipped.counted) == ((20,), (21,), True)
        assert skipped.note == "skipped by alice@web-1 (operation 1)"
        counters = (await first.checkpoint("s0")).counters
        assert (counters["read"], counters["applied"], counters["skipped"]) == (26, 25, 1)


async def test_a_parked_shard_goes_on_behind_what_is_skipped(shared: Shared) -> None:
    """The status names the event and the command; obeying it, a parked shard runs again."""
    source = log("s0")
    async with replica("r-1", shared(), counting(on_error=OnError.PARK_SHARD), source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        grow(source, "s0", 1, poison=True)
        grow(source, "s0", 4)
        await first.until(lambda: first.state("s0") is ShardState.PARKED)
        (shard,) = (await first.control.reading.shards(Target())).shards
        assert shard.stuck_at == "21"
        assert shard.leave is not None
        assert "projectionctl skip counting-g1 memory/s0 --position 21" in shard.leave
        assert (await first.ask(Skip(at("s0"), (21,)))).done == 1
        await first.until(lambda: first.state("s0") is ShardState.RUNNING)
        await first.caught_up()
        assert await totals(first.line.store, KEYS) == plain_fold(source, {("s0", 21)})


@pytest.mark.parametrize(
    ("position", "said"),
    [
        (15, "at or past 15; nothing is skipped"),
        (24, "no event stands at 24; the last one before it is the one at 23"),
        (99, "the log does not reach 99 yet; its last event is the one at 26"),
    ],
)
async def test_a_skip_to_where_no_event_stands_is_refused(in_memory: Shared, position: int, said: str) -> None:
    """A mistyped position moves nothing."""
    source, spec = log("s0"), counting()
    async with replica("r-1", in_memory(), spec, source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        await first.ask(Pause())
        grow(source, "s0", 3)
        source.advance("s0", (25,))
        grow(source, "s0", 1)
        answer = await first.ask(Skip(at("s0"), (position,)))
        (shard,) = answer.shards
        assert (shard.status, answer.refused) == ("refused", 1)
        assert said in shard.detail
        assert (await first.checkpoint("s0")).position == (20,)


async def test_a_skip_of_a_shard_that_moved_on_is_refused(in_memory: Shared) -> None:
    """What was shown no longer holds: nothing is skipped, when the command comes and when it is obeyed."""
    source, spec = log("s0"), counting()
    async with replica("r-1", in_memory(), spec, source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        grow(source, "s0", 5)
        await first.caught_up()
        with pytest.raises(CommandRefused, match="stands at 25, not at 20"):
            await first.ask(Skip(at("s0"), (26,), standing=(20,)))
    grow(source, "s0", 5)
    async with replica("r-2", in_memory(), spec, source) as second:
        asked = await second.ask(Skip(at("s0"), (27,)), request="s", wait=0.0)
        assert asked.pending == 1
        checkpoint = await second.checkpoint("s0")
        moved = replace(checkpoint.next("by hand"), position=(26,))
        await second.line.store.commit(Commit(second.scope("s0"), checkpoint.fence, moved), 1)
        second.grant("s0")
        answer = await second.ask(Skip(at("s0"), (27,)), request="s")
        assert [shard.detail for shard in answer.shards] == ["it moved on from 25 to 26; look again, then decide"]
        await second.caught_up()


async def test_a_skip_asked_for_again_is_known_though_its_shard_moved_on(in_memory: Shared) -> None:
    """Whoever lost the answer asks again from where the shard is seen now: it is the same request, and done once."""
    source, spec = log("s0"), counting()
    async with replica("r-1", in_memory(), spec, source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
        await first.ask(Pause())
        grow(source, "s0", 5)
        assert (await first.ask(Skip(at("s0"), (23,), standing=(20,)), "lost")).done == 1
        again = await first.ask(Skip(at("s0"), (23,), standing=(23,)), "lost")
        assert (again.done, again.repeated) == (1, True)
        with pytest.raises(CommandRefused, match="request lost was another command"):
            await first.ask(Skip(at("s0"), (24,), standing=(23,)), "lost")


async def test_a_log_that_was_lost_is_left_behind(in_memory: Shared) -> None:
    """Where the log no longer reaches back, a skip to where it begins lets the shard go on, its count unknown."""
    source, spec = log("s0"), counting()
    async with replica("r-1", in_memory(), spec, source, "s0") as first:
        await first.until(lambda: first.state("s0") is not None)
        await first.caught_up()
    grow(source, "s0", 10)
    source.trim("s0", (25,))
    async with replica("r-1", in_memory(), spec, source, "s0") as first:
        await first.until(lambda: first.state("s0") is ShardState.PARKED)
        short = await first.ask(Skip(at("s0"), (23,)))
        assert "the log cannot be read after 23 either" in short.shards[0].detail
        answer = await first.ask(Skip(at("s0"), (25,)))
        assert answer.shards[0].detail == "skipped an unknown number of events, after 20 up to 25"
        await first.until(lambda: first.state("s0") is ShardState.RUNNING)
        await first.caught_up()
        checkpoint = await first.checkpoint("s0")
        assert (checkpoint.position, checkpoint.counters["read"]) == ((30,), 25)
        (skipped,) = (await first.line.store.waiting(first.scope("s0"))).skipped
        assert not skipped.counted
