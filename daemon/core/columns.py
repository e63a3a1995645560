"""Columns: what many changes hold, looked at together.

Owns looking at values that later ones hide, at the speed of what C does with a list: which events fail must not depend
on what else is in their batch, so every value is looked at, whatever becomes of it. Must not know views or rows.

Invariant: what passes here passes one by one in `daemon.core.values`, and comes to the same.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Any

from daemon.core.errors import EventProblem
from daemon.core.values import PLAIN_TYPES, STEADY_TYPES, normalise

type Changes = dict[str, Any]
"""What one call sets or adds, by attribute name."""
type Column = list[Any]
"""The values of one attribute in alike changes, in their order."""

_type_of: Callable[[object], type] = type


class Unsteady(EventProblem):
    """A value whose content may still change (a list, say): it has to be looked at as it is given."""

    def __init__(self) -> None:
        """Carry the reason of a value that cannot be held."""
        super().__init__("bad-value", "a value of this type has to be looked at as it is given")


@dataclass(frozen=True, slots=True)
class Alike:
    """Changes of the same names, their columns, and whose each of them is."""

    changes: list[Changes]
    columns: dict[str, Column]
    owners: list[int]


def alike(changes: list[Changes], owners: list[int] | None = None) -> list[Alike]:
    """Group changes by their names, in their order; those without any are left out. `owners`, if any, go with them."""
    whose = owners or []
    sizes = [*map(len, changes)]
    groups: list[Alike] = []
    for size in {*sizes} - {0}:
        if sizes.count(size) == len(sizes):
            _group(changes, whose, groups)
        else:
            fitting = [each == size for each in sizes]
            _group([*compress(changes, fitting)], [*compress(whose, fitting)], groups)
    return groups


def _group(changes: list[Changes], owners: list[int], groups: list[Alike]) -> None:
    """Append changes of as many names to the groups of those that have the same."""
    try:
        columns = {name: [each[name] for each in changes] for name in changes[0]}
    except KeyError as missing:
        name = missing.args[0]
        named = [name in each for each in changes]
        _group([*compress(changes, named)], [*compress(owners, named)], groups)
        others = [not each for each in named]
        _group([*compress(changes, others)], [*compress(owners, others)], groups)
    else:
        groups.append(Alike(changes, columns, owners))


def make_plain(group: Alike) -> None:
    """Look at each value of alike changes; what is stored in another form is replaced by that, in the changes.

    Subclasses of str and int may stay: only what is not hidden has to be of the plain types.
    Raises EventProblem (`bad-value`) for what no row can hold, `Unsteady` for what may still change.
    """
    for name, column in group.columns.items():
        kind = _type_of(column[0])
        if (kind is str and _are_texts(column)) or (kind is int and are_short_integers(column)):
            continue
        kinds = {*map(_type_of, column)}
        if not kinds <= STEADY_TYPES:
            raise Unsteady
        if kinds <= PLAIN_TYPES:
            if int in kinds:
                for value in column:
                    if type(value) is int:
                        normalise(value)
        else:
            for each in group.changes:
                each[name] = normalise(each[name])


def _are_texts(column: Column) -> bool:
    try:
        "".join(column)
    except TypeError:
        return False
    return True


def are_short_integers(column: Column) -> bool:
    """Tell whether these are integers (or booleans) of 64 bits, whose sum is as exact as each of them."""
    try:
        struct.pack(f"{len(column)}q", *column)
        return type(sum(column)) is int  # what only acts as an integer adds up to its own kind
    except (TypeError, struct.error):
        return False


def are_short_amounts(column: Column) -> bool:
    """Tell whether these are integers of 64 bits, and no booleans."""
    return [*map(_type_of, column)].count(int) == len(column) and are_short_integers(column)
