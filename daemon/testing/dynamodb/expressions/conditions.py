"""Conditions and filters: parsed once, compiled to one function of an item and its values.

Owns the grammar of ConditionExpression and FilterExpression and the meaning of every operator and function. Must not
know tables.

Invariants: a missing attribute or one of another type makes every comparison false, except `<>`, which is true; what
depends only on placeholders' types is refused when the values are bound, never while an item is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from daemon.testing.dynamodb.expressions.lexer import Check, Cursor
from daemon.testing.dynamodb.expressions.operands import SIZEABLE, Operand, Read, operand, require_type, size_of
from daemon.testing.dynamodb.values import SETS, TYPES, Item, Value, binary, sortable

type Test = Callable[[Item, Item], bool]
"""Whether an item (empty where there is none) meets a condition under its values."""

MAX_IN_OPERANDS = 100
_ORDERED = frozenset({"S", "N", "B"})
_SIGNS = ("=", "<>", "<", "<=", ">", ">=")
_PATH_FUNCTIONS = ("attribute_exists", "attribute_not_exists")
_FUNCTIONS = frozenset({*_PATH_FUNCTIONS, "attribute_type", "begins_with", "contains"})


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition; `attributes` are the top-level names it reads."""

    test: Test
    names: frozenset[str]
    values: frozenset[str]
    checks: tuple[Check, ...]
    attributes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Node:
    test: Test
    wrapped: bool = False


def compile_condition(text: str, kind: str, names: Mapping[str, str]) -> Condition:
    """Parse a ConditionExpression or FilterExpression (`kind`)."""
    cursor = Cursor(text, kind, names)
    node = _any_of(cursor)
    cursor.end()
    uses = cursor.uses
    return Condition(
        node.test, frozenset(uses.names), frozenset(uses.values), tuple(uses.checks), frozenset(uses.attributes)
    )


def _any_of(cursor: Cursor) -> _Node:
    node = _all_of(cursor)
    while cursor.took_word("OR"):
        left, right = node.test, _all_of(cursor).test
        node = _Node(lambda item, values, a=left, b=right: a(item, values) or b(item, values))
    return node


def _all_of(cursor: Cursor) -> _Node:
    node = _negated(cursor)
    while cursor.took_word("AND"):
        left, right = node.test, _negated(cursor).test
        node = _Node(lambda item, values, a=left, b=right: a(item, values) and b(item, values))
    return node


def _negated(cursor: Cursor) -> _Node:
    if cursor.took_word("NOT"):
        inner = _negated(cursor).test
        return _Node(lambda item, values: not inner(item, values))
    if cursor.took("("):
        node = _any_of(cursor)
        cursor.expect(")")
        if node.wrapped:
            raise cursor.error("The expression has redundant parentheses;")
        return _Node(node.test, wrapped=True)
    if cursor.next.kind == "name" and cursor.peek(1).text == "(" and cursor.next.text != "size":
        return _Node(_function(cursor))
    return _Node(_comparison(cursor))


def _operand(cursor: Cursor) -> Operand:
    if cursor.next.kind != "name" or cursor.peek(1).text != "(":
        return operand(cursor)
    name = cursor.next.text
    if name != "size":
        if name in _FUNCTIONS:
            raise cursor.error(f"The function is not allowed to be used this way in an expression; function: {name}")
        raise cursor.error(f"Invalid function name; function: {name}")
    cursor.take()
    (inner,) = _arguments(cursor, name, 1)
    require_type(cursor, inner, SIZEABLE, "size", operator=False)
    read = inner.read
    return Operand(lambda item, values: size_of(read(item, values)))


def _arguments(cursor: Cursor, name: str, count: int) -> list[Operand]:
    cursor.expect("(")
    found = [_operand(cursor)]
    while cursor.took(","):
        found.append(_operand(cursor))
    cursor.expect(")")
    if len(found) != count:
        raise cursor.error(
            "Incorrect number of operands for operator or function; "
            f"operator or function: {name}, number of operands: {len(found)}"
        )
    return found


def _function(cursor: Cursor) -> Test:
    name = cursor.next.text
    if name not in _FUNCTIONS:
        raise cursor.error(f"Invalid function name; function: {name}")
    cursor.take()
    if name in _PATH_FUNCTIONS:
        (one,) = _arguments(cursor, name, 1)
        if one.path is None:
            raise cursor.error(f"Operator or function requires a document path; operator or function: {name}")
        read = one.read
        if name == "attribute_exists":
            return lambda item, values: read(item, values) is not None
        return lambda item, values: read(item, values) is None
    subject, other = _arguments(cursor, name, 2)
    _distinct(cursor, name, subject, other)
    if name == "attribute_type":
        return _type_test(cursor, subject.read, other)
    if name == "begins_with":
        require_type(cursor, subject, frozenset({"S", "B"}), name, operator=False)
        require_type(cursor, other, frozenset({"S", "B"}), name, operator=False)
        return _both(subject.read, other.read, _begins)
    return _both(subject.read, other.read, _contains)


def _type_test(cursor: Cursor, read: Read, other: Operand) -> Test:
    name = other.placeholder
    if name is None:
        raise cursor.error(
            "Incorrect operand type for operator or function; operator or function: attribute_type, "
            "operand type: a document path"
        )
    require_type(cursor, other, frozenset({"S"}), "attribute_type", operator=False)
    error = cursor.error

    def known(values: Item) -> None:
        if values[name].get("S") not in TYPES:
            raise error(f"Invalid attribute type name found; type: {values[name].get('S')}, valid types: {_TYPE_LIST}")

    cursor.uses.checks.append(known)
    return lambda item, values: (found := read(item, values)) is not None and values[name]["S"] in found


_TYPE_LIST = "{" + ",".join(sorted(TYPES)) + "}"


def _both(left: Read, right: Read, judge: Callable[[Value, Value], bool]) -> Test:
    def test(item: Item, values: Item) -> bool:
        one = left(item, values)
        if one is None:
            return False
        other = right(item, values)
        return other is not None and judge(one, other)

    return test


def _begins(one: Value, prefix: Value) -> bool:
    if "S" in one and "S" in prefix:
        return one["S"].startswith(prefix["S"])
    return "B" in one and "B" in prefix and binary(one["B"]).startswith(binary(prefix["B"]))


def _contains(one: Value, part: Value) -> bool:
    ((kind, content),) = one.items()
    if kind == "L":
        return part in content
    if kind in SETS:
        return SETS[kind] in part and part[SETS[kind]] in content
    if kind == "S":
        return "S" in part and part["S"] in content
    return kind == "B" and "B" in part and binary(part["B"]) in binary(content)


def _comparison(cursor: Cursor) -> Test:
    left = _operand(cursor)
    if cursor.took_word("BETWEEN"):
        return _between(cursor, left)
    if cursor.took_word("IN"):
        return _among(cursor, left)
    sign = next((one for one in _SIGNS if cursor.took(one)), None)
    if sign is None:
        raise cursor.syntax_error()
    right = _operand(cursor)
    _distinct(cursor, sign, left, right)
    a, b = left.read, right.read
    if sign == "=":
        return lambda item, values: (one := a(item, values)) is not None and one == b(item, values)
    if sign == "<>":
        return lambda item, values: (one := a(item, values)) is None or one != b(item, values)
    require_type(cursor, left, _ORDERED, sign, operator=True)
    require_type(cursor, right, _ORDERED, sign, operator=True)
    return _both(a, b, _ORDERS[sign])


def _ordered(one: Value, other: Value) -> int | None:
    (kind,) = one
    if kind not in _ORDERED or kind not in other:
        return None
    left, right = sortable(one), sortable(other)
    return (left > right) - (left < right)


_ORDERS: Mapping[str, Callable[[Value, Value], bool]] = {
    "<": lambda one, other: _ordered(one, other) == -1,
    "<=": lambda one, other: _ordered(one, other) in {-1, 0},
    ">": lambda one, other: _ordered(one, other) == 1,
    ">=": lambda one, other: _ordered(one, other) in {0, 1},
}


def _between(cursor: Cursor, subject: Operand) -> Test:
    low = _operand(cursor)
    if not cursor.took_word("AND"):
        raise cursor.syntax_error()
    high = _operand(cursor)
    for one in (subject, low, high):
        require_type(cursor, one, _ORDERED, "BETWEEN", operator=True)
    _bounds_in_order(cursor, low.placeholder, high.placeholder)
    above = _both(subject.read, low.read, _ORDERS[">="])
    below = _both(subject.read, high.read, _ORDERS["<="])
    return lambda item, values: above(item, values) and below(item, values)


def _bounds_in_order(cursor: Cursor, low: str | None, high: str | None) -> None:
    if low is None or high is None:
        return
    error = cursor.error

    def check(values: Item) -> None:
        order = _ordered(values[low], values[high])
        shown = (
            f"lower bound operand: AttributeValue: {values[low]}, upper bound operand: AttributeValue: {values[high]}"
        )
        if order is None:
            raise error(f"The BETWEEN operator requires same data type for lower and upper bounds; {shown}")
        if order > 0:
            raise error(
                f"The BETWEEN operator requires upper bound to be greater than or equal to lower bound; {shown}"
            )

    cursor.uses.checks.append(check)


def _among(cursor: Cursor, subject: Operand) -> Test:
    cursor.expect("(")
    choices = [_operand(cursor)]
    while cursor.took(","):
        choices.append(_operand(cursor))
    cursor.expect(")")
    if len(choices) > MAX_IN_OPERANDS:
        raise cursor.error(f"The IN operator is provided with too many operands; number of operands: {len(choices)}")
    reads = [one.read for one in choices]
    read = subject.read
    return lambda item, values: (
        (found := read(item, values)) is not None and any(found == one(item, values) for one in reads)
    )


def _distinct(cursor: Cursor, name: str, first: Operand, second: Operand) -> None:
    if first.path is not None and first.path == second.path:
        raise cursor.error(
            "The first operand must be distinct from the remaining operands for this operator or function; "
            f"operator: {name}, operand: [{', '.join(map(str, first.path))}]"
        )
