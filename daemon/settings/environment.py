"""Settings from environment variables: `PROJECTIOND__STORE__PATH` is `store.path`.

Owns the spelling of names and the parsing of values. A name is the prefix and the key's parts in upper case, joined by
two underscores; the NAME of a source or projection is found among those of the file with `-` and `_` taken as equal,
and written with `-` where the file has none. A value is parsed by its field: a text is taken as it is, a number or
boolean is spelled as in TOML, a list, table or secret is JSON. Variables with a single underscore after PROJECTIOND
are not settings: platforms make such names by themselves (Kubernetes does for a service of that name).

Must not know the file's format. Invariant: each variable either becomes one override or one problem.
"""

import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import NamedTuple, NoReturn, cast

from daemon.settings.problems import HIDDEN, Problem, dotted, escaped, from_environment, quoted
from daemon.settings.shape import Group, Leaf, Named, Shape, child, inside

PREFIX = "PROJECTIOND__"
SEPARATOR = "__"
_KIND = f"{SEPARATOR}KIND"
MAX_LEVELS = 16
"""Levels of nesting a file or a variable may have; the models have five."""


class Override(NamedTuple):
    """A value that the variable `name` sets at the key `path`."""

    path: tuple[str, ...]
    value: object
    name: str


class _Unknown(Exception):
    """No key is spelled like that; `nearest` are the variable names that come close."""

    def __init__(self, nearest: Iterable[str] = ()) -> None:
        super().__init__()
        self.nearest = tuple(nearest)


def read_environment(
    environment: Mapping[str, str], root: Group, data: Mapping[str, object]
) -> tuple[list[Override], list[Problem]]:
    """Turn the variables of `environment` into overrides of `data`, whole tables before their keys.

    Variables without the prefix are none of its business. Raises nothing: what cannot be read is a problem.
    """
    overrides: list[Override] = []
    problems: list[Problem] = []
    seen: dict[str, object] = deepcopy(dict(data))
    # Whole tables first, then what chooses a table's kind: they say which keys the other variables may name.
    for name in sorted(environment, key=lambda name: (name.count(SEPARATOR), not name.endswith(_KIND), name)):
        if not name.upper().startswith(PREFIX):
            continue
        try:
            path, shape = _resolve(name, root, seen)
        except _Unknown as unknown:
            problems.append(_unknown_name(name, unknown.nearest))
            continue
        try:
            override = Override(path, _parse(environment[name], shape), name)
        except ValueError as error:
            problems.append(_unreadable(path, environment[name], shape, str(error), name))
            continue
        overrides.append(override)
        lay_over(seen, override)
    overrides.sort(key=lambda override: len(override.path))
    return overrides, problems


def lay_over(tree: dict[str, object], override: Override) -> None:
    """Set a value, making tables on the way; where a table should be and is not, validation will tell."""
    *tables, last = override.path
    for name in tables:
        inner = tree.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        tree = cast("dict[str, object]", inner)
    tree[last] = deepcopy(override.value)


def variable_of(path: Iterable[str]) -> str:
    """Spell the variable that sets the key `path`."""
    return PREFIX + SEPARATOR.join(part.upper().replace("-", "_") for part in path)


def _resolve(name: str, root: Group, data: Mapping[str, object]) -> tuple[tuple[str, ...], Shape]:
    if name != name.upper():
        raise _Unknown([name.upper()])
    shape: Shape = root
    table: object = data
    path: list[str] = []
    for segment in name.removeprefix(PREFIX).split(SEPARATOR):
        if isinstance(shape, Leaf):
            raise _Unknown([variable_of(path)])
        part = _named(segment, table) if isinstance(shape, Named) else segment.lower()
        found = child(shape, table, part)
        if found is None:
            known = shape.fields(table) if isinstance(shape, Group) else ()
            raise _Unknown(variable_of([*path, near]) for near in get_close_matches(part, known, n=1))
        path.append(part)
        shape, table = found, inside(table, part)
    return tuple(path), shape


def _named(segment: str, table: object) -> str:
    if not segment:
        raise _Unknown
    if isinstance(table, Mapping):
        for known in cast("Mapping[str, object]", table):
            if known.upper().replace("-", "_") == segment:
                return known
    return segment.lower().replace("_", "-")


def _parse(text: str, shape: Shape) -> object:
    """Parse `text` by the form of its field. Raises ValueError with what was expected."""
    match shape:
        case Leaf(form="text"):
            return text
        case Leaf(form="integer"):
            return _number(text, int, r"[+-]?\d+(_\d+)*", "a whole number, such as 200 or 4_194_304")
        case Leaf(form="number"):
            return _number(text, float, r"[+-]?\d+(_\d+)*(\.\d+(_\d+)*)?([eE][+-]?\d+)?", "a number, such as 0.5")
        case Leaf(form="boolean"):
            if text not in {"true", "false"}:
                raise ValueError("true or false")
            return text == "true"
        case Leaf(form="list"):
            return _json(text, list, """a JSON list, such as '["a", "b"]'""")
        case Leaf():
            return _json(text, dict, """a secret named by its environment variable, as JSON: '{"env": "NAME"}'""")
        case Group() | Named():
            return _json(text, dict, """a table as JSON, such as '{"kind": "file"}'""")


def _number[N: (int, float)](text: str, convert: type[N], pattern: str, expected: str) -> N:
    if re.fullmatch(pattern, text, re.ASCII) is None:
        raise ValueError(expected)
    try:
        return convert(text)
    except ValueError:
        raise ValueError(expected) from None  # more digits than the interpreter converts


def _json(text: str, container: type, expected: str) -> object:
    try:
        value: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError(expected) from None  # the decoder's error holds the text, which may be a secret
    if not isinstance(value, container) or nests_too_deep(value):
        raise ValueError(expected)
    return value


def nests_too_deep(value: object) -> bool:
    """Say whether a value has more levels than any setting, so that no later walk over it runs out of stack."""
    level = [value]
    for _ in range(MAX_LEVELS):
        level = [inner for outer in level for inner in _items(outer)]
    return bool(level)


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key twice")
    return table


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(constant)


def _unknown_name(name: str, nearest: tuple[str, ...]) -> Problem:
    return Problem(
        path=escaped(name),
        value="",
        expected=f"the name of a setting, such as {variable_of(('store', 'path'))}",
        remedy=f"did you mean {nearest[0]}?" if nearest else "config/reference.toml lists every key",
        origin=from_environment(name),
    )


def _unreadable(path: tuple[str, ...], text: str, shape: Shape, expected: str, name: str) -> Problem:
    plain = isinstance(shape, Leaf) and shape.form in {"integer", "number", "boolean"}
    return Problem(
        path=dotted(path),
        value=quoted(text) if plain else HIDDEN,
        expected=expected,
        remedy=f"set {name} to that, or unset it",
        origin=from_environment(name),
    )
