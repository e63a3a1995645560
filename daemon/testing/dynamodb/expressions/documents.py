"""Writing into and cutting out of documents, by path, on a copy.

Owns the copy-on-write of nested maps and lists. Must not know expressions.

Invariant: only the top-level dict handed in is changed; every nested value on a path is copied first, because images
of an item share what they have in common.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, cast

from daemon.testing.dynamodb.errors import ServiceError, invalid_item
from daemon.testing.dynamodb.expressions.lexer import Path
from daemon.testing.dynamodb.values import Item, Value

type Tree = dict[str | int, "Tree | None"]


def _no_way() -> ServiceError:
    return invalid_item("The document path provided in the update expression is invalid for update")


def _holder(made: Item, path: Path) -> dict[str, Any] | list[Any]:
    """Copy everything from the top down to what directly holds the path's last part, and return that."""
    holder: Any = made
    for part, follower in pairwise(path):
        if isinstance(part, int):
            if part >= len(holder):
                raise _no_way()
            child: Value = holder[part]
        else:
            child = holder.get(part, {})
        kind = "M" if isinstance(follower, str) else "L"
        if kind not in child:
            raise _no_way()
        copy: Any = child[kind].copy()
        holder[part] = {kind: copy}
        holder = copy
    return holder


def assigned(made: Item, path: Path, value: Value) -> None:
    """Write a value at a path; an index beyond a list's end appends."""
    holder = _holder(made, path)
    last = path[-1]
    if isinstance(holder, dict):
        holder[cast("str", last)] = value
    elif cast("int", last) < len(holder):
        holder[cast("int", last)] = value
    else:
        holder.append(value)


def removed(made: Item, path: Path) -> None:
    """Remove what is at a path, if its parent is there."""
    holder = _holder(made, path)
    last = path[-1]
    if isinstance(holder, dict):
        holder.pop(cast("str", last), None)
    elif cast("int", last) < len(holder):
        del holder[cast("int", last)]


def tree_of(paths: Iterable[Path]) -> Tree:
    """Return the paths as one tree; a leaf is None."""
    tree: Tree = {}
    for path in paths:
        at = tree
        for part in path[:-1]:
            deeper = at.setdefault(part, {})
            at = deeper if deeper is not None else {}
        at[path[-1]] = None
    return tree


def projected(item: Item, tree: Tree) -> Item:
    """Return the parts of an item that a tree of paths names: maps keep their names, lists close up."""
    found: Item = {}
    for part, deeper in tree.items():
        value = item.get(cast("str", part))
        if value is None:
            continue
        cut = value if deeper is None else _cut(value, deeper)
        if cut is not None:
            found[cast("str", part)] = cut
    return found


def _cut(value: Value, tree: Tree) -> Value | None:
    if "M" in value and all(isinstance(part, str) for part in tree):
        inside = projected(value["M"], tree)
        return {"M": inside} if inside else None
    if "L" not in value:
        return None
    listed = cast("list[Value]", value["L"])
    kept: list[Value] = []
    for part, deeper in sorted(tree.items(), key=lambda pair: str(pair[0]).zfill(10)):
        if isinstance(part, int) and part < len(listed):
            one = listed[part] if deeper is None else _cut(listed[part], deeper)
            if one is not None:
                kept.append(one)
    return {"L": kept} if kept else None
