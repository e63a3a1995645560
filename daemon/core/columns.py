"""Columns: what many changes hold, looked at together.

Owns looking at values that later ones hide, at the speed of what C does with a list: which events fail must not depend
on what else is in their batch, so every value is looked at, whatever becomes of it. Must not know views or rows.

Invariant: what passes here passes one by one in `daemon.core.values`, and comes to the same.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import chain, compress
from operator import itemgetter
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


def alike(changes: list[Changes]) -> Iterator[tuple[list[Changes], dict[str, Column]]]:
    """Yield changes of the same names together, with their columns."""
    sizes = [*map(len, changes)]
    for size in {*sizes} - {0}:
        same = sizes.count(size) == len(sizes)
        group = changes if same else [*compress(changes, map(size.__eq__, sizes))]
        try:
            yield group, _columns(group)
        except KeyError:  # as many names, but others
            by_names: dict[frozenset[str], list[Changes]] = {}
            for each in group:
                by_names.setdefault(frozenset(each), []).append(each)
            for named in by_names.values():
                yield named, _columns(named)


def _columns(changes: list[Changes]) -> dict[str, Column]:
    names = [*changes[0]]
    pick = itemgetter(*names)
    if len(names) == 1:
        return {names[0]: [*map(pick, changes)]}
    values = [*chain.from_iterable(map(pick, changes))]
    return {name: values[index :: len(names)] for index, name in enumerate(names)}


def make_plain(changes: list[Changes], columns: dict[str, Column]) -> None:
    """Look at each value of alike changes; what is stored in another form is replaced by that, in the changes.

    Subclasses of str and int may stay: only what is not hidden has to be of the plain types.
    Raises EventProblem (`bad-value`) for what no row can hold, `Unsteady` for what may still change.
    """
    for name, column in columns.items():
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
            for each in changes:
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
