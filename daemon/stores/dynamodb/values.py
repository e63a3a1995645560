"""Values as DynamoDB's typed JSON, both ways.

Owns the mapping of row attributes to natural attribute types: str S, numbers N, bool BOOL, None NULL, bytes B, list L,
map M. Must not know tables or keys.

Invariants: what `typed` wrote, `plain` gives back equal, numbers exact to the last digit; nested map names are never
empty, since DynamoDB names nothing "": a nested name made of nothing but underscores gets one more, which keeps names
apart.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

type Typed = dict[str, Any]
"""A value as DynamoDB JSON: one type letter and the value in its form."""


def typed(value: object) -> Typed:
    """Return one value as typed JSON. Raises TypeError for a type that rows cannot hold."""
    kind = type(value)
    if kind is str:
        return {"S": value}
    if kind is int:
        return {"N": str(value)}
    if kind is bool:
        return {"BOOL": value}
    if value is None:
        return {"NULL": True}
    if kind is Decimal:
        return {"N": str(value)}
    if kind is bytes:
        return {"B": b64encode(cast("bytes", value)).decode()}
    if isinstance(value, list | tuple):
        return {"L": [typed(item) for item in cast("list[object]", value)]}
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, object]", value)
        return {"M": {(name if name[:1] not in _ODD else nested_name(name)): typed(entries[name]) for name in entries}}
    raise TypeError(f"type {kind.__name__} cannot be stored; use str, int, Decimal, bool, None, bytes, list or dict")


_ODD = ("", "_")


def nested_name(name: str) -> str:
    """Return the name under which a map's entry stands."""
    return f"{name}_" if name.strip("_") == "" else name


def _plain_name(name: str) -> str:
    return name[:-1] if name[:1] == "_" and name.strip("_") == "" else name


def plain(value: Mapping[str, Any]) -> Any:
    """Return the value of typed JSON. Raises ValueError for sets, which nothing here writes."""
    ((kind, held),) = value.items()
    match kind:
        case "S" | "BOOL":
            return held
        case "N":
            return number(held)
        case "NULL":
            return None
        case "B":
            return b64decode(held)
        case "L":
            return [plain(item) for item in held]
        case "M":
            return {_plain_name(name): plain(item) for name, item in held.items()}
        case _:
            raise ValueError(f"type {kind} of DynamoDB is none that rows hold")


def number(text: str) -> int | Decimal:
    """Return the number that DynamoDB wrote: an int where it is written as one."""
    try:
        return int(text)
    except ValueError:
        return Decimal(text)
