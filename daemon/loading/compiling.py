"""From a declared class to a core `ProjectionSpec`, or to everything that is wrong with it.

Invariant: one mistake hides no other; a spec is made only where there is none.
"""

from collections.abc import Callable, Collection
from typing import cast

from daemon.core.events import Event
from daemon.core.projection import Dedup, OnError, OnGap, OnLate, ProjectionSpec
from daemon.loading import options as check
from daemon.loading.declare import Declaration, declarations_of
from daemon.loading.digest import code_digest
from daemon.loading.handlers import Method, compile_handlers, compile_upcasters, methods_of
from daemon.loading.paths import key_field, key_function, sequence_function
from daemon.loading.problems import Collector, ProjectionProblems

_DEFAULTS = ProjectionSpec("", 1, (), lambda event: event.key, {})
_DIGESTED = ("key", "sequence", "sequence_start")
"""Options that change what rows hold; the others change only what is guaranteed."""


_FOLLOWING_SETTINGS = ("late", "marker_window", "marker_retention")
"""Options that the settings' [engine] decides where the code does not."""


def compile_class(cls: type, sources: Collection[str]) -> list[ProjectionSpec]:
    """Return the specs of one decorated class (one per `@projection` on it), reading from `sources`.

    For tests and tools that have the class at hand. Raises ProjectionProblems.
    """
    collectors: list[Collector] = []
    specs: list[ProjectionSpec] = []
    for declaration in declarations_of(cls):
        collector = Collector(declaration.file, declaration.line)
        collectors.append(collector)
        spec = compile_declaration(declaration, sources, collector)
        if spec is not None:
            specs.append(spec)
    problems = [problem for collector in collectors for problem in collector.problems]
    if problems:
        raise ProjectionProblems(problems)
    return specs


def compile_declaration(
    declaration: Declaration, sources: Collection[str], collector: Collector
) -> ProjectionSpec | None:
    """Return the spec of one declaration, or None when anything about it was noted in `collector`."""
    if declaration.mistake:
        collector.add(
            declaration.mistake, 'write @projection(name="orders", version=1, source="orders", key="data.id")'
        )
    if not isinstance(declaration.target, type):
        name = getattr(declaration.target, "__name__", repr(declaration.target))
        collector.add(f"@projection decorates {name!r}, which is no class", "decorate a class with handlers")
        return None
    if declaration.mistake:
        options: ProjectionSpec | None = None
    else:
        options = _compile_options(declaration, sources, collector)
    methods = _methods(declaration.target, collector)
    if methods is None:
        return None
    handlers = compile_handlers(methods, collector)
    upcasters = compile_upcasters(methods, handlers, collector)
    if not handlers and not collector.problems:
        collector.add(f"class {declaration.target.__name__} has no handler", 'mark methods with @on("EventType")')
    if collector.problems or options is None:
        return None
    digested = {name: declaration.options[name] for name in _DIGESTED}
    return ProjectionSpec(
        name=options.name,
        version=options.version,
        sources=options.sources,
        key=options.key,
        key_field=options.key_field,
        handlers=handlers,
        dedup=options.dedup,
        sequence=options.sequence,
        sequence_start=options.sequence_start,
        on_gap=options.on_gap,
        on_error=options.on_error,
        late=options.late,
        upcasters=upcasters,
        marker_window=options.marker_window,
        marker_retention=options.marker_retention,
        indexes=options.indexes,
        expires=options.expires,
        explicit=options.explicit,
        code_digest=code_digest(declaration.target, digested),
    )


def _compile_options(declaration: Declaration, sources: Collection[str], collector: Collector) -> ProjectionSpec:
    """Return a spec without handlers; what was wrong is noted and stands at its default."""
    given, attempt, base = declaration.options, collector.attempt, _DEFAULTS
    for mistake in check.combinations(given):
        collector.add(mistake.message, mistake.remedy)

    def optional[T](option: str, take: Callable[[object], T], fallback: T) -> T:
        value = given[option]
        return fallback if value is None else attempt(lambda: take(value), fallback)

    return ProjectionSpec(
        name=attempt(lambda: check.name_of(given["name"]), base.name),
        version=attempt(lambda: check.version_of(given["version"]), base.version),
        sources=attempt(lambda: check.sources_of(given["source"], sources), base.sources),
        key=attempt(lambda: key_function(given["key"]), base.key),
        key_field=key_field(given["key"]),
        handlers={},
        dedup=attempt(lambda: check.choice_of("dedup", given["dedup"], Dedup), base.dedup),
        sequence=optional("sequence", sequence_function, cast("Callable[[Event], int] | None", None)),
        sequence_start=optional(
            "sequence_start", lambda n: check.count_of("sequence_start", n, 0), cast("int | None", None)
        ),
        on_gap=optional("on_gap", lambda word: check.choice_of("on_gap", word, OnGap), base.on_gap),
        on_error=attempt(lambda: check.choice_of("on_error", given["on_error"], OnError), base.on_error),
        late=optional("late", lambda word: check.choice_of("late", word, OnLate), base.late),
        marker_window=optional("marker_window", lambda n: check.count_of("marker_window", n, 1), base.marker_window),
        marker_retention=optional(
            "marker_retention", lambda time: check.time_of("marker_retention", time), base.marker_retention
        ),
        explicit=frozenset(option for option in _FOLLOWING_SETTINGS if given[option] is not None),
        indexes=attempt(lambda: check.indexes_of(given["indexes"]), base.indexes),
        expires=optional("expires", lambda time: check.time_of("expires", time), base.expires),
    )


def _methods(cls: type, collector: Collector) -> list[Method] | None:
    try:
        return list(methods_of(cls()))
    except Exception as error:  # noqa: BLE001 - whatever a user's __init__ raises is a mistake to report
        message = f"{cls.__name__}() raised {type(error).__name__}: {error}"
        collector.add(message[:500], "let __init__ take no arguments and only set constants, or drop it")
        return None
