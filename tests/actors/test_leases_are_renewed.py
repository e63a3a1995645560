"""Shards that commit nothing renew their leases, and let go of them when others took over."""

from dataclasses import replace

import pytest

from daemon.core.commit import Commit, Committed
from daemon.core.errors import SourceUnavailable
from daemon.core.lifecycle import ShardState
from daemon.core.projection import OnError
from daemon.testing.memory_store import MemoryStore
from tests.actors.test_commit_outcomes import expected, log, totals
from tests.support.engine import FAST, counting, engine, event

pytestmark = pytest.mark.anyio

BEATING = replace(FAST, beat=0.01)


async def test_an_idle_shard_renews_its_lease_by_commits_without_rows() -> None:
    """At the end of its log a shard's stamp goes on rising, and its counters and position do not."""
    store = MemoryStore()
    async with engine(counting(), store, log(), policy=BEATING) as running:
        await running.caught_up()
        before = await running.checkpoint()
        await running.until(lambda: store.data.checkpoints[running.scope()].commit_seq > before.commit_seq + 3)
        after = await running.checkpoint()
        assert replace(after, commit_seq=0, commit_id="") == replace(before, commit_seq=0, commit_id="")
    assert totals(store) == expected()


async def test_nobody_beats_where_leases_do_not_matter() -> None:
    """Without a beat an idle shard leaves the store alone."""
    store = MemoryStore()
    async with engine(counting(), store, log()) as running:
        await running.caught_up()
        commits = len(store.commits)
        await running.caught_up()
        await running.until(lambda: len(running.observer.facts) > 0)
        assert len(store.commits) == commits


async def test_a_parked_shard_keeps_its_lease_until_another_owner_takes_it() -> None:
    """Waiting for a person a shard renews its lease; taken by another it ends as fenced and touches nothing more."""
    store, source = MemoryStore(), log()
    source.append("s0", event(201, key="k0", poison=True))
    async with engine(counting(on_error=OnError.PARK_SHARD), store, source, policy=BEATING) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        before = (await running.checkpoint()).commit_seq
        await running.until(lambda: store.data.checkpoints[running.scope()].commit_seq > before + 3)
        taken = await store.take(running.scope(), "peer/1", await running.checkpoint())
        await running.until(lambda: running.state() is ShardState.FENCED)
        assert await running.checkpoint() == taken


async def test_a_parked_shard_that_a_command_freed_is_taken_again() -> None:
    """Found without an owner and running, the shard goes on from there."""
    store, source = MemoryStore(), log()
    source.append("s0", event(201, key="k0", poison=True))
    async with engine(counting(on_error=OnError.PARK_SHARD), store, source, policy=BEATING) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        epoch, outcome = (await running.checkpoint()).epoch, None
        while not isinstance(outcome, Committed):
            now = await running.checkpoint()
            outcome = await store.commit(Commit(running.scope(), now.fence, replace(now.next("cmd"), owner=None)), 1)
        await running.until(lambda: store.data.checkpoints[running.scope()].epoch == epoch + 1)
        await running.until(lambda: running.state() is ShardState.PARKED)


async def test_a_shard_that_waits_to_restart_takes_from_no_other_owner() -> None:
    """Taken over while its log could not be read, a shard ends as fenced instead of stealing it back."""
    store, source = MemoryStore(), log()
    async with engine(counting(), store, source, policy=BEATING) as running:
        await running.caught_up()
        taken = await store.take(running.scope(), "peer/1", await running.checkpoint())
        source.problems.append(SourceUnavailable("away"))
        await running.until(lambda: running.state() is ShardState.FENCED)
        assert await running.checkpoint() == taken


async def test_a_shard_told_to_stop_while_it_waits_to_restart_is_released() -> None:
    """A peer need not wait for the lease of a shard whose log could not be read."""
    store, source = MemoryStore(), log()
    slow = replace(BEATING, retry=replace(BEATING.retry, initial_backoff=60.0, max_backoff=60.0))
    async with engine(counting(), store, source, policy=slow) as running:
        await running.caught_up()
        source.problems.append(SourceUnavailable("away"))
        await running.until(lambda: running.state() is ShardState.RETRYING)
    assert (await running.checkpoint()).owner is None
