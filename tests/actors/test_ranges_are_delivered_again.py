"""A range is folded again by the shard's own owner: what was applied is suppressed, what waits is applied."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed
from daemon.core.cursor import CursorState, Redelivery
from daemon.core.errors import SourceUnavailable
from daemon.core.events import Event
from daemon.core.identity import RowKey
from daemon.core.operations import OutcomeStatus
from daemon.core.projection import Dedup, Handler, OnError, ProjectionSpec
from daemon.core.view import View
from daemon.core.waiting import SkippedRange
from daemon.ports.store import Store
from daemon.testing.memory_source import MemorySource
from tests.support.engine import PATIENCE_SECONDS, START_OF_TIME, Engine, counting, engine, event
from tests.support.operating import operate, outcome

pytestmark = pytest.mark.anyio


def log_of(count: int, keys: int = 7, **shape: Any) -> MemorySource:
    """Return a log of so many events on so many keys, a second apart."""
    source = MemorySource("memory")
    source.add_shard("s0")
    append(source, range(1, count + 1), keys, **shape)
    return source


def append(source: MemorySource, positions: Sequence[int], keys: int = 7, **shape: Any) -> None:
    """Let a log grow."""
    moments = {at: START_OF_TIME + timedelta(seconds=at) for at in positions}
    source.append("s0", *[event(at, f"k{at % keys}", moment=moments[at], **shape) for at in positions])


def fragile(broken: set[str], **changes: Any) -> ProjectionSpec:
    """Return a projection whose handler raises on `broken` event ids until they are taken out: until it is mended."""
    mailed = changes.pop("mailed", None)

    def added(view: View, event: Event) -> None:
        if event.id in broken:
            raise ValueError("broken")
        row = view.row or {"n": 0, "seen": []}
        view.put(n=row["n"] + event.data["amount"], seen=[*row["seen"], event.id])

    def mail(view: View, event: Event) -> None:
        view.emit("mail", id=event.id)

    handlers = (Handler("added", added), *((Handler("mail", mail, replay=False),) if mailed else ()))
    return counting(handlers={"Added": handlers}, **changes)


def _number(event: Event) -> int:
    return event.data["seq"]


async def rows(running: Engine, keys: int = 7) -> dict[str, Any]:
    """Read every row's attributes."""
    wanted = [RowKey("main", f"k{n}") for n in range(keys)]
    found = await running.store.load_rows(running.scope().of, wanted)
    return {key.key: None if row is None else row.attributes for key, row in found.items()}


def folded(positions: Sequence[int], keys: int = 7) -> dict[str, Any]:
    """Return what rows hold of events in this order."""
    result: dict[str, Any] = {f"k{n}": None for n in range(keys)}
    for at in positions:
        row: dict[str, Any] = result[f"k{at % keys}"] or {"n": 0, "seen": []}
        result[f"k{at % keys}"] = {"n": row["n"] + 1, "seen": [*row["seen"], f"e({at},)"]}
    return result


async def reached(running: Engine, position: int) -> None:
    """Wait until the live position is there: an end that was told may be the one before the log grew."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while (await running.checkpoint()).position < (position,):  # noqa: ASYNC110 - any state, not an event of ours
            await anyio.sleep(0.001)


async def redelivered(running: Engine, name: str = "rewind", /, **arguments: str) -> Redelivery:
    """Have a range delivered again to its end, and return the cursor."""
    sequence = await operate(running.store, running.scope().of, name, **arguments)
    running.supervisor.nudge()
    told = await outcome(running.store, running.scope(), sequence)
    assert told.status is OutcomeStatus.DONE, told
    cursor = (await running.checkpoint()).redelivery
    assert cursor is not None
    assert (cursor.id, cursor.state) == (str(sequence), CursorState.DONE)
    return cursor


def sums(counters: dict[str, int] | Any) -> bool:
    """Tell whether every record that was read ended as exactly one thing."""
    ends = (
        "applied",
        "duplicate_position",
        "duplicate_marker",
        "duplicate_version",
        "dead_lettered",
        "parked",
        "skipped",
    )
    return counters["read"] == sum(counters.get(name, 0) for name in ends)


@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_what_was_applied_is_suppressed(any_store: Store, dedup: Dedup) -> None:
    """A rewind of the whole log, while the log grows, changes no row and never moves the live position back."""
    source = log_of(300)
    async with engine(fragile(set(), dedup=dedup), any_store, source) as running:
        await running.caught_up()
        before = await running.checkpoint()
        sequence = await operate(any_store, running.scope().of, "rewind", to="earliest")
        running.supervisor.nudge()
        append(source, range(301, 401))
        told = await outcome(any_store, running.scope(), sequence)
        assert told.status is OutcomeStatus.DONE, told
        await reached(running, 400)
        after = await running.checkpoint()
        cursor = after.redelivery
        assert cursor is not None
        assert cursor.suppressed == {"position": cursor.counters["read"], "marker": 0, "version": 0}
        assert cursor.counters["read"] >= 300
        assert cursor.late == cursor.counters.get("rows", 0) == 0
        assert "0 rows changed" in told.detail
        assert before.position <= after.position == (400,)
        assert (after.counters["applied"], after.counters["read"]) == (400, 400)
        assert await rows(running) == folded(range(1, 401))


@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_a_dead_letter_is_folded_once(any_store: Store, dedup: Dedup) -> None:
    """Once the handler is mended, a rewind applies what was dead-lettered, a second one nothing, without effects."""
    broken = {"e(5,)", "e(6,)", "e(120,)"}
    async with engine(fragile(broken, dedup=dedup, mailed=True), any_store, log_of(200)) as running:
        await running.caught_up()
        generation = running.scope().of
        mails = len(await any_store.effects(generation, 999))
        assert len(await any_store.dead_letters(running.scope(), 9)) == 3
        broken.discard("e(5,)")
        broken.discard("e(120,)")
        first = await redelivered(running, to="earliest")
        assert (first.counters["late_dead_lettered"], first.counters["failed"], first.late) == (2, 1, 2)
        assert first.counters["read"] == 200 == first.suppressed["position"] + 3
        (left,) = await any_store.dead_letters(running.scope(), 9)
        assert left.event_id == "e(6,)"
        second = await redelivered(running, to="earliest")
        assert (second.late, second.counters["failed"]) == (0, 1)
        assert len(await any_store.effects(generation, 999)) == mails
        counters = (await running.checkpoint()).counters
        assert (counters["applied"], counters["dead_lettered"]) == (199, 1)
        assert sums(counters)
        found = await rows(running)
    late_last = folded([*(at for at in range(1, 201) if at not in {5, 6, 120}), 5, 120])
    assert found == late_last


async def test_a_parked_key_is_folded_in_order(any_store: Store) -> None:
    """A rewind over a parked key's queue applies it in order, and the key goes on."""
    broken = {"e(10,)"}
    source = log_of(60)
    async with engine(fragile(broken, on_error=OnError.PARK_KEY), any_store, source) as running:
        await running.caught_up()
        assert await any_store.parked_keys(running.scope()) == {"k3"}
        broken.clear()
        cursor = await redelivered(running, to="earliest")
        assert cursor.counters["late_parked"] == len([at for at in range(10, 61) if at % 7 == 3])
        assert list(await any_store.parked_keys(running.scope())) == []
        append(source, range(61, 81))
        await reached(running, 80)
        assert await rows(running) == folded(range(1, 81))
        assert sums((await running.checkpoint()).counters)


async def test_the_middle_of_a_queue_waits_for_its_head(any_store: Store) -> None:
    """A range that begins within a parked key's queue leaves the queue alone: nothing is applied out of order."""
    broken = {"e(10,)"}
    async with engine(fragile(broken, on_error=OnError.PARK_KEY), any_store, log_of(60)) as running:
        await running.caught_up()
        parked = len(await any_store.parked_events(running.scope(), "k3", 99))
        broken.clear()
        cursor = await redelivered(running, to="20")
        assert cursor.late == 0
        assert cursor.counters["left"] == len([at for at in range(21, 61) if at % 7 == 3])
        assert len(await any_store.parked_events(running.scope(), "k3", 99)) == parked


@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_what_was_skipped_is_folded_once(any_store: Store, dedup: Dedup) -> None:
    """A skipped range is applied by ranges that meet it, piece by piece; a second rewind finds nothing."""
    source = log_of(100)
    async with engine(fragile(set(), dedup=dedup), any_store, source) as running:
        await running.caught_up()
    append(source, range(101, 151))
    await any_store.open()
    await skip(any_store, running, 130)
    await any_store.aclose()
    async with engine(fragile(set(), dedup=dedup), any_store, source) as running:
        await running.caught_up()
        assert (await running.checkpoint()).counters["applied"] == 120
        part = await redelivered(running, "replay.apply", from_="90", to="110")
        assert (part.counters["late_skipped"], part.counters["read"]) == (10, 20)
        assert [(one.after, one.through) for one in (await any_store.waiting(running.scope())).skipped] == [
            ((110,), (130,))
        ]
        middle = await redelivered(running, "replay.apply", from_="115", to="120")
        assert middle.counters["late_skipped"] == 5
        assert [(one.after, one.through) for one in (await any_store.waiting(running.scope())).skipped] == [
            ((110,), (115,)),
            ((120,), (130,)),
        ]
        rest = await redelivered(running, to="earliest")
        assert rest.counters["late_skipped"] == 15
        assert not (await any_store.waiting(running.scope())).skipped
        again = await redelivered(running, to="earliest")
        assert again.late == 0
        counters = (await running.checkpoint()).counters
        assert (counters["applied"], counters["read"]) == (150, 150)
        assert sums(counters)
        assert {key: row["n"] for key, row in (await rows(running)).items()} == {
            key: row["n"] for key, row in folded(range(1, 151)).items()
        }


async def test_a_second_range_is_refused_by_name(any_store: Store) -> None:
    """A rewind during a replay is refused, and says which one is in the way; once that is ended it is taken."""
    source = log_of(100)
    async with engine(fragile(set()), any_store, source) as running:
        await running.caught_up()
        source.problems += [SourceUnavailable("away")] * 1000
        generation, scope = running.scope().of, running.scope()
        first = await operate(any_store, generation, "replay.apply", from_="10", to="90")
        running.supervisor.nudge()
        await outcome(any_store, scope, first, {OutcomeStatus.UNDERWAY})
        second = await operate(any_store, generation, "rewind", to="earliest")
        running.supervisor.nudge()
        refused = await outcome(any_store, scope, second)
        assert refused.status is OutcomeStatus.REFUSED
        assert "replay 1 is under way on this shard: it has come from 10 to 10 and goes up to 90" in refused.detail
        assert "replay abort" in refused.detail
        third = await operate(any_store, generation, "replay.abort")
        running.supervisor.nudge()
        assert (await outcome(any_store, scope, third)).status is OutcomeStatus.DONE
        ended = await outcome(any_store, scope, first)
        assert (ended.status, "alice@tests" in ended.detail) == (OutcomeStatus.ABORTED, True)
        source.problems.clear()
        assert (await redelivered(running, to="earliest")).counters["read"] == 100
        assert await rows(running) == folded(range(1, 101))


async def test_nothing_to_deliver_again_is_refused(any_store: Store) -> None:
    """A range past the live position, and a text that means none, are refused with the remedy."""
    async with engine(fragile(set()), any_store, log_of(10)) as running:
        await running.caught_up()
        for text, word in (("10", "nothing was settled after 10"), ("yesterday", "ISO 8601")):
            sequence = await operate(any_store, running.scope().of, "rewind", to=text)
            running.supervisor.nudge()
            told = await outcome(any_store, running.scope(), sequence)
            assert (told.status, word in told.detail) == (OutcomeStatus.REFUSED, True), told.detail


async def test_a_range_is_named_by_times(any_store: Store) -> None:
    """A time means the position before its first event, on both ends."""
    async with engine(fragile(set()), any_store, log_of(100)) as running:
        await running.caught_up()
        since, until = (START_OF_TIME + timedelta(seconds=at) for at in (20, 50))
        cursor = await redelivered(running, "replay.apply", from_=since.isoformat(), to=until.isoformat())
        assert (cursor.after, cursor.until, cursor.counters["read"]) == ((19,), (49,), 30)


@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_what_no_marker_proves_new_is_left(any_store: Store, dedup: Dedup) -> None:
    """A range with dead letters older than markers are kept is refused; begun later, it leaves nothing behind."""
    broken = {"e(5,)", "e(95,)"}
    retention = timedelta(seconds=30)
    async with engine(fragile(broken, dedup=dedup, marker_retention=retention), any_store, log_of(100)) as running:
        await running.caught_up()
        broken.clear()
        sequence = await operate(any_store, running.scope().of, "rewind", to="earliest")
        running.supervisor.nudge()
        told = await outcome(any_store, running.scope(), sequence)
        assert told.status is OutcomeStatus.REFUSED
        assert "1 dead letters and parked events in this range are older than markers are kept" in told.detail
        assert "begin after 69" in told.detail
        cursor = await redelivered(running, to="69")
        assert cursor.counters["late_dead_lettered"] == 1


async def test_a_lost_log_ends_the_range_not_the_shard(any_store: Store) -> None:
    """A range that retention took away meanwhile ends as failed, with the reason; live goes on."""
    source = log_of(100)
    async with engine(fragile(set()), any_store, source) as running:
        await running.caught_up()
        source.trim("s0", (50,))
        sequence = await operate(any_store, running.scope().of, "replay.apply", from_="10", to="90")
        running.supervisor.nudge()
        told = await outcome(any_store, running.scope(), sequence)
        assert (told.status, "rebuild" in told.detail) == (OutcomeStatus.ABORTED, True)
        cursor = (await running.checkpoint()).redelivery
        assert cursor is not None
        assert cursor.state is CursorState.FAILED
        append(source, range(101, 121))
        await reached(running, 120)
        assert await rows(running) == folded(range(1, 121))


async def test_a_duplicate_of_a_skipped_event_is_stopped_by_its_marker(any_store: Store) -> None:
    """What was skipped and came again elsewhere was applied there: its marker stops it."""
    source = log_of(20)
    async with engine(fragile(set()), any_store, source) as running:
        await running.caught_up()
    append(source, range(21, 31))
    await any_store.open()
    await skip(any_store, running, 30)
    await any_store.aclose()
    again = event(31, "k4", id="e(25,)", moment=START_OF_TIME + timedelta(seconds=25))
    source.append("s0", again)
    async with engine(fragile(set()), any_store, source) as running:
        await running.caught_up()
        cursor = await redelivered(running, to="earliest")
        assert cursor.suppressed == {"position": 21, "marker": 1, "version": 0}
        assert cursor.counters["late_skipped"] == 9
        assert sums((await running.checkpoint()).counters)


async def test_a_sequence_is_never_lowered(any_store: Store) -> None:
    """A dead letter of an entity that went on is applied late and leaves its sequence where it stands."""
    broken = {"e(3,)"}
    spec = fragile(broken, dedup=Dedup.SEQUENCE, sequence=_number)
    source = MemorySource("memory")
    source.add_shard("s0")
    source.append("s0", *[event(at, "k0", seq=at) for at in range(1, 7)])
    async with engine(spec, any_store, source) as running:
        await running.caught_up()
        broken.clear()
        cursor = await redelivered(running, to="earliest")
        assert cursor.counters["late_dead_lettered"] == 1
        source.append("s0", event(7, "k0", seq=7), event(8, "k0", seq=3))
        await reached(running, 8)
        row = (await rows(running))["k0"]
        assert row["seen"] == [f"e({at},)" for at in (1, 2, 4, 5, 6, 3, 7)]
        assert (await running.checkpoint()).counters["duplicate_version"] == 1


async def skip(store: Store, running: Engine, through: int) -> None:
    """Move a shard's position past events that nobody counts."""
    scope = running.scope()
    held = await store.take(scope, "operator", Checkpoint())
    after = replace(held.next("skip"), position=(through,), owner=None)
    ranges = (SkippedRange(held.position, (through,), START_OF_TIME, "skipped by alice"),)
    assert isinstance(await store.commit(Commit(scope, held.fence, after, skips=ranges), 1), Committed)
