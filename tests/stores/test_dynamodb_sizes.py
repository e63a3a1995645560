"""What an action takes, against the strict server's own counting, and what can never be held."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, DeadLetter, MarkerWrite, ParkedEvent
from daemon.core.errors import EventProblem
from daemon.core.identity import RowKey, Scope
from daemon.core.rows import ABSENT, Effect, Expectation, RowCheck, RowWrite, WriteKind
from daemon.core.window import SegmentWrite
from daemon.stores.dynamodb import items
from daemon.stores.dynamodb.requests import row_item
from daemon.stores.dynamodb.sizes import LIMITS, MAX_ITEM_BYTES, MAX_NESTING, bound, measure
from daemon.testing.dynamodb.values import measured_item

AT = datetime(2026, 1, 2, tzinfo=UTC)
SCOPE = Scope("orders", 1, "log", "a")
PK = items.scope_key(SCOPE)
ROW = RowKey("main", "k")


def scaled(number: int, exponent: int) -> Decimal:
    """A number times a power of ten."""
    return Decimal(number).scaleb(exponent)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = TEXT.filter(lambda name: name[:1] not in {"", "_"} and name not in {"key", "view"})
NUMBERS = (
    st.integers(-(10**38) + 1, 10**38 - 1)
    | st.integers(-9, 9)
    | st.builds(scaled, st.integers(-(10**30), 10**30), st.integers(-90, 90))
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.binary(max_size=40) | TEXT,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def put(attributes: dict[str, Any], key: RowKey = ROW, **more: Any) -> RowWrite:
    """A PUT of an absent row."""
    return RowWrite(key, WriteKind.PUT, attributes, ABSENT, "log/a@1#e", **more)


@settings(deadline=None)
@given(
    st.dictionaries(NAMES, VALUES, max_size=8),
    TEXT.filter(bool),
    st.none() | st.dictionaries(TEXT, st.integers(0, 2**63)),
)
def test_row_is_never_measured_too_small(
    attributes: dict[str, Any], key: str, sequences: dict[str, int] | None
) -> None:
    """A row takes no more than was said, and one that was not refused is one that the server takes."""
    write = put(attributes, RowKey("main", key), sequences=sequences, expires_at=2**31)
    assert measure(write) >= measured_item(row_item(write, 10**9))[1]


@settings(deadline=None)
@given(TEXT, TEXT, st.binary(max_size=60), st.lists(st.integers(0, 10**129), max_size=3).map(tuple))
def test_other_items_are_never_measured_too_small(one: str, two: str, raw: bytes, position: tuple[int, ...]) -> None:
    """Markers, segments, effects, dead letters, parked events and checkpoints take no more than was said."""
    long = one * 40
    letter = DeadLetter(position, long, two, one, two, one, raw, len(raw), bytes(16), AT)
    parked = ParkedEvent(two * 30, position, long, raw, one, two, AT)
    effect = Effect(long or "x", two, {one: two, "n": Decimal("1.5")}, one, two)
    checkpoint = Checkpoint(position, position, 2**40, 2**40, one, two, reason=long, incarnation=two, watermark=AT,
                            code_digest=one, counters={one: 2**60, "read": 1})  # fmt: skip
    segment = SegmentWrite(2**30, raw, 2**30)
    pk = PK * 20
    for action, item in (
        (letter, items.dead_letter_item(pk, letter)),
        (parked, items.parked_item(pk, parked)),
        (effect, items.effect_item(SCOPE, 2**40, 99, effect)),
        (checkpoint, items.checkpoint_item(pk, checkpoint)),
        (segment, items.segment_item(pk, segment.number, segment.entries, 2**40, segment.drop_below)),
        (
            MarkerWrite(long, bytes(16)),
            items.item_of({"pk": items.marker_key("orders-g1/", long), "digest": bytes(16), "expires": 2**32}),
        ),
    ):
        assert measure(action) >= measured_item(item)[1]
    assert measure(RowCheck(RowKey("main", "k"), Expectation(1, one))) > 0


@pytest.mark.parametrize(
    ("attributes", "slack"),
    [({"text": "x" * 400_000}, 300), ({"text": "é" * 200_000}, 300), ({"raw": b"x" * 300_000}, 300),
     ({f"a{n}": n for n in range(20_000)}, 60_000), ({"list": ["x" * 50] * 7_000}, 300)],
    ids=["text", "accents", "bytes", "numbers", "list"],
)  # fmt: skip
def test_large_rows_are_measured_exactly(attributes: dict[str, Any], slack: int) -> None:
    """A large row is not refused for a bound that is too generous: only a number may count a few bytes too many."""
    write = put(attributes)
    real = measured_item(row_item(write, 1))[1]
    assert real <= measure(write) <= real + slack


SMALL: dict[str, dict[str, Any]] = {
    "list": {"n": [1] * 500},
    "lists": {"n": [[]] * 400},
    "names": {f"a{n}": n for n in range(300)},
    "flags": {"n": [None, True] * 300},
    "accents": {"t": "é" * 900},
}


@pytest.mark.parametrize("attributes", SMALL.values(), ids=SMALL)
def test_bounds_of_small_rows_hold(attributes: dict[str, Any]) -> None:
    """The quick bound holds where a value takes more room in an item than in JSON."""
    write = put(attributes)
    assert measure(write) >= measured_item(row_item(write, 1))[1]


def test_limits_are_the_real_ones() -> None:
    """100 actions, 4 MB, 400 KB."""
    assert (LIMITS.actions, LIMITS.transaction_bytes, LIMITS.item_bytes) == (100, 4_194_304, 409_600)
    assert measure(put({"text": "x" * MAX_ITEM_BYTES})) > MAX_ITEM_BYTES


def nested(levels: int) -> Any:
    """A number inside so many lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


NEVER: list[tuple[Any, str]] = [
    (put({"n": 10**38 + 1}), "39 digits"),
    (put({"n": [Decimal("1." + "1" * 38)]}), "39 digits"),
    (put({"n": Decimal("1E+126")}), "beyond"),
    (put({"n": {"a": Decimal("1E-131")}}), "beyond"),
    (put({"n": Decimal("NaN")}), "finite"),
    (put({"n": nested(MAX_NESTING + 1)}), "31 lists and maps"),
    (put({"n": object()}), "type object"),
    (put({"n": "\ud800"}), "UTF-8"),
    (put({"n": 1}, RowKey("main", "")), "key ''"),
    (put({"n": 1}, RowKey("", "k")), "view ''"),
    (put({"n": 1}, RowKey("main", "é" * 1025)), "2050 bytes"),
    (put({"n": 1}, RowKey("v" * 1025, "k")), "1025 bytes"),
    (put({"n": 10**30}, RowKey("v" * 1025, "k")), "1025 bytes"),
    (put({"n" * 65_536: 1}), "65536 bytes"),
    (RowCheck(RowKey("v" * 1025, "k"), ABSENT), "1025 bytes"),
    (RowWrite(RowKey("m", "k"), WriteKind.ADD, {f"a{n}": 1 for n in range(291)}, None, "s"), "291 amounts"),
    (RowWrite(RowKey("m", "k"), WriteKind.ADD, {f"a{n}" * 50: 1 for n in range(291)}, None, "s"), "291 amounts"),
    (Effect("x", "mail", {"n": nested(MAX_NESTING)}, "e", "k"), "31 lists and maps"),
    (ParkedEvent("k", (1,), "\ud800", b"", "", "", AT), "UTF-8"),
]


@pytest.mark.parametrize(("action", "words"), NEVER)
def test_what_can_never_be_held(action: Any, words: str) -> None:
    """What is beyond any item is the event's fault, with the limit in the reason."""
    with pytest.raises(EventProblem, match=words):
        measure(action)


def commit_of(*rows: RowWrite, **more: Any) -> Commit:
    """A commit of these rows."""
    return Commit(SCOPE, Checkpoint().fence, Checkpoint(), rows, **more)


@settings(deadline=None)
@given(st.lists(st.tuples(st.dictionaries(NAMES, VALUES, max_size=8), TEXT), max_size=6), st.lists(TEXT, max_size=5))
def test_a_commit_bounded_at_a_glance_is_never_bounded_too_low(
    rows: list[tuple[dict[str, Any], str]], ids: list[str]
) -> None:
    """A glance at a whole commit says no less than what its items take together, and knows what it cannot tell."""
    writes = [put(attributes, RowKey("main", key), expires_at=2**31) for attributes, key in rows]
    markers = tuple(MarkerWrite(event_id, bytes(16)) for event_id in ids)
    segment = SegmentWrite(0, bytes(60), 0)
    told = bound(commit_of(*writes, markers=markers, segment=segment))
    if told is None:
        return
    held = [row_item(write, 10**9) for write in writes]
    held += [items.item_of({"pk": f"orders-g1/{one}", "digest": bytes(16), "expires": 2**32}) for one in ids]
    held += [items.checkpoint_item(PK, Checkpoint()), items.segment_item(PK, 0, bytes(60), 1, 0)]
    assert told >= sum(measured_item(item)[1] for item in held)


def test_a_usual_commit_is_bounded_at_a_glance() -> None:
    """Flat rows, markers and a segment need no measuring one by one."""
    rows = [put({"text": "x", "number": 1, "sum": Decimal("1.5"), "none": None}, RowKey("main", f"k{n}"))
            for n in range(49)]  # fmt: skip
    assert bound(commit_of(*rows, markers=(MarkerWrite("e", bytes(16)),), segment=SegmentWrite(0, b"", 0))) is not None


@pytest.mark.parametrize("write", [action for action, _ in NEVER if isinstance(action, RowWrite)])
def test_a_glance_lets_nothing_pass_that_no_item_can_hold(write: RowWrite) -> None:
    """Whatever would be refused when it is measured is left to that."""
    assert bound(commit_of(write, put({"n": 1}))) is None


def test_deepest_value_is_held() -> None:
    """What is not refused for its depth is taken by the server."""
    assert measured_item(row_item(put({"n": nested(MAX_NESTING)}), 1))[1] <= measure(put({"n": nested(MAX_NESTING)}))
