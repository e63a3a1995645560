"""Expressions cut into tokens, and a cursor over them that knows how the service words a syntax error.

Owns tokens, placeholders, reserved words and document paths: all that the five kinds of expression share. Must not
know what an expression means.

Invariant: whatever a text uses (names, values, checks of the values' types) is collected in `Uses` while it is parsed,
so that a compiled expression can be bound to any values later.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from daemon.testing.dynamodb.errors import ServiceError, invalid
from daemon.testing.dynamodb.reserved import RESERVED
from daemon.testing.dynamodb.values import Item

MAX_EXPRESSION_BYTES = 4096
MAX_PLACEHOLDER_BYTES = 255
_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z][A-Za-z0-9_]*)|(?P<alias>\#[A-Za-z0-9_]+)|(?P<value>:[A-Za-z0-9_]+)|(?P<number>[0-9]+)"
    r"|(?P<sign><>|<=|>=|[()\[\].,=<>+\-])|(?P<odd>\S))"
)

type Path = tuple[str | int, ...]
"""A document path: an attribute's name, then names and list indexes."""
type Check = Callable[[Item], None]
"""What a compiled expression asks of the values it is bound to."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text; `kind` is name, alias, value, number, sign, odd or end."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(slots=True)
class Uses:
    """What an expression needs to be bound."""

    names: set[str] = field(default_factory=set[str])
    values: set[str] = field(default_factory=set[str])
    attributes: set[str] = field(default_factory=set[str])
    checks: list[Check] = field(default_factory=list[Check])


class Cursor:
    """Reads one expression from left to right."""

    def __init__(self, text: str, kind: str, names: Mapping[str, str]) -> None:
        """`kind` is the parameter's name; `names` resolves aliases."""
        self.kind = kind
        self.names = names
        self.uses = Uses()
        self._text = text
        size = len(text.encode())
        if size > MAX_EXPRESSION_BYTES:
            raise self.error(f"Expression size has exceeded the maximum allowed size; expression size: {size}")
        self._tokens = self._cut(text)
        self._at = 0
        if len(self._tokens) == 1:
            raise self.error("The expression can not be empty;")

    @staticmethod
    def _cut(text: str) -> list[Token]:
        tokens: list[Token] = []
        at = 0
        while (match := _TOKEN.match(text, at)) is not None:
            kind = match.lastgroup or "odd"
            tokens.append(Token(kind, match[kind], match.start(kind), match.end()))
            at = match.end()
        tokens.append(Token("end", "<EOF>", len(text), len(text)))
        return tokens

    def error(self, message: str) -> ServiceError:
        """Return a refusal of this expression."""
        return invalid(f"Invalid {self.kind}: {message}")

    def syntax_error(self) -> ServiceError:
        """Return the refusal of the token that comes next."""
        token = self.next
        before = self._tokens[self._at - 1] if self._at else token
        after = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        near = self._text[before.start : after.end].strip()
        return self.error(f'Syntax error; token: "{token.text}", near: "{near}"')

    @property
    def next(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._at]

    def peek(self, ahead: int) -> Token:
        """Return a later token."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Go on by one token."""
        token = self._tokens[self._at]
        if token.kind in {"end", "odd"}:
            raise self.syntax_error()
        self._at += 1
        return token

    def took(self, sign: str) -> bool:
        """Take a sign if it comes next."""
        if self.next.kind == "sign" and self.next.text == sign:
            self._at += 1
            return True
        return False

    def expect(self, sign: str) -> None:
        """Take a sign that must come next."""
        if not self.took(sign):
            raise self.syntax_error()

    def at_word(self, *words: str) -> str | None:
        """Return which keyword comes next, in capitals, if one of them does."""
        if self.next.kind != "name":
            return None
        word = self.next.text.upper()
        return word if word in words else None

    def took_word(self, word: str) -> bool:
        """Take a keyword, in any case, if it comes next."""
        if self.at_word(word):
            self._at += 1
            return True
        return False

    def end(self) -> None:
        """Refuse whatever is left."""
        if self.next.kind != "end":
            raise self.syntax_error()

    def value(self) -> str:
        """Take a value placeholder."""
        if self.next.kind != "value":
            raise self.syntax_error()
        text = self.take().text
        self._placeholder(text)
        self.uses.values.add(text)
        return text

    def path(self) -> Path:
        """Take a document path, its aliases resolved."""
        first = self._element()
        self.uses.attributes.add(first)
        parts: list[str | int] = [first]
        while True:
            if self.took("."):
                parts.append(self._element())
            elif self.took("["):
                if self.next.kind != "number":
                    raise self.syntax_error()
                parts.append(int(self.take().text))
                self.expect("]")
            else:
                return tuple(parts)

    def _element(self) -> str:
        token = self.next
        if token.kind == "name":
            if token.text.upper() in RESERVED:
                raise self.error(f"Attribute name is a reserved keyword; reserved keyword: {token.text}")
            self._at += 1
            return token.text
        if token.kind != "alias":
            raise self.syntax_error()
        self._at += 1
        self._placeholder(token.text)
        name = self.names.get(token.text)
        if name is None:
            raise self.error(
                f"An expression attribute name used in the document path is not defined; attribute name: {token.text}"
            )
        self.uses.names.add(token.text)
        return name

    def _placeholder(self, text: str) -> None:
        if len(text) > MAX_PLACEHOLDER_BYTES:
            raise self.error(
                f"A placeholder of {len(text)} bytes is longer than the {MAX_PLACEHOLDER_BYTES} allowed; shorten it"
            )


def clash(paths: list[Path]) -> str | None:
    """Return why two of the paths cannot stand in one expression, or None."""
    for index, one in enumerate(paths):
        for other in paths[:index]:
            for left, right in zip(one, other, strict=False):
                if type(left) is not type(right):
                    what = "conflict"
                    break
                if left != right:
                    what = ""
                    break
            else:
                what = "overlap"
            if what:
                return (
                    f"Two document paths {what} with each other; must remove or rewrite one of these paths; "
                    f"path one: {_shown(other)}, path two: {_shown(one)}"
                )
    return None


def _shown(path: Path) -> str:
    return f"[{', '.join(f'[{part}]' if isinstance(part, int) else part for part in path)}]"
