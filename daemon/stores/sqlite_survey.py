"""What an SQLite store stands on: its directory, its file, its tables; looked at without making anything.

A missing file is not made, an existing one is opened for reading alone (SQLite may leave its empty -wal and -shm files
beside it).
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from daemon.core.errors import StoreProblem
from daemon.core.inventory import Part, PartState
from daemon.stores.sqlite_errors import problem_of
from daemon.stores.sqlite_schema import check_file


def parts_of(path: Path, busy_timeout_ms: int) -> Sequence[Part]:
    """Return the parts of the store at `path`. Raises StoreProblem where it cannot be used as it is."""
    parts = [Part("database file", str(path), _known(there=path.exists()))]
    if not path.parent.exists():
        parts.insert(0, Part("directory", str(path.parent), PartState.MAKE))
    there = holds_tables(path, busy_timeout_ms)
    return [*parts, Part("state tables", "checkpoints, markers and what goes with them", _known(there=there))]


def holds_tables(path: Path, busy_timeout_ms: int) -> bool:
    """Tell whether there is a store of ours; a missing file or an empty database is not, and may become one.

    Raises StoreRefused for another application's file, StoreTooNew, StoreDamaged, StoreUnavailable.
    """
    if not path.exists():
        return False
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout_ms / 1000)) as connection:
            return check_file(connection, path)
    except StoreProblem:
        raise
    except sqlite3.Error as error:
        raise problem_of(error, path, busy_timeout_ms) from error


def _known(*, there: bool) -> PartState:
    return PartState.EXISTS if there else PartState.MAKE
