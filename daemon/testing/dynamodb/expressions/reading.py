"""What reads use: projections and key conditions.

Owns the grammar of ProjectionExpression and KeyConditionExpression. Must not know which attributes are keys: the query
holds a parsed key condition against its schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.testing.dynamodb.expressions.documents import Tree, tree_of
from daemon.testing.dynamodb.expressions.lexer import Check, Cursor, Path, clash

_SIGNS = ("=", "<=", "<", ">=", ">")


@dataclass(frozen=True, slots=True)
class Projection:
    """A compiled projection: the tree of its paths."""

    tree: Tree
    names: frozenset[str]
    values: frozenset[str]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class KeyTerm:
    """One comparison of a key attribute: `operator` is a sign, BETWEEN or begins_with, `operands` are placeholders."""

    attribute: str
    operator: str
    operands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyCondition:
    """A compiled key condition."""

    terms: tuple[KeyTerm, ...]
    names: frozenset[str]
    values: frozenset[str]
    checks: tuple[Check, ...]


def compile_projection(text: str, names: Mapping[str, str]) -> Projection:
    """Parse a ProjectionExpression."""
    cursor = Cursor(text, "ProjectionExpression", names)
    paths: list[Path] = [cursor.path()]
    while cursor.took(","):
        paths.append(cursor.path())
    cursor.end()
    problem = clash(paths)
    if problem:
        raise cursor.error(problem)
    return Projection(tree_of(paths), frozenset(cursor.uses.names), frozenset(), ())


def compile_key_condition(text: str, names: Mapping[str, str]) -> KeyCondition:
    """Parse a KeyConditionExpression: one or two comparisons of whole attributes with placeholders."""
    cursor = Cursor(text, "KeyConditionExpression", names)
    terms = _terms(cursor)
    cursor.end()
    seen: set[str] = set()
    for term in terms:
        if term.attribute in seen:
            raise cursor.error("KeyConditionExpressions must only contain one condition per key")
        seen.add(term.attribute)
    uses = cursor.uses
    return KeyCondition(tuple(terms), frozenset(uses.names), frozenset(uses.values), tuple(uses.checks))


def _terms(cursor: Cursor) -> list[KeyTerm]:
    terms = _term(cursor)
    while True:
        if cursor.at_word("OR"):
            raise cursor.error("Invalid operator used in KeyConditionExpression: OR")
        if not cursor.took_word("AND"):
            return terms
        terms += _term(cursor)


def _term(cursor: Cursor) -> list[KeyTerm]:
    if cursor.at_word("NOT"):
        raise cursor.error("Invalid operator used in KeyConditionExpression: NOT")
    if cursor.took("("):
        inner = _terms(cursor)
        cursor.expect(")")
        return inner
    if cursor.next.kind == "name" and cursor.peek(1).text == "(":
        if cursor.next.text != "begins_with":
            raise cursor.error(f"Invalid operator used in KeyConditionExpression: {cursor.next.text}")
        cursor.take()
        cursor.expect("(")
        name = _attribute(cursor)
        cursor.expect(",")
        prefix = cursor.value()
        cursor.expect(")")
        return [KeyTerm(name, "begins_with", (prefix,))]
    name = _attribute(cursor)
    if cursor.took_word("BETWEEN"):
        low = cursor.value()
        if not cursor.took_word("AND"):
            raise cursor.syntax_error()
        return [KeyTerm(name, "BETWEEN", (low, cursor.value()))]
    sign = next((one for one in _SIGNS if cursor.took(one)), None)
    if sign is None:
        if cursor.next.text == "<>" or cursor.at_word("IN"):
            raise cursor.error(f"Invalid operator used in KeyConditionExpression: {cursor.next.text}")
        raise cursor.syntax_error()
    return [KeyTerm(name, sign, (cursor.value(),))]


def _attribute(cursor: Cursor) -> str:
    first, *nested = cursor.path()
    if nested:
        raise cursor.error("KeyConditionExpressions cannot have conditions on nested attributes")
    return str(first)
