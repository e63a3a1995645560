"""What a plan says of a re-delivery is what comes of it; and what is refused, answered and counted before anything."""

from typing import Any

import pytest

from daemon.core.again import (
    Filter,
    KeysParked,
    KeysRelease,
    LettersDiscard,
    LettersList,
    LettersRetry,
    LettersShow,
    PlanReport,
    ReplayAbort,
    ReplayApply,
    ReplayPlan,
    ReplayStatus,
    Rewind,
)
from daemon.core.commands import Command, Target
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.projection import Dedup, OnError
from daemon.ports.observer import BatchCommitted, UnitsConsumed
from daemon.ports.store import Store
from tests.actors.test_ranges_are_delivered_again import append, folded, fragile, log_of, rows, skip
from tests.support.engine import Engine, engine
from tests.support.operating import ALICE

pytestmark = pytest.mark.anyio

TARGET = Target("counting")


async def asked(running: Engine, query: Any) -> Any:
    """Ask control."""
    return await running.control.run(query, ALICE, "query", lambda _: None)


async def told(running: Engine, command: Command, request: str) -> Any:
    """Give a command, and wait for its shards and for what follows from it."""
    answer = await running.control.run(command, ALICE, request, lambda _: None)
    while True:
        cursor = (await running.checkpoint()).redelivery
        waiting = await running.store.waiting(running.scope())
        wished = [note for note in (*waiting.letters, *waiting.parked) if note.wish is not None]
        if not wished and (cursor is None or not cursor.active):
            return answer


async def refusal(running: Engine, command: Any) -> CommandRefused:
    """Give a command that has to be refused."""
    with pytest.raises(CommandRefused) as caught:
        await running.control.run(command, ALICE, "refused", lambda _: None)
    return caught.value


@pytest.mark.parametrize("on_error", [OnError.DEAD_LETTER, OnError.PARK_KEY])
@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_a_plan_is_what_happens(any_store: Store, dedup: Dedup, on_error: OnError) -> None:
    """Events, duplicates by layer, what is late, rows and write units come out as planned; planning writes nothing."""
    broken = {"e(5,)", "e(6,)", "e(140,)", "e(150,)"}
    source = log_of(200)
    spec = fragile(broken, dedup=dedup, on_error=on_error, mailed=True)
    async with engine(spec, any_store, source) as running:
        await running.caught_up()
    append(source, range(201, 241))
    await any_store.open()
    await skip(any_store, running, 230)
    await any_store.aclose()
    async with engine(spec, any_store, source) as running:
        await running.caught_up()
        broken.discard("e(5,)")
        broken.discard("e(140,)")
        before, held = await rows(running), await running.checkpoint()
        plan: PlanReport = await asked(running, ReplayPlan(TARGET, "earliest", "230", diff=True))
        assert await rows(running) == before
        assert (await running.checkpoint()).counters == held.counters
        assert plan.handlers == ("mail",)
        facts = len(running.observer.facts)
        answer = await told(running, ReplayApply(TARGET, "earliest", "230", plan.plan), "apply")
        assert answer.refused == 0
        (report,) = (await asked(running, ReplayStatus(TARGET))).shards
        (shard,) = plan.shards
        assert report.state == "done"
        assert (shard.events, shard.duplicates) == (report.events, report.suppressed)
        assert (shard.late, shard.failed, shard.left) == (report.late, report.failed, report.left)
        assert plan.events == 230
        after = await rows(running)
        changed = {change.key: change.after for change in plan.changes}
        if on_error is OnError.DEAD_LETTER:  # a released key goes on beyond the range
            assert shard.late == {"dead-lettered": 2, "skipped": 30}
            assert {key: row for key, row in after.items() if row != before[key]} == changed
            billed = [
                fact.consumed
                for fact in running.observer.facts[facts:]
                if isinstance(fact, BatchCommitted | UnitsConsumed)
            ]
            spent = sum(count for units in billed for name, count in units.items() if name.startswith("wcu"))
            operation = 1.0 if spent else 0.0  # what the operation itself was written with is not the range's
            assert abs(plan.units - spent) <= 0.15 * spent + 20 * operation, (plan.units, spent)


async def test_apply_insists_upon_the_plan(any_store: Store) -> None:
    """A plan of another range, or one whose letters changed since, is refused by name; then the newer one is taken."""
    broken = {"e(5,)", "e(6,)"}
    async with engine(fragile(broken), any_store, log_of(50)) as running:
        await running.caught_up()
        plan = await asked(running, ReplayPlan(TARGET, "earliest", "40"))
        other = await refusal(running, ReplayApply(TARGET, "earliest", "41", plan.plan))
        assert (other.code, plan.plan in other.reason) == (RefusalCode.CONFLICT, True)
        broken.clear()
        await told(running, LettersRetry(TARGET, Filter(event="e(5,)")), "retry")
        stale = await refusal(running, ReplayApply(TARGET, "earliest", "40", plan.plan))
        assert stale.code is RefusalCode.CONFLICT
        newer = await asked(running, ReplayPlan(TARGET, "earliest", "40"))
        await told(running, ReplayApply(TARGET, "earliest", "40", newer.plan), "apply")
        assert await any_store.dead_letters(running.scope(), 9) == []


async def test_letters_are_listed_counted_and_shown(any_store: Store) -> None:
    """Counts are of all that a filter means, whatever is listed; one letter is shown whole, with its way out."""
    broken = {"e(5,)", "e(6,)", "e(12,)"}
    async with engine(fragile(broken), any_store, log_of(20)) as running:
        await running.caught_up()
        label = running.scope().label
        listed = await asked(running, LettersList(TARGET, limit=1))
        assert (listed.total, listed.by_reason, listed.by_shard) == (3, {"handler-raised": 3}, {label: 3})
        assert [(one.position, one.event, one.key) for one in listed.letters] == [("5", "e(5,)", "k5")]
        filtered = await asked(running, LettersList(TARGET, Filter(key="k5"), 9))
        assert [one.position for one in filtered.letters] == ["5", "12"]
        shown = await asked(running, LettersShow(TARGET, "6"))
        assert (shown.detail, '"key":"k6"' in shown.payload) == ("ValueError: broken", True)
        assert shown.retry == f"projectionctl dead-letters retry {label} --position 6"
        assert (await refusal(running, LettersShow(TARGET, "7"))).code is RefusalCode.NOT_FOUND


async def test_parked_keys_are_listed(any_store: Store) -> None:
    """Parked keys come with how many events queue behind them, and why."""
    async with engine(fragile({"e(5,)"}, on_error=OnError.PARK_KEY), any_store, log_of(20)) as running:
        await running.caught_up()
        report = await asked(running, KeysParked(TARGET))
        assert (report.total, report.events) == (1, 3)
        (key,) = report.keys
        assert (key.key, key.events, key.position, key.reason) == ("k5", 3, "5", "handler-raised")


async def test_what_is_not_said_is_not_done(any_store: Store) -> None:
    """Changes that name nothing, or nothing there is, are refused with what to say; nothing is touched."""
    async with engine(fragile({"e(5,)"}), any_store, log_of(20)) as running:
        await running.caught_up()
        cases: list[tuple[Command, RefusalCode]] = [
            (LettersRetry(TARGET), RefusalCode.USAGE),
            (LettersDiscard(TARGET, Filter(key="k1")), RefusalCode.NOT_FOUND),
            (KeysRelease(TARGET), RefusalCode.USAGE),
            (KeysRelease(TARGET, "k1"), RefusalCode.NOT_FOUND),
            (Rewind(Target(), "earliest"), RefusalCode.USAGE),
            (Rewind(TARGET, "yesterday"), RefusalCode.USAGE),
            (Rewind(TARGET, "20"), RefusalCode.REFUSED),
        ]
        for command, code in cases:
            assert (await refusal(running, command)).code is code, command
        assert (await running.checkpoint()).operation_seq == 0
        answer = await told(running, ReplayAbort(TARGET), "abort")
        assert (answer.done, "there was none" in answer.shards[0].detail) == (1, True)


async def test_rewinds_of_everything_at_once_are_one_each(any_store: Store) -> None:
    """The same request twice delivers the range once."""
    async with engine(fragile(set()), any_store, log_of(30)) as running:
        await running.caught_up()
        first = await told(running, Rewind(TARGET, "earliest"), "same")
        again = await told(running, Rewind(TARGET, "earliest"), "same")
        assert (first.repeated, again.repeated, again.operations) == (False, True, first.operations)
        (report,) = (await asked(running, ReplayStatus(TARGET))).shards
        assert (report.events, report.suppressed["position"], report.rows_changed) == (30, 30, 0)
        assert await rows(running) == folded(range(1, 31))
