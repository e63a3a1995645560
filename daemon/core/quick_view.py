"""`QuickView`: a view that notes calls down and works them off together, when somebody looks.

What it checks is what `View` checks, but it cannot say which event was to blame, so anything wrong has a careful pass
follow (see `daemon.core.fold`). Which events fail must not depend on what else is in their batch: a value, a name or a
sum on the way that a later event hides is looked at all the same, in columns, at the speed of what C does with a list.
"""

import struct
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, override

from daemon.core.errors import EventProblem
from daemon.core.identity import RowKey
from daemon.core.rows import Attributes, StoredRow
from daemon.core.values import (
    MAX_INT,
    PLAIN_TYPES,
    STEADY_TYPES,
    add_exact,
    amount_of,
    check_names,
    normalise,
    sum_exact,
)
from daemon.core.view import Base, Touch, View

if TYPE_CHECKING:
    from daemon.core.fold import Fold

_UNTOUCHED, _READ, _ADDED, _WRITTEN = Touch
_TEXTS = frozenset({str})
_type_of: Callable[[object], type] = type
_values_of = dict[str, Any].values


class QuickView(View):
    """A view that only notes calls down, and works them off together, at the speed of plain dict updates.

    `pending` holds changes of a written row, or amounts for a row that was only added to. What a quick view cannot hold
    (a list, which a handler may fill further; a value that nothing can store) has the fold start over with views that
    check each call, and the projection do without quick views from then on.
    """

    __slots__ = ("pending",)

    def __init__(self, fold: "Fold", row_key: RowKey, base: Base) -> None:
        """Stand for `row_key` on top of `base` (made by the fold only)."""
        self._fold = fold
        self.row_key = row_key
        self.base = base
        self.image = base.attributes if isinstance(base, StoredRow) else None
        self.sequences = self.last = None
        self.amounts = {}
        self.touch = _UNTOUCHED
        self.lent = False
        self.pending: list[dict[str, Any]] = []

    @property
    @override
    def row(self) -> Mapping[str, Any] | None:
        if self.pending:
            self._work_off()
        return super().row

    @override
    def put(self, attributes: Mapping[str, object] | None = None, /, **named: object) -> None:
        self._hide()
        if self.touch is not _WRITTEN:
            self.own()
        self.image = {}
        self.pending.append(self._joined(attributes, named) if attributes else named)

    @override
    def patch(self, attributes: Mapping[str, object] | None = None, /, **named: object) -> None:
        if self.touch is not _WRITTEN:
            self.own()
        self.pending.append(self._joined(attributes, named) if attributes else named)

    @override
    def add(self, amounts: Mapping[str, object] | None = None, /, **named: object) -> None:
        # `shared` comes as one of `named`: as a parameter it would be compared with the name of each amount.
        if "shared" not in named and (self.touch is _ADDED or (self.touch is _UNTOUCHED and self.sequences is None)):
            self.touch = _ADDED
            self.pending.append(self._joined(amounts, named) if amounts else named)
            return
        if self.pending:
            self._work_off()
        shared = bool(named.pop("shared", False))
        plain = self.touch is _WRITTEN and not shared and not amounts and self.image is not None
        if plain and _add_integers(self._unlend(), named):
            return
        super().add(amounts, shared=shared, **named)

    @override
    def delete(self) -> None:
        self._hide()
        super().delete()

    @override
    def settle(self) -> Touch:
        if self.pending:
            self._work_off()
        if self.sequences is not None and self.touch is not _WRITTEN:
            self.own()
        return self.touch

    @override
    def own(self) -> None:
        if self.pending:
            self._work_off()
        super().own()

    def _joined(self, given: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Return both as one dict.

        Names that come in a mapping may be of any type, and one that is no text is wrong.
        """
        joined = {**given, **named}
        if not _TEXTS.issuperset(map(_type_of, joined)):
            self._fold.raised = True
            check_names(joined)
        return joined

    def _hide(self) -> None:
        """Work off what the next call will hide: it must be right all the same."""
        if self.pending:
            self._work_off()
            for value in (self.image or {}).values():
                if type(value) is int and not -MAX_INT <= value <= MAX_INT:
                    self._fold.raised = True
                    normalise(value)

    def _work_off(self) -> None:
        """Apply what was noted down. Raises when any of it is wrong, and has the fold know, whoever catches that."""
        pending, self.pending = self.pending, []
        try:
            if self.touch is _ADDED:
                self._add_up(pending)
            else:
                self._apply(pending)
        except Exception:
            self._fold.raised = True
            raise

    def _apply(self, pending: list[dict[str, Any]]) -> None:
        """Merge changes into the image; what a later change hides must be right too."""
        last = pending[-1]
        apart = len(pending[0]) != len(last)  # a row's first change often has more names than all that follow
        if len(pending) == 1 and PLAIN_TYPES.issuperset(map(_type_of, last.values())):
            merged = last
        elif _are_plain_columns(last, pending[1:] if apart else pending):
            merged = {**self._merged(pending[:1], hidden=True), **last} if apart else last
        else:
            merged = self._merged(pending, hidden=len(pending) > 1)
        self._check_names(merged)
        if self.image and self.lent:
            self.image, self.lent = {**self.image, **merged}, False
        elif self.image:
            self.image.update(merged)
        else:
            self.image = merged

    def _merged(self, pending: list[dict[str, Any]], *, hidden: bool) -> dict[str, Any]:
        """Return what changes come to together, each value looked at."""
        kinds = {*map(_type_of, chain.from_iterable(map(_values_of, pending)))}
        if not kinds <= PLAIN_TYPES:
            if not kinds <= STEADY_TYPES:
                self._fold.steady = False
                raise EventProblem("bad-value", "a value of this type has to be looked at as it is given")
            pending = [_normalised(changes) for changes in pending]
        elif hidden and int in kinds:
            for value in chain.from_iterable(map(_values_of, pending)):
                if type(value) is int:
                    normalise(value)
        merged = pending[0]
        for changes in pending[1:]:
            merged |= changes
        return merged

    def _check_names(self, named: Mapping[str, Any]) -> None:
        """Refuse names as `check_names` does; those found good before are not looked at again."""
        known = self._fold.names
        if not named.keys() <= known:
            check_names(named)
            known.update(named)

    def _add_up(self, pending: list[dict[str, Any]]) -> None:
        """Sum amounts, attribute by attribute."""
        mine, image = self.amounts, self.image
        columns = _columns(pending)
        for name, column in columns.items():
            total = sum_exact(column, name)
            mine[name] = add_exact(mine[name], total, name) if name in mine else total
        self._check_names(mine)
        if image is not None:
            for name, column in columns.items():
                held = image.get(name)
                if type(held) is not int or type(mine[name]) is not int or abs(held) > MAX_INT >> 1:
                    for amount in column:  # no sum on the way may be what the row cannot hold
                        held = add_exact(held, amount_of(amount, name), name)


def _normalised(changes: dict[str, Any]) -> Attributes:
    return {name: value if type(value) in PLAIN_TYPES else normalise(value) for name, value in changes.items()}


def _are_plain_columns(last: dict[str, Any], pending: list[dict[str, Any]]) -> bool:
    """Tell whether changes have the names of `last` and only plain values, at the speed of what C does with a list.

    False may also mean that it would take a closer look.
    """
    if {*map(len, pending)} != {len(last)}:
        return False
    form = f"{len(pending)}q"
    try:
        for name, value in last.items():
            column = [changes[name] for changes in pending]
            kind = _type_of(value)
            if kind is str:
                "".join(column)
            elif kind is int:
                struct.pack(form, *column)  # 64 bits each, which every store holds
            elif not PLAIN_TYPES.issuperset(map(_type_of, column)):
                return False
    except (KeyError, TypeError, struct.error):
        return False
    return True


def _columns(amounts: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each name, in order."""
    names = amounts[0]
    if {*map(len, amounts)} == {len(names)}:
        try:
            return {name: [each[name] for each in amounts] for name in names}
        except KeyError:  # as many names, but others
            pass
    columns: dict[str, list[Any]] = {}
    for each in amounts:
        for name, value in each.items():
            if name in columns:
                columns[name].append(value)
            else:
                columns[name] = [value]
    return columns


def _add_integers(image: Attributes, named: dict[str, Any]) -> bool:
    """Add integers to integers that are there; False, with nothing done, when any part is anything else."""
    for name, value in named.items():
        if type(value) is not int or type(image.get(name)) is not int:
            return False
    for name, value in named.items():
        image[name] += value
        if not -MAX_INT <= image[name] <= MAX_INT:
            raise EventProblem("sum-too-long", f"the sum in attribute {name!r} is too long; split the counter")
    return True
