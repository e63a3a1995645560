"""Pydantic's errors, told as problems of the settings file.

Owns the translation: which key an error is about, what was expected there, what to do, and the nearest known key for an
unknown one. Must not know how values were read; the loader tells where each came from.

Invariant: an error is translated from the models' own descriptions, never by repeating pydantic's message together with
the input.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from daemon.settings.base import KIND, VALUE_REFUSED, kind_of
from daemon.settings.checks import Clash
from daemon.settings.problems import HIDDEN, Key, Problem, dotted, quoted, shown
from daemon.settings.shape import Group, Leaf, Named, Shape, child, expected_of, inside, shape_of

NAME_MARK = "[key]"
"""What pydantic puts at the end of an error's location when the name of an entry is wrong."""

type Origin = Callable[[Key], str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error points: a key, the shape there (None if the key is unknown), and the table around it."""

    key: Key
    shape: Shape | None
    around: Shape
    table: object

    @property
    def field(self) -> FieldInfo | None:
        """The field that the key names; None for the NAME of an entry or an index."""
        return self.around.fields(self.table).get(str(self.key[-1])) if isinstance(self.around, Group) else None

    @property
    def expected(self) -> str:
        """What may stand there."""
        field, last = self.field, str(self.key[-1])
        if field is not None:
            return expected_of(last, field)
        return "a text" if isinstance(self.shape, Leaf) else "a table"


def explain(error: ErrorDetails, root: Group, data: Mapping[str, object], origin: Origin) -> Problem | None:
    """Tell one pydantic error as a problem; None if it only repeats another one."""
    kind, value, context = error["type"], cast("object", error["input"]), error.get("ctx", {})
    place = _place(error["loc"], root, data)
    if kind == "too_short" and isinstance(value, Sized) and len(value) >= context["min_length"]:
        return None  # the list is long enough; an item of it was refused, which is another error
    if kind == "extra_forbidden":
        return Problem(dotted(place.key), "", "a known key", _nearest_key(place, root), origin(place.key))
    if kind == "union_tag_invalid":
        return _unknown_kind(place, value, origin)
    if kind == "missing":
        return _missing(place, origin)
    hidden = isinstance(place.shape, Leaf) and place.shape.form == "secret"
    named = error["loc"][-1] == NAME_MARK
    told = kind == VALUE_REFUSED
    return Problem(
        path=dotted(place.key),
        value="" if named else HIDDEN if hidden else shown(value),
        expected=context["expected"] if told else place.expected,
        remedy=context["remedy"] if told else _remedy(place, value),
        origin=origin(place.key),
    )


def explain_clash(clash: Clash, origin: str) -> Problem:
    """Tell a clash between keys as a problem."""
    return Problem(clash.path, shown(clash.value), clash.expected, clash.remedy, origin)


def unknown_projections(given: Mapping[str, str], known: Collection[str]) -> list[Problem]:
    """Tell each table [projections.NAME] that names none of the projections `known`. `given` maps names to origins."""
    expected = f"the name of a projection (there are: {', '.join(sorted(known)) or 'none'})"
    problems: list[Problem] = []
    for name in sorted(given.keys() - set(known)):
        near = get_close_matches(name, known, n=1)
        remedy = f"did you mean {dotted(('projections', near[0]))}?" if near else "correct it, or remove the table"
        problems.append(Problem(dotted(("projections", name)), shown({}), expected, remedy, given[name]))
    return problems


def key_of(location: tuple[str | int, ...], root: Group, data: Mapping[str, object]) -> Key:
    """Give the key an error is about: its location without what pydantic adds for itself."""
    return _place(location, root, data).key


def example_of(location: tuple[str | int, ...], root: Group, data: Mapping[str, object]) -> object:
    """Give an example of what may stand where an error is, for a key that has to be there; None for any other."""
    field = _place(location, root, data).field
    return field.examples[0] if field is not None and field.is_required() and field.examples else None


def _place(location: tuple[str | int, ...], root: Group, data: Mapping[str, object]) -> _Place:
    key: list[str | int] = []
    shape: Shape | None = root
    around: Shape = root
    table: object = data
    within: object = data
    parts = iter(location)
    for part in parts:
        if part == NAME_MARK:
            break
        if shape is not None:
            around, table = shape, within
        shape, within = child(shape, within, part), inside(within, part)
        key.append(part)
        if isinstance(shape, Group) and shape.by_kind:
            next(parts, None)  # pydantic adds the kind that chose the model
    return _Place(tuple(key), shape, around, table)


def _missing(place: _Place, origin: Origin) -> Problem:
    table, key = place.key[:-1], place.key[-1]
    expected = f"{place.expected}; it has no default"
    return Problem(dotted(place.key), "", expected, f"add `{key}` to [{dotted(table)}]", origin(table))


def _unknown_kind(place: _Place, value: object, origin: Origin) -> Problem:
    group = cast("Group", place.shape)
    kinds = [kind_of(model) for model in group.models]
    given = inside(value, KIND)
    key = (*place.key, KIND)
    return Problem(
        path=dotted(key),
        value=shown(given),
        expected="one of " + ", ".join(f'"{kind}"' for kind in kinds),
        remedy=_nearest_text(given, kinds) or "choose one of them",
        origin=origin(key),
    )


def _nearest_key(place: _Place, root: Group) -> str:
    key, table = str(place.key[-1]), place.key[:-1]
    known = place.around.fields(place.table) if isinstance(place.around, Group) else {}
    near = get_close_matches(key, known, n=1)
    if near:
        return f"did you mean {dotted((*table, near[0]))}?"
    elsewhere = [path for path in _all_keys(root, ()) if path[-1] == key]
    if elsewhere:
        return f"did you mean {dotted(elsewhere[0])}?"
    return f"remove it; known here: {', '.join(known)}"


def _all_keys(group: Group, at: Key) -> Iterator[Key]:
    for name, field in group.fields().items():
        shape = shape_of(field)
        yield (*at, name)
        if isinstance(shape, Group):
            yield from _all_keys(shape, (*at, name))
        elif isinstance(shape, Named):
            yield from _all_keys(shape.of, (*at, name, "NAME"))


def _nearest_text(given: object, choices: Iterable[str]) -> str:
    near = get_close_matches(given, choices, n=1) if isinstance(given, str) else []
    return f'did you mean "{near[0]}"?' if near else ""


def _remedy(place: _Place, value: object) -> str:
    leaf = place.shape if isinstance(place.shape, Leaf) else None
    if leaf is None:
        return f"write it as the table [{dotted(place.key)}]"
    near = _nearest_text(value, leaf.choices)
    if near:
        return near
    if leaf.form in {"integer", "number", "boolean"} and isinstance(value, str):
        return "write it without quotes"
    if leaf.form == "text" and not leaf.choices and not isinstance(value, str):
        return "write it in quotes"
    if leaf.form == "list" and isinstance(value, str):
        return f"put it in brackets: [{quoted(value)}]"
    field = place.field
    if field is None or field.is_required():
        return "change it"
    default = cast("object", field.get_default())
    if default is None or isinstance(default, tuple):
        return "change it, or leave it out"
    return f"change it, or leave it out for the default, {shown(default)}"
