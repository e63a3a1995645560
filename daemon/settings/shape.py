"""The shape of the settings, read off their models: which keys there are, and of what form each value is.

Owns the one walk over the models that environment variables, origins, error messages and the reference share. Must not
know any value.

Invariant: every field of a section is a leaf, a group (one table) or a set of named groups; anything else is refused
when it is first looked at.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeAliasType, Union, cast, get_args, get_origin

from annotated_types import MinLen
from pydantic.fields import FieldInfo

from daemon.settings.base import KIND, Kinds, Section, kind_of
from daemon.settings.secret import Secret

type LeafForm = Literal["text", "integer", "number", "boolean", "list", "secret"]


class Leaf(NamedTuple):
    """A value. `choices` are the texts it may be, `items` the form of a list's items."""

    form: LeafForm
    choices: tuple[str, ...] = ()
    items: "Leaf | None" = None


class Group(NamedTuple):
    """A table: one model, or one for each `kind`, the first being the default."""

    models: tuple[type[Section], ...]
    by_kind: bool = False

    def model(self, table: object) -> type[Section] | None:
        """Give the model of this `table` as it was read; None if its kind is unknown."""
        if not self.by_kind:
            return self.models[0]
        kind: object = kind_of(self.models[0])
        if isinstance(table, Mapping):
            kind = cast("Mapping[str, object]", table).get(KIND, kind)
        return next((model for model in self.models if kind_of(model) == kind), None)

    def fields(self, table: object = None) -> dict[str, FieldInfo]:
        """Give the fields of this `table`; those of every kind if its kind is unknown."""
        chosen = self.model(table)
        models = self.models if chosen is None else (chosen,)
        return {name: info for model in reversed(models) for name, info in model.model_fields.items()}


class Named(NamedTuple):
    """A table of tables, `[sources.NAME]`."""

    of: Group


type Shape = Leaf | Group | Named

_PLAIN: Mapping[object, LeafForm] = {str: "text", int: "integer", float: "number", bool: "boolean", Secret: "secret"}

UNITS: Mapping[str, str] = {
    "_ms": "milliseconds",
    "_seconds": "seconds",
    "_days": "days",
    "_bytes": "bytes",
    "_mib": "MiB",
    "_pages": "pages",
    "_connections": "connections",
    "_requests": "requests",
    "usd_per_million_write_units": "US dollars",
    "usd_per_million_read_units": "US dollars",
    "write_budget_units": "write units a second",
    "_units": "units a second",
    "_events": "events",
    "_rows": "rows",
    "_ids": "ids",
    "_characters": "characters",
    "_depth": "levels",
    "_share": "a share, 1 being all",
    "_in_a_row": "events",
    "_conflicts": "conflicts",
    "_restarts": "restarts",
    "_shards": "shards",
    "_links": "links",
    "port": "TCP port",
}
"""The unit that the end of a number's name stands for."""


def unit_of(name: str) -> str:
    """Give the unit of the number `name`, the empty text where its name has none."""
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def shape_of(field: FieldInfo) -> Shape:
    """Give the shape of a field. Raises TypeError for a type that settings have no form for."""
    return _shape(field.annotation, field.metadata)


def _shape(annotation: Any, metadata: list[Any]) -> Shape:
    kinds = next((item for item in metadata if isinstance(item, Kinds)), None)
    if kinds is not None:
        return Group(kinds.models, by_kind=True)
    bare, inner = _bare(annotation)
    if inner:
        return _shape(bare, [*inner, *metadata])
    if bare in _PLAIN:
        return Leaf(_PLAIN[bare])
    if isinstance(bare, type) and issubclass(bare, Section):
        return Group((bare,))
    return _container(get_origin(bare), get_args(bare), annotation)


def _container(origin: Any, arguments: tuple[Any, ...], annotation: object) -> Shape:
    if origin is Literal:
        return Leaf("text", choices=arguments)
    inner = _shape(arguments[-1 if origin is Mapping else 0], []) if origin in {tuple, Mapping} else None
    if origin is tuple and isinstance(inner, Leaf):
        return Leaf("list", items=inner)
    if origin is Mapping and isinstance(inner, Group):
        return Named(inner)
    raise TypeError(f"{annotation} has no form in a settings file; use a section, a table of sections or a plain value")


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Take the names, the `None` and the annotations off a type; give it with its annotations."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, TypeAliasType):
        return _bare(annotation.__value__)
    if isinstance(origin, TypeAliasType):
        return _bare(origin.__value__[arguments])
    if origin is Annotated:
        return arguments[0], arguments[1:]
    members = [member for member in arguments if member is not NoneType]
    if origin in {Union, UnionType} and len(members) == 1:
        return _bare(members[0])
    return annotation, ()


def inside(table: object, name: str | int) -> object:
    """Give what a table as it was read holds under `name`; None where it holds nothing, or is no table."""
    return cast("Mapping[str | int, object]", table).get(name) if isinstance(table, Mapping) else None


def child(shape: Shape | None, table: object, name: str | int) -> Shape | None:
    """Give the shape of what `name` names within `table`, which is of `shape`; None if there is no such key."""
    if isinstance(shape, Named):
        return shape.of
    if isinstance(shape, Group):
        field = shape.fields(table).get(str(name))
        return None if field is None else shape_of(field)
    return shape.items if isinstance(shape, Leaf) and isinstance(name, int) else None


def limits_of(field: FieldInfo) -> tuple[float | None, float | None]:
    """Give the least and the greatest number a field allows, None where there is no bound."""
    bounds: dict[str, float] = {}
    for constraint in field.metadata:
        for side in ("ge", "le"):
            bound = getattr(constraint, side, None)
            if bound is not None:
                bounds[side] = bound
    return bounds.get("ge"), bounds.get("le")


def expected_of(name: str, field: FieldInfo) -> str:
    """Say in words what the field `name` may hold: its form, choices, limits and unit."""
    shape = shape_of(field)
    if not isinstance(shape, Leaf):
        return "a table"
    if shape.choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in shape.choices)
    words = "a list of whole numbers" if shape.items and shape.items.form == "integer" else _WORDS[shape.form]
    if shape.items and any(isinstance(item, MinLen) and item.min_length for item in field.metadata):
        words = words.replace("a list of ", "a list of at least one ").removesuffix("s")
    low, high = limits_of(field)
    if low is not None and high is not None:
        words += f" from {low:.15g} to {high:.15g}"
    unit = unit_of(name) if shape.form in {"integer", "number"} else ""
    return f"{words} ({unit})" if unit else words


_WORDS: Mapping[LeafForm, str] = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list of texts",
    "secret": 'a secret named by its environment variable, {env = "NAME"}',
}
