"""What the database holds: the rows of each read model.

Owns reading the store's tables, which any client can. Must not know what the rows ought to be.

Invariant: the database is opened read-only.
"""

import sqlite3
from pathlib import Path

from daemon.demo.check.outcome import CannotCheck

type Key = str | tuple[str, str]
"""The key of a row in the view "main", where all of these belong; or key and view of another one."""


def open_database(database: Path) -> sqlite3.Connection:
    """Open it for reading. Raises CannotCheck."""
    if not database.is_file():
        raise CannotCheck(f"no database at {database}; give the file that the daemon wrote its rows to")
    try:
        return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise CannotCheck(f"{database} cannot be opened: {error}") from error


def read_table(connection: sqlite3.Connection, model: str, generation: int) -> dict[Key, str]:
    """Return the attributes (JSON text) of each row. Raises CannotCheck."""
    table = f"{model}-g{generation:d}"
    found: dict[Key, str] = {}
    try:
        # The name is one of three of ours and a whole number.
        for key, view, attributes in connection.execute(f'SELECT key, view, attributes FROM "{table}"'):  # noqa: S608
            name = key if view == "main" else (key, view)
            if name in found:
                raise CannotCheck(f"table {table!r} holds {named(name)} twice; it is no table of the daemon's")
            found[name] = attributes
    except sqlite3.Error as error:
        raise CannotCheck(f"table {table!r} cannot be read: {error}; has the daemon run with this database?") from error
    return found


def named(key: Key) -> str:
    """Return a row's name, for people."""
    return key if isinstance(key, str) else f"{key[0]} (view {key[1]})"
