"""Times, numbers and places as people read them. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

NOTHING = "–"
_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0
_WHOLE_FROM = 10.0


def span(seconds: float | None) -> str:
    """Return a duration in its two largest units: `0.4 s`, `12 s`, `3 min 20 s`, `5 h 1 min`, `2 d 4 h`."""
    if seconds is None:
        return NOTHING
    if seconds < _MINUTE:
        return f"{seconds:.0f} s" if seconds >= _WHOLE_FROM or seconds == int(seconds) else f"{seconds:.1f} s"
    for unit, name, below, smaller in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1.0, "s"),
    ):
        if seconds >= unit:
            rest = int(seconds % unit // below)
            return f"{int(seconds // unit)} {name}" + (f" {rest} {smaller}" if rest else "")
    return NOTHING


def count(number: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return NOTHING if number is None else f"{number:,}"


def some(number: int, what: str) -> str:
    """Return a count with what is counted: `1 dead letter`, `1,204 dead letters`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def rate(number: float | None) -> str:
    """Return events a second."""
    if number is None:
        return NOTHING
    return f"{number:,.0f}/s" if number >= _WHOLE_FROM or not number else f"{number:.1f}/s"


def text(value: object) -> str:
    """Return a value that may be missing."""
    return NOTHING if value is None or value == "" else str(value)


def moment(value: str | None) -> str:
    """Return a time as its day, its time of day to the second, and its zone."""
    if value is None:
        return NOTHING
    return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M:%S") + _zone(value)


def ago(value: str | None, now: str | datetime | None = None) -> str:
    """Return how long ago a time was, as seen at `now`."""
    if value is None:
        return NOTHING
    seen = datetime.fromisoformat(now) if isinstance(now, str) else now or datetime.now(UTC)
    return span(max(0.0, (seen - datetime.fromisoformat(value)).total_seconds()))


def label(scope: Mapping[str, Any]) -> str:
    """Return a scope's or a generation's label."""
    return str(scope["label"])


def tally(counts: Mapping[str, int]) -> str:
    """Return counts by name: `3 running, 1 parked`."""
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "none"


def plain_arguments(arguments: Mapping[str, Any]) -> str:
    """Return a command's arguments in one line."""
    return ", ".join(f"{name} {value}" for name, value in arguments.items() if value not in {None, ""})


def _zone(value: str) -> str:
    offset = datetime.fromisoformat(value).utcoffset()
    return "" if offset is None else "Z" if not offset else value[-6:]
