"""What a row attribute may hold, and exact arithmetic on it.

Owns the portable value types (those every store keeps without loss) and the addition of amounts. Floats become the
`Decimal` of their shortest text, so that a row read back from any store equals the row in memory.

Invariant: nothing is rounded. A sum that needs more than 38 digits is an error of the event that caused it.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from enum import Enum
from functools import reduce
from types import NoneType
from typing import Any, cast
from uuid import UUID

from daemon.core.errors import EventProblem

MAX_DIGITS = 38
"""Significant digits a stored number may have: the least of all stores' limits."""
MAX_INT = 10**MAX_DIGITS - 1
MAX_DEPTH = 31
"""Lists and maps around a stored value, at most: DynamoDB takes 32 levels and counts the value itself as one."""
RESERVED_PREFIX = "_"
RESERVED_NAMES = frozenset({"key", "view"})

PLAIN_TYPES: frozenset[type] = frozenset({str, int, bool, NoneType})
"""Types stored as they are; every other type goes through `normalise`."""

STEADY_TYPES = PLAIN_TYPES | {float, Decimal, bytes, date, datetime, time, UUID}
"""Types whose values cannot change once they were given."""

_EXACT = Context(prec=MAX_DIGITS, traps=[Inexact, Overflow, InvalidOperation, DivisionByZero])
_INTEGERS, _DECIMALS = {int}, {Decimal}
_type_of: Callable[[object], type] = type
_MAX_EXPONENT = 125
_MIN_EXPONENT = -130


def normalise(value: object, depth: int = 0) -> Any:
    """Return `value` as a portable stored value: str, int, bool, None, Decimal, bytes, list or dict, copied.

    Raises EventProblem (`bad-value`) for a type, number or depth that not every store keeps exactly.
    """
    kind = type(value)
    if kind is int:
        return _checked_int(cast("int", value))
    if kind in PLAIN_TYPES or kind is bytes:
        return value
    if kind is float:
        return _checked_decimal(Decimal(repr(value)))
    if kind is Decimal:
        return _checked_decimal(cast("Decimal", value))
    if depth >= MAX_DEPTH:
        detail = f"value nests deeper than {MAX_DEPTH} levels; flatten it or store it as a string"
        raise EventProblem("bad-value", detail)
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value)
        return {_checked_entry(name): normalise(item, depth + 1) for name, item in entries.items()}
    if isinstance(value, list | tuple):
        return [normalise(item, depth + 1) for item in cast("Iterable[object]", value)]
    return normalise(_plain(value), depth)


def _plain(value: object) -> object:
    """Return what stands for a value of a richer type: an enum's value, a date's text, a subclass's plain base."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    for base in (int, float):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, Decimal):
        return Decimal(value)
    detail = (
        f"type {type(value).__name__} cannot be stored exactly; "
        "use str, int, Decimal, bool, None, bytes, list, dict or a date"
    )
    raise EventProblem("bad-value", detail)


def _checked_decimal(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise EventProblem("bad-value", f"{value} is no number a row can hold; store a finite number or None")
    if len(value.as_tuple().digits) > MAX_DIGITS:
        detail = f"{len(value.as_tuple().digits)} digits exceed the {MAX_DIGITS} that stores keep; store a string"
        raise EventProblem("bad-value", detail)
    if value and not _MIN_EXPONENT <= value.adjusted() <= _MAX_EXPONENT:
        detail = f"{value:.6E} lies outside 1E{_MIN_EXPONENT} to 1E+{_MAX_EXPONENT + 1}; scale it or store a string"
        raise EventProblem("bad-value", detail)
    return value


def _checked_int(value: int) -> int:
    """Return `value` if every store keeps it. Raises EventProblem (`bad-value`) beyond 38 digits."""
    if -MAX_INT <= value <= MAX_INT:
        return value
    detail = f"an integer of {value.bit_length()} bits exceeds the {MAX_DIGITS} digits that stores keep; store a string"
    raise EventProblem("bad-value", detail)


def _checked_entry(name: object) -> str:
    if not isinstance(name, str):
        raise EventProblem("bad-value", f"map key {name!r} is no string; convert it before storing")
    return name if type(name) is str else str.__str__(name)


def check_names(names: Iterable[object]) -> None:
    """Refuse attribute names that the store keeps for itself, empty ones, and what is no string.

    Raises EventProblem (`bad-attribute`).
    """
    for name in names:
        if type(name) is not str:
            detail = f"attribute name {name!r:.80} is no plain string; convert it with str() before storing"
            raise EventProblem("bad-attribute", detail)
        if not name or name[0] == RESERVED_PREFIX or name in RESERVED_NAMES:
            detail = f"attribute name {name!r} is reserved (empty, 'key', 'view' or a leading '_'); rename it"
            raise EventProblem("bad-attribute", detail)


def add_exact(total: object, amount: int | Decimal, name: str) -> int | Decimal:
    """Return `total + amount` exactly; an absent or None total counts as 0.

    Raises EventProblem (`not-a-number`, `sum-too-long`).
    """
    if total is None:
        return amount
    if type(total) is int and type(amount) is int:
        whole = total + amount
        if -MAX_INT <= whole <= MAX_INT:
            return whole
        raise _too_long(name)
    if isinstance(total, bool) or not isinstance(total, int | Decimal):
        detail = f"attribute {name!r} holds {type(total).__name__}; add() needs a number or an absent attribute"
        raise EventProblem("not-a-number", detail)
    try:
        return _EXACT.add(Decimal(total), Decimal(amount))
    except (Inexact, Overflow, InvalidOperation) as error:
        raise _too_long(name) from error


def sum_exact(amounts: list[Any], name: str) -> int | Decimal:
    """Return the sum of amounts, exactly; integers, or ordinary decimals, without a look at each.

    Raises EventProblem as `amount_of` and `add_exact` do.
    """
    kinds = {*map(_type_of, amounts)}
    if kinds == _INTEGERS:
        try:
            struct.pack(f"{len(amounts)}q", *amounts)  # of 64 bits each: no sum on the way can be too long
        except struct.error:
            pass
        else:
            return sum(amounts)
    if kinds == _DECIMALS and all(map(Decimal.is_finite, amounts)):
        scales = [*map(Decimal.adjusted, amounts)]
        if min(scales) >= _MIN_EXPONENT and max(scales) <= _MAX_EXPONENT:
            try:
                return reduce(_EXACT.add, amounts, 0)
            except (Inexact, Overflow, InvalidOperation):
                pass  # which of them is at fault is found out one by one
    total: int | Decimal = 0
    for amount in amounts:
        total = add_exact(total, amount_of(amount, name), name)
    return total


def _too_long(name: str) -> EventProblem:
    detail = f"the sum in attribute {name!r} needs more than {MAX_DIGITS} digits; split the counter"
    return EventProblem("sum-too-long", detail)


def amount_of(value: object, name: str) -> int | Decimal:
    """Return `value` as an exact amount to add.

    Raises EventProblem (`not-a-number`, `bad-value`).
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        detail = f"add({name}=...) got {type(value).__name__}, not a number; convert it (Decimal or int) first"
        raise EventProblem("not-a-number", detail)
    return normalise(value)
