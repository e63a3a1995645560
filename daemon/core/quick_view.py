"""`QuickView`: a view that notes calls down and works them off together, when somebody looks.

What it checks is what `View` checks, but it cannot say which event was to blame, so anything wrong has a careful pass
follow (see `daemon.core.fold`). Which events fail must not depend on what else is in their batch: a value, a name or a
sum on the way that a later event hides is looked at all the same, in columns, at the speed of what C does with a list.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, override

from daemon.core.columns import Changes, Column, Unsteady, alike, are_short_amounts, make_plain
from daemon.core.errors import EventProblem
from daemon.core.identity import RowKey
from daemon.core.rows import Amounts, Attributes, StoredRow
from daemon.core.values import MAX_INT, PLAIN_TYPES, add_exact, amount_of, check_names, normalise, sum_exact
from daemon.core.view import Base, Touch, View

if TYPE_CHECKING:
    from daemon.core.fold import Fold

_UNTOUCHED, _READ, _ADDED, _WRITTEN = Touch
_TEXTS = frozenset({str})
_type_of: Callable[[object], type] = type


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

    def _work_off(self) -> None:
        """Apply what was noted down. Raises when any of it is wrong, and has the fold know, whoever catches that."""
        pending, self.pending = self.pending, []
        try:
            if self.touch is _ADDED:
                self._add_up(_columns(pending))
            else:
                if not _is_plain(pending):
                    for group in alike(pending):
                        make_plain(group)
                merged = _merged(pending)
                self.check_names(merged)
                self.take(merged)
        except Unsteady:
            self._fold.raised, self._fold.steady = True, False
            raise
        except BaseException:
            self._fold.raised = True
            raise

    def take(self, merged: Changes) -> None:
        """Set values and names that were looked at in the image."""
        if self.image and self.lent:
            self.image, self.lent = {**self.image, **merged}, False
        elif self.image:
            self.image.update(merged)
        else:
            self.image = merged

    def check_names(self, named: Iterable[str]) -> None:
        """Refuse names as `daemon.core.values.check_names` does; those found good before are not looked at again."""
        known = self._fold.names
        if not known.issuperset(named):
            check_names(named)
            known.update(named)

    def _add_up(self, columns: Mapping[str, Column]) -> None:
        """Sum amounts, attribute by attribute."""
        mine = self.amounts
        for name, column in columns.items():
            total = sum_exact(column, name)
            mine[name] = add_exact(mine[name], total, name) if name in mine else total
        self.check_names(mine)
        if self.image is not None:
            self.weigh(self.image, columns)

    def weigh(self, image: Attributes, columns: Mapping[str, Column]) -> None:
        """Refuse amounts that come, on the way, to a sum which the row that they are for cannot hold."""
        for name, column in columns.items():
            held = image.get(name)
            if type(held) is not int or type(self.amounts[name]) is not int or abs(held) > MAX_INT >> 1:
                for amount in column:
                    held = add_exact(held, amount_of(amount, name), name)


def settle_together(views: Sequence[QuickView]) -> None:
    """Close all views of a pass, what they noted down being looked at in columns through all of them.

    Raises as closing each of them would; `Unsteady` where a value has to be looked at as it is given.
    """
    written = [view for view in views if view.pending and view.touch is _WRITTEN]
    if len(written) > 1:
        _set_together(written)
    added = [
        view for view in views if view.pending and view.touch is _ADDED and not view.amounts and view.image is None
    ]
    if len(added) > 1:
        _add_together(added)
    for view in views:
        view.settle()


def _set_together(views: list[QuickView]) -> None:
    noted = [view.pending for view in views]
    later = [*chain.from_iterable([changes[1:] for changes in noted])]
    groups = alike(later)
    for group in (*alike([changes[0] for changes in noted]), *groups):  # a row's first change often has more names
        make_plain(group)
        views[0].check_names(group.columns)
    hidden = len(groups) == 1 and len(groups[0].changes) == len(later)
    for view, changes in zip(views, noted, strict=True):
        view.pending = []
        view.take(_merged([changes[0], changes[-1]] if hidden and len(changes) > 1 else changes))


def _add_together(views: list[QuickView]) -> None:
    """Sum amounts for rows that nobody read."""
    noted = [view.pending for view in views]
    sizes = [*map(len, noted)]
    groups = alike([*chain.from_iterable(noted)], [*chain.from_iterable(map(repeat, range(len(noted)), sizes))])
    names = Counter(chain.from_iterable([group.columns for group in groups]))
    views[0].check_names(names)
    sums: dict[int, Amounts] = {}
    for group in groups:
        counts = Counter(group.owners) if len(group.owners) < sum(sizes) else dict(enumerate(sizes))
        for name, column in group.columns.items():
            short = are_short_amounts(column)
            if not short and names[name] > 1:
                return  # amounts of which only some are short are added in the order of the log, view by view
            first = 0
            for owner, count in counts.items():
                part = column[first : first + count]
                first += count
                mine = sums.get(owner)
                if mine is None:
                    mine = sums[owner] = {}
                mine[name] = mine.get(name, 0) + sum(part) if short else sum_exact(part, name)
    for owner, view in enumerate(views):
        view.pending, view.amounts = [], sums.get(owner, {})


def _is_plain(pending: list[Changes]) -> bool:
    """Tell whether this is one call, with nothing but values that are stored as they are."""
    if len(pending) > 1 or not PLAIN_TYPES.issuperset(map(_type_of, pending[0].values())):
        return False
    return all(type(value) is not int or -MAX_INT <= value <= MAX_INT for value in pending[0].values())


def _merged(pending: list[Changes]) -> Changes:
    """Return what changes that were looked at come to together."""
    merged = pending[0]
    if len(pending) > 1:
        merged = {**merged}
        for changes in pending[1:]:
            merged |= changes
    return _as_stored(merged)


def _as_stored(changes: Changes) -> Changes:
    if PLAIN_TYPES.issuperset(map(_type_of, changes.values())):
        return changes
    return {name: normalise(value) for name, value in changes.items()}


def _columns(amounts: list[Changes]) -> dict[str, Column]:
    """Return the values of each name, in order."""
    columns: dict[str, Column] = {}
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
