"""Specs as declared, handlers in order, guarantees in words and units, the sum of partials."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from daemon.api import Event, Index, View, on, projection, sum_partials
from daemon.core.projection import Dedup, OnError, OnGap, OnLate
from daemon.loading import describe
from tests.api.conftest import Load
from tests.support.folding import Rows, event, spec_of


def test_every_option_reaches_the_spec():
    """What was declared is what the engine gets."""

    @projection(
        name="everything",
        version=3,
        source=("orders", "carriers"),
        key=("data.id", "subject"),
        dedup="sequence",
        sequence="data.seq",
        sequence_start=1,
        on_gap="wait",
        on_error="park-key",
        late="apply",
        marker_retention=timedelta(days=3),
        indexes=(Index("by-status", "status", "placed_at"),),
        expires=timedelta(days=400),
    )
    class Everything:
        @on("A")
        def a(self, view: View, event: Event) -> None: ...

    spec = spec_of(Everything, "orders", "carriers", "others")
    assert (spec.name, spec.version, spec.sources) == ("everything", 3, ("orders", "carriers"))
    assert (spec.dedup, spec.sequence_start, spec.on_gap) == (Dedup.SEQUENCE, 1, OnGap.WAIT)
    assert (spec.on_error, spec.late) == (OnError.PARK_KEY, OnLate.APPLY)
    assert (spec.marker_retention, spec.expires) == (timedelta(days=3), timedelta(days=400))
    assert spec.indexes == (Index("by-status", "status", "placed_at"),)
    assert spec.sequence is not None
    assert spec.sequence(event("A", seq=4)) == 4


def test_two_versions_stand_side_by_side(load: Load):
    """Two versions of one projection load together, even under one class name, in the order of definition."""
    text = """
    @projection(name="orders", version=1, source="orders", key="data.id")
    class Orders:
        @on("A")
        def a(self, view, event): ...
    @projection(name="orders", version=2, source="orders", key="data.id")
    class Orders:
        @on("A")
        def a(self, view, event): ...
    """
    assert [(spec.name, spec.version) for spec in load(versions=text)] == [("orders", 1), ("orders", 2)]


def test_a_module_brings_what_it_imports(load: Load):
    """A module that imports projections from another brings them, once, also when both are listed."""
    text = """
    @projection(name="a", version=1, source="orders", key="id")
    class A:
        @on("A")
        def a(self, view, event): ...
    """
    assert [spec.name for spec in load(inner=text, outer="from inner import A\n")] == ["a"]


def test_handlers_of_one_type_run_in_order():
    """Several handlers of a type run as defined, a base class's first; an overridden one runs in its place."""

    class Base:
        @on("A")
        def first(self, view: View, event: Event) -> None:
            view.patch(order=[*(view.row or {}).get("order", []), "base first"])

        @on("A")
        def second(self, view: View, event: Event) -> None:
            view.patch(order=[*(view.row or {}).get("order", []), "base second"])

    @projection(name="ordered", version=1, source="orders", key="data.id")
    class Ordered(Base):
        def __init__(self) -> None:
            self.name = "third"

        @on("A", "B")
        def third(self, view: View, event: Event) -> None:
            view.patch(order=[*(view.row or {}).get("order", []), self.name])

        @on("A")
        def second(self, view: View, event: Event) -> None:
            view.patch(order=[*(view.row or {}).get("order", []), "own second"])

    rows = Rows(spec_of(Ordered))
    rows.fold(event("A", id="x"))
    assert rows.row("x") == {"order": ["base first", "own second", "third"]}


def test_events_of_other_kinds_are_let_be():
    """An event without a handler needs no key: it is applied as nothing, in every mode of dedup."""

    @projection(name="plain", version=1, source="orders", key="data.id")
    class Plain:
        @on("A")
        def a(self, view: View, event: Event) -> None:
            view.add(n=1)

    @projection(name="counted", version=1, source="orders", key="data.id", dedup="sequence", sequence="data.seq")
    class Counted(Plain):
        pass

    for cls in (Plain, Counted):
        rows = Rows(spec_of(cls))
        folded = rows.fold(event("A", id="x", seq=1), event("Other", name="n"), event("Other", id="x"))
        assert rows.failures == []
        assert folded.verdicts == [None, None, None]
        assert rows.all() == {("main", "x"): {"n": 1}}


def test_every_event_of_an_entity_advances_its_sequence():
    """Under dedup="sequence" an event without a handler still counts: the next one is no gap."""

    @projection(name="counted", version=1, source="orders", key="data.id", dedup="sequence", sequence="data.seq")
    class Counted:
        @on("A")
        def a(self, view: View, event: Event) -> None:
            view.add(n=1)

    rows = Rows(spec_of(Counted))
    rows.fold(event("A", id="x", seq=1), event("Other", id="x", seq=2), event("A", id="x", seq=3))
    assert rows.row("x") == {"n": 2}
    assert rows.parked == set()


OPTIONS: dict[str, dict[str, Any]] = {
    "event": {},
    "shard": {"marker_window": 50_000},
    "sequence": {"sequence": "data.seq", "sequence_start": 1},
}


@pytest.mark.parametrize(
    ("dedup", "promise", "remains", "markers"),
    [
        ("event", "from whatever shard or source", "dead-lettered, not applied", 2_000_000),
        ("shard", "among the newest 50,000 of its shard", "the same id in another shard", 40_000),
        ("sequence", "from number 1 on; a gap parks the key", "a deleted row is remembered for 14 days", 0),
    ],
)
def test_a_guarantee_says_promise_limits_and_cost(dedup: Any, promise: str, remains: str, markers: int):
    """Each mode says what it stops, what it lets through, and what a million events cost in write units."""

    @projection(name="p", version=1, source="orders", key="data.id", dedup=dedup, **OPTIONS[dedup])
    class P:
        @on("A")
        def a(self, view: View, event: Event) -> None: ...

    guarantee = describe(spec_of(P), events_per_commit=100 if dedup == "shard" else 50)
    assert promise in guarantee.promise
    assert any(remains in limit for limit in guarantee.remains)
    assert guarantee.marker_units == markers
    assert f"{markers:,} write units for markers" in str(guarantee)
    assert guarantee.checkpoint_units == (20_000 if dedup == "shard" else 40_000)
    assert guarantee.row_units_at_most == 2_000_000


def test_a_packed_segment_grows_by_the_kilobyte():
    """A commit of 100 ids of 20 bytes writes a segment of 2 KB: 4 units a commit; one of 10 writes 1 KB: 2 units."""

    @projection(name="p", version=1, source="orders", key="data.id", dedup="shard")
    class P:
        @on("A")
        def a(self, view: View, event: Event) -> None: ...

    spec = spec_of(P)
    assert describe(spec, events_per_commit=100).marker_units == 10_000 * 4
    assert describe(spec, events_per_commit=10).marker_units == 100_000 * 2
    with pytest.raises(ValueError, match="below 1"):
        describe(spec, events_per_commit=0)


def test_partials_are_summed_exactly():
    """Partial rows are summed by attribute, exactly, without the store's own attributes."""
    rows = [
        {"key": "k", "view": "main@orders/0", "_v": 3, "n": 1, "fares": Decimal("0.10")},
        {"key": "k", "view": "main@orders/1", "_v": 1, "n": 2, "fares": Decimal("0.20"), "late": 1},
    ]
    assert sum_partials(rows) == {"n": 3, "fares": Decimal("0.30"), "late": 1}
    assert sum_partials([]) == {}
    with pytest.raises(ValueError, match="attribute 'n' of a partial row holds str"):
        sum_partials([{"n": "1"}])


def test_a_shared_addition_is_read_as_its_sum():
    """What add(shared=True) writes from two shards, sum_partials adds up."""

    @projection(name="shared", version=1, source=("orders", "carriers"), key="data.id")
    class Shared:
        @on("A")
        def a(self, view: View, event: Event) -> None:
            view.add(n=1, shared=True)

    rows = Rows(spec_of(Shared, "orders", "carriers"))
    rows.fold(event("A", id="x"), event("A", id="x"), source="orders")
    rows.fold(event("A", id="x"), source="carriers")
    partials = rows.all()
    assert set(partials) == {("main@orders/0", "x"), ("main@carriers/0", "x")}
    assert sum_partials(partials.values()) == {"n": 3}
