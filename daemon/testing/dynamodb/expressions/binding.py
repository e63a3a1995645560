"""Expressions of one request bound to its names and values.

Owns the cache of compiled expressions and the rules of placeholders: none undefined, none unused. Must not know what
the expressions are used for.

Invariant: the cache is keyed by everything that compiling looks at (kind, text, names), and bounded.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from daemon.testing.dynamodb.errors import invalid, unreadable
from daemon.testing.dynamodb.expressions.conditions import Condition, compile_condition
from daemon.testing.dynamodb.expressions.lexer import Check
from daemon.testing.dynamodb.expressions.reading import (
    KeyCondition,
    Projection,
    compile_key_condition,
    compile_projection,
)
from daemon.testing.dynamodb.expressions.updates import Update, compile_update
from daemon.testing.dynamodb.values import Item, measured

MAX_SUBSTITUTION_BYTES = 2 * 1024 * 1024
CACHED = 8192
_NAME = re.compile(r"#[A-Za-z0-9_]+\Z").match
_VALUE = re.compile(r":[A-Za-z0-9_]+\Z").match


class _Compiled(Protocol):
    @property
    def names(self) -> frozenset[str]: ...
    @property
    def values(self) -> frozenset[str]: ...
    @property
    def checks(self) -> tuple[Check, ...]: ...


_cache: dict[tuple[Any, ...], Any] = {}


def _names(names: Any) -> dict[str, str]:
    if not isinstance(names, dict):
        raise unreadable("ExpressionAttributeNames is an object of strings")
    if not names:
        raise invalid("ExpressionAttributeNames must not be empty")
    return cast("dict[str, str]", names)


class Expressions:
    """The expressions of one request or of one action of it."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        """Read and check ExpressionAttributeNames and ExpressionAttributeValues."""
        names = request.get("ExpressionAttributeNames")
        values = request.get("ExpressionAttributeValues")
        # The names are checked when an expression is compiled: a cached one was compiled with these very names.
        self._given_names: dict[str, str] = {} if names is None else _names(names)
        self._names_key: tuple[tuple[str, str], ...] = () if names is None else tuple(self._given_names.items())
        self.values: Item = {} if values is None else self._values(values)
        self._used_names: frozenset[str] = frozenset()
        self._used_values: frozenset[str] = frozenset()
        self._count = 0

    @staticmethod
    def _values(values: Any) -> Item:
        if not isinstance(values, dict):
            raise unreadable("ExpressionAttributeValues is an object of attribute values")
        if not values:
            raise invalid("ExpressionAttributeValues must not be empty")
        made: Item = {}
        total = 0
        for name, value in cast("dict[str, Any]", values).items():
            if not _VALUE(name):
                raise invalid(f'ExpressionAttributeValues contains invalid key: Syntax error; key: "{name}"')
            made[name], size = measured(value)
            total += size
        if total > MAX_SUBSTITUTION_BYTES:
            raise invalid(f"The substitution values hold {total} bytes, beyond the {MAX_SUBSTITUTION_BYTES} allowed")
        return made

    def condition(self, text: Any, kind: str = "ConditionExpression") -> Condition | None:
        """Compile a condition or filter; None where there is none."""
        return self._compiled(text, kind, lambda: compile_condition(text, kind, self._given_names))

    def update(self, text: Any) -> Update | None:
        """Compile an update."""
        return self._compiled(text, "UpdateExpression", lambda: compile_update(text, self._given_names))

    def projection(self, text: Any) -> Projection | None:
        """Compile a projection."""
        return self._compiled(text, "ProjectionExpression", lambda: compile_projection(text, self._given_names))

    def key_condition(self, text: Any) -> KeyCondition | None:
        """Compile a key condition."""
        return self._compiled(text, "KeyConditionExpression", lambda: compile_key_condition(text, self._given_names))

    def _compiled[C: _Compiled](self, text: Any, kind: str, compiling: Callable[[], C]) -> C | None:
        if text is None:
            return None
        if not isinstance(text, str):
            raise unreadable(f"{kind} is a string")
        key = (kind, text, self._names_key)
        try:
            made: C | None = _cache.get(key)
        except TypeError:
            raise unreadable("ExpressionAttributeNames is an object of strings") from None
        if made is None:
            self._check_names()
            made = compiling()
            if len(_cache) >= CACHED:
                _cache.clear()
            _cache[key] = made
        for name in made.values:
            if name not in self.values:
                raise invalid(
                    f"Invalid {kind}: An expression attribute value used in expression is not defined; "
                    f"attribute value: {name}"
                )
        for check in made.checks:
            check(self.values)
        if self._count:
            self._used_names |= made.names
            self._used_values |= made.values
        else:
            self._used_names, self._used_values = made.names, made.values
        self._count += 1
        return made

    def _check_names(self) -> None:
        for alias, name in cast("dict[str, Any]", self._given_names).items():
            if not _NAME(alias):
                raise invalid(f'ExpressionAttributeNames contains invalid key: Syntax error; key: "{alias}"')
            if not isinstance(name, str):
                raise unreadable("ExpressionAttributeNames is an object of strings")
            if not name:
                raise invalid(f"ExpressionAttributeNames contains invalid value: Empty attribute name for key {alias}")

    def done(self) -> None:
        """Refuse placeholders that no expression used. Called when every expression is compiled."""
        if not self._count and (self._given_names or self.values):
            what = "ExpressionAttributeNames" if self._given_names else "ExpressionAttributeValues"
            raise invalid(f"{what} can only be specified when using expressions")
        if len(self._given_names) != len(self._used_names):
            self._unused("ExpressionAttributeNames", self._given_names.keys() - self._used_names)
        if len(self.values) != len(self._used_values):
            self._unused("ExpressionAttributeValues", self.values.keys() - self._used_values)

    @staticmethod
    def _unused(what: str, keys: set[str]) -> None:
        raise invalid(f"Value provided in {what} unused in expressions: keys: {{{', '.join(sorted(keys))}}}")
