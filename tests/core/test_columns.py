"""Values looked at in columns come to what they come to one by one, whatever else is in the batch."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import IntEnum, StrEnum
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.batcher import Chunk
from daemon.core.checkpoint import Checkpoint
from daemon.core.columns import alike, are_short_amounts, are_short_integers
from daemon.core.commit import Limits
from daemon.core.dedup import Judged
from daemon.core.events import Event, Record
from daemon.core.fold import FoldContext, Folded, fold
from daemon.core.identity import Scope
from daemon.core.planner import PlanContext, Planned, plan
from daemon.core.view import UNLOADED, Base, View
from tests.core.events import START_TIME, a_spec, an_event

SCOPE = Scope("orders", 1, "log", "a")


class Colour(StrEnum):
    """A text that is stored as another type's."""

    RED = "red"


class Grade(IntEnum):
    """An integer that is stored as another type's."""

    BEST = 1


VALUES = [
    "x", "", None, True, False, 0, 1, -7, 2**63 - 1, 2**63, 10**38 - 1, 10**38, Decimal("1.50"), Decimal("1E-131"), 1.5,
    float("nan"), date(2026, 3, 1), b"ab", Colour.RED, Grade.BEST, [1], 1j,
]  # fmt: skip
AMOUNTS = [1, 2, -3, 2**63, 10**38 - 1, True, Decimal("0.5"), 0.25, Decimal("1E+30"), "1", Grade.BEST]
NAMES = st.sampled_from(["a", "b", "b", "a", "_c"])


@st.composite
def logs(draw: st.DrawFn, verbs: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Return keys and intents. A log has few kinds of values, or most would hold one that nothing can store."""
    values = st.sampled_from(draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3)))
    amounts = st.sampled_from(draw(st.lists(st.sampled_from(AMOUNTS), min_size=1, max_size=3)))

    def fields(verb: str) -> st.SearchStrategy[tuple[str, Any]]:
        return st.tuples(st.just(verb), st.dictionaries(NAMES, amounts if verb == "add" else values, max_size=2))

    return draw(st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from(verbs).flatmap(fields)), max_size=12))


def handle(view: View, event: Event) -> None:
    """Do what the event says."""
    verb, given_fields = event.data["do"]
    getattr(view, verb)(**given_fields)


def planned(log: list[tuple[str, Any]], base: Base, *, quick: bool) -> Planned:
    """Fold and plan a log in one batch."""
    records: list[Record] = [
        an_event(f"e{index}", data={"key": key, "do": intent}, position=(index + 1,))
        for index, (key, intent) in enumerate(log)
    ]
    spec = a_spec(handle)
    context = FoldContext(spec, SCOPE.shard_id, lambda _: base, quick=quick)
    folded = fold(Judged(records, [None] * len(records)), context)
    assert isinstance(folded, Folded)
    done = plan(
        folded, Chunk(records, (len(records),)), PlanContext(SCOPE, spec, Checkpoint(), "c", START_TIME, Limits())
    )
    assert isinstance(done, Planned)
    return done


def told(attributes: Mapping[str, Any] | None) -> list[tuple[str, type, Any]] | None:
    """Return attributes with their types: 1, True and 1.0 are equal."""
    return (
        None
        if attributes is None
        else [(name, type(attributes[name]), attributes[name]) for name in sorted(attributes)]
    )


@given(log=logs(("put", "patch", "add")))
def test_quick_views_come_to_what_careful_ones_come_to(log: list[tuple[str, Any]]) -> None:
    """The same rows, to the type, and the same dead letters, on rows that are absent."""
    quick, careful = (planned(log, None, quick=which).commit for which in (True, False))
    assert {w.key: (w.kind, told(w.attributes)) for w in quick.rows} == {
        w.key: (w.kind, told(w.attributes)) for w in careful.rows
    }
    assert [(one.event_id, one.reason) for one in quick.dead_letters] == [
        (one.event_id, one.reason) for one in careful.dead_letters
    ]


@given(log=logs(("add",)))
def test_amounts_added_to_rows_that_nobody_read_come_to_the_same(log: list[tuple[str, Any]]) -> None:
    """Quick or careful: the same sums, exactly, and the same dead letters."""
    quick, careful = (planned(log, UNLOADED, quick=which).commit for which in (True, False))
    assert {w.key: told(w.attributes) for w in quick.rows} == {w.key: told(w.attributes) for w in careful.rows}
    assert [one.event_id for one in quick.dead_letters] == [one.event_id for one in careful.dead_letters]


def test_changes_of_as_many_names_but_others_are_no_group() -> None:
    """What has the same number of names is alike only where the names are."""
    changes: list[dict[str, Any]] = [{"a": 1}, {"b": 2}, {"a": 3, "b": 4}, {"b": 5, "a": 6}, {"a": 7}, {}]
    groups = alike(changes, [*range(len(changes))])
    assert sorted((sorted(group.columns.items()) for group in groups), key=repr) == sorted(
        [[("a", [1, 7])], [("a", [3, 6]), ("b", [4, 5])], [("b", [2])]], key=repr
    )
    assert sorted(group.owners for group in groups) == [[0, 4], [1], [2, 3]]
    assert all(group.changes == [changes[owner] for owner in group.owners] for group in groups)


@pytest.mark.parametrize(
    ("column", "integers", "amounts"),
    [
        ([1, -(2**63)], True, True),
        ([1, True], True, False),
        ([1, 2**63], False, False),
        ([1, Decimal(1)], False, False),
        ([1, "1"], False, False),
        ([Grade.BEST, 1], True, False),
    ],
)
def test_short_integers_are_told_from_what_looks_alike(column: list[Any], integers: bool, amounts: bool) -> None:
    """Booleans count as integers to store, and as no amounts."""
    assert (are_short_integers(column), are_short_amounts(column)) == (integers, amounts)


@pytest.mark.parametrize("verb", ["put", "patch", "add"])
@pytest.mark.parametrize("keys", ["kk", "kl", "kkl", "klk"])
def test_every_value_beside_every_other_comes_to_what_it_comes_to_one_by_one(verb: str, keys: str) -> None:
    """Hidden by it in one row, or in another row of the same batch."""
    for values in product(AMOUNTS if verb == "add" else VALUES, repeat=2):
        log = [(key, (verb, {"a": value})) for key, value in zip(keys, (*values, values[0]), strict=False)]
        quick, careful = (planned(log, None, quick=which).commit for which in (True, False))
        assert [told(w.attributes) for w in quick.rows] == [told(w.attributes) for w in careful.rows], values
        assert [one.event_id for one in quick.dead_letters] == [one.event_id for one in careful.dead_letters], values
