"""Re-delivery's pure decisions: what remains skipped, where a range may lie, what is next, what may be folded."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.cursor import CursorState, cursor_form, cursor_of
from daemon.core.events import Event
from daemon.core.late import passed
from daemon.core.redelivery import Entry, Listing, Order, Origin, Proof, Refusal, aborted, advanced, begun, sort_out
from daemon.core.waiting import LetterNote, LetterRef, ParkedNote, ParkedRef, SkippedRange, SkipRef, Waiting
from tests.core.events import a_spec, an_event

AT = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True).map(sorted)
places = st.integers(0, 40)


def ranges_of(ends: list[int]) -> list[SkippedRange]:
    """Return ranges between every other pair of ends."""
    return [SkippedRange((low,), (high,), AT) for low, high in zip(ends[::2], ends[1::2], strict=False)]


def held(ranges: list[SkippedRange]) -> set[int]:
    """Return the positions that ranges hold."""
    return {at for one in ranges for at in range(one.after[0] + 1, one.through[0] + 1)}


@given(ENDS, places, places, st.sets(places, max_size=4))
def test_what_remains_skipped_is_what_was_not_come_to(ends: list[int], one: int, other: int, left: set[int]) -> None:
    """After a piece was settled, ranges hold what they held before, without the piece, but with what was left."""
    after, through = min(one, other), max(one, other)
    before = ranges_of(ends)
    stays = {at for at in left if after < at <= through and at in held(before)}
    settles, skips = passed(before, (after,), (through,), [((at - 1,), (at,)) for at in sorted(stays)])
    gone = {settle.ref for settle in settles}
    ends_written = {skip.through for skip in skips}
    assert not {ref.through for ref in gone if isinstance(ref, SkipRef)} & ends_written
    kept = [each for each in before if SkipRef(each.through) not in gone and each.through not in ends_written]
    assert held([*kept, *skips]) == {at for at in held(before) if not after < at <= through} | stays


@given(places, places, st.none() | places, places, places)
def test_a_range_lies_within_what_was_settled(
    origin: int, live: int, until: int | None, after: int, other: int
) -> None:
    """A cursor begins at the origin at the earliest, ends at the live position at the latest; asked twice, it stays."""
    checkpoint = Checkpoint(position=(max(origin, live),), origin=(min(origin, live),))
    order = Order("7", "replay", (after,), None if until is None else (until,), AT)
    result = begun(checkpoint, order)
    if isinstance(result, Refusal):
        assert max(after, min(origin, live)) >= min(max(origin, live), 1000 if until is None else until)
        return
    cursor = result.redelivery
    assert cursor is not None
    assert checkpoint.origin <= cursor.after == cursor.position < cursor.until <= checkpoint.position
    assert result.position == checkpoint.position
    assert begun(result, order) == result
    refused = begun(result, Order("8", "rewind", (0,), None, AT))
    assert isinstance(refused, Refusal)
    assert refused.conflict
    assert cursor_of(cursor_form(cursor)) == cursor
    moved = advanced(cursor, max(cursor.after, (other,)), {"read": 3}, AT)
    assert moved.active == (moved.position < cursor.until)
    ended = aborted(result, "enough", AT)
    assert isinstance(ended, Checkpoint)
    assert ended.redelivery is not None
    assert ended.redelivery.state is CursorState.ABORTED
    assert isinstance(aborted(ended, "again", AT), Refusal)


def test_an_ended_shard_is_not_delivered_again() -> None:
    """A shard that nobody follows any more refuses, with the remedy."""
    refused = begun(Checkpoint(position=(9,), state=CheckpointState.DONE), Order("1", "rewind", (), None, AT))
    assert isinstance(refused, Refusal)
    assert "rebuild" in refused.remedy


@given(ENDS, st.sets(places, max_size=5), st.sets(places, max_size=5), places)
def test_nothing_that_waits_is_passed_over(ends: list[int], dead: set[int], parked: set[int], at: int) -> None:
    """Between a position and the next place that the listing names lies no letter, parked event or skipped range."""
    letters = [LetterNote((place,), "e", "k", "why", "", AT, None) for place in dead]
    queue = [ParkedNote("k", (place,), "e", "", AT, None) for place in parked - dead]
    waiting = Waiting(letters, queue, ranges_of(ends))
    before = Listing(waiting).next_after((at,))
    listed = dead | parked | held(ranges_of(ends))
    later = [place for place in listed if place > at]
    if before is None:
        assert not later
    elif before == (at,):
        assert at + 1 in listed
    else:
        assert not [place for place in later if place < before[0]]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([Origin.PARKED, Origin.SKIPPED, Origin.DEAD])), max_size=12)
)
def test_events_of_a_parked_key_are_folded_in_order(script: list[tuple[int, Origin]]) -> None:
    """Whatever waits before an event of its key, in its queue, is folded before it or keeps it back."""
    entries: list[Entry] = []
    queues: dict[str, list[ParkedRef]] = {}
    for place, (key, origin) in enumerate(script, 1):
        event: Event = an_event(f"e{place}", data={"key": f"k{key}"}, position=(place,))
        ref = ParkedRef(f"k{key}", (place,), event.id) if origin is Origin.PARKED else None
        if ref is not None:
            queues.setdefault(f"k{key}", []).append(ref)
        letter = LetterRef((place,), event.id) if origin is Origin.DEAD else ref
        entries.append(Entry(event, origin, letter, "handler-raised"))
    given_late = entries[len(entries) // 3 :]
    result = sort_out(given_late, Proof(a_spec(), lambda _: None), queues, asked=False)
    folded = {entry.ref for entry, verdict in zip(result.entries, result.verdicts, strict=True) if verdict is None}
    for entry, verdict in zip(result.entries, result.verdicts, strict=True):
        if verdict is not None:
            continue
        key = f"k{script[entry.record.position[0] - 1][0]}"
        earlier = [ref for ref in queues.get(key, ()) if ref.position < entry.record.position]
        assert set(earlier) <= folded
