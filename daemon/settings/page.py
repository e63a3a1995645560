"""The settings as a page of the documentation, written from the models: `python -m daemon.settings.page`.

Owns the page's form; a test holds `docs/reference/settings.md` equal to it. Must not know any setting by name, but for
the names its examples have. What stands in it is what `config/reference.toml` says too, to be read instead of copied.
"""

import sys
from collections.abc import Iterator
from inspect import cleandoc
from typing import cast

from pydantic.fields import FieldInfo

from daemon.settings.base import KIND, Section, kind_of
from daemon.settings.environment import variable_of
from daemon.settings.root import Settings
from daemon.settings.shape import Group, Leaf, Named, expected_of, shape_of

HEAD = """\
# Settings

<!-- Written from the code by `python -m daemon.settings.page`; do not edit it by hand. -->

A settings file is TOML and holds only what differs from the defaults. `projectiond check` prints every value that
holds, and where it came from. The same keys as a file to copy from: `config/reference.toml`.

Every key can also be set by an environment variable: its parts in upper case, joined by two underscores, behind
`PROJECTIOND__`. `NAME` stands for a name of your own. Lists and tables are given there as JSON. A password is never
written into a file: `{env = "NAME"}` names the variable that holds it.
"""


def render() -> str:
    """Give the text of the page."""
    return "\n".join([HEAD, *_group(Group((Settings,)), ())]).strip() + "\n"


def _group(group: Group, path: tuple[str, ...]) -> Iterator[str]:
    """Write a table, once for each kind, and then the tables inside it."""
    for model in group.models:
        if path:
            kind = f', `kind = "{kind_of(model)}"`' if group.by_kind else ""
            yield f"## `[{'.'.join(path)}]`{kind}\n"
            yield f"{cleandoc(model.__doc__ or '')}\n"
            yield from _keys(model, path)
        for name, field in model.model_fields.items():
            shape = shape_of(field)
            if isinstance(shape, Group):
                yield from _group(shape, (*path, name))
            elif isinstance(shape, Named):
                yield from _group(shape.of, (*path, name, "NAME"))


def _keys(model: type[Section], path: tuple[str, ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not isinstance(shape_of(field), Leaf) or name == KIND:
            continue
        yield f"- **`{name}`**: {field.description}"
        yield f"  <br>{_facts(name, field)} `{variable_of((*path, name))}`\n"


def _facts(name: str, field: FieldInfo) -> str:
    holds = f"Holds {expected_of(name, field)}."
    if field.is_required():
        return f"{holds} Required."
    default = cast("object", field.get_default())
    return f"{holds} Left out by default." if default is None else f"{holds} Default: `{_toml(default)}`."


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}"
        case tuple():
            return f"[{', '.join(_toml(item) for item in cast('tuple[object, ...]', value))}]"
        case _:
            return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    sys.stdout.write(render())
