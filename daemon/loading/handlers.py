"""Handlers and upcasters: from marked methods to the callables the fold runs.

Owns what a handler's form must be. Must not know options. A projection's class is made once, without arguments; its
methods are bound to that one instance, so what `__init__` sets is a constant of the projection (state that handlers
change would differ between replicas and re-deliveries; the user test kit catches it).

Invariants: handlers of one type keep the order of definition, a base class's first; an overriding method replaces the
one it overrides; upcasters are chained here, so that the fold calls one function per old type.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple, cast

from daemon.core.errors import EventProblem
from daemon.core.events import Event
from daemon.core.projection import Handler
from daemon.core.view import View
from daemon.loading.declare import Listening, Upcasting, marks_of
from daemon.loading.payloads import is_payload_class, payload_reader
from daemon.loading.problems import Collector, Mistake

type Upcaster = Callable[[Event], Event]
type Handlers = dict[str, tuple[Handler, ...]]

_HANDLER_FORM = "write def {name}(self, view: View, event: Event) -> None"
_UPCASTER_FORM = "write def {name}(self, event: Event) and return the new payload"
_ON_FORM = 'write @on("OrderPlaced"), @on("A", "B") or @on(OrderPlaced, type="OrderPlaced", replay=True)'
_PAIR = 2


class Method(NamedTuple):
    """A marked method: its name, as it stands in the class, bound to the instance, and its line."""

    name: str
    static: object
    bound: Callable[..., Any]
    line: int
    marks: list[Listening | Upcasting]


class Step(NamedTuple):
    """One upcaster: from one type to another (None: the function tells, or it stays the same)."""

    method: Method
    to: str | None


def methods_of(instance: object) -> Iterator[Method]:
    """Yield the marked methods in order of definition, base classes first."""
    cls = type(instance)
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        static = inspect.getattr_static(cls, name)
        marks = marks_of(static)
        if marks:
            inner = getattr(static, "__func__", static)
            line = inner.__code__.co_firstlineno if isinstance(inner, FunctionType) else 0
            yield Method(name, static, getattr(instance, name), line, marks)


def compile_handlers(methods: list[Method], collector: Collector) -> Handlers:
    """Return the handlers by event type, noting every mistake."""
    found: dict[str, list[Handler]] = {}
    for method in methods:
        listenings = [mark for mark in method.marks if isinstance(mark, Listening)]
        if not listenings or not _well_formed(method, collector, ("view", "event"), _HANDLER_FORM):
            continue
        for listening in listenings:
            types = collector.attempt(lambda m=method, on=listening: _listen(m, on), {})
            for kind, handler in types.items():
                handlers = found.setdefault(kind, [])
                if any(handler.name == other.name for other in handlers):
                    collector.add(f"handler {method.name!r} names {kind!r} twice", "name it once", method.line)
                handlers.append(handler)
    return {kind: tuple(handlers) for kind, handlers in found.items()}


def compile_upcasters(
    methods: list[Method], handled: Mapping[str, object], collector: Collector
) -> dict[str, Upcaster]:
    """Return one function per old type that goes all the way to the newest shape, noting every mistake."""
    steps: dict[str, Step] = {}
    for method in methods:
        upcastings = [mark for mark in method.marks if isinstance(mark, Upcasting)]
        if not upcastings or not _well_formed(method, collector, ("event",), _UPCASTER_FORM):
            continue
        for upcasting in upcastings:
            step = collector.attempt(lambda m=method, u=upcasting: (_old_of(m, u), Step(m, _to_of(m, u))), None)
            if step is None:
                continue
            old = step[0]
            if old in steps:
                other = steps[old].method
                message = f"type {old!r} is upcast by {other.name!r} (line {other.line}) and by {method.name!r}"
                collector.add(message, "keep one upcaster per type", method.line)
            steps[old] = step[1]
    _check_chains(steps, handled, collector)
    functions = {old: _step(old, step) for old, step in steps.items()}
    return {old: _chain(functions) for old in functions}


def _well_formed(method: Method, collector: Collector, parameters: tuple[str, ...], form: str) -> bool:
    """Tell whether a method can be called as the fold does; every way in which it cannot is noted."""
    remedy = form.format(name=method.name)
    before = len(collector.problems)
    what = "handler" if len(parameters) == _PAIR else "upcaster"
    kind = type(method.static)
    static = what == "upcaster" and kind is staticmethod
    if not static and kind is not FunctionType:
        collector.add(f"{what} {method.name!r} is a {kind.__name__}, not a method", remedy, method.line or None)
        return False
    function = inspect.unwrap(method.bound)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        collector.add(f"{what} {method.name!r} is async; it must be pure and never waits", remedy, method.line)
    elif inspect.isgeneratorfunction(function):
        collector.add(f"{what} {method.name!r} yields; a generator's body would never run", remedy, method.line)
    try:
        signature = inspect.signature(method.bound)
    except ValueError:
        collector.add(f"{what} {method.name!r} takes no self", remedy, method.line)
        return False
    given = list(signature.parameters.values())
    names = tuple(parameter.name for parameter in given)
    positional = all(p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} and p.default is p.empty for p in given)
    if not positional or len(given) != len(parameters) or names == parameters[::-1] != parameters:
        takes = str(signature.replace(return_annotation=signature.empty))[1:-1]
        takes = takes if static else ", ".join(filter(None, ("self", takes)))
        collector.add(f"{what} {method.name!r} takes ({takes})", remedy, method.line)
    return len(collector.problems) == before


def _listen(method: Method, listening: Listening) -> dict[str, Handler]:
    """Compile one `@on` of one handler."""
    if listening.mistake or not listening.events:
        raise Mistake(
            f"handler {method.name!r}: {listening.mistake or '@on without an event type'}", _ON_FORM, method.line
        )
    if not isinstance(listening.replay, bool):
        raise Mistake(f"handler {method.name!r}: replay={listening.replay!r:.40}", "use True or False", method.line)
    first = listening.events[0]
    function: Callable[[View, Event], None] = method.bound
    if isinstance(first, type) and len(listening.events) == 1:
        kind = first.__name__ if listening.type is None else listening.type
        if not isinstance(kind, str) or not kind:
            raise Mistake(f"handler {method.name!r}: type={kind!r:.80} is no event type", _ON_FORM, method.line)
        return {kind: Handler(method.name, _reading(function, payload_reader(first, method.line)), listening.replay)}
    types = [kind for kind in listening.events if isinstance(kind, str) and kind]
    if len(types) != len(listening.events):
        given = ", ".join(f"{event.__name__ if is_payload_class(event) else event!r:.80}" for event in listening.events)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        message = f"handler {method.name!r}: @on({given}) holds something else than event types"
        raise Mistake(message, "give names of types, or one class alone", method.line)
    if listening.type is not None:
        message = f"handler {method.name!r}: type={listening.type!r:.80} beside a type's name"
        raise Mistake(message, "give type= with a class only", method.line)
    if len(set(types)) != len(types):
        raise Mistake(f"handler {method.name!r} names a type twice", "name it once", method.line)
    return {kind: Handler(method.name, function, listening.replay) for kind in types}


def _reading(function: Callable[[View, Event], None], read: Callable[[Event], Event]) -> Callable[[View, Event], None]:
    def handle(view: View, event: Event) -> None:
        function(view, read(event))

    return handle


def _old_of(method: Method, upcasting: Upcasting) -> str:
    if upcasting.mistake:
        raise Mistake(f"{method.name!r}: {upcasting.mistake}", 'write @upcast("OldType", to="NewType")', method.line)
    if isinstance(upcasting.old, str) and upcasting.old:
        return upcasting.old
    message = f"upcaster {method.name!r}: {upcasting.old!r:.80} is no event type"
    raise Mistake(message, "give the old type's name", method.line)


def _to_of(method: Method, upcasting: Upcasting) -> str | None:
    if upcasting.to is None or (isinstance(upcasting.to, str) and upcasting.to):
        return upcasting.to
    raise Mistake(f"upcaster {method.name!r}: to={upcasting.to!r:.80} is no event type", "give a name", method.line)


def _check_chains(steps: Mapping[str, Step], handled: Mapping[str, object], collector: Collector) -> None:
    """Note cycles, ends that nobody handles, and handlers that an upcaster leaves without events."""
    in_cycles: set[str] = set()
    for old, (method, to) in steps.items():
        if to is None or to == old:
            continue
        if old in handled:
            message = f"handlers of {old!r} never run: {method.name!r} upcasts every {old!r} to {to!r}"
            collector.add(message, f"move them to {to!r}, or drop the upcaster", method.line)
        if to not in handled and to not in steps:
            message = f"upcaster {method.name!r} leads to {to!r}, which nothing handles"
            collector.add(message, "name a type that has a handler or an upcaster", method.line)
        chain, current = [old], to
        while current in steps and current not in chain:
            chain.append(current)
            following = steps[current].to
            if following is None or following == current:
                break
            current = following
        if current == old and old not in in_cycles:
            in_cycles.update(chain)
            message = f"upcasters run in a circle: {' -> '.join([*chain, old])}"
            collector.add(message, "let the newest type have no upcaster", method.line)


def _step(old: str, step: Step) -> Upcaster:
    method, to = step
    function = method.bound

    def run(event: Event) -> Event:
        result: object = function(event)
        kind = to or old
        if isinstance(result, tuple):
            pair = cast("tuple[object, ...]", result)
            if len(pair) != _PAIR or not isinstance(pair[0], str) or not pair[0]:
                detail = f"upcaster {method.name!r} returned {result!r:.200}; return the payload, or (type, payload)"
                raise EventProblem("bad-upcast", detail)
            kind, result = pair[0], pair[1]
        if result is None:
            detail = f"upcaster {method.name!r} returned None for event {event.id!r:.200}; return the new payload"
            raise EventProblem("bad-upcast", detail)
        return event.with_data(result, kind)

    return run


def _chain(functions: Mapping[str, Upcaster]) -> Upcaster:
    limit = len(functions)

    def run(event: Event) -> Event:
        for _ in range(limit + 1):
            function = functions.get(event.type)
            if function is None:
                return event
            newer = function(event)
            if newer.type == event.type:
                return newer
            event = newer
        detail = f"event {event.id!r:.200}: upcasters run in a circle through {event.type!r:.200}"
        raise EventProblem("bad-upcast", detail)

    return run
