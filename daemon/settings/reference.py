"""The reference of all settings, `config/reference.toml`, written from the models.

Owns the file's form. `python -m daemon.settings.reference` writes it to standard output; a test holds the committed
file equal to it. Must not know any setting by name, but for the names its examples have.

Invariants: the file is valid and loads to the defaults; every key of every model is in it, a key without a default with
an example, a key that is left out by default behind a `#` without a space.
"""

import re
import sys
import textwrap
from collections.abc import Iterator
from inspect import cleandoc
from typing import cast

from pydantic.fields import FieldInfo

from daemon.settings.base import Section, kind_of
from daemon.settings.root import Settings
from daemon.settings.shape import Group, Leaf, Named, expected_of, shape_of

WIDTH = 118

HEAD = """\
Every setting of projectiond: its default, its unit and limits, and the reason one would change it. Written from the
code by `python -m daemon.settings.reference`; do not edit it by hand.

A file of your own holds only what differs. Every key can also be set by an environment variable, its parts in upper
case joined by two underscores: PROJECTIOND__STORE__PATH=/var/lib/projectiond/read-models.db sets store.path. Lists,
tables and secrets are given there as JSON. A key behind `#` without a space is left out by default; its value is an
example. A table behind `##` stands in the place of the one above it: the same table, of another kind.
"""

EXAMPLE_NAMES = {"sources": "orders", "projections": "order-summary"}
"""The NAME under which the reference shows a table of tables."""


def render() -> str:
    """Give the text of the reference file."""
    lines = [*_comment(HEAD), *_group(Group((Settings,)), (), active=True)]
    return "\n".join(lines).strip() + "\n"


def _group(group: Group, path: tuple[str, ...], *, active: bool) -> Iterator[str]:
    """Write a table, once for each kind, with the tables inside it after its own keys."""
    named = path
    for at, model in enumerate(group.models):
        instead = at > 0 and named[0] not in EXAMPLE_NAMES
        if at and not instead:
            path = (*named[:-1], f"{named[-1]}-{kind_of(model)}")
        if path:
            yield from ("", "")
            yield from _comment(cleandoc(model.__doc__ or ""))
            # The first kind stands for the default; the others are shown commented out.
            table = _table(model, path, active=active and at == 0 and not instead)
            yield from (f"#{line}" if instead and re.match(r"#[\[a-z]", line) else line for line in table)
        for name, field in model.model_fields.items():
            shape = shape_of(field)
            if isinstance(shape, Group):
                yield from _group(shape, (*path, name), active=active and at == 0 and field.get_default() is not None)
            elif isinstance(shape, Named):
                yield from _group(shape.of, (*path, name, EXAMPLE_NAMES[name]), active=active)


def _table(model: type[Section], path: tuple[str, ...], *, active: bool) -> Iterator[str]:
    yield _off(f"[{'.'.join(path)}]", active=active)
    for name, field in model.model_fields.items():
        if isinstance(shape_of(field), Leaf):
            yield ""
            yield from _comment(field.description or "")
            yield from _comment(_facts(name, field))
            set_by_default = field.is_required() or field.get_default() is not None
            value = _toml(_example(field))
            yield _off(f"{name} = {value}", active=active and set_by_default)


def _facts(name: str, field: FieldInfo) -> str:
    """Say what the key may hold and what holds without it."""
    expected = expected_of(name, field)
    if field.is_required():
        return f"Holds {expected}. Required; the value here is an example."
    default = cast("object", field.get_default())
    return f"Holds {expected}. Default: {'left out' if default is None else _toml(default)}."


def _example(field: FieldInfo) -> object:
    default = None if field.is_required() else cast("object", field.get_default())
    return default if default is not None else (field.examples or [""])[0]


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}"
        case dict():
            table = cast("dict[str, object]", value).items()
            return f"{{ {', '.join(f'{name} = {_toml(item)}' for name, item in table)} }}"
        case list() | tuple():
            return f"[{', '.join(_toml(item) for item in cast('list[object]', value))}]"
        case _:
            return f'"{value}"' if isinstance(value, str) else str(value)


def _comment(text: str) -> Iterator[str]:
    """Write a text as comment lines; its paragraphs stay apart."""
    for at, paragraph in enumerate(text.strip().split("\n\n")):
        if at:
            yield "#"
        yield from (f"# {line}" for line in textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False))


def _off(line: str, *, active: bool) -> str:
    return line if active else f"#{line}"


if __name__ == "__main__":
    sys.stdout.write(render())
