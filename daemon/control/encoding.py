"""Values of the engine as plain JSON.

Owns one form for each kind of value: a dataclass becomes an object under its fields' names, a scope its parts and its
label, a time its ISO text with offset, a duration its seconds, a decimal its text. Must not know any command's values.

Invariant: what comes out is made of dict, list, str, int, float, bool and None alone, and never of a number that JSON
readers round: whole numbers beyond 53 bits are texts.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, cast

from daemon.control.frames import readable
from daemon.core.identity import Generation, Scope, ShardId

_SAFE_INTEGER = 2**53
_FORMS: Mapping[type, Callable[[Any], Any]] = {
    Decimal: str,
    datetime: datetime.isoformat,
    timedelta: timedelta.total_seconds,
    bytes: bytes.hex,
}


def plain(value: object) -> Any:
    """Return a value as plain JSON. Raises TypeError for what has no form."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | str | int | float):
        return _simple(value)
    for kind, form in _FORMS.items():
        if isinstance(value, kind):
            return form(value)
    return _compound(value)


def _simple(value: str | float | None) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _SAFE_INTEGER:
        return str(value)
    return value


def _compound(value: object) -> Any:
    if isinstance(value, Scope | ShardId | Generation):
        return {name: plain(part) for name, part in value._asdict().items()} | {"label": value.label}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_name(name): plain(item) for name, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, Collection):
        return [plain(item) for item in cast("Collection[object]", value)]
    raise TypeError(f"{type(value).__name__} has no form in a control frame")


def _name(name: object) -> str:
    if isinstance(name, Scope | ShardId | Generation):
        return name.label
    return readable(str(name))
