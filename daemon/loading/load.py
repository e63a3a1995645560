"""Modules in, specs out: the loading of all projections at once.

Owns the importing of the user's modules and what spans several projections: names taken twice, handlers that nothing
would run. Runs before any shard starts, so a mistake in a projection never leaves a daemon half started.

Invariant: every problem of every module is reported together; nothing is returned where there is one.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Collection, Sequence
from types import ModuleType

from daemon.core.projection import ProjectionSpec
from daemon.loading.compiling import compile_declaration
from daemon.loading.declare import MARKS, Declaration, declarations_of
from daemon.loading.problems import Collector, Problem, ProjectionProblems


def load_projections(modules: Sequence[str], sources: Collection[str]) -> list[ProjectionSpec]:
    """Import `modules` (dotted names) and return the specs of every projection they declare or import.

    `sources` are the names of the configured sources. The specs are in the order of modules and definition. Two
    versions of one projection may stand side by side. Raises ProjectionProblems with every problem of all of them.
    """
    problems: list[Problem] = []
    declarations: dict[int, Declaration] = {}
    loaded: list[ModuleType] = []
    for name in dict.fromkeys(modules):
        module = _import(name, problems)
        if module is None:
            continue
        loaded.append(module)
        found = _declared_in(module)
        if not found and not MARKS.functions.get(module.__name__):
            remedy = "decorate a class with @projection, or drop the module from daemon.projections"
            problems.append(Problem(_file(module), 0, f"module {name!r} declares no projection", remedy))
        declarations.update((id(declaration), declaration) for declaration in found)
    specs = _compile(list(declarations.values()), sources, problems)
    for module in loaded:
        problems += _unreachable(module, declarations.values())
    if problems:
        names = {declaration.options.get("name") for declaration in declarations.values()}
        all_known = len(loaded) == len(set(modules)) and all(isinstance(name, str) for name in names)
        raise ProjectionProblems(problems, sorted(map(str, names)) if all_known else None)
    return specs


def _compile(
    declarations: list[Declaration], sources: Collection[str], problems: list[Problem]
) -> list[ProjectionSpec]:
    specs: list[ProjectionSpec] = []
    first: dict[tuple[object, object], Declaration] = {}
    for declaration in declarations:
        collector = Collector(declaration.file, declaration.line)
        spec = compile_declaration(declaration, sources, collector)
        if spec is not None:
            specs.append(spec)
        name, version = declaration.options.get("name"), declaration.options.get("version")
        if isinstance(name, str) and isinstance(version, int):
            other = first.setdefault((name, version), declaration)
            if other is not declaration:
                message = f"projection {name!r} version {version} is declared at {other.file}:{other.line} already"
                collector.add(message, "raise the version of the newer one, or rename it")
        problems += collector.problems
    return specs


def _import(name: str, problems: list[Problem]) -> ModuleType | None:
    """Import a module, or note where and why it does not import."""
    if name not in sys.modules:
        MARKS.forget(name)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        file, line = error.filename or name, error.lineno or 0
        problems.append(Problem(file, line, f"module {name!r} is no Python: {error.msg}", "correct the line"))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's module raises is a mistake to report
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            remedy = "correct daemon.projections in the settings, or start where the module can be imported"
            problems.append(Problem(name, 0, f"there is no module {error.name!r}", remedy))
            return None
        file, line = _place(error, name)
        message = f"module {name!r} fails to import: {type(error).__name__}: {error}"[:500]
        problems.append(
            Problem(file, line, message, "correct it; importing a projection must not need anything running")
        )
    return None


def _place(error: BaseException, name: str) -> tuple[str, int]:
    """Return the innermost line of the module that was being imported when the error came up."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in {__file__, importlib.__file__}
    ]
    importing = [frame.filename for frame in frames if frame.name == "<module>"][-1:]
    own = [frame for frame in frames if frame.filename in importing] or frames
    return (own[-1].filename, own[-1].lineno or 0) if own else (name, 0)


def _declared_in(module: ModuleType) -> list[Declaration]:
    """Return what a module declares, even what a later definition of one name hides, and what it imports."""
    found = list(MARKS.declarations.get(module.__name__, ()))
    known = {id(declaration) for declaration in found}
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ != module.__name__:
            found += [declaration for declaration in declarations_of(value) if id(declaration) not in known]
    return found


def _unreachable(module: ModuleType, declarations: Collection[Declaration]) -> list[Problem]:
    """Return the marked functions that no projection would ever run: hidden by a later one, or without a projection."""
    reached: set[int] = set()
    hosts: set[str] = set()
    for declaration in declarations:
        for base in inspect.getmro(declaration.target) if isinstance(declaration.target, type) else ():
            hosts.add(f"{base.__module__}.{base.__qualname__}")
            reached.update(id(getattr(member, "__func__", member)) for member in vars(base).values())
    problems: list[Problem] = []
    for function in MARKS.functions.get(module.__name__, ()):
        if id(function) in reached:
            continue
        host = function.__qualname__.rpartition(".")[0]
        if f"{module.__name__}.{host}" in hosts:
            message = f"handler {function.__name__!r} is hidden by a later definition of that name in class {host}"
            remedy = "give each handler a name of its own"
        elif host:
            message, remedy = f"class {host} has handlers but is no projection", "decorate it with @projection"
        else:
            message = f"function {function.__name__!r} is marked as a handler outside a class"
            remedy = "make it a method of a class decorated with @projection"
        problems.append(Problem(function.__code__.co_filename, function.__code__.co_firstlineno, message, remedy))
    return problems


def _file(module: ModuleType) -> str:
    return inspect.getsourcefile(module) or module.__name__
