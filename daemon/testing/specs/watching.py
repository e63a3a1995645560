"""What handlers reach for while they run: clocks, chance, files, the network, the environment, other threads.

Owns the rules of what a pure function must not call, and the wrapping of a loaded projection's callables. Must not know
how a run goes.

Theory of operation. Around each call of a handler, upcaster or key function the interpreter's profiling hook is set,
and is told of every call that Python code makes, whatever name it was imported by and however deep it lies. Nothing is
replaced and nothing is hindered; what was seen is reported with the line of the user's own code that led there. Around
the same call, the event is compared with what it was, and (in the first run) everything that the projection could keep.

Invariants: what imports, logs or loads time zones is not reported, for it leaves no trace in a row; a hook that stood
before stands again afterwards.
"""

import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, cast

from daemon.core.events import Event
from daemon.core.projection import Handler, ProjectionSpec
from daemon.core.view import RowNeeded, View
from daemon.testing.specs.state import Frozen, State, changed, difference, frozen, functions_of, is_foreign, state_of

CLOCK, CHANCE, OUTSIDE, ENVIRONMENT, STATE, MUTATION = (
    "clock", "randomness", "outside", "environment", "state", "mutation",
)  # fmt: skip

REMEDIES: Mapping[str, str] = {
    CLOCK: "use event.time: a re-delivery or rebuild must come to the same row",
    CHANCE: "derive it from the event (event.id is unique): the same event must come to the same row each time",
    OUTSIDE: "let view.emit(...) record what must happen outside, or let the event carry what the handler needs",
    ENVIRONMENT: "read it once, in __init__ or at import, and only what is the same on every replica",
    STATE: "keep it in the row (view.row, view.add): replicas, re-deliveries and a restarted daemon do not share it",
    MUTATION: "build a new value: other handlers and the next try are given the same event",
}

_TIME = frozenset({
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time",
    "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns", "localtime", "ctime",
    "sleep",
})  # fmt: skip
_SYSTEM = frozenset({
    "open", "read", "write", "stat", "lstat", "listdir", "scandir", "mkdir", "rmdir", "unlink", "remove", "rename",
    "replace", "system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve", "pipe", "kill",
    "putenv", "unsetenv", "getcwd", "getpid", "getppid", "getlogin", "uname", "getloadavg",
})  # fmt: skip
_MODULES: Mapping[str, tuple[frozenset[str] | None, str]] = {
    "time": (_TIME, CLOCK),
    "posix": (_SYSTEM, OUTSIDE),
    "nt": (_SYSTEM, OUTSIDE),
    "_io": (frozenset({"open", "open_code"}), OUTSIDE),
    "_socket": (None, OUTSIDE),
    "socket": (None, OUTSIDE),
    "_ssl": (None, OUTSIDE),
    "_sqlite3": (frozenset({"connect"}), OUTSIDE),
    "_posixsubprocess": (None, OUTSIDE),
    "_thread": (frozenset({"start_new_thread", "start_new", "start_joinable_thread"}), OUTSIDE),
    "_uuid": (None, CHANCE),
}
"""Functions of the interpreter's own modules, by module: which (None: all), and what they are."""
_PROCESS_BOUND = frozenset({"hash", "id"})
_NOWS = frozenset({"now", "utcnow", "today"})
_HARMLESS = ("importlib", "_frozen_importlib", "logging", "zoneinfo", "warnings", "linecache", "traceback")
_ENVIRON = frozenset(
    function.__code__ for function in vars(type(os.environ)).values() if hasattr(function, "__code__")
)  # fmt: skip
_SEED = random.Random.seed.__code__
_GLOBAL = cast("random.Random", getattr(random, "_inst"))  # noqa: B009 - the module's own, under a private name


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a handler must not do: `check` names the kind, `what` it did, `place` is `file:line`."""

    check: str
    where: str
    what: str
    place: str
    event: str

    def __str__(self) -> str:
        """Say it with its remedy."""
        return f"{self.place}: {self.where} {self.what} (at {self.event})\n    {REMEDIES[self.check]}"


@dataclass(slots=True)
class Watch:
    """Watches the callables of one loaded projection. `own` is the module of its class."""

    own: str
    deep: bool = False
    """Whether what the projection keeps is looked at after each call."""
    found: dict[tuple[str, str], Finding] = field(default_factory=dict[tuple[str, str], Finding])
    raised: dict[str, str] = field(default_factory=dict[str, str])
    """Where user code raised, as `file:line`, by event id."""
    _state: State = field(default_factory=State)
    _last: dict[str, Frozen] = field(default_factory=dict[str, Frozen])
    _where: str = ""
    _event: str = ""
    _begin: str = ""

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order in which it was."""
        return list(self.found.values())

    def wrap(self, spec: ProjectionSpec) -> ProjectionSpec:
        """Return the projection with its callables watched."""
        self._state = state_of(spec, self.own)
        self._last = self._state.look() if self.deep else {}
        handlers = {
            kind: tuple(one._replace(function=self._handler(one)) for one in those)
            for kind, those in spec.handlers.items()
        }
        upcasters = {old: self._reader(f"upcaster of {old}", one) for old, one in spec.upcasters.items()}
        return replace(spec, handlers=handlers, upcasters=upcasters, key=self._reader("key", spec.key))

    def _handler(self, handler: Handler) -> Callable[[View, Event], None]:
        function, name, place = handler.function, f"handler {handler.name!r}", _place_of(handler.function, self.own)

        def run(view: View, event: Event) -> None:
            self._call(name, place, event, lambda: function(view, event))

        return run

    def _reader[T](self, name: str, function: Callable[[Event], T]) -> Callable[[Event], T]:
        place = _place_of(function, self.own)

        def run(event: Event) -> T:
            return self._call(name, place, event, lambda: function(event))

        return run

    def _call[T](self, where: str, place: str, event: Event, call: Callable[[], T]) -> T:
        """Make a call of user code and note what it did."""
        self._where, self._event, self._begin = where, f"{event.id} {event.type}", place
        identity = event.id
        before = _frozen_event(event)
        try:
            return self._watched(call)
        except RowNeeded:
            raise
        except BaseException as error:
            self.raised[identity] = self._raised(error)
            raise
        finally:
            self._compare(event, before)

    def _watched[T](self, call: Callable[[], T]) -> T:
        """Make a call, and be told of every call within it."""
        hook = sys.getprofile()
        sys.setprofile(self._see)
        try:
            return call()
        finally:
            sys.setprofile(hook)

    def _compare(self, event: Event, before: Frozen) -> None:
        change = difference(before, _frozen_event(event), "event")
        if change is not None:
            self._note(MUTATION, f"changed the event: {change}", self._begin)
        if self.deep:
            now = self._state.look()
            kept = changed(self._last, now)
            self._last = now
            if kept is not None:
                self._note(STATE, f"keeps something outside the row: {kept}", self._begin)

    def _see(self, frame: FrameType, what: str, argument: Any) -> None:
        """Judge one call, told by the interpreter."""
        if what == "c_call":
            judged = _judge(argument, frame, self.own)
        elif what == "call":
            judged = _judge_python(frame.f_code, frame)
        else:
            return
        if judged is not None:
            line = self._line(frame)
            if line is not None:
                self._note(judged[0], f"calls {judged[1]}", line)

    def _note(self, check: str, what: str, place: str) -> None:
        self.found.setdefault((check, place), Finding(check, self._where, what, place, self._event))

    def _line(self, frame: FrameType) -> str | None:
        """Return the innermost line of the user's own code that led to a frame; None where that is harmless."""
        found: str | None = None
        at: FrameType | None = frame
        while at is not None and at.f_globals.get("__name__") != __name__:
            module = str(at.f_globals.get("__name__", ""))
            if module.partition(".")[0] in _HARMLESS:
                return None
            if found is None and not is_foreign(module, self.own):
                found = _at(at.f_code.co_filename, at.f_lineno)
            at = at.f_back
        return found or self._begin

    def _raised(self, error: BaseException) -> str:
        """Return the innermost line of the user's own code that an error came through."""
        place, trace = self._begin, error.__traceback__
        while trace is not None:
            if not is_foreign(str(trace.tb_frame.f_globals.get("__name__", "")), self.own):
                place = _at(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
            trace = trace.tb_next
        return place


def _frozen_event(event: Event) -> Frozen:
    parts = (event.id, event.type, event.source, event.subject, event.moment, event.headers, event.data)
    names = ("id", "type", "source", "subject", "moment", "headers", "data")
    return ("map", {name: frozen(part) for name, part in zip(names, parts, strict=True)})


def _judge(function: Any, frame: FrameType, own: str) -> tuple[str, str] | None:
    """Say what a built-in function is that no handler may call, and how it is called."""
    name: str = getattr(function, "__name__", "")
    owner: Any = getattr(function, "__self__", None)
    if isinstance(owner, type):
        return (CLOCK, f"{owner.__name__}.{name}()") if name in _NOWS and issubclass(owner, date) else None
    if owner is _GLOBAL:
        return (CHANCE, "the random module")
    module: str = getattr(owner, "__name__", "") if type(owner) is type(sys) else type(owner).__module__
    if owner is sys.modules["builtins"] and name in _PROCESS_BOUND and frame.f_code.co_name != "__hash__":
        its_own = not is_foreign(str(frame.f_globals.get("__name__", "")), own)
        return (CHANCE, f"{name}(), which differs from process to process") if its_own else None
    if module in {"posix", "nt"} and name in {"urandom", "getrandom"}:
        return CHANCE, f"os.{name}()"
    names, check = _MODULES.get(module, (frozenset[str](), ""))
    if names is None or name in names:
        public = {"posix": "os.", "nt": "os.", "_io": ""}.get(module, f"{module.lstrip('_')}.")
        return check, f"{public}{name}()"
    return None


def _judge_python(code: CodeType, frame: FrameType) -> tuple[str, str] | None:
    """Say what a function of the standard library is that no handler may call."""
    if code in _ENVIRON:
        return ENVIRONMENT, "os.environ"
    if code is _SEED and frame.f_locals.get("a") is None:
        return CHANCE, "Random() without a seed"
    return None


def _place_of(function: object, own: str) -> str:
    """Return file and line of the user's function within a compiled one."""
    for inner in functions_of([function]):
        plain = cast("FunctionType", getattr(inner, "__func__", inner))
        if not is_foreign(plain.__module__, own):
            return _at(plain.__code__.co_filename, plain.__code__.co_firstlineno)
    return "?"


def _at(file: str, line: int) -> str:
    """Return a place as people read it: from where the tests run, where it lies below."""
    path = Path(file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"
