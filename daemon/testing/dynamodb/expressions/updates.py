"""Update expressions: SET, REMOVE, ADD and DELETE, compiled to functions from one item to the next.

Owns their grammar and meaning. Must not know tables or keys.

Invariants: every operand is read from the item as it was before the update; nothing of the old item is changed in
place; an error that depends on the item is item-level, one that depends on the text or on placeholders' types is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

from daemon.testing.dynamodb.errors import ServiceError, invalid_item
from daemon.testing.dynamodb.expressions.documents import assigned, removed
from daemon.testing.dynamodb.expressions.lexer import Check, Cursor, Path, clash
from daemon.testing.dynamodb.expressions.operands import Operand, Read, operand, reader, require_type
from daemon.testing.dynamodb.values import SETS, Item, Value, arithmetic, binary

MAX_OPERATORS = 300
_ADDABLE = frozenset({"N", *SETS})
_NUMBER = frozenset({"N"})
_LIST = frozenset({"L"})
_SECTIONS = ("SET", "REMOVE", "ADD", "DELETE")


@dataclass(slots=True)
class _Clauses:
    sets: list[tuple[Path, Read]] = field(default_factory=list[tuple[Path, Read]])
    removes: list[Path] = field(default_factory=list[Path])
    adds: list[tuple[Path, str]] = field(default_factory=list[tuple[Path, str]])
    deletes: list[tuple[Path, str]] = field(default_factory=list[tuple[Path, str]])
    operators: int = 0


@dataclass(frozen=True, slots=True)
class Update:
    """A compiled update; `targets` are the paths it writes, `attributes` the top-level names among them."""

    clauses: _Clauses
    targets: tuple[Path, ...]
    names: frozenset[str]
    values: frozenset[str]
    checks: tuple[Check, ...]
    attributes: frozenset[str]

    def apply(self, item: Item, values: Item) -> Item:
        """Return the item after the update; `item` stays as it is."""
        clauses = self.clauses
        results = [(path, read(item, values)) for path, read in clauses.sets]
        made = dict(item)
        for path, value in results:
            if value is None:
                raise invalid_item("The provided expression refers to an attribute that does not exist in the item")
            if len(path) == 1:
                made[cast("str", path[0])] = value
            else:
                assigned(made, path, value)
        for path, name in clauses.adds:
            top = cast("str", path[0])
            made[top] = _sum(item.get(top), values[name])
        for path, name in clauses.deletes:
            _subtract(made, cast("str", path[0]), values[name])
        # From the greatest index down, so that an index means what it meant before the update.
        for path in sorted(clauses.removes, key=_removal_order, reverse=True):
            removed(made, path)
        return made


def _removal_order(path: Path) -> tuple[tuple[int, str | int], ...]:
    return tuple((1, part) if isinstance(part, int) else (0, part) for part in path)


def compile_update(text: str, names: Mapping[str, str]) -> Update:
    """Parse an UpdateExpression."""
    cursor = Cursor(text, "UpdateExpression", names)
    clauses = _Clauses()
    seen: set[str] = set()
    while cursor.next.kind != "end":
        section = cursor.at_word(*_SECTIONS)
        if section is None:
            raise cursor.syntax_error()
        cursor.take()
        if section in seen:
            raise cursor.error(f'The "{section}" section can only be used once in an update expression;')
        seen.add(section)
        _section(cursor, section, clauses)
        while cursor.took(","):
            _section(cursor, section, clauses)
    if clauses.operators > MAX_OPERATORS:
        raise cursor.error(
            f"The expression contains {clauses.operators} operators or functions; at most {MAX_OPERATORS}"
        )
    targets = [path for path, _ in (*clauses.sets, *clauses.adds, *clauses.deletes)] + clauses.removes
    problem = clash(targets)
    if problem:
        raise cursor.error(problem)
    uses = cursor.uses
    return Update(
        clauses,
        tuple(targets),
        frozenset(uses.names),
        frozenset(uses.values),
        tuple(uses.checks),
        frozenset(cast("str", path[0]) for path in targets),
    )


def _section(cursor: Cursor, section: str, clauses: _Clauses) -> None:
    path = cursor.path()
    if section == "SET":
        cursor.expect("=")
        clauses.sets.append((path, _expression(cursor, clauses).read))
    elif section == "REMOVE":
        clauses.removes.append(path)
    else:
        name = cursor.value()
        allowed = _ADDABLE if section == "ADD" else frozenset(SETS)
        require_type(cursor, Operand(reader(path), placeholder=name), allowed, section, operator=True)
        if len(path) > 1:
            # The API reference allows both on top-level attributes only; that the service takes more is not promised.
            raise cursor.error(f"{section} can only be used on top-level attributes, not on nested ones; use SET")
        (clauses.adds if section == "ADD" else clauses.deletes).append((path, name))


def _expression(cursor: Cursor, clauses: _Clauses) -> Operand:
    left = _term(cursor, clauses)
    # The guide's grammar has one operator in a value; more of them need parentheses.
    if cursor.next.text not in {"+", "-"}:
        return left
    sign = cursor.take().text
    clauses.operators += 1
    right = _term(cursor, clauses)
    for one in (left, right):
        require_type(cursor, one, _NUMBER, sign, operator=False)
    return Operand(_calculated(left.read, right.read, minus=sign == "-"))


def _term(cursor: Cursor, clauses: _Clauses) -> Operand:
    if cursor.took("("):
        inner = _expression(cursor, clauses)
        cursor.expect(")")
        return inner
    if cursor.next.kind != "name" or cursor.peek(1).text != "(":
        return operand(cursor)
    name = cursor.next.text
    if name not in {"if_not_exists", "list_append"}:
        raise cursor.error(f"Invalid function name; function: {name}")
    cursor.take()
    clauses.operators += 1
    cursor.expect("(")
    first = _expression(cursor, clauses)
    cursor.expect(",")
    second = _expression(cursor, clauses)
    cursor.expect(")")
    if name == "if_not_exists":
        if first.path is None:
            raise cursor.error("Operator or function requires a document path; operator or function: if_not_exists")
        a, b = first.read, second.read
        return Operand(lambda item, values: found if (found := a(item, values)) is not None else b(item, values))
    for one in (first, second):
        require_type(cursor, one, _LIST, name, operator=False)
    return Operand(_appended(first.read, second.read))


def _wrong_type() -> ServiceError:
    return invalid_item("An operand in the update expression has an incorrect data type")


def _calculated(left: Read, right: Read, *, minus: bool) -> Read:
    def calculate(item: Item, values: Item) -> Value | None:
        one, other = left(item, values), right(item, values)
        if one is None or other is None:
            return None
        if "N" not in one or "N" not in other:
            raise _wrong_type()
        return {"N": _exact(one["N"], other["N"], minus=minus)}

    return calculate


def _exact(left: str, right: str, *, minus: bool = False) -> str:
    try:
        return arithmetic(left, right, minus=minus)
    except ServiceError as problem:
        raise invalid_item(problem.message) from None


def _appended(left: Read, right: Read) -> Read:
    def append(item: Item, values: Item) -> Value | None:
        one, other = left(item, values), right(item, values)
        if one is None or other is None:
            return None
        if "L" not in one or "L" not in other:
            raise _wrong_type()
        return {"L": [*one["L"], *other["L"]]}

    return append


def _in_order(kind: str, members: set[str]) -> Value:
    order: Any = {"SS": None, "NS": Decimal, "BS": binary}[kind]
    return {kind: sorted(members, key=order)}


def _sum(old: Value | None, more: Value) -> Value:
    if old is None:
        return more
    ((kind, content),) = more.items()
    if kind not in old:
        raise _wrong_type()
    if kind == "N":
        return {"N": _exact(old["N"], content)}
    return _in_order(kind, {*old[kind], *content})


def _subtract(made: Item, name: str, less: Value) -> None:
    old = made.get(name)
    if old is None:
        return
    ((kind, content),) = less.items()
    if kind not in old:
        raise _wrong_type()
    left = set(old[kind]) - set(content)
    if left:
        made[name] = _in_order(kind, left)
    else:
        del made[name]
