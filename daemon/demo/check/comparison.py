"""One row beside what it must be.

Invariant: numbers are compared exactly, and a whole number that became a decimal, a text or a truth value is a
difference.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import cast

from daemon.demo.check.expected import Row
from daemon.demo.check.found import Key
from daemon.demo.check.outcome import ModelReport

_decode = json.JSONDecoder(parse_float=Decimal).raw_decode


def compare(report: ModelReport, key: str, expected: Row, found: dict[Key, str]) -> None:
    """Compare one row, and take it out of those found."""
    report.expected += 1
    if key not in found:
        report.missing += 1
        report.note(f"{key}: missing")
        return
    text = found.pop(key)
    try:
        row, end = _decode(text)
    except (ValueError, TypeError):
        row, end = None, 0
    if not isinstance(row, dict) or end != len(text):
        report.different += 1
        report.note(f"{key}: attributes are no JSON object: {text!r}")
        return
    row = cast("Row", row)
    # One comparison settles the common case; True equals 1 and a Decimal an integer, hence the types.
    if row == expected and [*map(type, map(row.get, expected))] == [*map(type, expected.values())]:
        report.right += 1
    elif differences := list(_differences(expected, row)):
        report.different += 1
        report.note(f"{key}: {'; '.join(differences)}")
    else:
        report.right += 1


def _differences(expected: Row, found: Row) -> Iterator[str]:
    for name, value in expected.items():
        if name not in found:
            yield f"{name} is absent, expected {_shown(value)}"
        elif not _same(value, found[name]):
            yield f"{name} is {_shown(found[name])}, expected {_shown(value)}"
    for name in found.keys() - expected.keys():
        yield f"{name} is {_shown(found[name])}, expected to be absent"


def _same(expected: object, found: object) -> bool:
    if type(expected) is Decimal:  # an amount of whole dollars may be written as an integer
        return type(found) in {Decimal, int} and expected == found
    return type(found) is type(expected) and expected == found


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
