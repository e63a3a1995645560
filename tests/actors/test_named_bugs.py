"""Each mended mistake of the actors, by name."""

from asyncio import CancelledError
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from daemon.actors.shard import ShardActor
from daemon.actors.supervisor import Supervisor
from daemon.actors.windows import WindowMemory
from daemon.core.checkpoint import Checkpoint, CheckpointState, Fence
from daemon.core.circuit import CircuitPolicy
from daemon.core.commands import Pause, Resume
from daemon.core.commit import Busy, Commit, Committed, Outcome, Unknown
from daemon.core.errors import SourceUnavailable, StoreUnavailable
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.leases import Claim
from daemon.core.lifecycle import ShardState
from daemon.core.projection import OnError
from daemon.core.rows import StoredRow
from daemon.ports.coordinator import Assignment, Grant, Revoke
from daemon.ports.observer import ShardChanged
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.actors.test_commit_outcomes import log, totals
from tests.actors.test_supervision import two_shards
from tests.support.engine import FAST, PATIENCE_SECONDS, counting, engine, event

pytestmark = pytest.mark.anyio


async def test_a_shards_end_read_while_its_last_commit_is_in_flight_is_not_forgotten() -> None:
    """An empty last chunk waits for the commit before it, then the shard is done."""
    store, source = MemoryStore(), log(20)
    store.gate = anyio.Event()
    async with engine(counting(), store, source) as running:
        await running.until(lambda: len(store.commits) == 1)
        incarnation = running.supervisor.actors[running.scope()]
        source.end_shard("s0")
        for _ in range(50):
            await anyio.sleep(0.001)
        assert incarnation.state is ShardState.RUNNING
        store.gate.set()
        await running.until(lambda: running.state() is ShardState.DONE)
    assert sum(totals(store).values()) == 20
    assert (await running.checkpoint()).state is CheckpointState.DONE


async def test_the_circuit_remembers_failures_of_the_batch_in_flight() -> None:
    """Failures in every other batch add up to the share that parks, though the batches between are folded ahead."""
    store, source = MemoryStore(), MemorySource("memory")
    source.add_shard("s0")
    source.append("s0", *[event(i + 1, key=f"k{i % 7}", poison=i % 100 == 7) for i in range(1_000)])
    policy = replace(FAST, circuit=CircuitPolicy(max_in_a_row=3, window=1_000, max_share=0.005))
    async with engine(counting(), store, source, policy=policy) as running:
        await running.caught_up()
        assert running.state() is ShardState.PARKED
        assert (await running.checkpoint()).position == (507,)


class SlowToTake(MemoryStore):
    """A store that answers no take before `may_take` is set."""

    def __init__(self) -> None:
        """Start empty, and slow."""
        super().__init__()
        self.may_take = anyio.Event()

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, *, seen: int | None = None
    ) -> Checkpoint:
        """Take a shard, in good time."""
        await self.may_take.wait()
        return await super().take(scope, owner, initial, over, seen=seen)


async def test_a_paused_shard_can_be_drained_while_it_starts() -> None:
    """A stop that comes before the checkpoint was read meets a paused shard, and ends it like any other."""
    store, source, spec = SlowToTake(), log(20), counting()
    store.may_take.set()
    async with engine(spec, store, source) as running:
        await running.caught_up()
        await running.ask(Pause(reason="to look at it"))
        await running.until(lambda: running.state() is ShardState.PAUSED)
    store.may_take = anyio.Event()
    async with engine(spec, store, source) as again:
        await again.until(lambda: bool(again.supervisor.actors))
        again.supervisor.actors[again.scope()].ask_to_drain()
        store.may_take.set()
    assert again.state() is ShardState.DONE
    checkpoint = await again.checkpoint()
    assert (checkpoint.state, checkpoint.owner) == (CheckpointState.PAUSED, None)


class HalfBroken(MemoryStore):
    """A store with a bug that every read and take of shard `s0` meets."""

    broken = broken_reads = True

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, *, seen: int | None = None
    ) -> Checkpoint:
        """Take a shard, unless it is `s0`."""
        if self.broken and scope.shard == "s0":
            raise ZeroDivisionError
        return await super().take(scope, owner, initial, over, seen=seen)

    async def read_checkpoint(self, scope: Scope) -> Checkpoint | None:
        """Read a checkpoint, unless it is that of `s0`."""
        if self.broken and self.broken_reads and scope.shard == "s0":
            raise ZeroDivisionError
        return await super().read_checkpoint(scope)


async def test_a_bug_that_parking_meets_again_stays_inside_its_shard() -> None:
    """A shard whose parked state cannot even be written down is parked in memory, and the others go on."""
    store = HalfBroken()
    async with engine(counting(), store, two_shards()) as running:
        await running.until(lambda: bool(running.supervisor.actors))
        await running.caught_up()
        assert running.state("s0") is ShardState.PARKED
        assert "bug" in running.parked_reason("s0")
        assert (await running.checkpoint("s1")).position == (60,)


class AwayAtFirst(MemoryStore):
    """A store that is away for the first takes."""

    away = 0

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, *, seen: int | None = None
    ) -> Checkpoint:
        """Take a shard, once the store is back."""
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        return await super().take(scope, owner, initial, over, seen=seen)


async def test_a_dead_processs_shard_is_taken_although_the_store_was_away_at_the_first_try() -> None:
    """What was granted without a claim is taken from whoever owns it, until it was had once."""
    store, source = AwayAtFirst(), log(20)
    async with engine(counting(), store, source) as running:
        await running.caught_up()
        scope = running.scope()
    await store.take(scope, "killed/1", Checkpoint())
    store.away = 2
    async with engine(counting(), store, source) as again:
        await again.until(lambda: bool(again.supervisor.actors))
        await again.until(lambda: again.state() in {ShardState.RUNNING, ShardState.FENCED})
        assert again.state() is ShardState.RUNNING


class Overtaken(MemoryStore):
    """A store in which a rival takes what is being taken, once, between the look and the take."""

    rival = ""

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, *, seen: int | None = None
    ) -> Checkpoint:
        """Take a shard, behind the rival."""
        rival, self.rival = self.rival, ""
        if rival:
            await super().take(scope, rival, initial)
        return await super().take(scope, owner, initial, over, seen=seen)


async def test_a_claim_is_part_of_the_take() -> None:
    """A lease that a rival takes between the look and the take stays the rival's: the loser is fenced, and waits."""
    store, source, spec = Overtaken(), log(0), counting()
    source.add_shard("s9")
    await store.open()
    scope = Scope(spec.name, 1, "memory", "s9")
    expired = await store.take(scope, "dead/1", Checkpoint())
    store.rival = "rival/1"
    async with engine(spec, store, log(0)) as running:
        runtime = replace(running.runtime, sources={"memory": source})
        actor = ShardActor(runtime, scope, spec, WindowMemory(100), Claim(over=expired.fence))
        with anyio.fail_after(PATIENCE_SECONDS):
            assert await actor.run() is ShardState.FENCED
    stands = await store.read_checkpoint(scope)
    assert stands is not None
    assert (stands.owner, stands.epoch) == ("rival/1", expired.epoch + 1)


async def test_a_bug_met_while_a_dead_processs_shard_is_taken_parks_it() -> None:
    """A shard that was never had here, and that its last owner did not release, is parked: nobody carries on."""
    store, source = HalfBroken(), two_shards()
    async with engine(counting(), store, source) as running:
        await running.until(lambda: bool(running.supervisor.actors))
        scope = running.scope("s0")
    await MemoryStore.take(store, scope, "killed/1", Checkpoint())
    store.broken_reads = False
    async with engine(counting(), store, source) as again:
        await again.until(lambda: again.state("s0") in {ShardState.PARKED, ShardState.FENCED})
        assert again.state("s0") is ShardState.PARKED
    assert (await MemoryStore.read_checkpoint(store, scope) or Checkpoint()).owner == "killed/1"


class Throttled(MemoryStore):
    """A store whose reads of rows meet a bug, and that then puts off the next commits."""

    put_off = 1

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Fail."""
        self.faults.extend([Busy("throttled")] * self.put_off)
        raise ZeroDivisionError


@pytest.mark.parametrize("put_off", [1, 10_000])
async def test_a_shard_parked_while_the_store_puts_commits_off_stays_parked(put_off: int) -> None:
    """Parking is tried again while the store is busy, and said with the release at the latest."""
    store, source = Throttled(), log(20)
    store.put_off = put_off
    async with engine(counting(), store, source, policy=replace(FAST, commit_deadline=0.05)) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        store.faults.clear()
    checkpoint = await running.checkpoint()
    assert (checkpoint.state, checkpoint.owner) == (CheckpointState.PARKED, None)


async def test_a_bug_met_while_a_troubled_shard_is_released_stays_inside_it() -> None:
    """A shard told to stop while it waits to restart ends, although its checkpoint cannot be read."""
    store, source = HalfBroken(), two_shards()
    store.broken = False
    slow = replace(FAST, retry=replace(FAST.retry, initial_backoff=60.0, max_backoff=60.0))
    async with engine(counting(), store, source, policy=slow) as running:
        await running.until(lambda: bool(running.supervisor.actors))
        await running.caught_up()
        source.problems.append(SourceUnavailable("away"))
        await running.until(lambda: ShardState.RETRYING in {running.state("s0"), running.state("s1")})
        store.broken = True
    assert {running.state("s0"), running.state("s1")} == {ShardState.DONE}


class Scripted:
    """A coordinator that says what the test tells it."""

    def __init__(self) -> None:
        """Say nothing yet."""
        self.tell, self._told = anyio.create_memory_object_stream[Assignment](10)

    async def assignments(self) -> AsyncIterator[Assignment]:
        """Iterate what was told."""
        async with self._told:
            async for assignment in self._told:
                yield assignment

    async def released(self, scope: Scope) -> None:
        """Do nothing."""

    async def finished(self, scope: Scope) -> None:
        """Do nothing."""

    async def elsewhere(self) -> Collection[Scope]:
        """Nothing is."""
        return ()

    async def aclose(self) -> None:
        """End the assignments."""
        self.tell.close()


async def test_a_wish_to_resume_is_obeyed_once_however_often_a_shard_is_granted() -> None:
    """Parked again after it was resumed, given away and back, a shard stays parked: it needs a person again."""
    store, source = MemoryStore(), log(20)
    source.append("s0", event(21, key="k0", poison=True))
    spec, coordinator = counting(on_error=OnError.PARK_SHARD), Scripted()
    async with engine(spec, store, source) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        scope = running.scope()
    await running.ask(Resume(), wait=0.0)
    supervisor = Supervisor(running.runtime, coordinator)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        actor = None
        for _ in range(2):
            coordinator.tell.send_nowait(Grant(scope))
            await running.until(lambda before=actor: supervisor.actors.get(scope) is not before)
            actor = supervisor.actors[scope]
            await running.until(lambda actor=actor: actor.state is ShardState.PARKED)
            coordinator.tell.send_nowait(Revoke(scope, 5.0))
            await actor.finished.wait()
        await supervisor.drain(5.0)
    ran = [fact.after for fact in running.observer.of(ShardChanged)].count(ShardState.RUNNING)
    assert ran == 2, "as it parked, and as it was resumed"


async def test_a_parked_shard_that_is_to_be_resumed_is_waited_for_before_it_is_granted() -> None:
    """A run that ends once all is settled does not take a shard for stopped whose resumption was accepted already."""

    class Later(Scripted):
        looks = 0

        async def elsewhere(self) -> Collection[Scope]:
            self.looks += 1
            return [scope] if scope not in supervisor.actors else []

    store, source = MemoryStore(), log(20)
    source.append("s0", event(21, key="k0", poison=True))
    async with engine(counting(on_error=OnError.PARK_SHARD), store, source) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        scope = running.scope()
    await running.ask(Resume(), wait=0.0)
    coordinator, done = Later(), anyio.Event()
    supervisor = Supervisor(running.runtime, coordinator)

    async def caught_up() -> None:
        await supervisor.caught_up()
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        tasks.start_soon(caught_up)
        await running.until(lambda: done.is_set() or coordinator.looks > 1)
        assert not done.is_set()
        coordinator.tell.send_nowait(Grant(scope))
        await done.wait()
        await supervisor.drain(5.0)
    assert [fact.after for fact in running.observer.of(ShardChanged)].count(ShardState.RUNNING) == 2


async def test_a_commit_given_up_for_lost_that_lands_while_the_shard_is_taken_again_fences_nobody() -> None:
    """A shard that restarts with a commit in doubt goes on, though that commit comes through between look and take."""

    class Late(MemoryStore):
        """Its third commit is told of as lost, and is carried out once the shard is about to be taken again."""

        lost: Commit | None = None

        async def commit(self, commit: Commit, attempt: int) -> Outcome:
            if len(self.commits) == 2 and self.lost is None:
                self.lost = commit
            if self.lost is not None and not landed:
                return Unknown("no answer")
            return await super().commit(commit, attempt)

        async def take(self, scope: Scope, owner: str, *rest: Any, **named: Any) -> Checkpoint:
            if self.lost is not None and not landed:
                landed.append(await super().commit(self.lost, 1))
            return await super().take(scope, owner, *rest, **named)

    landed: list[Outcome] = []
    store, source = Late(), log(200)
    async with engine(counting(), store, source) as running:
        await running.caught_up()
        assert landed == [Committed()]
        assert running.state() is ShardState.RUNNING
    assert sum(totals(store).values()) == 200


class Interrupted(MemoryStore):
    """A store with a bug: reads of rows, or commits of rows, raise what is no Exception."""

    def __init__(self, kind: type[BaseException], place: str) -> None:
        """Start empty."""
        super().__init__()
        self.kind = kind
        self.place = place

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Fail, if reads do."""
        if self.place == "load":
            raise self.kind
        return await super().load_rows(generation, keys)

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        """Fail, if commits do."""
        if self.place == "commit" and commit.rows:
            raise self.kind
        return await super().commit(commit, attempt)


@pytest.mark.parametrize("place", ["load", "commit"])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, CancelledError])
async def test_what_is_no_exception_parks_its_shard_as_a_bug(kind: type[BaseException], place: str) -> None:
    """A store that exits, or raises a cancellation that nobody asked for, parks the shard and ends no daemon; the
    report names the epoch under which it happened.
    """
    store = Interrupted(kind, place)
    async with engine(counting(), store, log(20)) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        assert running.parked_reason().startswith("bug: ")
        told = [fact for fact in running.observer.of(ShardChanged) if fact.report or fact.after is ShardState.PARKED]
        assert [bool(fact.report) for fact in told] == [True, False]
        assert [fact.epoch for fact in told] == [1, 1]


async def test_a_shard_that_is_fenced_names_the_epoch_it_had() -> None:
    """The log of a first owner that another fenced says under which epoch it worked, not 0."""
    store, source = MemoryStore(), log()
    async with engine(counting(), store, source) as first:
        await first.caught_up()
        async with engine(counting(), MemoryStore(store.data), source) as second:
            await second.caught_up()
            source.append("s0", event(201, key="k0"))
            await first.until(lambda: first.state() is ShardState.FENCED)
        (told,) = [fact for fact in first.observer.of(ShardChanged) if fact.after is ShardState.FENCED]
        assert told.epoch == 1


class Slow(MemoryStore):
    """A store whose reads of rows wait until they are let through."""

    def __init__(self) -> None:
        """Start empty, and open."""
        super().__init__()
        self.through = anyio.Event()
        self.through.set()
        self.held = 0

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Answer once reads are let through."""
        self.held += 1
        await self.through.wait()
        self.held -= 1
        return await super().load_rows(generation, keys)


async def test_a_shard_whose_batch_waits_for_its_rows_has_not_settled() -> None:
    """An end that was seen before an event came counts no more, however long the store takes over the event's row."""
    store, source = Slow(), log(20)
    async with engine(counting(), store, source) as running:
        await running.caught_up()
        store.through = anyio.Event()
        source.append("s0", event(201, key="never seen"))
        await running.until(lambda: store.held == 1)
        assert not running.supervisor.actors[running.scope()].settled
        store.through.set()
        await running.caught_up()
    assert totals(store)["never seen"] == 1
