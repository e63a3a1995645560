"""What a store holds already and what it lacks: the plan that `projectiond init` shows before it makes anything.

Owns the comparison. Only looks: a missing file is not made, an existing one is opened for reading
alone (SQLite may leave its empty -wal and -shm files beside it).

Invariant: a step is `exists` or `make`, or `waits` where only a person may go on; carrying out a plan touches nothing
that exists.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio

from daemon.core.errors import StoreProblem
from daemon.core.generations import GenerationRecord, choose
from daemon.core.identity import Generation
from daemon.core.projection import ProjectionSpec
from daemon.settings import Settings, SqliteStoreSettings


class State(StrEnum):
    """What is to be done about one thing."""

    EXISTS = "exists"
    MAKE = "make"
    WAITS = "waits"
    """It exists or is registered, and runs only once a person has decided."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a daemon needs: what it is, its name, whether it is there, and a word on it."""

    what: str
    name: str
    state: State
    detail: str = ""


def survey(settings: Settings, specs: Sequence[ProjectionSpec]) -> list[Step]:
    """Return the plan. Raises StoreProblem where the store cannot be used as it is."""
    store = settings.store
    if not isinstance(store, SqliteStoreSettings):
        return []
    path = Path(store.path)
    steps = [Step("database file", str(path), State.EXISTS if path.exists() else State.MAKE)]
    if not path.parent.exists():
        steps.insert(0, Step("directory", str(path.parent), State.MAKE))
    ready = path.exists() and holds_tables(path, store.busy_timeout_ms)
    steps.append(Step("state tables", "checkpoints, markers and what goes with them", _known(there=ready)))
    records = anyio.run(_records, settings, sorted({spec.name for spec in specs})) if ready else {}
    for name in sorted({spec.name for spec in specs}):
        steps += _generations(name, records.get(name, ()), [spec.version for spec in specs if spec.name == name])
    return steps


def holds_tables(path: Path, busy_timeout_ms: int) -> bool:
    """Tell whether an existing file is a store of ours already; an empty database is not, and may become one.

    Raises StoreRefused for another application's file, StoreTooNew, StoreDamaged, StoreUnavailable.
    """
    from daemon.stores.sqlite_errors import problem_of
    from daemon.stores.sqlite_schema import check_file

    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout_ms / 1000)) as connection:
            return check_file(connection, path)
    except StoreProblem:
        raise
    except sqlite3.Error as error:
        raise problem_of(error, path, busy_timeout_ms) from error


async def _records(settings: Settings, names: Sequence[str]) -> dict[str, Sequence[GenerationRecord]]:
    from daemon.app import store_of

    store = store_of(settings, read_only=True)
    await store.open()
    try:
        return {name: await store.generations(name) for name in names}
    finally:
        await store.aclose()


def _generations(name: str, records: Sequence[GenerationRecord], versions: Sequence[int]) -> Iterator[Step]:
    choice = choose(records, versions)
    if choice.create is not None:
        yield Step("generation", Generation(name, 1).label, State.MAKE, f"version {choice.create}, live")
    for record in sorted((*choice.run, *choice.without_code), key=lambda record: record.generation.number):
        runs = record in choice.run
        detail = f"version {record.version}{', live' if record.live else ''}{'' if runs else ', no code here'}"
        yield Step("generation", record.generation.label, State.EXISTS if runs else State.WAITS, detail)
    for version in choice.waiting:
        yield Step("generation", name, State.WAITS, f"version {version} waits for a rebuild to be started")


def _known(*, there: bool) -> State:
    return State.EXISTS if there else State.MAKE
