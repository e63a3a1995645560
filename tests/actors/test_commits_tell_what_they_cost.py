"""What actors tell of commits beside their counts, and how a shard stands when somebody looks."""

from datetime import timedelta

import pytest

from daemon.core.commit import Commit, Fenced, Outcome, RowMoved
from daemon.core.errors import StoreUnavailable
from daemon.core.identity import RowKey
from daemon.core.lifecycle import ShardState
from daemon.core.positions import Position
from daemon.ports.observer import BatchCommitted, CommitRefused, ShardRestarted
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.support.engine import START_OF_TIME, counting, engine, event

pytestmark = pytest.mark.anyio


def log(*records: tuple[Position, str]) -> MemorySource:
    """A log of one shard."""
    source = MemorySource("memory")
    source.add_shard("s0")
    for position, key in records:
        source.append("s0", event(position, key, moment=START_OF_TIME + timedelta(seconds=position[0])))
    return source


async def test_a_commit_tells_its_first_event_s_time_and_which_rows_were_in_memory():
    """The oldest time is the first event's; rows met for the first time were fetched, those met again were not."""
    source = log(((1,), "a"), ((2,), "b"))
    async with engine(counting(), MemoryStore(), source) as running:
        await running.caught_up()
        source.append("s0", event(3, "a"), event(4, "c"))
        await running.until(lambda: running.supervisor.vitals()[0].settled == 4)
        facts = [fact for fact in running.observer.of(BatchCommitted) if fact.counts.get("read")]
        assert facts[0].oldest == START_OF_TIME + timedelta(seconds=1)
        assert facts[0].settled_at is not None
        assert (sum(fact.hits for fact in facts), sum(fact.misses for fact in facts)) == (1, 3)


async def test_a_refused_commit_is_told_by_its_outcome():
    """A row that moved under a commit is told once, beside the commit that followed."""

    class Moving(MemoryStore):
        moved = False

        async def commit(self, commit: Commit, attempt: int) -> Outcome:
            if commit.rows and not self.moved:
                self.moved = True
                return RowMoved(frozenset({RowKey("main", "a")}))
            return await super().commit(commit, attempt)

    async with engine(counting(), Moving(), log(((1,), "a"))) as running:
        await running.caught_up()
        assert [fact.outcome for fact in running.observer.of(CommitRefused)] == ["RowMoved"]
        assert sum(fact.counts.get("read", 0) for fact in running.observer.of(BatchCommitted)) == 1


async def test_a_lost_shard_is_told_as_a_fenced_commit():
    """A commit under an epoch that was superseded is told before the shard ends."""

    class Lost(MemoryStore):
        async def commit(self, commit: Commit, attempt: int) -> Outcome:
            return Fenced(None) if commit.rows else await super().commit(commit, attempt)

    async with engine(counting(), Lost(), log(((1,), "a"))) as running:
        await running.until(lambda: bool(running.observer.of(CommitRefused)))
        assert running.observer.of(CommitRefused)[0].outcome == "Fenced"


async def test_a_shard_s_vitals_are_how_it_stands():
    """Caught up: everything settled and at its end, nothing waiting, its rows in memory; parked: where it stands."""
    source = log(((1,), "a"), ((2,), "b"))
    async with engine(counting(), MemoryStore(), source) as running:
        await running.caught_up()
        (shard,) = running.supervisor.vitals()
        assert (shard.state, shard.at_end, shard.settled, shard.position) == (ShardState.RUNNING, True, 2, (2,))
        assert (shard.waiting, shard.batches, shard.epoch) == (0, 0, 1)
        assert shard.cached_rows == 2
        assert shard.watermark == START_OF_TIME + timedelta(seconds=2)
        assert shard.event_bytes is not None
        source.append("s0", *(event(number, "a", poison=True) for number in range(3, 30)))
        await running.until(lambda: running.state() is ShardState.PARKED)
        (shard,) = running.supervisor.vitals()
        assert (shard.state, shard.at_end, shard.settled, shard.position) == (ShardState.PARKED, False, 2, (2,))
        assert shard.event_bytes is not None
    assert list(running.supervisor.vitals()) == []


async def test_a_shard_that_cannot_be_taken_again_is_where_it_was():
    """While its store is away, a shard that settled something still tells its position: it falls behind from there."""

    class Away(MemoryStore):
        away = False

        async def _arrive(self) -> MemoryData:
            if self.away:
                raise StoreUnavailable("away")
            return await super()._arrive()

    source, store = log(((1,), "a")), Away()
    async with engine(counting(), store, source) as running:
        await running.caught_up()
        store.away = True
        source.append("s0", event(2, "b"))
        await running.until(lambda: len(running.observer.of(ShardRestarted)) > 2)
        (shard,) = running.supervisor.vitals()
        assert (shard.state, shard.position, shard.settled) == (ShardState.RETRYING, (1,), 1)
        assert not shard.at_end
        store.away = False
        await running.until(lambda: running.supervisor.vitals()[0].settled == 2)
