"""A real Prometheus scrapes the demonstration's daemon, and one in trouble, and is asked what operators ask."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from anyio import to_thread

from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.demo.report import FOLLOWED, counts_of
from daemon.demo.services.prometheus import Prometheus
from daemon.ports.observer import BatchCommitted, EventsDeadLettered, ShardChanged, UnitsConsumed
from daemon.ports.vitals import ShardVitals
from daemon.telemetry.backlog import Lag
from daemon.telemetry.exposition import Sights
from daemon.telemetry.health import Phase, Thresholds
from daemon.telemetry.reference import QUESTIONS
from daemon.telemetry.site import Place, TelemetrySite
from daemon.testing.clock import VirtualClock
from tests.support.daemons import Site
from tests.support.prometheus import Asked

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAYMENTS = Generation("payments", 3)
_SCRAPE_SECONDS = 0.25
_SHARDS = 3


def shard(number: int) -> Scope:
    """Name a shard of the daemon in trouble."""
    return Scope("payments", 3, "ledger", f"ledger-{number}")


@asynccontextmanager
async def in_trouble() -> AsyncGenerator[str]:
    """A daemon of which all is known: one shard was lost to another replica, one is parked and about to lose data."""
    clock = VirtualClock(start=NOW, manual=True)
    silent = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    site = TelemetrySite(Place("127.0.0.1", 0), Thresholds(), clock, silent)
    for number in range(_SHARDS):
        counts = {"read": 1_000, "applied": 889, "dead_lettered": 11, "duplicate_marker": 60, "duplicate_version": 40}
        units = {"wcu:rows": 1_500.0, "wcu:markers": 400.0, "wcu:state": 100.0, "rcu:rows": 50.0}
        site.recorder.see(BatchCommitted(shard(number), (999,), 7, counts, 90, 0.02, NOW, units, hits=75, misses=25))
    site.recorder.see(UnitsConsumed(PAYMENTS, {"rcu:rows": 25.0}))
    site.recorder.see(ShardChanged(shard(0), ShardState.RUNNING, ShardState.FENCED, "another owner carries on", 7))
    site.recorder.see(EventsDeadLettered(shard(1), {"handler-raised": 11}))
    parked = ShardVitals(shard(1), ShardState.PARKED, 7, (999,), NOW - timedelta(seconds=600), settled=3_000)
    behind = ShardVitals(shard(2), ShardState.RUNNING, 7, (999,), NOW - timedelta(seconds=30), settled=5_000)
    lags = {shard(1): Lag(1_500, loss=5 * 3_600.0), shard(2): Lag(500, catch_up=20.0, loss=90 * 3_600.0)}
    site.exposition.sights = Sights(lambda: [parked, behind], lambda one: lags[one.scope], generations={PAYMENTS: 2})
    site.health.phase = Phase.RUNNING
    await site.open()
    try:
        yield f"127.0.0.1:{site.listener.port}"
    finally:
        await site.aclose()


async def test_ten_questions_have_the_answers_that_are_known(demo_site: Site) -> None:
    """The demonstration's events, its duplicates by layer, commits and lag, and another daemon's lost shard, dead
    letters, units and coming loss of data: Prometheus answers with the numbers that the manifest and the test know.
    """
    daemon = demo_site.start(METRICS__ENABLED="true", METRICS__PORT="0", METRICS__BACKLOG_INTERVAL_SECONDS="0.2")
    async with in_trouble() as troubled:
        demo = await to_thread.run_sync(daemon.metrics_address)
        prometheus = Prometheus([demo, troubled], _SCRAPE_SECONDS)
        await to_thread.run_sync(prometheus.start)
        try:
            asked = Asked(prometheus)
            await asked.until('sum(projectiond_events_read_total{source!="ledger"})', demo_site.total)
            await asked.until('sum(projectiond_lag_events{source!="ledger"})', 0)
            await asked.until("count(projectiond_ready == 1)", 2)
            await questions(asked, demo_site, demo, troubled)
            for _, expression in QUESTIONS:
                await asked.ask(expression)  # those of the page are understood as they stand
        finally:
            await to_thread.run_sync(prometheus.close)
    daemon.terminate()
    ended = await to_thread.run_sync(daemon.wait)
    assert ended.code == 0


async def questions(asked: Asked, site: Site, demo: str, troubled: str) -> None:
    """Ask them."""
    look = site.look()
    known = {followed.projection: counts_of(site.manifest, followed, look) for followed in FOLLOWED}

    # 1. What was read and applied, by projection?
    for name in ("read", "applied"):
        expected = {(projection,): float(counts.expected[name]) for projection, counts in known.items()}
        expected["payments",] = {"read": 3_000.0, "applied": 2_667.0}[name]
        assert await asked.ask(f"sum by (projection) (projectiond_events_{name}_total)", "projection") == expected

    # 2. Which share is duplicate, by layer?
    share = (
        "sum by (projection, layer) (projectiond_events_duplicate_total) / on (projection) group_left"
        " sum by (projection) (projectiond_events_read_total)"
    )
    found = await asked.ask(share, "projection", "layer")
    assert found["payments", "consumer"] == pytest.approx(0.06)
    assert found["payments", "projection"] == pytest.approx(0.04)
    for projection, counts in known.items():
        for layer, proofs in (("consumer", ("position", "marker")), ("projection", ("version",))):
            duplicates = sum(counts.expected[f"duplicate_{proof}"] for proof in proofs)
            assert found[projection, layer] == pytest.approx(duplicates / counts.expected["read"])
    assert sum(value > 0 for value in found.values()) == len(FOLLOWED) + 2

    # 3. How far is each projection behind?
    lags = await asked.ask("sum by (projection) (projectiond_lag_events)", "projection")
    assert lags == {(projection,): 0.0 for projection in known} | {("payments",): 2_000.0}
    ages = await asked.ask("max by (projection) (projectiond_lag_seconds)", "projection")
    assert ages == {(projection,): 0.0 for projection in known} | {("payments",): 600.0}

    # 4. Who is about to lose data, within six hours?
    losing = await asked.ask("projectiond_time_to_data_loss_seconds < 6 * 3600", "projection", "shard")
    assert losing == {("payments", "ledger-1"): 5 * 3_600.0}

    # 5. What does an event cost, in write units?
    cost = await asked.ask(
        'sum by (projection) (projectiond_store_units_total{operation="write"})'
        " / sum by (projection) (projectiond_events_read_total) > 0",
        "projection",
    )
    assert cost == {("payments",): 2.0}

    # 6. Which replicas lost shards to others?
    fenced = await asked.ask("sum by (instance) (projectiond_shard_fenced_total) > 0", "instance")
    assert fenced == {(troubled,): 1.0}

    # 7. Which shards wait for a person, and how many run?
    parked = await asked.ask('projectiond_shard_state{state="parked"} == 1', "projection", "shard")
    assert parked == {("payments", "ledger-1"): 1.0}
    running = await asked.ask('sum by (instance) (projectiond_shard_state{state="running"})', "instance")
    assert running == {(demo,): float(len(look.shards)), (troubled,): 1.0}

    # 8. How many commits were there, and how long do they take?
    commits = await asked.ask('sum by (projection) (projectiond_commits_total{outcome="committed"})', "projection")
    counted = {(projection,): float(look.total("commits", projection)) for projection in known}
    assert commits == counted | {("payments",): 3.0}
    slow = await asked.ask(
        'histogram_quantile(0.5, sum by (le, projection) (projectiond_commit_seconds_bucket{source="ledger"}))',
        "projection",
    )
    assert slow == {("payments",): pytest.approx(0.0175)}  # the middle of the bucket from 0.01 to 0.025

    # 9. Why were events dead-lettered, and how often is a row found in memory?
    letters = await asked.ask("sum by (projection, reason) (projectiond_dead_letters_total)", "projection", "reason")
    assert letters == {("payments", "handler-raised"): 11.0}
    hits = await asked.ask(
        'sum by (projection) (projectiond_row_cache_requests_total{result="hit",source="ledger"})'
        ' / sum by (projection) (projectiond_row_cache_requests_total{source="ledger"})',
        "projection",
    )
    assert hits == {("payments",): 0.75}

    # 10. How far is each generation, and does everything answer?
    progress = await asked.ask("projectiond_generation_progress_ratio", "projection", "generation")
    assert progress == {(projection, "1"): 1.0 for projection in known} | {("payments", "3"): 0.8}
    assert await asked.ask("projectiond_source_up", "source") == {("flights",): 1.0, ("movements",): 1.0}
    assert await asked.ask("count by (version) (projectiond_build_info) > 1") == {(): 2.0}
