"""Values are kept exactly or refused, and sums are exact."""

from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import EventProblem
from daemon.core.values import MAX_DEPTH, MAX_INT, add_exact, amount_of, check_names, normalise

DECIMALS = st.decimals(min_value=-(10**15), max_value=10**15, places=6)
PLAIN = st.one_of(st.text(), st.integers(-MAX_INT, MAX_INT), st.booleans(), st.none(), st.binary(), DECIMALS)
VALUES = st.recursive(PLAIN, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=8)


@given(value=VALUES)
def test_portable_values_stay_as_they_are(value: object) -> None:
    """A portable value is normalised to itself, copied, and again to the same."""
    once = normalise(value)
    assert once == value
    assert normalise(once) == once
    assert not isinstance(value, list | dict) or once is not value


@given(value=st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100))
def test_floats_become_their_shortest_decimal(value: float) -> None:
    """A float becomes the decimal that reads back as the same float, or is refused for being too small."""
    if value and abs(value) < 1e-120:
        return
    assert float(normalise(value)) == value


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


def test_richer_types_become_plain() -> None:
    """Enums, tuples and subclasses lose nothing but their type."""

    class Whole(int):
        pass

    class Exact(Decimal):
        pass

    given_value = {"a": (Colour.RED, Level.HIGH, Whole(4), Exact("1.50"))}
    result: dict[str, list[Any]] = normalise(given_value)
    assert result == {"a": ["red", 3, 4, Decimal("1.50")]}
    assert [type(item) for item in result["a"]] == [str, int, int, Decimal]


def nested(levels: int) -> object:
    """A list within a list."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), Decimal("NaN"), Decimal("Infinity"), Decimal("1" * 39), object(), {1: 2}, {1, 2},
     Fraction(1, 3), nested(MAX_DEPTH + 1), [MAX_INT + 1], 1j],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_unportable_values_are_refused(value: object) -> None:
    """What some store cannot keep exactly is a bad value."""
    with pytest.raises(EventProblem, match="bad-value"):
        normalise(value)
    assert normalise(nested(MAX_DEPTH)) == nested(MAX_DEPTH)


@pytest.mark.parametrize("name", ["", "_v", "key", "view"])
def test_reserved_names_are_refused(name: str) -> None:
    """The store's own names are not for rows."""
    with pytest.raises(EventProblem, match="bad-attribute"):
        check_names(["fine", name])


@given(amounts=st.lists(st.one_of(st.integers(-(10**12), 10**12), DECIMALS), max_size=8))
def test_sums_are_exact_in_any_order(amounts: list[int | Decimal]) -> None:
    """The sum does not depend on the order, and equals the sum of fractions."""
    for ordered in (amounts, amounts[::-1]):
        total: int | Decimal | None = None
        for amount in ordered:
            total = add_exact(total, amount, "n")
        assert Fraction(total or 0) == sum(map(Fraction, amounts))


def test_sums_that_would_be_rounded_are_refused() -> None:
    """Too many digits, and what is no number, are errors of the event."""
    for total, amount in ((Decimal("1E+30"), Decimal("1E-30")), (MAX_INT, 1), (-MAX_INT, Decimal("-0.1"))):
        with pytest.raises(EventProblem, match="sum-too-long"):
            add_exact(total, amount, "n")
    for total in ("x", True, [1]):
        with pytest.raises(EventProblem, match="not-a-number"):
            add_exact(total, 1, "n")
    for amount in ("1", True, None, [1]):
        with pytest.raises(EventProblem, match="not-a-number"):
            amount_of(amount, "n")
    assert [amount_of(0.1, "n"), amount_of(Decimal("1.0"), "n"), amount_of(5, "n")] == [Decimal("0.1"), 1, 5]
