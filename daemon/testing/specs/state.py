"""What handlers must leave alone, in a form that can be compared: events, a projection's object, its class and module.

Owns what counts as state. Must not know when it is looked at.

Theory of operation. A value is frozen into plain tuples: containers by their content, instances of the user's own
classes by their attributes, everything else by itself or by its identity. Two frozen forms are compared place by place,
so that a report can name the attribute that changed. What only other code changes (loggers, validators, modules) is
taken by identity: it is not the projection's.

Invariant: freezing changes nothing, runs no user code but `repr` of values of the standard library, and looks at no
more than `MOST` values.
"""

import itertools
import random
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, cast
from uuid import UUID

from daemon.core.projection import ProjectionSpec

MOST = 20_000
"""Values looked at, at most: a large table among a module's constants is taken by identity beyond that."""
_DEPTH = 12
_SHOWN = 80
_ATOMS = (str, bytes, int, float, complex, bool, type(None), Decimal, Fraction, date, time, timedelta, UUID, Enum)
_SPELLED = (itertools.count, itertools.cycle, range, slice)
_LIBRARIES = tuple(str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_NEVER = ("daemon", "builtins", "pytest", "_pytest", "pydantic")

type Frozen = tuple[str, Any]
"""A kind, and what it holds: `("value", 1)`, `("map", {...})`, `("items", [...])`, `("same", id)`."""


@dataclass(slots=True)
class _Budget:
    own: str = ""
    """The user's own package: its classes are looked into, wherever they are installed."""
    left: int = MOST
    seen: set[int] = field(default_factory=set[int])


@dataclass(frozen=True, slots=True)
class Change:
    """Where something is not what it was."""

    place: str
    before: str
    after: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.place}: {self.before} became {self.after}"


def frozen(value: object) -> Frozen:
    """Return a form of `value` that later changes of it do not reach."""
    return _freeze(value, _Budget(), 0)


def _freeze(value: Any, budget: _Budget, depth: int) -> Frozen:
    kind = cast("type[Any]", type(value))
    if issubclass(kind, _ATOMS):
        return ("value", (kind, value))
    if kind in _SPELLED:
        return ("value", (kind, repr(value)))
    budget.left -= 1
    if depth > _DEPTH or budget.left <= 0 or id(value) in budget.seen:
        return ("same", (kind, id(value)))
    budget.seen.add(id(value))
    try:
        return _freeze_parts(value, kind, budget, depth + 1)
    finally:
        budget.seen.discard(id(value))


def _freeze_parts(value: Any, kind: type[Any], budget: _Budget, depth: int) -> Frozen:
    if isinstance(value, Mapping) and _is_plain(kind):
        entries = cast("Mapping[Any, Any]", value)
        return ("map", {_name(name): _freeze(item, budget, depth) for name, item in list(entries.items())})
    if isinstance(value, list | tuple | deque):
        return ("items", [_freeze(item, budget, depth) for item in [*cast("Iterable[Any]", value)]])
    if isinstance(value, set | frozenset):
        return ("set", frozenset(_name(item) for item in cast("set[Any]", value)))
    if isinstance(value, random.Random):
        return ("value", (kind, hash(value.getstate())))
    if isinstance(value, FunctionType):
        return ("map", {name: _freeze(item, budget, depth) for name, item in _own_of(value).items()})
    if isinstance(value, type):
        return ("map", {name: _freeze(item, budget, depth) for name, item in attributes_of(value).items()})
    instance = cast("object", value)
    if is_foreign(kind.__module__, budget.own):
        return ("same", (kind, id(instance)))
    return ("map", {name: _freeze(item, budget, depth) for name, item in attributes_of(instance).items()})


def _is_plain(kind: type) -> bool:
    return issubclass(kind, dict) or kind.__module__ in {"builtins", "collections", "types"}


def is_foreign(module: str | None, own: str) -> bool:
    """Tell whether a module belongs to Python, to an installed package or to the daemon, not to the user's project."""
    top = (module or "").partition(".")[0]
    if own and top == own.partition(".")[0]:
        return False
    if top in _NEVER:
        return True
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return top != "__main__"
    path = str(Path(file))
    return path.startswith((*_LIBRARIES, "<frozen")) or "site-packages" in path


def attributes_of(value: object) -> dict[str, Any]:
    """Return what an instance or a class holds under names of its own: no methods, no dunders."""
    found: dict[str, Any] = {}
    kinds = () if isinstance(value, type) else type(value).__mro__
    for kind in kinds:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                found[name] = getattr(value, name)
    found.update(getattr(value, "__dict__", {}))
    return {name: item for name, item in found.items() if not _is_code(name, item)}


def _is_code(name: str, item: object) -> bool:
    dunder = name.startswith("__") and name.endswith("__")
    return dunder or isinstance(item, FunctionType | staticmethod | classmethod | property | ModuleType | CellType)


def _own_of(function: FunctionType) -> dict[str, Any]:
    """Return what a function keeps between calls: defaults, closure, attributes."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    found: dict[str, Any] = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    found.update(function.__kwdefaults__ or {})
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    found.update(
        {name: item for name, item in vars(function).items() if name not in {"__projectiond__", "__wrapped__"}}
    )
    return {name: item for name, item in found.items() if not isinstance(item, ModuleType)}


def _name(value: object) -> Any:
    """Return a name for a map's entry or a set's item; the standard library's own by themselves."""
    return value if isinstance(value, str) else f"{type(value).__name__} {value!r:.200}"


def difference(before: Frozen, after: Frozen, place: str) -> Change | None:
    """Return the first place where two frozen forms differ, None where they are alike."""
    if before == after:
        return None
    if before[0] == after[0] == "map":
        old, new = before[1], after[1]
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{place}.{name}" if str(name).isidentifier() else f"{place}[{name!r:.80}]"
            if name not in new:
                return Change(inner, shown(old[name]), "nothing")
            if name not in old:
                return Change(inner, "nothing", shown(new[name]))
            found = difference(old[name], new[name], inner)
            if found is not None:
                return found
    if before[0] == after[0] == "items" and len(before[1]) == len(after[1]):
        for at, (old, new) in enumerate(zip(before[1], after[1], strict=True)):
            found = difference(old, new, f"{place}[{at}]")
            if found is not None:
                return found
    return Change(place, shown(before), shown(after))


def shown(form: Frozen) -> str:
    """Spell a frozen form, briefly."""
    kind, held = form
    match kind:
        case "value":
            text = repr(held[1]) if held[0] not in _SPELLED else held[1]
        case "map":
            text = "{" + ", ".join(f"{name}: {shown(item)}" for name, item in held.items()) + "}"
        case "items":
            text = "[" + ", ".join(shown(item) for item in held) + "]"
        case "set":
            text = "{" + ", ".join(sorted(map(str, held))) + "}"
        case _:
            text = f"a {held[0].__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@dataclass(slots=True)
class State:
    """What the handlers of a loaded projection could keep between events, by the name a report gives it."""

    own: str = ""
    roots: dict[str, Callable[[], object]] = field(default_factory=dict[str, Callable[[], object]])

    def look(self) -> dict[str, Frozen]:
        """Freeze all of it."""
        budget = _Budget(self.own)
        return {name: _freeze(read(), budget, 0) for name, read in self.roots.items()}


def changed(before: Mapping[str, Frozen], after: Mapping[str, Frozen]) -> Change | None:
    """Return the first change between two looks."""
    for name, form in before.items():
        found = difference(form, after[name], name)
        if found is not None:
            return found
    return None


def state_of(spec: ProjectionSpec, own: str) -> State:
    """Return what the handlers, upcasters and key of a projection could keep: their object, classes and modules.

    `own`: the module of its class.
    """
    state = State(own)
    starts: list[object] = [one.function for handlers in spec.handlers.values() for one in handlers]
    for function in functions_of([*starts, *spec.upcasters.values(), spec.key]):
        if isinstance(function, MethodType):
            owner = function.__self__
            state.roots["self"] = lambda held=owner: attributes_of(held)
            for kind in type(owner).__mro__:
                if not is_foreign(kind.__module__, own):
                    state.roots[kind.__name__] = lambda held=kind: attributes_of(held)
        plain = cast("FunctionType", getattr(function, "__func__", function))
        if is_foreign(plain.__module__, own):
            continue
        state.roots[f"{plain.__name__}()"] = lambda held=plain: _own_of(held)
        module = plain.__globals__
        state.roots[f"module {module.get('__name__', '?')}"] = lambda held=module: _globals(held)
    return state


def _globals(module: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's variables; its classes and functions by what they keep, what it imported left out."""
    name = module.get("__name__")
    return {
        key: value
        for key, value in list(module.items())
        if not key.startswith(("__", "@"))
        and not isinstance(value, ModuleType)
        and (not isinstance(value, type | FunctionType) or value.__module__ == name)
    }


def functions_of(values: Iterable[object]) -> list[FunctionType | MethodType]:
    """Return the functions that compiled callables are, and all that they close over."""
    return list(_walk(list(values), set()))


def _walk(values: list[object], seen: set[int]) -> Iterator[FunctionType | MethodType]:
    """Walk from callables to what they close over."""
    for value in values:
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, MethodType):
            yield value
        elif isinstance(value, FunctionType):
            yield value
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            yield from _walk([one for one in cells if not isinstance(one, type)], seen)
        elif isinstance(value, tuple | list):
            yield from _walk(list(cast("list[object]", value)), seen)
        elif isinstance(value, dict):
            yield from _walk(list(cast("dict[str, object]", value).values()), seen)
