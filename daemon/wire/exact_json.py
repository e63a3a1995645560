"""JSON in which no number is ever rounded, at the speed of orjson where no fraction occurs.

Owns reading and writing JSON for events (strict, limited) and for stored rows (any size, and bytes). Must not know
what an envelope or a table is.

Invariants: a fraction is the `Decimal` that its text says; an integer is that integer or an error, never a float; two
payloads are equal exactly when their canonical bytes are; what `dumps_row` wrote, `loads_row` gives back as an equal
value.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Any, NoReturn, cast

import orjson

from daemon.core.errors import EventProblem

MAX_DEPTH = 250
"""The deepest `max_depth` that can be asked for: orjson writes 254 levels."""
LEAST_INTEGER = -(2**63)
GREATEST_INTEGER = 2**64 - 1
BYTES_NAME = "_bytes"
"""The one key of the map that stands for bytes in a stored row."""

_SORT = orjson.OPT_SORT_KEYS
_SHOWN_DIGITS = 40
_WIDE = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation])
_SMALL_ADJUSTED = 19
_PLUS = 0x2B
_BYTES_MARK = b'"_bytes"'

# In orjson's own compact dump a fraction ends at a comma, a bracket or the end of the text. Both patterns begin with a
# literal, which is found at the speed of memchr; one that begins with a digit costs as much as parsing.
_POINT_IN_DUMP = re.compile(rb"\.[0-9]+(?:e[+-]?[0-9]+)?(?:[,\]}]|\Z)").search
_EXPONENT_IN_DUMP = re.compile(rb"e[+-][0-9]+(?:[,\]}]|\Z)").search
# In text of any origin: a fraction, an exponent, or an integer so long that orjson may have made it a float.
_INEXACT_IN_TEXT = re.compile(rb"(?:[\[,:]|^)\s*-?[0-9]+(?:[.eE]|(?<=[0-9]{19}))").search
# Digits and points become 0, and so on, so that what a double may not hold is found by searches that begin with a
# literal: sixteen digits in a row, or a number with an exponent (of one that came out as nothing, or nearly). Strings
# may look alike, which costs time only.
_SHAPE = bytes.maketrans(b"0123456789.eE+-,}] \t\r\n", b"00000000000ee--,,,    ")
_SIXTEEN_DIGITS = b"0" * 16
_EXPONENT_IN_SHAPE = re.compile(rb"0e-?0+ *,").search
TINY = 4
_LEAST_PRECISE = 1e-300
_type_of: Callable[[object], type] = type
# Strings first, so that a bracket inside one does not count. Possessive and closed by the end of the text: linear on
# any input.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([\[{])|[\]}]', re.DOTALL).finditer


if orjson.dumps([1e16, 1e-7]) != b"[1e+16,1e-7]":  # pragma: no cover - a guard against another orjson
    raise ImportError(f"orjson {orjson.__version__} writes exponents in another form; install the locked version")


class _NotANumberError(ValueError):
    """The text holds NaN or an infinity."""


# ------------------------------------------------------------------------------------------------------- reading


def loads(raw: bytes, *, max_depth: int = 64) -> Any:
    """Parse one JSON text of an event: strict, fractions as `Decimal`, integers within 64 bits.

    Raises EventProblem: `not-json`, `bad-utf8`, `too-deep` (more than `max_depth` levels), `not-a-number`,
    `integer-too-large`.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise problem_of(raw, error, max_depth) from None
    check_depth(raw, max_depth)
    if not _INEXACT_IN_TEXT(raw):
        return value
    try:
        return _EVENT_DECODER.decode(raw.decode())
    except InvalidOperation:
        raise _out_of_range() from None


def loads_exact(raw: bytes) -> Any:
    """Parse again, exactly, a text that orjson has accepted.

    Integers beyond 64 bits come as they are: orjson refuses to write them, which costs nothing to find out. Raises
    EventProblem (`not-a-number`, and `integer-too-large` beyond Python's own limit of digits).
    """
    text = raw.decode()
    try:
        return _QUICK_DECODER.decode(text)
    except InvalidOperation:
        raise _out_of_range() from None
    except ValueError:
        return _EVENT_DECODER.decode(text)


def may_round(raw: bytes, found: int) -> bool:
    """Tell whether a number in `raw` may be another than the float that was `found` there (see `take_decimals`).

    A double keeps any 15 digits, wherever the point is; `found` tells of those so small that it keeps fewer, or none.
    """
    shape = raw.translate(_SHAPE)
    return shape.find(_SIXTEEN_DIGITS) >= 0 or (found >= TINY and _EXPONENT_IN_SHAPE(shape) is not None)


def take_decimals(value: Any) -> int:
    """Replace each float inside `value`, parsed by orjson, by the decimal of its shortest text, in place.

    Returns 0 when there was none; 1 when orjson's dump of the floats is canonical already; more when it is not, as for
    2.0, and from `TINY` on when one was 0 or nearly; -1 when `value` itself is a float, which cannot be replaced. What
    `may_round` holds for must be read again.
    """
    found = 0
    if type(value) is dict:
        entries = cast("dict[str, Any]", value)
        for name, item in entries.items():
            kind = _type_of(item)
            if kind is float:
                text = repr(item)
                entries[name] = Decimal(text)
                found |= 1 if text[-2:] != ".0" and "e" not in text else _how_odd(item)
            elif kind is dict or kind is list:
                found |= take_decimals(item)
    elif type(value) is list:
        items = cast("list[Any]", value)
        for index, item in enumerate(items):
            kind = _type_of(item)
            if kind is float:
                text = repr(item)
                items[index] = Decimal(text)
                found |= 1 if text[-2:] != ".0" and "e" not in text else _how_odd(item)
            elif kind is dict or kind is list:
                found |= take_decimals(item)
    elif type(value) is float:
        return -1
    return found


def _how_odd(number: float) -> int:
    return 2 if abs(number) > _LEAST_PRECISE else 2 | TINY


def loads_row(raw: bytes | str) -> Any:
    """Parse what `dumps_row` wrote: exact numbers of any size, and bytes.

    Raises ValueError when it is not that.
    """
    text = raw.encode() if isinstance(raw, str) else raw
    exact = _INEXACT_IN_TEXT(text)
    value = _ROW_DECODER.decode(text.decode()) if exact else orjson.loads(text)
    return _with_bytes(value) if text.find(_BYTES_MARK) >= 0 else value


def may_hold_fractions(dump: bytes) -> bool:
    """Tell whether orjson's own dump of a value may hold a float; a few strings look alike, no float is missed."""
    if dump.find(b".") >= 0 and _POINT_IN_DUMP(dump):
        return True
    return (_PLUS in dump or dump.find(b"e-") >= 0) and _EXPONENT_IN_DUMP(dump) is not None


def check_depth(raw: bytes, max_depth: int) -> None:
    """Raise EventProblem (`too-deep`) when `raw` nests more than `max_depth` levels."""
    if len(raw) <= 2 * max_depth or raw.count(b"[") + raw.count(b"{") <= max_depth:
        return
    depth = _depth(raw)
    if depth > max_depth:
        detail = f"{depth} levels of nesting exceed the limit of {max_depth}; flatten the payload or raise max_depth"
        raise EventProblem("too-deep", detail)


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for token in _TOKENS(raw):
        first = raw[token.start()]
        if first == 0x22:  # noqa: PLR2004 - a string's quote
            continue
        depth += 1 if token.group(1) else -1
        deepest = max(deepest, depth)
    return deepest


def problem_of(raw: bytes, error: orjson.JSONDecodeError, max_depth: int) -> EventProblem:
    """Return why orjson refused `raw`, as one stable reason."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as wrong:
        detail = f"byte {raw[wrong.start]:#04x} at {wrong.start} is not UTF-8; write the log as UTF-8"
        return EventProblem("bad-utf8", detail)
    try:
        check_depth(raw, max_depth)
        _EVENT_DECODER.decode(text)
    except EventProblem as problem:
        return problem
    except (ValueError, RecursionError):
        return EventProblem("not-json", f"{error.msg} at {error.pos}; write one JSON text a line")
    except InvalidOperation:
        return _out_of_range()
    if "surrogate" in error.msg:
        detail = f"{error.msg} at {error.pos}: half a surrogate pair is no text; write whole pairs, or UTF-8"
        return EventProblem("bad-utf8", detail)
    if "infinity" in error.msg:
        return _out_of_range()
    return EventProblem("not-json", f"{error.msg} at {error.pos}; write one JSON text a line")


def _out_of_range() -> EventProblem:
    detail = "a number lies beyond ±1.8e308, the limit of a JSON number here; write it as a string"
    return EventProblem("not-a-number", detail)


def _refused_constant(name: str) -> NoReturn:
    raise EventProblem("not-a-number", f"{name} is no JSON number; write null or a finite number")


def _bounded_integer(digits: str) -> int:
    # Twenty digits and a sign hold every 64-bit integer, so a longer text is not worth converting.
    value = int(digits) if len(digits) <= 21 else GREATEST_INTEGER + 1  # noqa: PLR2004 - as said
    if LEAST_INTEGER <= value <= GREATEST_INTEGER:
        return value
    shown = digits if len(digits) <= _SHOWN_DIGITS else f"{digits[:_SHOWN_DIGITS]}… ({len(digits)} digits)"
    detail = f"{shown} lies beyond 64 bits ({LEAST_INTEGER} to {GREATEST_INTEGER}); write it as a string"
    raise EventProblem("integer-too-large", detail)


def _row_constant(name: str) -> NoReturn:
    raise _NotANumberError(f"{name} is no number a row can hold; the stored text is damaged")


_EVENT_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=_bounded_integer, parse_constant=_refused_constant)
# Without a call into Python for each integer.
_QUICK_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refused_constant)
_ROW_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_row_constant)


# ------------------------------------------------------------------------------------------------------- writing


def dumps(value: object) -> bytes:
    """Write compact JSON: a `Decimal` as an exact number, bytes as base64 under `_bytes`, integers of any size.

    Raises TypeError for any other type, for a `Decimal` that is no number, and for half a surrogate pair.
    """
    try:
        return orjson.dumps(value, _fragment)
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain(value), _fragment)


def dumps_row(value: object) -> bytes:
    """Write a stored value so that `loads_row` gives back an equal one.

    As `dumps`, except that a map which looks like bytes is told apart from bytes. Raises TypeError.
    """
    try:
        text = orjson.dumps(value, _fragment)
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain(value, escape=True), _fragment)
    # A text without the mark holds neither bytes nor a map that looks like them.
    return text if text.find(_BYTES_MARK) < 0 else orjson.dumps(_plain(value, escape=True), _fragment)


def canonical(data: object) -> bytes:
    """Return the one text of a payload: keys sorted, numbers in their shortest form.

    So 1.50, 1.5 and 15e-1 are the same bytes, and two payloads give equal bytes exactly when they are equal. Raises
    TypeError for a type that JSON does not have (bytes are written under `_bytes`).
    """
    try:
        text = orjson.dumps(data, canonical_number, _SORT)
        if not may_hold_fractions(text):
            return text
    except orjson.JSONEncodeError:
        pass
    return orjson.dumps(_plain(data), canonical_number, _SORT)


def canonical_number(value: object) -> int | orjson.Fragment | dict[str, str]:
    """Return what orjson should write for a `Decimal` (or bytes), in canonical form; for `default=`."""
    if type(value) is not Decimal:
        return _other(value)
    if not value.is_finite():
        raise ValueError(f"{value} is no JSON number; store a finite number or None")
    short = value.normalize(_WIDE)
    text = str(short)
    if "." in text and "E" not in text:
        return orjson.Fragment(text)
    if cast("int", short.as_tuple().exponent) >= 0 and short.adjusted() <= _SMALL_ADJUSTED:
        whole = int(short)
        if LEAST_INTEGER <= whole <= GREATEST_INTEGER:
            return whole
    return orjson.Fragment(text)


def _fragment(value: object) -> orjson.Fragment | dict[str, str]:
    if type(value) is not Decimal:
        return _other(value)
    if not value.is_finite():
        raise ValueError(f"{value} is no JSON number; store a finite number or None")
    return orjson.Fragment(str(value))


def _other(value: object) -> dict[str, str]:
    if type(value) is bytes:
        return {BYTES_NAME: b64encode(value).decode()}
    raise TypeError(f"type {type(value).__name__} has no JSON form; use str, int, Decimal, bool, None, list, dict")


def _plain(value: object, *, escape: bool = False) -> Any:
    """Rebuild a value so that every number orjson would refuse or round is a `Decimal`."""
    kind = type(value)
    if kind is int:
        number = cast("int", value)
        return number if LEAST_INTEGER <= number <= GREATEST_INTEGER else Decimal(number)
    if kind is float:
        return Decimal(repr(value))
    if kind is dict:
        entries = {name: _plain(item, escape=escape) for name, item in cast("dict[str, object]", value).items()}
        return {BYTES_NAME: [entries[BYTES_NAME]]} if escape and entries.keys() == {BYTES_NAME} else entries
    if kind is list or kind is tuple:
        return [_plain(item, escape=escape) for item in cast("list[object]", value)]
    return value


def _with_bytes(value: object) -> Any:
    if type(value) is list:
        return [_with_bytes(item) for item in cast("list[object]", value)]
    if type(value) is not dict:
        return value
    entries = cast("dict[str, Any]", value)
    if entries.keys() != {BYTES_NAME}:
        return {name: _with_bytes(item) for name, item in entries.items()}
    inner = entries[BYTES_NAME]
    return b64decode(inner) if type(inner) is str else {BYTES_NAME: _with_bytes(inner[0])}
