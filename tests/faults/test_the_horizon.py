"""How long markers prove what was applied, and what becomes of events beyond that: on DynamoDB, items that have expired
go by themselves, but only later.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.core.projection import OnLate
from tests.support.ledger import Line, write_log
from tests.support.trial import Trial

pytestmark = pytest.mark.anyio

RETENTION = timedelta(days=7)
FIRST = Line("s0-first", "s0-a1", 1, 10)


async def settled(late: OnLate, *, mode: str = "event", **spec: Any) -> Trial:
    """A ledger whose first event is a week and a day behind its newest, all of it settled."""
    options = {"late": late, "marker_retention": RETENTION} | spec
    trial = Trial({"s0": [FIRST]}, mode=mode, spec=options)
    await trial.settle()
    await trial.clock.sleep((RETENTION + timedelta(days=1)).total_seconds())
    trial.append("s0", Line("s0-newest", "s0-a2", 1, 1), moment=trial.clock.now())
    await trial.settle()
    return trial


def counters(trial: Trial) -> Counter[str]:
    """What became of the events."""
    return Counter({name: int(count) for name, count in trial.checkpoint()["counters"].items()})


def reasons(trial: Trial) -> list[str]:
    """Why events were dead-lettered."""
    return [item["reason"] for item in trial.items("state") if item["sk"].startswith("dead#")]


OLD = {"moment": datetime(2000, 1, 1, tzinfo=UTC)}
"""Older than anything that a trial writes, whose clock counts from a fixed date."""


@pytest.mark.parametrize("late", list(OnLate))
async def test_marker_that_expired_and_is_still_there_proves_a_duplicate(late: OnLate):
    """DynamoDB takes days to remove what has expired; until then it still says that the event was applied."""
    trial = await settled(late)
    trial.append("s0", FIRST, **OLD)
    await trial.settle()
    found = counters(trial)
    assert (found["applied"], found["duplicate_marker"], reasons(trial)) == (2, 1, [])
    assert trial.rows()["main", "s0-a1"]["seen"] == [FIRST.id]


async def test_event_that_no_marker_can_prove_is_dead_lettered():
    """Once the marker is gone, an event so old is neither applied nor called a duplicate: a person decides."""
    trial = await settled(OnLate.DEAD_LETTER)
    assert trial.server.expire() == 1
    trial.append("s0", FIRST, **OLD)
    await trial.settle()
    found = counters(trial)
    assert (found["applied"], found["dead_lettered"], reasons(trial)) == (2, 1, ["late"])
    assert found["read"] == found["applied"] + found["dead_lettered"]
    assert trial.rows()["main", "s0-a1"]["seen"] == [FIRST.id]


async def test_event_that_no_marker_can_prove_is_applied_where_asked_for():
    """`late = "apply"` takes what comes: new events of old, and repeats beyond the retention."""
    trial = await settled(OnLate.APPLY)
    trial.append("s0", Line("s0-old", "s0-a1", 2, 5), **OLD)
    await trial.settle()
    assert trial.rows()["main", "s0-a1"]["seen"] == [FIRST.id, "s0-old"]
    trial.check()


async def test_markers_outlive_their_retention():
    """Whatever is removed, and whoever owns the shard by then: within the retention every repeat is a duplicate."""
    trial = Trial(write_log(40, seed=1, duplicates=0), spec={"marker_retention": RETENTION})
    await trial.settle()
    await trial.clock.sleep(RETENTION.total_seconds() - 60)
    assert trial.server.expire() == 0
    trial.append("s0", *trial.lines["s0"][:20])
    await trial.settle()
    trial.check()
    assert counters(trial)["duplicate_marker"] == 20


async def test_successor_judges_lateness_alike():
    """The watermark and the end of the first catch-up are in the checkpoint: they do not begin anew with an owner."""
    trial = await settled(OnLate.DEAD_LETTER)
    trial.server.expire()
    async with trial.process() as process:
        await trial.until(lambda: trial.checkpoint()["epoch"] > 2)
        process.life.die()
    trial.append("s0", Line("s0-old", "s0-a1", 2, 5), **OLD)
    await trial.settle()
    assert reasons(trial) == ["late"]


async def test_first_catch_up_applies_what_is_old():
    """While a generation catches up for the first time nothing was applied before: no event is late."""
    trial = Trial({"s0": []}, spec={"late": OnLate.DEAD_LETTER, "marker_retention": RETENTION})
    trial.append("s0", Line("s0-1", "s0-a1", 1, 1), moment=trial.clock.now() + 3 * RETENTION)
    trial.append("s0", *[Line(f"s0-{n}", "s0-a1", n, 1) for n in range(2, 40)], **OLD)
    await trial.settle()
    trial.check()


async def test_packed_markers_prove_beyond_the_retention():
    """Packed markers go by the window, not by age; `late` is asked all the same only where they know nothing."""
    trial = await settled(OnLate.DEAD_LETTER, mode="shard")
    trial.server.expire()
    trial.append("s0", FIRST, **OLD)
    trial.append("s0", Line("s0-old", "s0-a1", 2, 5), **OLD)
    await trial.settle()
    assert (counters(trial)["duplicate_marker"], reasons(trial)) == (1, ["late"])


async def test_row_that_expired_under_its_owner_begins_anew():
    """A row that DynamoDB removes while its owner remembers it is missed by the next write, read again, and begun
    anew.
    """
    trial = Trial({"s0": [FIRST]}, spec={"expires": timedelta(minutes=5), "marker_retention": 100 * RETENTION})
    async with trial.process() as process:
        await trial.until(lambda: trial.settled == 1)
        await trial.clock.sleep(600)
        assert trial.server.expire() == 2, "its own row and its branch's"
        trial.append("s0", Line("s0-2", "s0-a1", 2, 5))
        await trial.until(lambda: trial.settled == 2)
        await process.supervisor.caught_up()
    assert trial.rows()["main", "s0-a1"] == {"balance": 5, "seen": ["s0-2"]}
    assert counters(trial)["applied"] == 2
