"""`View`: what a handler sees of one row. It records intents; it never calls a store.

One view object stands for one row during one fold, shared by all events of the batch that touch that row, so that the
row is written once whatever the number of events. What each intent does after each other, on present and absent
rows, is the table "Intents" in DESIGN.md, tested cell by cell.

`View` does at once what it is told, and checks every call. Most folds use `daemon.core.quick_view`, which notes calls
down and works them off together.

Invariants: a loaded base is never changed in place (copied at the first write); a view whose row was only added to
stays free of reads and conditions; touching an unloaded row in any other way raises `RowNeeded` before anything
changed.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from daemon.core.events import Event
from daemon.core.identity import MAIN_VIEW, RowKey
from daemon.core.rows import Amounts, Attributes, Sequences, StoredRow
from daemon.core.values import (
    STEADY_TYPES,
    add_exact,
    amount_of,
    check_names,
    normalise,
)

if TYPE_CHECKING:
    from daemon.core.fold import Fold


class RowNeeded(BaseException):
    """A handler touched a row that is not loaded: it is stopped, the batch's rows are fetched, the fold runs again.

    A BaseException, so that a handler's own `except Exception` cannot swallow it.
    """


class Unloaded:
    """The type of `UNLOADED`."""

    __slots__ = ()


UNLOADED: Final = Unloaded()
"""Stands for the base of a row that nobody has read yet; None stands for a row known to be absent."""

type Base = StoredRow | Unloaded | None


class Touch(IntEnum):
    """What happened to a row during a fold."""

    UNTOUCHED = 0
    READ = 1
    ADDED = 2
    """Only commutative amounts, on a base that nobody read."""
    WRITTEN = 3


_UNTOUCHED, _READ, _ADDED, _WRITTEN = Touch
_type_of: Callable[[object], type] = type
_all_steady = STEADY_TYPES.issuperset


class View:
    """One row, as a handler may touch it.

    `put`, `patch`, `add`, `delete`, `row`; `at` for other rows; `emit` for effects.
    """

    __slots__ = ("_fold", "amounts", "base", "image", "last", "lent", "row_key", "sequences", "touch")

    def __init__(self, fold: "Fold", row_key: RowKey, base: Base) -> None:
        """Stand for `row_key` on top of `base` (made by the fold only)."""
        self._fold = fold
        self.row_key = row_key
        self.base: Base = base
        self.image: Attributes | None = base.attributes if isinstance(base, StoredRow) else None
        self.sequences: Sequences | None = None
        self.amounts: Amounts = {}
        self.touch: Touch = _UNTOUCHED
        self.lent = False
        """A handler may still hold the image as `row`: it must not change under it."""
        self.last: Event | None = None
        """The newest event that touched the row, or could have: its provenance."""

    @property
    def key(self) -> str:
        """The row's natural key."""
        return self.row_key.key

    @property
    def row(self) -> Mapping[str, Any] | None:
        """The row as it stands after every earlier intent, read-only; None when it is absent.

        What is done to the row later does not show in it, and what is done to a list or map in it does not show in the
        row: it is a copy.
        """
        if self.base is UNLOADED:
            self._fold.need(self.row_key)
        if self.touch is _ADDED:
            self.own()
        elif self.touch is _UNTOUCHED:
            self.touch = _READ
        image = self.image
        if image is None:
            return None
        if not _all_steady(map(type, image.values())):
            return MappingProxyType({name: _copied(value) for name, value in image.items()})
        self.lent = True
        return MappingProxyType(image)

    def put(self, attributes: Mapping[str, object] | None = None, /, **named: object) -> None:
        """Make the row exactly these attributes, whatever it was."""
        image = _checked(attributes, named)
        if self.touch is not _WRITTEN:
            self.own()
        self.image = image

    def patch(self, attributes: Mapping[str, object] | None = None, /, **named: object) -> None:
        """Set these attributes and keep the others; an absent row is made."""
        changes = _checked(attributes, named)
        if self.touch is not _WRITTEN:
            self.own()
        if self.image is None:
            self.image = changes
        else:
            self._unlend().update(changes)

    def add(self, amounts: Mapping[str, object] | None = None, /, *, shared: bool = False, **named: object) -> None:
        """Add numbers to attributes; an absent row or attribute counts as 0. Commutative: any shard may add to any row.

        `shared=True` keeps one partial row per shard (view `NAME@SOURCE/SHARD`), which readers sum: no two shards ever
        meet.
        """
        if amounts:
            named = {**amounts, **named}
        if shared:
            self._fold.partial(self.row_key, self.last).add(named)
            return
        check_names(named)
        if self.touch is _READ or self.sequences is not None:
            self.own()
        if self.touch is _WRITTEN:
            self._add_to_image(named)
            return
        mine, image = self.amounts, self.image
        sums: Amounts = {}
        for name, value in named.items():
            amount = value if type(value) is int else amount_of(value, name)
            sums[name] = total = add_exact(mine.get(name, 0), amount, name)
            if image is not None:  # blame the event that adds, not the one that would read it later
                add_exact(image.get(name), total, name)
        mine.update(sums)
        self.touch = _ADDED

    def delete(self) -> None:
        """Remove the row; an absent row stays absent."""
        if self.touch is not _WRITTEN:
            self.own()
        self.image = None

    def at(self, view: str, *key: object) -> "View":
        """Return another row's view: row `key` (its parts joined as composite keys are) of the view named `view`."""
        try:
            near = self._fold.near[view, key]
        except (KeyError, TypeError):  # not there yet, or no hashable key
            return self._fold.at(view, key, self.last)
        near.last = self.last
        return near

    def emit(self, name: str, /, **payload: object) -> None:
        """Record an effect, to be relayed exactly once by what reads the effects table; never during a re-delivery."""
        self._fold.emit(name, normalise(payload), self.last)

    def settle(self) -> Touch:
        """Close the row at the end of a fold: a row whose sequence advanced is written whole.

        Returns what happened to it.
        """
        if self.sequences is not None and self.touch is not _WRITTEN:
            self.own()
        return self.touch

    def saved(self) -> "SavedView":
        """Return what the row is at this point of the fold, to come back to should the next event fail."""
        written = self.touch is _WRITTEN and self.image is not None
        image = dict(self.image) if written and self.image is not None else self.image
        sequences = None if self.sequences is None else dict(self.sequences)
        return SavedView(self, image, sequences, dict(self.amounts), self.touch, self.last)

    def own(self) -> None:
        """Make the image this fold's own: copied from the base, pending amounts applied, conditioned from now on."""
        if self.base is UNLOADED:
            self._fold.need(self.row_key)
        image = None if self.image is None else dict(self.image)
        self.image = image
        self.lent = False
        if self.amounts:
            self._add_to_image(self.amounts)
            self.amounts = {}
        self.touch = _WRITTEN

    def _unlend(self) -> Attributes:
        """Return the image to change in place: another one when a handler may still hold this."""
        if self.image is None or self.lent:
            self.image = dict(self.image or {})
            self.lent = False
        return self.image

    def _add_to_image(self, named: Mapping[str, object]) -> None:
        image = {} if self.image is None else self._unlend()
        sums = {name: add_exact(image.get(name), amount_of(value, name), name) for name, value in named.items()}
        image.update(sums)
        self.image = image

    def __repr__(self) -> str:
        """Name the row, not its contents."""
        return f"View({self.row_key.view!r}, {self.row_key.key!r})"


class SavedView(NamedTuple):
    """A view as it was before an event; its image is a copy wherever the view changes its own in place."""

    view: View
    image: Attributes | None
    sequences: Sequences | None
    amounts: Amounts
    touch: Touch
    last: Event | None

    def restore(self) -> None:
        """Take back whatever was done since; what was read stays read, since the failure may rest on it."""
        view = self.view
        touched = view.touch
        view.image, view.sequences, view.amounts = self.image, self.sequences, self.amounts
        view.touch, view.last = self.touch, self.last
        if touched is _READ or touched is _WRITTEN:
            if view.touch is _UNTOUCHED:
                view.touch = _READ
            elif view.touch is _ADDED:
                view.own()


def _copied(value: Any) -> Any:
    """Return a stored value whose lists and maps are the caller's own."""
    if type(value) is list:
        return [_copied(item) for item in cast("list[Any]", value)]
    if type(value) is dict:
        return {name: _copied(item) for name, item in cast("dict[str, Any]", value).items()}
    return value


def _checked(attributes: Mapping[str, object] | None, named: dict[str, object]) -> Attributes:
    """Return attributes as a dict of their own, every name and value portable."""
    if attributes:
        named = {**attributes, **named}
    check_names(named)
    return {name: normalise(value) for name, value in named.items()}


def partial_view(view: str, shard_label: str) -> str:
    """Name the view that holds one shard's partial of a shared row."""
    return f"{view}@{shard_label}"


def is_partial_of(view: str, candidate: str) -> bool:
    """Tell whether `candidate` is a partial of `view`."""
    return candidate.startswith(f"{view}@")


__all__ = [
    "MAIN_VIEW",
    "UNLOADED",
    "Base",
    "RowNeeded",
    "Touch",
    "Unloaded",
    "View",
    "is_partial_of",
    "partial_view",
]
