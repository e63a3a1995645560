"""Status, shards, lag, audit and explain: what a replica says of its own shards, of others', and of what was asked."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from daemon.core.commands import Audit, Explain, Lag, Pause, Resume, Shards, Skip, Status, Target, Top
from daemon.core.errors import SourceUnavailable
from daemon.core.lifecycle import ShardState
from daemon.core.projection import Dedup, OnError
from daemon.core.recovery import RetryPolicy
from daemon.core.reports import AuditReport, Explanation, LagReport, ShardsReport, StatusReport, TopRow
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.support.engine import ALICE, FAST, counting, event
from tests.support.replicas import Replica, replica

pytestmark = pytest.mark.anyio


def log(*shards: str, count: int = 20) -> MemorySource:
    """A log of a few keys in each shard."""
    source = MemorySource("memory")
    for shard in shards:
        source.add_shard(shard)
        source.append(shard, *[event(at, f"{shard}-k{at % 3}", id=f"{shard}-{at}") for at in range(1, count + 1)])
    return source


async def asked(running: Replica, query: Any) -> Any:
    """Ask a query, as the socket does."""
    told: list[object] = []
    return await running.control.run(query, ALICE, "q", told.append)


async def test_a_parked_shard_says_why_since_when_where_and_what_leaves_it() -> None:
    """Whoever is asked: the replica that runs it, and one that only sees its checkpoint."""
    data, source, spec = MemoryData(), log("s0", "s1"), counting(on_error=OnError.PARK_SHARD)
    source.append("s0", event(21, "s0-k0", poison=True))
    async with (
        replica("r-1", MemoryStore(data), spec, source, "s0") as first,
        replica("r-2", MemoryStore(data), spec, source, "s1") as second,
    ):
        await first.until(lambda: first.state("s0") is ShardState.PARKED)
        await second.until(lambda: second.state("s1") is not None)
        await second.caught_up()
        for one in (first, second):
            report: StatusReport = await asked(one, Status())
            (projection,) = report.projections
            assert (projection.shards, projection.states) == (2, {"parked": 1, "running": 1})
            (stuck,) = projection.stuck
            assert (stuck.scope.shard, stuck.replica, stuck.here) == ("s0", "r-1", one is first)
            assert stuck.why is not None
            assert "poison" in stuck.why
            assert stuck.since is not None
            assert abs((report.at - stuck.since).total_seconds()) < 30
            assert (stuck.position, stuck.stuck_at) == ("20", "21")
            assert stuck.leave == (
                "projectionctl resume counting-g1:memory/s0 (once mended); or, to pass over that event: "
                "projectionctl skip counting-g1 memory/s0 --position 21"
            )
        shards: ShardsReport = await asked(second, Shards(Target("counting", 1, "memory", "s1")))
        assert [(one.scope.shard, one.state, one.caught_up, one.why) for one in shards.shards] == [
            ("s1", "running", True, None)
        ]


async def test_a_crash_loop_says_what_stops_it_and_when_it_is_tried_again() -> None:
    """A shard between two tries tells the error, how often it was tried, and the wait."""
    source = log("s0")
    slow = RetryPolicy(initial_backoff=60.0, max_backoff=60.0, unknown_window=0.05, max_restarts=3)
    async with replica("r-1", MemoryStore(), counting(), source, "s0", policy=replace(FAST, retry=slow)) as running:
        await running.until(lambda: running.state("s0") is not None)
        await running.caught_up()
        source.problems.append(SourceUnavailable("connection refused"))
        source.append("s0", event(21, "s0-k0"))
        await running.until(lambda: running.state("s0") is ShardState.RETRYING)
        (projection,) = (await asked(running, Status())).projections
        (stuck,) = projection.stuck
        assert (stuck.state, stuck.why, stuck.restarts) == ("retrying", "connection refused", 1)
        assert stuck.retry_seconds is not None
        assert 20 < stuck.retry_seconds <= 30
        assert stuck.leave == "projectionctl restart counting-g1:memory/s0 (tries again at once)"


async def test_a_pause_of_everything_shows_and_what_is_pending_does() -> None:
    """What all shards are to do, those that start later too, stands with the projection."""
    data, source, spec = MemoryData(), log("s0"), counting()
    async with replica("r-1", MemoryStore(data), spec, source, "s0") as running:
        await running.until(lambda: running.state("s0") is not None)
        await running.caught_up()
    async with replica("r-2", MemoryStore(data), spec, source) as other:
        await other.ask(Pause(reason="migration"), wait=0.0)
        (projection,) = (await asked(other, Status())).projections
        assert projection.paused == "paused by alice@web-1 (operation 1): migration"
        (stuck,) = projection.stuck
        assert (stuck.state, stuck.pending) == ("released", (1,))
        await other.ask(Skip(Target("counting", 1, "memory", "s0"), (20,)), wait=0.0)
        (projection,) = (await asked(other, Status())).projections
        assert (projection.newest, projection.underway) == (2, ("skip (operation 2)",))


async def test_the_audit_tells_who_asked_for_what_and_what_came_of_it() -> None:
    """Newest first: who, from where, when, the arguments, and each shard before and after."""
    source = log("s0")
    async with replica("r-1", MemoryStore(), counting(), source, "s0") as running:
        await running.until(lambda: running.state("s0") is not None)
        await running.caught_up()
        await running.ask(Pause(reason="look"), "first")
        await running.ask(Resume(Target("counting", 1, "memory", "s0")), "second")
        report: AuditReport = await asked(running, Audit(limit=10))
        resumed, paused = report.entries
        assert (resumed.command, resumed.request, resumed.target) == ("resume", "second", "counting-g1:memory/s0")
        assert (paused.command, paused.arguments, paused.by) == ("pause", {"reason": "look"}, ALICE)
        assert (paused.target, paused.done, paused.pending, paused.refused) == ("counting-g1", 1, 0, 0)
        (shard,) = paused.shards
        assert (shard.before["state"], shard.after["state"]) == ("running", "paused")
        assert (shard.before["position"], shard.replica) == ("20", "r-1")
        assert (await asked(running, Audit(limit=1))).entries == (resumed,)


async def test_lag_counts_what_waits_and_tells_the_rate() -> None:
    """A shard that stands still lags by what its log grew; one that caught up by nothing."""
    source = log("s0", "s1")
    async with replica("r-1", MemoryStore(), counting(), source, "s0", "s1") as running:
        await running.until(lambda: len(running.supervisor.actors) == 2)
        await running.caught_up()
        await running.ask(Pause(Target("counting", 1, "memory", "s0")))
        source.append("s0", *[event(at, "s0-k0") for at in range(21, 31)])
        report: LagReport = await asked(running, Lag())
        still, quick = report.shards
        assert (still.state, still.position, still.end, still.events) == ("paused", "20", "30", 10)
        assert still.seconds is not None
        assert still.seconds > 0
        assert (quick.events, quick.seconds, quick.eta_seconds) == (0, 0.0, 0.0)
        rows: list[object] = []
        with anyio.move_on_after(0.5):
            await running.control.run(Top(interval=0.1), ALICE, "q", rows.append)
        assert len(rows) >= 2
        assert all(isinstance(row, TopRow) and len(row.shards) == 2 for row in rows)


@pytest.mark.parametrize(("dedup", "marked"), [(Dedup.EVENT, "found"), (Dedup.SHARD, "not kept")])
async def test_a_row_tells_the_event_that_last_touched_it(dedup: Dedup, marked: str) -> None:
    """Shard, position, event and marker of a row; a row that is not there says so."""
    source = log("s0")
    async with replica("r-1", MemoryStore(), counting(dedup=dedup), source, "s0") as running:
        await running.until(lambda: running.state("s0") is not None)
        await running.caught_up()
        found: Explanation = await asked(running, Explain(Target("counting"), "s0-k2"))
        (row,) = found.rows
        assert (row.present, row.source, row.shard, row.position, row.event_id) == (True, "memory", "s0", "20", "s0-20")
        assert (row.src, row.marked, row.at_or_below, row.parked) == ("memory/s0@20#s0-20", marked, True, False)
        (row,) = (await asked(running, Explain(Target("counting"), "nobody"))).rows
        assert (row.present, row.deleted, row.version, row.position) == (False, False, None, None)
