"""Attribute values as they travel: `{"S": "x"}`, checked, brought into one canonical form, and measured.

Owns the rules of values: types, numbers of 38 digits, sets, nesting, sizes, order. Must not know tables or expressions.

Invariants: a value that came through `measured` is canonical, so that two values are equal exactly when their dicts
are; nothing here changes a value in place; sizes are in bytes, names excluded unless said.
"""

import binascii
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import lru_cache
from typing import Any, cast

from daemon.testing.dynamodb.errors import ServiceError, invalid, invalid_item, invalid_value, unreadable

type Value = dict[str, Any]
type Item = dict[str, Value]

MAX_ITEM_BYTES = 400 * 1024
MAX_DEPTH = 32
"""Levels of a document, the attribute itself being the first."""
MAX_DIGITS = 38
TOO_LARGE = "Item size has exceeded the maximum allowed size"
TOO_DEEP = (
    "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"
)
_MAX_ADJUSTED = 125
_MIN_ADJUSTED = -130
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_PLAIN_INTEGER = re.compile(r"-?[1-9][0-9]{0,37}\Z").match
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,12})?\Z").match


@lru_cache(maxsize=65536)
def _number(text: str) -> tuple[Value, int]:
    number = canonical_number(text)
    return {"N": number}, number_bytes(number)


def canonical_number(text: str) -> str:
    """Return a number as the service gives it back: all digits, no exponent, no needless zero."""
    if _PLAIN_INTEGER(text):
        return text
    if not _NUMBER(text):
        raise invalid(f"The parameter cannot be converted to a numeric value: {text}")
    return number_text(Decimal(text))


def number_text(number: Decimal) -> str:
    """Return an exact number in canonical form, or refuse it beyond 38 digits or the range."""
    if not number:
        return "0"
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    if len(digits) > MAX_DIGITS:
        raise invalid("Attempting to store more than 38 significant digits in a Number")
    adjusted = number.adjusted()
    if adjusted > _MAX_ADJUSTED:
        raise invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
    if adjusted < _MIN_ADJUSTED:
        raise invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
    return format(number.normalize(_EXACT), "f")


def arithmetic(left: str, right: str, *, minus: bool = False) -> str:
    """Return the exact sum or difference of two canonical numbers; refused where 38 digits cannot hold it."""
    first, second = Decimal(left), Decimal(right)
    return number_text(_EXACT.subtract(first, second) if minus else _EXACT.add(first, second))


def number_bytes(text: str) -> int:
    """Return what a canonical number costs.

    One byte, a byte for every two significant digits before the point and for every two behind it, and a byte for a
    minus sign.
    """
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("-").partition(".")
    whole = whole.lstrip("0")
    if fraction:
        if not whole:
            fraction = fraction.lstrip("0")
    else:
        whole = whole.rstrip("0")
    return 1 + (len(whole) + 1) // 2 + (len(fraction) + 1) // 2 + negative


def text_bytes(text: str) -> int:
    """Return the length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def binary(text: str) -> bytes:
    """Return the bytes behind base64, or refuse it."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise unreadable("Base64 encoded length is unexpected or its alphabet is wrong") from None


def measured(value: Any, depth: int = 1) -> tuple[Value, int]:
    """Return a value in canonical form and its size; refuse one that the service refuses."""
    if not isinstance(value, dict):
        raise unreadable("Unexpected token: an attribute value is an object with one type")
    pairs = cast("Value", value)
    if len(pairs) != 1:
        raise invalid(
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
            if not pairs
            else "Supplied AttributeValue has more than one datatypes set, "
            "must contain exactly one of the supported datatypes"
        )
    kind, content = next(iter(pairs.items()))
    if kind == "S" and type(content) is str:
        return pairs, len(content) if content.isascii() else len(content.encode())
    if kind == "N" and type(content) is str:
        return _number(content)
    measure = _MEASURES.get(kind)
    if measure is None:
        raise invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
    return measure(content, depth)


def _wrong(kind: str) -> Exception:
    return unreadable(f"Unexpected value of an attribute of type {kind}")


def _scalar_text(_content: Any, _depth: int) -> tuple[Value, int]:
    raise _wrong("S or N")


def _binary(content: Any, _: int) -> tuple[Value, int]:
    if type(content) is not str:
        raise _wrong("B")
    raw = binary(content)
    return {"B": b64encode(raw).decode()}, len(raw)


def _boolean(content: Any, _: int) -> tuple[Value, int]:
    if type(content) is not bool:
        raise _wrong("BOOL")
    return {"BOOL": content}, 1


def _null(content: Any, _: int) -> tuple[Value, int]:
    if content is not True:
        raise invalid_value("Null attribute value types must have the value of true")
    return {"NULL": True}, 1


def _nested(content: Any, depth: int) -> int:
    if depth >= MAX_DEPTH and content:
        raise invalid(TOO_DEEP)
    return depth + 1


def _list(content: Any, depth: int) -> tuple[Value, int]:
    if type(content) is not list:
        raise _wrong("L")
    deeper = _nested(cast("list[Any]", content), depth)
    made = [measured(one, deeper) for one in cast("list[Any]", content)]
    return {"L": [value for value, _ in made]}, 3 + sum(size + 1 for _, size in made)


def _map(content: Any, depth: int) -> tuple[Value, int]:
    if type(content) is not dict:
        raise _wrong("M")
    deeper = _nested(cast("Item", content), depth)
    made: Item = {}
    total = 3
    for name, one in cast("Item", content).items():
        made[name], size = measured(one, deeper)
        total += size + text_bytes(name) + 1
    return {"M": made}, total


def _texts(content: Any, kind: str, what: str) -> list[str]:
    if type(content) is not list or not all(type(one) is str for one in cast("list[Any]", content)):
        raise _wrong(kind)
    if not content:
        raise invalid_value(f"An {what} set  may not be empty")
    return cast("list[str]", content)


def _no_twins(members: list[str], shown: list[str]) -> None:
    if len(set(members)) != len(members):
        raise invalid_value(f"Input collection [{', '.join(shown)}] contains duplicates.")


def _string_set(content: Any, _: int) -> tuple[Value, int]:
    texts = _texts(content, "SS", "string")
    _no_twins(texts, texts)
    return {"SS": sorted(texts)}, sum(map(text_bytes, texts))


def _number_set(content: Any, _: int) -> tuple[Value, int]:
    texts = _texts(content, "NS", "number")
    numbers = [canonical_number(text) for text in texts]
    _no_twins(numbers, texts)
    return {"NS": sorted(numbers, key=Decimal)}, sum(map(number_bytes, numbers))


def _binary_set(content: Any, _: int) -> tuple[Value, int]:
    texts = _texts(content, "BS", "binary")
    raws = sorted(map(binary, texts))
    members = [b64encode(raw).decode() for raw in raws]
    _no_twins(members, texts)
    return {"BS": members}, sum(map(len, raws))


_MEASURES: Mapping[str, Callable[[Any, int], tuple[Value, int]]] = {
    "S": _scalar_text,
    "N": _scalar_text,
    "B": _binary,
    "BOOL": _boolean,
    "NULL": _null,
    "L": _list,
    "M": _map,
    "SS": _string_set,
    "NS": _number_set,
    "BS": _binary_set,
}
SETS = {"SS": "S", "NS": "N", "BS": "B"}
"""The set types and the types of their members."""
TYPES = frozenset(_MEASURES)
TYPE_NAMES = {
    "S": "STRING",
    "N": "NUMBER",
    "B": "BINARY",
    "BOOL": "BOOLEAN",
    "NULL": "NULL",
    "L": "LIST",
    "M": "MAP",
    "SS": "STRING_SET",
    "NS": "NUMBER_SET",
    "BS": "BINARY_SET",
}


def measured_item(item: Any) -> tuple[Item, int]:
    """Return an item in canonical form and its size, names included; not yet held against the item limit."""
    if not isinstance(item, dict):
        raise unreadable("Unexpected token: an item is an object of attributes")
    made: Item = {}
    total = 0
    for name, value in cast("dict[str, Any]", item).items():
        if not name:
            raise invalid_value("Empty attribute name")
        # Texts, the commonest, are taken here: a call for each value would double what a large transaction costs.
        if value.__class__ is dict and len(value) == 1 and (text := value.get("S")).__class__ is str:
            made[name] = value
            total += len(text) if text.isascii() else len(text.encode())
        else:
            made[name], size = measured(value)
            total += size
        total += len(name) if name.isascii() else len(name.encode())
    return made, total


def stored_size(item: Item) -> int:
    """Return the size of an item made by an update, and check what only an update can break: depth and item size."""
    total = 0
    for name, value in item.items():
        (kind,) = value
        content = value[kind]
        if kind == "S":
            size = text_bytes(content)
        elif kind == "N":
            size = number_bytes(content)
        else:
            size = _updated_size(value)
        total += size + text_bytes(name)
    if total > MAX_ITEM_BYTES:
        raise invalid_item("Item size to update has exceeded the maximum allowed size")
    return total


def _updated_size(value: Value) -> int:
    try:
        return measured(value)[1]
    except ServiceError as problem:
        raise invalid_item(problem.message) from None


def sortable(value: Value) -> Any:
    """Return what orders a scalar key: UTF-8 bytes (as code points), numbers, unsigned bytes."""
    ((kind, content),) = value.items()
    return Decimal(content) if kind == "N" else binary(content) if kind == "B" else content
