"""Each mended mistake of the core, by name."""

from asyncio import CancelledError
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest

from daemon.core.batcher import Batcher, BatchPolicy, Chunk
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Limits, Rejected
from daemon.core.dedup import Evidence, Judged, Verdict, id_digest, judge_by_event, judge_by_position, judge_packed
from daemon.core.errors import EventProblem, IllegalTransition
from daemon.core.events import Event, Record
from daemon.core.fold import Failure, FoldContext, Folded, Missing, Unsettled, fold
from daemon.core.identity import MAIN_VIEW, RowKey, Scope
from daemon.core.keys import key_text
from daemon.core.planner import PlanContext, Planned, plan, shard_of
from daemon.core.positions import START
from daemon.core.projection import Dedup
from daemon.core.recovery import Fate, RetryPolicy, Step, after_outcome, fate_of
from daemon.core.rows import ABSENT, Expectation, RowCheck, StoredRow, WriteKind
from daemon.core.values import MAX_INT, add_exact, normalise
from daemon.core.view import Base, View
from daemon.core.window import PAYLOAD_BYTES, MarkerWindow
from tests.core.events import START_TIME, a_bad_record, a_spec, an_event

SCOPE = Scope("orders", 1, "log", "a")


def folding(
    records: list[Record], spec: Any, rows: Mapping[RowKey, Base] | None = None,
    verdicts: list[Any] | None = None, **more: Any,
) -> Folded | Missing | Unsettled:  # fmt: skip
    """Fold on rows that are all known."""
    context = FoldContext(spec, SCOPE.shard_id, (rows or {}).get, **more)
    return fold(Judged(records, verdicts or [None] * len(records)), context)


def planning(records: list[Record], spec: Any, rows: Mapping[RowKey, Base] | None = None, **more: Any) -> Commit:
    """Fold and plan without limits."""
    folded = folding(records, spec, rows, **more)
    assert isinstance(folded, Folded)
    through = records[-1].position
    planned = plan(folded, Chunk(records, through), PlanContext(SCOPE, spec, Checkpoint(), "c", START_TIME, Limits()))
    assert isinstance(planned, Planned)
    return planned.commit


def did(name: str, position: int = 1, **data: Any) -> Event:
    """An event of key `k`."""
    return an_event(name, data={"key": "k", **data}, position=(position,))


def number_of(event: Event) -> int:
    """The entity's sequence number."""
    return event.data["n"]


def test_remains_of_a_failed_event_fail_no_other() -> None:
    """An event that writes and then raises does not make the next event of its row fail."""

    def handler(view: View, event: Event) -> None:
        if event.data.get("poison"):
            view.put(n="text")
            view.emit("mail")
            raise ValueError
        view.add(n=1)

    commit = planning([did("e1", 1, poison=True), did("e2", 2)], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e1"]
    assert [write.attributes for write in commit.rows] == [{"n": 1}]
    assert commit.effects == ()


def test_duplicate_is_not_dead_lettered_for_an_earlier_failure() -> None:
    """A failure carried over from an earlier fold is dropped when the event turned out to be a duplicate."""
    failures = {0: Failure("handler-raised", "x")}
    folded = folding([did("e1")], a_spec(), verdicts=[Verdict.DUPLICATE_MARKER], failures=failures)
    assert isinstance(folded, Folded)
    assert (folded.verdicts, folded.failures) == ([Verdict.DUPLICATE_MARKER], {})


def test_gap_on_an_uncommitted_batch_decides_nothing() -> None:
    """A gap parks a key only on a settled base."""
    spec = a_spec(dedup=Dedup.SEQUENCE, sequence=number_of)
    rows = {RowKey(MAIN_VIEW, "k"): StoredRow({}, 1, "s", {"log": 1})}
    assert isinstance(folding([did("e", n=3)], spec, rows, settled=False), Unsettled)
    settled = folding([did("e", n=3)], spec, rows)
    assert isinstance(settled, Folded)
    assert settled.verdicts == [Verdict.PARKED]


def test_failure_before_any_handler_names_none() -> None:
    """An event without a key does not blame the handler of the event before it."""

    def handler(view: View, _event: Event) -> None:
        view.put(n=1)

    commit = planning([did("e1", 1), an_event("e2", position=(2,))], a_spec(handler))
    assert [(one.reason, one.handler) for one in commit.dead_letters] == [("no-key", "")]


def test_error_without_a_text_is_a_failure_of_its_event() -> None:
    """An exception whose own text raises is still a dead letter, not the shard's end."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def handler(_view: View, _event: Event) -> None:
        raise BrokenError

    assert [one.reason for one in planning([did("e1")], a_spec(handler)).dead_letters] == ["handler-raised"]


def test_redelivery_emits_nothing() -> None:
    """No effect comes of a re-delivery, whatever handler emits it."""

    def handler(view: View, _event: Event) -> None:
        view.emit("mail")

    assert len(planning([did("e1")], a_spec(handler)).effects) == 1
    assert planning([did("e1")], a_spec(handler), redelivery=True).effects == ()


def test_watermark_comes_of_applied_events_only() -> None:
    """A failing event from the far future does not make later events late."""

    def handler(_view: View, event: Event) -> None:
        if event.id == "bad":
            raise ValueError

    bad = an_event("bad", data={"key": "k"}, position=(2,), seconds=1e9)
    assert planning([did("e1"), bad], a_spec(handler)).checkpoint.watermark == START_TIME


def test_row_made_and_deleted_again_is_checked() -> None:
    """A row seen absent and left absent is checked to be absent still."""

    def handler(view: View, _event: Event) -> None:
        view.put(a=1)
        view.delete()

    commit = planning([did("e1")], a_spec(handler))
    assert (commit.rows, commit.checks) == ((), (RowCheck(RowKey(MAIN_VIEW, "k"), ABSENT),))


def test_shared_row_read_is_checked_though_this_shard_wrote_it_last() -> None:
    """A row of another view may have other writers, so reading it alone is checked."""

    def handler(view: View, _event: Event) -> None:
        assert view.at("side", "x").row
        assert view.row

    mine = StoredRow({"a": 1}, 1, "log/a@1#e0")
    rows = {RowKey("side", "x"): mine, RowKey(MAIN_VIEW, "k"): mine}
    commit = planning([did("e1")], a_spec(handler), rows)
    assert commit.checks == (RowCheck(RowKey("side", "x"), Expectation(1, "log/a@1#e0")),)


def test_shard_with_an_at_sign_is_found_in_its_provenance() -> None:
    """A shard label may hold `@`, and so may an event id."""
    assert shard_of("log/a@b.jsonl@12.3#e@1#x") == "log/a@b.jsonl"
    assert shard_of("log/q@start#e1") == "log/q"
    assert not shard_of("nonsense")


def test_bad_records_of_a_queue_are_told_apart() -> None:
    """Two bad records without position or id are two dead letters; the same one twice is one, and both are counted."""
    records: list[Record] = [a_bad_record(START, raw) for raw in (b"{", b"[", b"{")]
    commit = planning(records, a_spec())
    assert len({(one.position, one.event_id) for one in commit.dead_letters}) == len(commit.dead_letters) == 2
    assert commit.checkpoint.counters["dead_lettered"] == commit.checkpoint.counters["read"] == 3


def test_positions_of_a_queue_prove_nothing() -> None:
    """Records without positions are never duplicates by position, wherever the checkpoint stands."""
    records: list[Record] = [an_event(name, position=START) for name in "ab"]
    for settled in (START, (5,)):
        assert judge_by_position(records, Evidence(settled)) == [None, None]


def test_late_event_with_a_marker_is_a_duplicate() -> None:
    """An old event whose marker is still there is a duplicate; without one it stays late and marks nothing."""
    event = did("e1")
    assert judge_by_event([event], [Verdict.LATE], {"e1": event.digest}, {}).verdicts == [Verdict.DUPLICATE_MARKER]
    assert judge_by_event([event], [Verdict.LATE], {}, {}).verdicts == [Verdict.LATE]
    window = MarkerWindow(10)
    assert judge_packed([event], [Verdict.LATE], window, {}).verdicts == [Verdict.LATE]
    assert judge_packed([event], [Verdict.LATE], window, {}).marks == {}
    window.remember(id_digest("e1") + event.digest[:PAYLOAD_BYTES])
    assert judge_packed([event], [Verdict.LATE], window, {}).verdicts == [Verdict.DUPLICATE_MARKER]


def test_taking_nothing_skips_nothing() -> None:
    """A batch of at most 0 records takes one rather than moving past unread ones, and a full one keeps the gap."""
    batcher = Batcher(BatchPolicy(max_events=1))
    batcher.add(Chunk([did("e1", 1)], (5,)))
    batcher.add(Chunk([did("e2", 9)], (9,)))
    first = batcher.take(0)
    assert (len(first.records), first.through, len(batcher)) == (1, (5,), 1)


def test_failed_add_leaves_the_row_untouched() -> None:
    """An add that is refused half way, and caught by the handler, adds nothing and makes no row."""

    def handler(view: View, _event: Event) -> None:
        with suppress(EventProblem):
            view.add(a=1, b="x")

    assert planning([did("e1")], a_spec(handler)).rows == ()


def test_sequenced_row_blames_the_event_that_adds() -> None:
    """In sequence mode an add goes into the whole row, and what does not fit is that event's dead letter."""

    def handler(view: View, _event: Event) -> None:
        view.add(n=MAX_INT)

    spec = a_spec(handler, dedup=Dedup.SEQUENCE, sequence=number_of)
    commit = planning([did("e1", 1, n=1), did("e2", 2, n=2)], spec)
    assert [one.event_id for one in commit.dead_letters] == ["e2"]
    assert [(write.kind, write.attributes, write.sequences) for write in commit.rows] == [
        (WriteKind.PUT, {"n": MAX_INT}, {"log": 2})
    ]


def test_dates_and_plain_subclasses_can_be_stored() -> None:
    """A date, a UUID and a subclass of str become plain text."""

    class Text(str):
        __slots__ = ()

    assert normalise(START_TIME) == "2026-01-01T00:00:00+00:00"
    assert normalise([START_TIME.date(), UUID(int=1)]) == ["2026-01-01", str(UUID(int=1))]
    assert type(normalise(Text("x"))) is str


def test_numbers_no_store_keeps_are_refused() -> None:
    """Integers beyond 38 digits and decimals of extreme size are refused, in rows and in sums."""
    for value in (MAX_INT + 1, 1e300, Decimal("1E+126"), Decimal("1E-131"), float("inf")):
        with pytest.raises(EventProblem):
            normalise(value)
    with pytest.raises(EventProblem):
        add_exact(MAX_INT, 1, "n")

    def handler(view: View, _event: Event) -> None:
        view.put(n=MAX_INT + 1)

    assert len(planning([did("e1")], a_spec(handler)).dead_letters) == 1


def test_long_decimal_keys_stay_apart() -> None:
    """Decimal keys are exact whatever the decimal context, and plain numbers have one text."""
    one, two = Decimal("1234567890123456789012345678901.5"), Decimal("1234567890123456789012345678901.6")
    assert key_text((one,)) != key_text((two,))
    assert [key_text((Decimal(text),)) for text in ("1.50", "-0.0", "1E+2")] == ["1.5", "0", "100"]


def test_refused_commit_without_events_is_trouble() -> None:
    """A heartbeat that the store refuses dead-letters nothing."""
    policy = RetryPolicy()
    assert after_outcome(Rejected("x"), events=0, row_conflicts=0, waited=0, policy=policy) is Step.TROUBLE


def test_own_bug_parks_as_bug() -> None:
    """An error of our tree that says 'report this' is a bug, not something to restart over."""
    assert fate_of(IllegalTransition("x"), 0, RetryPolicy()) is Fate.PARK_AS_BUG


def test_same_effect_twice_in_a_batch_is_one_action() -> None:
    """No two actions of a commit touch one effect."""

    def handler(view: View, _event: Event) -> None:
        view.emit("mail")

    commit = planning([did("e1", 1), did("e1", 2)], a_spec(handler))
    assert len(commit.effects) == 1
    assert replace(commit).effects == commit.effects


def test_attribute_name_that_is_no_string_is_its_events_failure() -> None:
    """A name such as an hour's number dead-letters the event, instead of stopping the shard as a bug."""
    for name in (7, b"x", None):

        def handler(view: View, _event: Event, name: Any = name) -> None:
            view.add({name: 1})

        assert [one.reason for one in planning([did("e1")], a_spec(handler)).dead_letters] == ["bad-attribute"]


def test_value_of_a_broken_class_is_its_events_failure() -> None:
    """Whatever a value raises when it is read late is judged like what a handler raises."""

    class Broken(dict[str, int]):
        def items(self) -> Any:
            raise ZeroDivisionError

    def handler(view: View, _event: Event) -> None:
        view.put(x=Broken(a=1))

    assert [one.reason for one in planning([did("e1")], a_spec(handler)).dead_letters] == ["handler-raised"]


def test_failure_found_late_cannot_be_swallowed_by_the_next_event() -> None:
    """A handler that catches everything hides neither an earlier event's wrong value nor loses its own change."""

    def handler(view: View, event: Event) -> None:
        if event.id == "e1":
            view.patch(a=object())
        with suppress(Exception):
            assert view.row
        view.patch(b=1)

    commit = planning([did("e1", 1), did("e2", 2)], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e1"]
    assert [write.attributes for write in commit.rows] == [{"b": 1}]


def test_wrong_value_that_a_later_event_hides_is_still_a_failure() -> None:
    """The first of several changes of a row is checked like the others."""

    def handler(view: View, event: Event) -> None:
        view.patch(n=event.data["n"])

    commit = planning([did("e1", 1, n=float("nan")), did("e2", 2, n=1)], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e1"]


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("poison", [True, False])
def test_row_once_read_does_not_follow_later_intents(adds: bool, poison: bool) -> None:
    """What a handler read before it wrote is the same for the first event of a batch and for those after it."""

    def handler(view: View, event: Event) -> None:
        if event.data.get("poison"):
            raise ValueError
        row = view.row or {}
        if adds:
            view.add(n=1)
        else:
            view.patch(n=row["n"] + 1)
        view.patch(before=row["n"])

    records: list[Record] = [did("e1", 1), did("e2", 2), did("e3", 3, poison=poison)]
    rows = {RowKey(MAIN_VIEW, "k"): StoredRow({"n": 5}, 1, "log/a@1#x")}
    read = {"n": 7, "before": 6} if poison else {"n": 8, "before": 7}
    assert [write.attributes for write in planning(records, a_spec(handler), rows).rows] == [read]


def test_list_read_from_a_row_is_a_copy() -> None:
    """A handler that fills a list it read changes no loaded row: folding again adds nothing twice."""

    def handler(view: View, event: Event) -> None:
        row = view.row or {}
        row["seen"].append(event.id)
        view.patch(seen=row["seen"])

    base = StoredRow({"seen": ["e0"]}, 1, "log/a@1#e0")
    for _ in range(2):
        commit = planning([did("e1", 1), did("e2", 2)], a_spec(handler), {RowKey(MAIN_VIEW, "k"): base})
        assert [write.attributes for write in commit.rows] == [{"seen": ["e0", "e1", "e2"]}]
    assert base.attributes == {"seen": ["e0"]}


def test_list_that_grows_after_it_was_put_does_not_grow_in_the_row() -> None:
    """An intent takes its values as they are when it is called, in every pass."""

    def handler(view: View, _event: Event) -> None:
        tags = ["a"]
        view.put(tags=tags)
        tags.append("b")
        view.patch(more=tags)
        tags.append("c")

    assert planning([did("e1")], a_spec(handler)).rows[0].attributes == {"tags": ["a"], "more": ["a", "b"]}


def test_rows_that_a_failing_event_read_are_checked() -> None:
    """A dead letter may rest on a row that moved meanwhile, so what it read joins the commit's conditions."""

    def handler(view: View, event: Event) -> None:
        side = view.at("side", "x")
        if event.id == "e1":
            side.add(n=1)
        elif (side.row or {})["n"] > 5:
            raise ValueError

    side = StoredRow({"n": 9}, 1, "log/b@1#x")
    rows = {RowKey(MAIN_VIEW, "k"): None, RowKey("side", "x"): side}
    alone = planning([did("e2", 2)], a_spec(handler), rows)
    assert (len(alone.dead_letters), alone.checks) == (1, (RowCheck(RowKey("side", "x"), Expectation(1, side.source)),))
    after_add = planning([did("e1", 1), did("e2", 2)], a_spec(handler), rows)
    assert [(write.attributes, write.expect) for write in after_add.rows] == [({"n": 10}, Expectation(1, side.source))]


def test_a_list_that_the_handler_fills_further_is_stored_as_it_was_given() -> None:
    """What was given is what the row holds, and the projection does without quick views from then on."""

    def handler(view: View, event: Event) -> None:
        items = [event.data["n"]]
        view.patch(items=items)
        items.append(-1)

    folded = folding([did("e1", 1, n=1), did("e2", 2, n=2)], a_spec(handler), settled=False)
    assert isinstance(folded, Folded)
    assert not folded.quick
    assert planning([did("e1", 1, n=1), did("e2", 2, n=2)], a_spec(handler)).rows[0].attributes == {"items": [2]}


def test_a_value_that_a_later_event_hides_fails_its_event_all_the_same() -> None:
    """Which events fail does not depend on what else was in the batch."""

    def handler(view: View, event: Event) -> None:
        view.patch(n=object() if event.data.get("odd") else 1, seen=event.id)

    commit = planning([did("e1", 1, odd=True), did("e2", 2)], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e1"]
    assert [write.attributes for write in commit.rows] == [{"n": 1, "seen": "e2"}]


def test_keys_that_are_equal_but_not_the_same_are_different_rows() -> None:
    """`at("day", True)` is refused though `at("day", 1)` was met before; the text "1" is the row of the number 1."""

    def handler(view: View, event: Event) -> None:
        view.at("day", event.data["day"]).add(n=1)

    commit = planning([did("e1", 1, day=1), did("e2", 2, day=True), did("e3", 3, day="1")], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e2"]
    assert [(write.key, write.attributes) for write in commit.rows if write.key.view == "day"] == [
        (RowKey("day", "1"), {"n": 2})
    ]


def test_a_key_that_is_no_text_in_the_payload_is_one_row() -> None:
    """With the key read straight from its field, the number 7 and the text "7" are one key, and so is the event's."""
    keys: list[str] = []

    def handler(view: View, event: Event) -> None:
        keys.append(event.key)
        view.add(n=1)

    def as_text(event: Event) -> str:
        return str(event.data["key"])

    spec = a_spec(handler, key=as_text, key_field="key")
    records: list[Record] = [
        an_event(f"e{index}", data={"key": key}, position=(index,)) for index, key in enumerate((7, "7", 7), 1)
    ]
    commit = planning(records, spec)
    assert keys == ["7", "7", "7"]
    assert [write.attributes for write in commit.rows] == [{"n": 3}]


def test_effects_carry_the_name_of_the_handler_that_emitted() -> None:
    """Two handlers of one type, or one: an effect's id is the same whichever loop ran them."""

    def first(view: View, event: Event) -> None:
        view.emit("mail", of=event.id)

    def second(view: View, event: Event) -> None:
        view.emit("mail", of=event.id)

    alone = planning([did("e1", 1)], a_spec(second)).effects
    both = planning([did("e1", 1)], a_spec(first, second)).effects
    slowly = planning([did("e1", 1), did("e2", 2)], a_spec(first, second), parked=frozenset({"other"})).effects
    assert [effect.id for effect in both[1:]] == [effect.id for effect in alone]
    assert [effect.id for effect in slowly[:2]] == [effect.id for effect in both]


def test_a_bad_record_among_events_is_dead_lettered_and_the_others_fold() -> None:
    """A record that is no event costs its batch no second pass and leaves no trace in the rows."""
    passes: list[str] = []

    def handler(view: View, event: Event) -> None:
        passes.append(event.id)
        view.add(n=1)

    commit = planning([did("e1", 1), a_bad_record((2,)), did("e3", 3)], a_spec(handler))
    assert passes == ["e1", "e3"]
    assert [one.position for one in commit.dead_letters] == [(2,)]
    assert [write.attributes for write in commit.rows] == [{"n": 2}]


@pytest.mark.parametrize("then", ["patch", "put", "delete"])
def test_an_integer_too_long_fails_its_event_though_a_later_one_hides_it(then: str) -> None:
    """Beyond 38 digits, overwritten, replaced or deleted within the batch: dead-lettered as it is alone."""

    def handler(view: View, event: Event) -> None:
        if event.data.get("long"):
            view.put(n=10**40, m=1)
        elif then == "delete":
            view.delete()
        elif then == "put":
            view.put(n=1)
        else:
            view.patch(n=1, m=2)

    commit = planning([did("e0", 1), did("e1", 2, long=True), did("e2", 3)], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e1"]


@pytest.mark.parametrize("base", [None, StoredRow({"n": Decimal("1E+37")}, 1, "x")])
def test_a_sum_too_long_on_the_way_fails_its_event_though_a_later_one_mends_it(base: StoredRow | None) -> None:
    """What an event's amount comes to is judged where it stands in the log, not at the batch's end."""
    amounts: list[int | Decimal] = [10**38, -(10**38)] if base is None else [Decimal("0.00001"), Decimal("-0.00001")]

    def handler(view: View, event: Event) -> None:
        index: int = event.data["i"]
        view.add(n=amounts[index])

    commit = planning([did("e1", 1, i=0), did("e2", 2, i=1)], a_spec(handler), {RowKey(MAIN_VIEW, "k"): base})
    assert [one.event_id for one in commit.dead_letters] == ["e1", "e2"]


def test_an_attribute_name_that_is_no_plain_text_is_refused_after_an_equal_one_too() -> None:
    """Names found good before are trusted only as what they were: plain texts."""

    class Name(StrEnum):
        STATUS = "status"

    def handler(view: View, event: Event) -> None:
        view.patch({Name.STATUS: "a"} if event.data.get("odd") else {"status": "a"})

    commit = planning([did("e1", 1), did("e2", 2, odd=True), did("e3", 3)], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e2"]


def test_a_number_too_long_fails_its_event_though_it_was_read_and_hidden_since() -> None:
    """A row that is read between two changes is looked at like any other."""

    def handler(view: View, event: Event) -> None:
        assert event.id == "e1" or view.row is not None
        view.patch(n=event.data["n"])

    commit = planning([did("e1", 1, n=1), did("e2", 2, n=10**40), did("e3", 3, n=2)], a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e2"]


@pytest.mark.parametrize("keys", ["kk", "kl"])
def test_what_only_acts_as_an_integer_fails_its_event_though_a_later_one_hides_it(keys: str) -> None:
    """Alone it would be no value that a row can hold, whatever else is in its column."""

    class Index:
        def __index__(self) -> int:
            return 1

        def __add__(self, other: int) -> "Index":
            return self

        __radd__ = __add__

    def handler(view: View, event: Event) -> None:
        view.patch(n=Index() if event.data.get("odd") else 1)

    events: list[Record] = [did("e1", 1), did("e2", 2, odd=True), did("e3", 3), did("e4", 4, key=keys[1])]
    commit = planning(events, a_spec(handler))
    assert [one.event_id for one in commit.dead_letters] == ["e2"]


class Panic(BaseException):
    """What an extension module raises that looks past `except Exception`."""


OUTSIDE_EXCEPTION = [SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError, Panic]


def poisoned(kind: type[BaseException], event: Event) -> None:
    """Raise for the event that is poison."""
    if event.data.get("poison"):
        raise kind("the end")


def unchanged(event: Event) -> Event:
    """Upcast nothing."""
    return event


@pytest.mark.parametrize("kind", OUTSIDE_EXCEPTION)
@pytest.mark.parametrize("careful", [False, True])
def test_what_is_no_exception_is_a_failed_event_all_the_same(kind: type[BaseException], careful: bool) -> None:
    """A handler that calls `sys.exit`, or raises whatever else, fails its event and neither the batch nor the daemon;
    so it is where upcasters keep a batch from being a plain one.
    """

    def handler(view: View, event: Event) -> None:
        view.add(n=1)
        poisoned(kind, event)

    spec = a_spec(handler, upcasters={"old": unchanged} if careful else {})
    commit = planning([did("e1", 1), did("e2", 2, poison=True), did("e3", 3)], spec)
    (letter,) = commit.dead_letters
    assert (letter.event_id, letter.reason, letter.detail) == ("e2", "handler-raised", f"{kind.__name__}: the end")
    assert [write.attributes for write in commit.rows] == [{"n": 2}]


@pytest.mark.parametrize("kind", OUTSIDE_EXCEPTION)
@pytest.mark.parametrize("part", ["key", "upcaster", "sequence"])
def test_a_key_upcaster_or_sequence_that_exits_fails_its_event(kind: type[BaseException], part: str) -> None:
    """Whichever function of the projection raises what is no Exception, its event alone fails."""

    def key(event: Event) -> str:
        if part == "key":
            poisoned(kind, event)
        return event.data["key"]

    def upcast(event: Event) -> Event:
        if part == "upcaster":
            poisoned(kind, event)
        return event

    def sequence(event: Event) -> int:
        if part == "sequence":
            poisoned(kind, event)
        return event.data["n"]

    def handler(view: View, _event: Event) -> None:
        view.add(n=1)

    spec = a_spec(handler, key=key, sequence=sequence, dedup=Dedup.SEQUENCE, upcasters={"Did": upcast})
    commit = planning([did("e1", 1, n=1), did("e2", 2, n=2, poison=True)], spec, {RowKey(MAIN_VIEW, "k"): None})
    assert [(letter.event_id, letter.reason) for letter in commit.dead_letters] == [("e2", "handler-raised")]
    assert [write.attributes for write in commit.rows] == [{"n": 1}]


def test_an_error_whose_text_exits_is_told_without_it() -> None:
    """An error class whose `__str__` raises what is no Exception turns no event's failure into the shard's."""

    class Unspeakable(Panic):
        def __str__(self) -> str:
            raise SystemExit

    def handler(_view: View, _event: Event) -> None:
        raise Unspeakable

    (letter,) = planning([did("e1")], a_spec(handler)).dead_letters
    assert letter.detail == "Unspeakable: (its text cannot be read)"


def test_memory_that_runs_out_is_no_events_fault() -> None:
    """A MemoryError is not a verdict on the event that met it: it leaves the fold."""

    def handler(_view: View, _event: Event) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        folding([did("e1")], a_spec(handler))
