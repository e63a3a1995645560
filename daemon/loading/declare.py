"""The decorators a projection is written with, and the records they leave.

Owns `@projection`, `@on` and `@upcast`. They only write down what they were given: whatever is wrong is reported by the
loader, together with everything else that is wrong, and never by an exception while the user's module is imported.

Invariants: a decorator returns what it decorates, unchanged; a record says where in the source it was written.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from types import FunctionType
from typing import Any, Literal, Protocol, cast, overload

from daemon.core.events import Event
from daemon.core.projection import Index
from daemon.core.view import View

CLASS_MARK = "__projectiond__"
"""Attribute of a class that holds its declarations."""
FUNCTION_MARK = "__projectiond__"
"""Attribute of a function that holds its listenings and upcastings."""

type Key = str | tuple[str, ...] | Callable[[Event], object]
"""A dotted path ("data.order_id"), several of them for a composite key, or a function of the event."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One `@projection`: its options as they were given, and the place. `mistake` is a call that made no sense."""

    target: object
    file: str
    line: int
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    mistake: str = ""


@dataclass(frozen=True, slots=True)
class Listening:
    """One `@on`: the event types or the class it was given."""

    events: tuple[object, ...] = ()
    type: object = None
    replay: object = True
    mistake: str = ""


@dataclass(frozen=True, slots=True)
class Upcasting:
    """One `@upcast`: the old event type, and the new one where it was given."""

    old: object = None
    to: object = None
    mistake: str = ""


class Marks:
    """What was declared while modules were imported, by module. One per process, since decorators have no other home.

    It exists to see what a look at a module's names cannot: a class or a handler that a later one of the same name
    hides.
    """

    def __init__(self) -> None:
        self.declarations: dict[str, list[Declaration]] = {}
        self.functions: dict[str, list[FunctionType]] = {}

    def forget(self, module: str) -> None:
        """Drop what a module declared, before it is imported anew."""
        self.declarations.pop(module, None)
        self.functions.pop(module, None)


MARKS = Marks()


class ClassDecorator(Protocol):
    """Returns the class it is given."""

    def __call__[C: type](self, cls: C, /) -> C:
        """Decorate."""
        ...


class HandlerDecorator[D](Protocol):
    """Returns the handler it is given."""

    def __call__[P](self, handler: Callable[[P, View, Event[D]], None], /) -> Callable[[P, View, Event[D]], None]:
        """Decorate."""
        ...


class AnyDecorator(Protocol):
    """Returns the function it is given."""

    def __call__[F: Callable[..., object]](self, function: F, /) -> F:
        """Decorate."""
        ...


def _forgiving[**P, R](decorator: Callable[P, R]) -> Callable[P, R]:
    """Turn a call with wrong arguments into a record of the mistake."""
    signature = inspect.signature(decorator)

    @wraps(decorator)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            mistake = f"@{decorator.__name__}: {error}"
            _, line = _caller()
            if len(args) == 1 and not kwargs and isinstance(args[0], type | FunctionType):
                return cast("R", _mistaken(mistake, line)(args[0]))
            return cast("R", _mistaken(mistake, line))
        return decorator(*args, **kwargs)

    return call


def _mistaken(mistake: str, line: int) -> AnyDecorator:
    def record[T](target: T) -> T:
        if isinstance(target, type):
            _declare(Declaration(target, _file_of(target), line, mistake=mistake))
        else:
            _mark(target, Upcasting(mistake=mistake))
        return target

    return record


@_forgiving
def projection(  # noqa: PLR0913 - one keyword an option, all but four with a default
    *,
    name: str,
    version: int,
    source: str | tuple[str, ...],
    key: Key,
    dedup: Literal["event", "shard", "sequence"] = "event",
    sequence: str | None = None,
    sequence_start: int | None = None,
    on_gap: Literal["park", "wait"] | None = None,
    on_error: Literal["dead-letter", "park-key", "park-shard"] = "dead-letter",
    late: Literal["apply", "dead-letter"] | None = None,
    marker_window: int | None = None,
    marker_retention: timedelta | None = None,
    indexes: tuple[Index, ...] = (),
    expires: timedelta | None = None,
) -> ClassDecorator:
    """Make a class a projection: its handlers fold the events of `source` into one row per `key`.

    - `name`: lower-case letters, digits and `-`, at most 63; with `version` (from 1) it names the read model's tables.
    - `source`: the name of a configured source, or several.
    - `key`: a dotted path: `data.order_id`, `data.order.id`, `subject`, `id`, `type`, `source` or `headers.NAME`; a
      tuple of paths for a composite key, joined by `#`; or a function of the event.
    - `dedup`: which duplicates are stopped, and at what cost: `event`, `shard` (the newest `marker_window` ids, default
      200,000) or `sequence` (`sequence` is the path of the entity's own number; `sequence_start` its first number,
      where it is known; `on_gap`: `park` the key, the default, or `wait` for what is missing).
    - `on_error`: what becomes of an event whose handler raises.
    - `late`: what becomes of an event older than `marker_retention` behind its shard's watermark. Of `late`,
      `marker_window` and `marker_retention`, what is left out follows the settings' [engine].
    - `indexes`, `expires`: secondary indexes and the lifetime of rows, alike for every generation.

    Nothing is checked here: loading reports all problems of all projections together.
    """
    options = dict(locals())

    def declare[C: type](cls: C) -> C:
        _declare(Declaration(cls, *_caller(), options))
        return cls

    return declare


@overload
def on(*events: str, replay: bool = True) -> HandlerDecorator[Any]: ...


@overload
def on[D](events: type[D], /, *, type: str | None = None, replay: bool = True) -> HandlerDecorator[D]: ...


def on(*events: Any, **options: Any) -> Any:
    """Make a method a handler of events: `def placed(self, view: View, event: Event) -> None`.

    `@on("OrderPlaced")` and `@on("A", "B")` take type names. `@on(OrderPlaced)` takes a dataclass, a TypedDict or a
    pydantic model: the type name is the class's own (or `type=`), the payload is validated, and `event.data` is the
    instance. What does not validate is no new event for the handler: `invalid-payload`, and `on_error` decides.
    `replay=False`: never during a re-delivery or rebuild. Several handlers of one type run in the order of definition.
    """
    unknown = options.keys() - {"type", "replay"}
    listening = Listening(
        events,
        options.get("type"),
        options.get("replay", True),
        mistake=f"@on: unknown argument {min(unknown)!r}" if unknown else "",
    )
    if len(events) == 1 and isinstance(events[0], FunctionType | staticmethod | classmethod):
        handler = cast("Any", events[0])
        _mark(handler, Listening(mistake="@on without an event type"))
        return handler

    def mark[T](handler: T) -> T:
        _mark(handler, listening)
        return handler

    return mark


@_forgiving
def upcast(old: str, /, *, to: str | None = None) -> AnyDecorator:
    """Make a method or static method an upcaster: it turns events of type `old` into newer ones before handlers run.

    It takes the event and returns the new payload, of the type `to` (without `to`: still of the same type), or the pair
    `(type, payload)`. The event itself stays as it is: return a new dict. Upcasters chain, v1 to v2 to v3; a cycle is
    found at load where `to` is given, else by the first event that runs into it.
    """
    upcasting = Upcasting(old, to)
    bare = cast("Any", old)
    if type(bare) in {FunctionType, staticmethod}:
        _mark(bare, Upcasting(mistake="@upcast without an event type"))
        return bare

    def mark[F: Callable[..., object]](function: F) -> F:
        _mark(function, upcasting)
        return function

    return mark


def marks_of(function: object) -> list[Listening | Upcasting]:
    """Return what `@on` and `@upcast` wrote on a function (or on the function within a static method)."""
    inner = getattr(function, "__func__", function)
    found: list[Listening | Upcasting] = []
    for holder in (inner,) if inner is function else (inner, function):
        found += getattr(holder, "__dict__", {}).get(FUNCTION_MARK, ())
    return found


def declarations_of(cls: type) -> list[Declaration]:
    """Return what `@projection` wrote on this very class, not on a base."""
    return vars(cls).get(CLASS_MARK, [])


def _declare(declaration: Declaration) -> None:
    target = declaration.target
    if isinstance(target, type):
        setattr(target, CLASS_MARK, [*declarations_of(target), declaration])
    MARKS.declarations.setdefault(getattr(target, "__module__", ""), []).append(declaration)


def _mark(function: object, mark: Listening | Upcasting) -> None:
    namespace = getattr(function, "__dict__", None)
    if namespace is not None:
        namespace[FUNCTION_MARK] = [*namespace.get(FUNCTION_MARK, ()), mark]
    inner = getattr(function, "__func__", function)
    if isinstance(inner, FunctionType):
        known = MARKS.functions.setdefault(inner.__module__, [])
        if inner not in known:
            known.append(inner)


def _caller() -> tuple[str, int]:
    """Return file and line of the user's code that called the function calling this one."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame.f_back if frame else None
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("?", 0)


def _file_of(target: object) -> str:
    try:
        return inspect.getfile(cast("type", target))
    except (TypeError, OSError):
        return getattr(target, "__module__", "?")
