"""The digest of a projection's code: tells whether rows were folded by the same handlers.

Owns what counts as code: the methods of the class and its bases, the constants and plain functions of their own module
that they use, the declared key, sequence and event types. Line numbers, comments, docstrings, annotations and the order
of definitions outside the class do not count.

Invariants: the same on every run and machine under one Python version (byte code differs between versions, so an
upgrade of Python shows as changed code); no hash order, address or path gets in.
"""

import dis
from collections.abc import Iterator, Mapping
from decimal import Decimal
from hashlib import blake2b
from types import CodeType, FunctionType
from typing import Any, cast

from daemon.loading.declare import marks_of

DIGEST_BYTES = 16
_PLAIN = (str, int, float, complex, bytes, bool, Decimal, type(None), type(...))
_CONSTANT = (*_PLAIN, tuple, list, dict, set, frozenset)


def code_digest(cls: type, declared: Mapping[str, object]) -> str:
    """Return the digest (hex) of a projection's class and of the options that say how it folds."""
    writer = _Writer(cls.__module__)
    for name in sorted(declared):
        writer.write("option", name)
        writer.value(declared[name])
    bases = [base for base in cls.__mro__ if base is not object]
    for base in bases:
        for name, member in vars(base).items():
            writer.member(name, member)
    return writer.hexdigest()


class _Writer:
    """Feeds a digest; follows every function once."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._seen: set[CodeType] = set()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def write(self, *parts: object) -> None:
        for part in parts:
            text = str(part).encode()
            self._hash.update(b"%d:" % len(text) + text)

    def member(self, name: str, member: object) -> None:
        """Write one entry of a class: a function (with its marks), a property, a constant."""
        if isinstance(member, property):
            functions = [member.fget, member.fset, member.fdel]
        else:
            functions = [getattr(member, "__func__", member)]
        for function in functions:
            if isinstance(function, FunctionType):
                self.write("method", name, type(member).__name__)
                for mark in marks_of(member):
                    self.write(repr(mark) if not hasattr(mark, "events") else _listening_text(mark))
                self.function(function)
        if not name.startswith("__") and isinstance(member, _CONSTANT):
            self.write("constant", name)
            self.value(cast("object", member))

    def function(self, function: FunctionType) -> None:
        """Write a function: code, defaults, what it closes over, and its module's own names that it uses."""
        code = function.__code__
        if code in self._seen:
            return
        self._seen.add(code)
        self.write("defaults")
        self.value((function.__defaults__ or (), tuple(sorted((function.__kwdefaults__ or {}).items()))))
        self.code(code)
        for cell in function.__closure__ or ():
            try:
                self.value(cell.cell_contents)
            except ValueError:
                self.write("empty cell")
        if function.__module__ == self._module:
            for name in sorted(set(_names(code))):
                if name in function.__globals__:
                    self.used(name, function.__globals__[name])

    def used(self, name: str, value: object) -> None:
        """Write a global: the module's own functions and plain constants count, imported things do not."""
        if isinstance(value, FunctionType):
            if value.__module__ == self._module:
                self.write("function", name)
                self.function(value)
        elif isinstance(value, _CONSTANT):
            self.write("global", name)
            self.value(cast("object", value))

    def code(self, code: CodeType) -> None:
        """Write a code object as its instructions with their resolved arguments."""
        self.write("code", code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_name)
        self.write(*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        for instruction in dis.get_instructions(code):
            self.write(instruction.opname)
            self.value(instruction.argval)
        self._hash.update(code.co_exceptiontable)

    def value(self, value: Any) -> None:
        """Write a constant without its address or hash order."""
        if isinstance(value, CodeType):
            self.code(value)
        elif isinstance(value, FunctionType):
            self.function(value)
        elif isinstance(value, tuple | list):
            items = cast("tuple[object, ...]", value)
            self.write("items", len(items))
            for item in items:
                self.value(item)
        elif isinstance(value, dict):
            self.value(tuple(cast("dict[object, object]", value).items()))
        elif isinstance(value, frozenset | set):
            self.write("set", *sorted(map(repr, cast("frozenset[object]", value))))
        elif isinstance(value, _PLAIN):
            self.write(type(value).__name__, repr(value))
        else:
            self.write("object", getattr(value, "__qualname__", type(value).__qualname__))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _listening_text(mark: Any) -> str:
    events = (event.__name__ if isinstance(event, type) else event for event in mark.events)
    return f"{list(events)!r} {mark.type!r} {mark.replay!r}"
