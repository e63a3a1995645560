"""The settings file found and read, the projections loaded, and every problem of both told at once.

Owns where settings are looked for, and how projections are checked although the settings are wrong. Must not know what
a command does with them.

Invariant: what is returned can be run; otherwise one error holds all there is to correct.
"""

import os
import sys
import tomllib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from daemon.core.errors import ProjectiondError, SettingsProblem
from daemon.core.projection import ProjectionSpec
from daemon.loading import Problem as ProjectionMistake
from daemon.loading import ProjectionProblems, load_projections
from daemon.settings import LoadedSettings, Problem, Settings, SettingsError, load_settings
from daemon.settings.environment import read_environment
from daemon.settings.explain import unknown_projections
from daemon.settings.problems import from_environment, from_file
from daemon.settings.shape import Group

DEFAULT_CONFIG = Path("projectiond.toml")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Good settings and the projections they name. `path` is the settings file, None where there is none."""

    path: Path | None
    settings: LoadedSettings
    specs: Sequence[ProjectionSpec]


class InvalidSetup(SettingsProblem):
    """Settings, projections or both cannot be used. `documents` are the problems of both, for JSON."""

    def __init__(self, settings: Sequence[Problem], projections: Sequence[ProjectionMistake]) -> None:
        self.documents = [
            *({"about": "settings"} | asdict(problem) for problem in settings),
            *({"about": "projections"} | asdict(problem) for problem in projections),
        ]
        parts: list[ProjectiondError] = []
        if settings:
            parts.append(SettingsError(settings))
        if projections:
            parts.append(ProjectionProblems(projections))
        super().__init__("\n".join(map(str, parts)))


def config_path(given: Path | None) -> Path | None:
    """Return the settings file: the given one, else ./projectiond.toml where there is one."""
    if given is not None:
        return given
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def load(given: Path | None) -> Loaded:
    """Read settings and load projections. Raises InvalidSetup with every problem of both."""
    from daemon.app import overridden, specs_of

    path = config_path(given)
    import_from_here()
    try:
        loaded = load_settings(path, os.environ)
    except SettingsError as error:
        strangers, mistakes = _mistakes_despite(path)
        raise InvalidSetup([*error.problems, *strangers], mistakes) from None
    if not loaded.settings.daemon.projections:
        raise InvalidSetup([_nothing_to_fold(loaded)], ())
    try:
        with quiet_stdout():
            return Loaded(path, loaded, specs_of(loaded.settings, loaded.origins))
    except SettingsError as error:
        raise InvalidSetup(error.problems, ()) from None
    except ProjectionProblems as error:
        tables = overridden(loaded.settings, loaded.origins)
        raise InvalidSetup(_strangers(tables, error), error.problems) from None


def import_from_here() -> None:
    """Let modules be imported from the working directory, as `python -m` does: projections lie beside their settings.

    Left alone where the interpreter was told to trust no such directory (`PYTHONSAFEPATH`).
    """
    here = str(Path.cwd())
    if not sys.flags.safe_path and here not in sys.path[:1]:
        sys.path.insert(0, here)


@contextmanager
def quiet_stdout() -> Generator[None]:
    """Send to stderr what users' modules and handlers print, since stdout holds the result alone."""
    with redirect_stdout(sys.stderr):
        yield


def _nothing_to_fold(loaded: LoadedSettings) -> Problem:
    key = "daemon.projections"
    remedy = 'name the modules that declare projections, for example projections = ["projections.orders"]'
    return Problem(key, "a list of 0", "at least one module", remedy, loaded.origins[key])


def _mistakes_despite(path: Path | None) -> tuple[Sequence[Problem], Sequence[ProjectionMistake]]:
    """Load the projections that wrong settings name, as far as these can be read, for what is wrong with them too.

    Tables of overrides for projections that there are not come first.
    """
    tree: dict[str, object] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            return (), ()
    modules: object = _table(tree, "daemon").get("projections")
    sources = set(_table(tree, "sources"))
    given = dict.fromkeys(_table(tree, "projections"), from_file(path))
    for override in read_environment(os.environ, Group((Settings,)), tree)[0]:
        match override.path:
            case ("daemon",):
                modules = cast("Mapping[str, object]", override.value).get("projections", modules)
            case ("daemon", "projections"):
                modules = override.value
            case ("sources",):
                sources = set(cast("Mapping[str, object]", override.value))
            case ("sources", name, *_):
                sources.add(name)
            case ("projections",):
                given = dict.fromkeys(cast("Mapping[str, object]", override.value), from_environment(override.name))
            case ("projections", name, *_):
                given.setdefault(name, from_environment(override.name))
            case _:
                pass
    names = [name for name in _items(modules) if isinstance(name, str) and _is_dotted(name)]
    try:
        with quiet_stdout():
            known = {spec.name for spec in load_projections(names, sources)}
    except ProjectionProblems as error:
        return _strangers(given, error), error.problems
    all_named = bool(names) and len(names) == len(_items(modules))
    return unknown_projections(given, known) if all_named else (), ()


def _strangers(given: Mapping[str, str], error: ProjectionProblems) -> Sequence[Problem]:
    return () if error.names is None else unknown_projections(given, error.names)


def _table(tree: Mapping[str, object], name: str) -> Mapping[str, object]:
    table = tree.get(name)
    return cast("Mapping[str, object]", table) if isinstance(table, Mapping) else {}


def _items(value: object) -> Sequence[object]:
    return cast("list[object]", value) if isinstance(value, list) else ()


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
