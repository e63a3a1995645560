"""What comparisons and functions work on: paths, values and `size`, compiled to functions of an item and its values.

Owns reading an operand and the checks of a placeholder's type. Must not know operators.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from daemon.testing.dynamodb.expressions.lexer import Cursor, Path
from daemon.testing.dynamodb.values import TYPE_NAMES, Item, Value

type Read = Callable[[Item, Item], Value | None]
"""Gives an operand's value from the item and the bound values; None where the item has no such attribute."""

SIZEABLE = frozenset({"S", "B", "SS", "NS", "BS", "L", "M"})


@dataclass(frozen=True, slots=True)
class Operand:
    """`path` or `placeholder` say what it is; both are None for a function."""

    read: Read
    path: Path | None = None
    placeholder: str | None = None


def reader(path: Path) -> Read:
    """Return what follows a document path through an item."""
    first = cast("str", path[0])
    if len(path) == 1:
        return lambda item, _: item.get(first)
    rest = path[1:]

    def follow(item: Item, _: Item) -> Value | None:
        value: Any = item.get(first)
        for part in rest:
            if value is None:
                return None
            if isinstance(part, str):
                value = cast("Item", value.get("M", {})).get(part)
            else:
                listed = cast("list[Value]", value.get("L", ()))
                value = listed[part] if part < len(listed) else None
        return value

    return follow


def operand(cursor: Cursor) -> Operand:
    """Take a path or a value placeholder."""
    if cursor.next.kind == "value":
        name = cursor.value()
        return Operand(lambda _, values: values[name], placeholder=name)
    path = cursor.path()
    return Operand(reader(path), path=path)


def require_type(cursor: Cursor, one: Operand, allowed: frozenset[str], function: str, *, operator: bool) -> None:
    """Ask of a placeholder's value that it is of an allowed type; what an item holds is not judged here."""
    name = one.placeholder
    if name is None:
        return
    error = cursor.error
    what = "operator" if operator else "operator or function"

    def check(values: Item) -> None:
        (kind,) = values[name]
        if kind not in allowed:
            raise error(
                f"Incorrect operand type for operator or function; {what}: {function}, operand type: "
                f"{TYPE_NAMES[kind] if function in {'ADD', 'DELETE'} else kind}"
                + (f", typeSet: ALLOWED_FOR_{function}_OPERAND" if function in {"ADD", "DELETE"} else "")
            )

    cursor.uses.checks.append(check)


def size_of(value: Value | None) -> Value | None:
    """Return what `size` gives: characters, bytes or members, as a number; None where it is not defined."""
    if value is None:
        return None
    ((kind, content),) = value.items()
    if kind == "B":
        return {"N": str(len(content) * 3 // 4 - content.count("="))}
    return {"N": str(len(content))} if kind in SIZEABLE else None
