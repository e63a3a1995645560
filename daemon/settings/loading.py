"""Reading the settings: a TOML file, then the environment laid over it, then the models.

Owns the order of these, the origin of every value, and the collection of all problems before any is raised. Must not
know particular settings.

Invariants: either all settings are good, or one error holds every problem; values that problems concern are left aside
for a further validation, so that a mistake never hides another, and one mistake is reported once.
"""

import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from daemon.settings.base import Section
from daemon.settings.checks import Clash
from daemon.settings.environment import MAX_LEVELS, Override, lay_over, nests_too_deep, read_environment
from daemon.settings.explain import example_of, explain, explain_clash, key_of
from daemon.settings.problems import DEFAULT, Key, Problem, SettingsError, dotted, from_environment, from_file
from daemon.settings.root import SECTIONS_CLASH, Settings
from daemon.settings.secret import ENVIRONMENT
from daemon.settings.shape import Group

type Tree = dict[str, object]


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """One key's value as it holds, and where it comes from. Values are texts, numbers, booleans, tuples or None."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Good settings. `origins` maps every dotted key to "default", "file PATH" or "environment NAME"."""

    settings: Settings
    origins: Mapping[str, str]

    def effective(self) -> tuple[EffectiveValue, ...]:
        """Give every key with its value and origin, in the order of the sections; a secret is shown by its name."""
        return tuple(
            EffectiveValue(key, value, self.origins[key])
            for key, value in ((dotted(path), value) for path, value in _leaves(self.settings, ()))
        )


def load_settings(path: Path | None, environment: Mapping[str, str]) -> LoadedSettings:
    """Read the file at `path` (None: no file) and the PROJECTIOND__ variables of `environment`.

    Raises SettingsError with every problem found.
    """
    settings, origins = load_model(Settings, path, environment)
    return LoadedSettings(settings, origins)


def load_model[S: Section](
    model: type[S], path: Path | None, environment: Mapping[str, str]
) -> tuple[S, Mapping[str, str]]:
    """Do what `load_settings` does for any section as the root; give it with the origins of its keys."""
    root = Group((model,))
    data = {} if path is None else _read(path)
    overrides, refused = read_environment(environment, root, {} if isinstance(data, Problem) else data)
    if isinstance(data, Problem):
        raise SettingsError([data, *refused])
    given = _Given(path, data, overrides)
    settings, found = _validate(model, given, environment, {problem.path for problem in refused})
    problems = [*refused, *found]
    if problems or settings is None:
        raise SettingsError(problems)
    origins = {dotted(key): given.origin(key) for key, _ in _leaves(settings, ())}
    return settings, MappingProxyType(origins)


class _Given:
    """What the file and the environment hold together, and which of them each key comes from."""

    def __init__(self, path: Path | None, data: Tree, overrides: list[Override]) -> None:
        self._path = path
        self._file = data
        self._overrides = overrides
        self.merged = deepcopy(data)
        for override in overrides:
            lay_over(self.merged, override)

    def origin(self, key: Key) -> str:
        """Give the origin of the value at `key`; of a table, where the nearest of its values comes from."""
        if not _holds(self.merged, key):
            return DEFAULT
        covering = [override for override in self._overrides if override.path == key[: len(override.path)]]
        if covering:
            return from_environment(covering[-1].name)
        if _holds(self._file, key):
            return from_file(self._path)
        inner = next(override for override in self._overrides if override.path[: len(key)] == key)
        return from_environment(inner.name)


def _validate[S: Section](
    model: type[S], given: _Given, environment: Mapping[str, str], wrong: set[str]
) -> tuple[S | None, list[Problem]]:
    """Validate until nothing new is found. `wrong` holds the keys that already have a problem of their own.

    Each round leaves aside what the last one refused, so that pydantic goes on to the checks behind it; what has to be
    there is stood in for by its example, so that the table around it is checked still. A table whose
    kind is unknown is left aside as a whole, since its keys cannot be told right from wrong.
    """
    root = Group((model,))
    problems: list[Problem] = []
    filled: set[str] = set()
    data = deepcopy(given.merged)
    while True:
        try:
            return model.model_validate(data, context={ENVIRONMENT: environment}), problems
        except ValidationError as error:
            errors = error.errors(include_url=False)
        aside: list[tuple[str, ...]] = []
        examples: dict[Key, object] = {}
        for detail in errors:
            if detail["type"] == SECTIONS_CLASH:
                problems += _clashes(detail, given, wrong)
                continue
            problem = explain(detail, root, data, given.origin)
            if problem is not None and not _touches(problem.path, wrong):
                problems.append(problem)
            key = key_of(detail["loc"], root, data)
            example = example_of(detail["loc"], root, data)
            if example is not None and dotted(key) not in filled:
                examples[key] = example
                continue
            aside.append(_without_index(key[:-1] if detail["type"] == "missing" else key))
        for key in aside:
            wrong.add(dotted(key))
            _drop(data, key)
        for key, example in examples.items():
            wrong.add(dotted(key))
            filled.add(dotted(key))
            _fill(data, key, example)
        if not aside and not examples:
            return None, problems


def _clashes(detail: ErrorDetails, given: _Given, wrong: set[str]) -> Iterator[Problem]:
    origins = {dotted(key): given.origin(key) for key in _paths(given.merged, ())}
    for clash in cast("tuple[Clash, ...]", detail.get("ctx", {})["clashes"]):
        if any(_touches(path, wrong) for path in (clash.path, *clash.others)):
            continue
        # A key that is absent has no origin of its own: it is missed because of the others.
        asked = clash.others if clash.value is None else (clash.path,)
        yield explain_clash(clash, next((origins[path] for path in asked if path in origins), DEFAULT))


def _touches(path: str, wrong: set[str]) -> bool:
    return any(path == key or path.startswith((f"{key}.", f"{key}[")) for key in wrong if key)


_FLATTEN = f"it nests deeper than {MAX_LEVELS} levels; flatten it"


def _read(path: Path) -> Tree | Problem:
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        if not nests_too_deep(data):
            return data
        remedy = _FLATTEN
    except FileNotFoundError:
        remedy = "there is none; make it (config/reference.toml shows every key), or name another"
    except OSError as error:
        remedy = f"{error.strerror}; mend its kind or rights, or name another"
    except UnicodeDecodeError as error:
        remedy = f"byte {error.start} is not UTF-8; save it as UTF-8"
    except RecursionError:
        remedy = _FLATTEN
    except ValueError as error:  # TOMLDecodeError, and numbers of more digits than the interpreter converts
        remedy = f"correct it: {error}"
    return Problem("", "", "a readable TOML file", remedy, from_file(path))


def _without_index(key: Key) -> tuple[str, ...]:
    """Give the key of the whole list where `key` names an item of it."""
    return tuple(part for part in key if isinstance(part, str))


def _drop(tree: Tree, key: tuple[str, ...]) -> None:
    """Remove what a key names, if an earlier problem has not removed it with its table."""
    for name in key[:-1]:
        inner = tree.get(name)
        if not isinstance(inner, dict):
            return
        tree = cast("Tree", inner)
    tree.pop(key[-1], None)


def _fill(tree: Tree, key: Key, example: object) -> None:
    """Set what a key names, if an earlier problem has not removed it with its table."""
    for name in key[:-1]:
        inner = tree.get(str(name))
        if not isinstance(inner, dict):
            return
        tree = cast("Tree", inner)
    tree[str(key[-1])] = deepcopy(example)


def _holds(tree: Tree, key: Key) -> bool:
    return key in _paths(tree, ())


def _paths(value: object, at: Key) -> Iterator[Key]:
    """Give the key of everything in the tree: tables, values and the items of lists."""
    if at:
        yield at
    if isinstance(value, dict):
        for name, inner in cast("Tree", value).items():
            yield from _paths(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _paths(inner, (*at, index))


def _leaves(value: object, at: Key) -> Iterator[tuple[Key, object]]:
    """Give the key and value of everything in good settings that is no table."""
    if isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), (*at, name))
    elif isinstance(value, Mapping):
        for name, inner in cast("Mapping[str, object]", value).items():
            yield from _leaves(inner, (*at, name))
    else:
        yield at, value
