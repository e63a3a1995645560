"""Natural keys: how the parts of a key become one string, the same in every store and every language.

Invariant: the joining is injective: a separator inside one of several parts is escaped, so that two different tuples of
one length never share a key. A lone part stays as it is: the natural key.
"""

from datetime import date
from decimal import Decimal
from uuid import UUID

from daemon.core.errors import EventProblem

SEPARATOR = "#"
_ESCAPE = "\\"
MAX_KEY_BYTES = 1024
"""Longest key, in UTF-8 bytes: what every store takes as part of a primary key."""


def part_text(part: object) -> str:
    """Return one key part as text.

    Raises EventProblem (`bad-key`) for None, an empty string, a float, or any type without one canonical text.
    """
    if isinstance(part, str) and part:
        return part if type(part) is str else str.__str__(part)
    if isinstance(part, int) and not isinstance(part, bool):
        return str(int(part))
    if isinstance(part, date):
        return part.isoformat()
    if isinstance(part, UUID):
        return str(part)
    if isinstance(part, Decimal) and part.is_finite() and abs(part.adjusted()) < MAX_KEY_BYTES:
        return _decimal_text(part)
    detail = f"{part!r:.80} cannot be a key: use a non-empty string, an int, a Decimal, a date or a UUID"
    raise EventProblem("bad-key", detail)


def _decimal_text(number: Decimal) -> str:
    """Return the shortest plain text of a number, exact whatever the decimal context is."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def key_text(parts: tuple[object, ...]) -> str:
    """Join key parts with `#`; a `#` or backslash inside one of several parts is escaped by a backslash.

    Raises EventProblem (`bad-key`).
    """
    if len(parts) == 1:
        text = part_text(parts[0])
    elif parts:
        escaped = (
            part_text(part).replace(_ESCAPE, _ESCAPE * 2).replace(SEPARATOR, _ESCAPE + SEPARATOR) for part in parts
        )
        text = SEPARATOR.join(escaped)
    else:
        raise EventProblem("bad-key", "a key needs at least one part")
    if len(text) * 4 > MAX_KEY_BYTES and len(text.encode()) > MAX_KEY_BYTES:
        detail = f"a key of {len(text.encode())} bytes exceeds {MAX_KEY_BYTES}; derive a shorter one (a digest, say)"
        raise EventProblem("bad-key", detail)
    return text
