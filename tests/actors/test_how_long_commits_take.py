"""What commits of a size take is told by those that were made, and what a plan makes of it."""

from dataclasses import replace

import pytest

from daemon.actors.pace import Pace
from daemon.core.again import PlanReport, ReplayPlan
from daemon.core.checkpoint import Checkpoint
from daemon.core.commands import Target
from daemon.core.redelivery import Order, begun
from daemon.ports.store import Store
from tests.actors.test_ranges_are_delivered_again import fragile, log_of
from tests.support.engine import ALICE, FAST, START_OF_TIME, engine


def test_sizes_between_those_seen_lie_between_them():
    """Two sizes seen tell the rest: what is between lies on the line through them, what is larger goes on with it."""
    pace = Pace()
    for seconds in (0.010, 0.012, 3.0):  # one of them was held up
        pace.note("sales", 1, seconds)
    for _ in range(3):
        pace.note("sales", 101, 0.112)
    assert pace.estimate("sales", [1], 0.001) == pytest.approx(0.012)
    assert pace.estimate("sales", [51, 51], 0.001) == pytest.approx(2 * 0.062)
    assert pace.estimate("sales", [202], 0.011) == pytest.approx(0.112 + 101 * 0.001)


def test_only_the_newest_count():
    """A store that has become slower is noticed."""
    pace = Pace()
    for seconds in [0.001] * 100 + [0.005] * 25:
        pace.note("sales", 10, seconds)
    assert pace.estimate("sales", [10], 0.0) == pytest.approx(0.005)


def test_where_nothing_was_seen_a_commit_takes_a_round_trip():
    """Another projection's commits tell nothing, and a commit costs no less than an answer."""
    pace = Pace()
    pace.note("sales", 10, 9.0)
    assert pace.estimate("stock", [1, 50], 0.002) == pytest.approx(0.004)
    assert pace.estimate("stock", [], 0.002) == 0.0


@pytest.mark.anyio
async def test_a_plan_takes_commits_to_last_as_long_as_they_do(any_store: Store) -> None:
    """Commits that took a minute each make a plan of minutes, twice as many for a shard that has not caught up."""
    broken = {"e(5,)", "e(45,)"}
    policy = replace(FAST, redelivery_share=0.5)
    async with engine(fragile(broken), any_store, log_of(60), policy=policy) as running:
        await running.caught_up()
        broken.clear()
        pace = running.runtime.pace
        assert pace.estimate("counting", [1], 0.0) > 0  # those that were made are known
        for items in range(1, 128):
            for _ in range(25):
                pace.note("counting", items, 60.0)
        plan = await running.control.run(ReplayPlan(Target("counting"), "earliest"), ALICE, "plan", lambda _: None)
        assert isinstance(plan, PlanReport)
        (shard,) = plan.shards
        assert shard.commits > 0
        assert 60 * shard.commits <= plan.duration.total_seconds() < 60 * shard.commits + 30
        behind = begun(await running.checkpoint(), Order("plan", "replay", (), None, START_OF_TIME))
        assert isinstance(behind, Checkpoint)
        rehearsal = await running.supervisor.rehearse(running.scope(), replace(behind, caught_up=False))
        assert rehearsal.commit_seconds == pytest.approx(2 * 60 * shard.commits)
