"""The SQLite file's layout: names, tables, and the check that a file is ours and not newer.

Owns every CREATE statement. Must not know what a commit does.

Layout: all tables of the daemon carry the prefix; the rows of a generation live in a table named exactly
`{projection}-g{number}`, so that any SQLite client can read them. Positions are kept twice: as text for people, and as
`place`, bytes that sort as positions do. Markers, checkpoints and segments are narrow: WITHOUT ROWID saves a b-tree.
Rows may be wide, and an index b-tree of wide rows has little fan-out, so they keep a rowid.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from daemon.core.errors import StoreRefused, StoreTooNew
from daemon.core.identity import Generation
from daemon.core.projection import Index

APPLICATION_ID = 0x50726A64
"""`Prjd`, at offset 68 of the file: whose database this is."""
SCHEMA_VERSION = 3

CHECKPOINT_COLUMNS = (
    "position", "origin", "epoch", "commit_seq", "commit_id", "owner", "state", "reason", "incarnation", "watermark",
    "caught_up", "segment", "segment_seq", "parked_seq", "dead_run", "operation_seq", "code_digest", "counters",
    "redelivery", "since", "stuck_at",
)  # fmt: skip
SCOPE_COLUMNS = ("projection", "generation", "source", "shard")

_SCOPE = "projection TEXT NOT NULL, generation INTEGER NOT NULL, source TEXT NOT NULL, shard TEXT NOT NULL"
_SCOPE_KEY = "projection, generation, source, shard"


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class Tables:
    """The quoted names of the daemon's own tables under one prefix."""

    __slots__ = (
        "checkpoints", "dead_letters", "effects", "generations", "markers", "operations", "outcomes", "parked",
        "prefix", "replicas", "segments", "skipped", "standings",
    )  # fmt: skip

    def __init__(self, prefix: str) -> None:
        """Derive every name from the prefix."""
        self.prefix = prefix
        self.checkpoints = quoted(f"{prefix}-checkpoints")
        self.segments = quoted(f"{prefix}-segments")
        self.markers = quoted(f"{prefix}-markers")
        self.dead_letters = quoted(f"{prefix}-dead-letters")
        self.parked = quoted(f"{prefix}-parked")
        self.effects = quoted(f"{prefix}-effects")
        self.generations = quoted(f"{prefix}-generations")
        self.replicas = quoted(f"{prefix}-replicas")
        self.skipped = quoted(f"{prefix}-skipped")
        self.standings = quoted(f"{prefix}-standings")
        self.operations = quoted(f"{prefix}-operations")
        self.outcomes = quoted(f"{prefix}-outcomes")

    def statements(self) -> Iterable[str]:
        """Iterate the statements that make these tables where they are missing."""
        make = "CREATE TABLE IF NOT EXISTS"
        yield (
            f"{make} {self.generations} (projection TEXT NOT NULL, number INTEGER NOT NULL, version INTEGER NOT NULL, "
            "live INTEGER NOT NULL, PRIMARY KEY (projection, number)) WITHOUT ROWID"
        )
        yield (
            f"{make} {self.checkpoints} ({_SCOPE}, position TEXT NOT NULL, origin TEXT NOT NULL, "
            "epoch INTEGER NOT NULL, commit_seq INTEGER NOT NULL, commit_id TEXT NOT NULL, owner TEXT, "
            "state TEXT NOT NULL, reason TEXT, incarnation TEXT, watermark TEXT, caught_up INTEGER NOT NULL, "
            "segment INTEGER NOT NULL, segment_seq INTEGER NOT NULL, parked_seq INTEGER NOT NULL, "
            "dead_run INTEGER NOT NULL, operation_seq INTEGER NOT NULL, code_digest TEXT NOT NULL, "
            f"counters TEXT NOT NULL, PRIMARY KEY ({_SCOPE_KEY})) WITHOUT ROWID"
        )
        yield (
            f"{make} {self.segments} ({_SCOPE}, number INTEGER NOT NULL, entries BLOB NOT NULL, "
            f"commit_seq INTEGER NOT NULL, PRIMARY KEY ({_SCOPE_KEY}, number))"
        )
        yield (
            f"{make} {self.markers} (generation TEXT NOT NULL, event_id TEXT NOT NULL, digest BLOB NOT NULL, "
            "expires_at INTEGER NOT NULL, PRIMARY KEY (generation, event_id)) WITHOUT ROWID"
        )
        expiry = quoted(f"{self.prefix}-markers-expiry")
        yield f"CREATE INDEX IF NOT EXISTS {expiry} ON {self.markers} (expires_at)"
        yield (
            f"{make} {self.dead_letters} ({_SCOPE}, place BLOB NOT NULL, event_id TEXT NOT NULL, "
            "position TEXT NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, "
            "handler TEXT NOT NULL, payload BLOB NOT NULL, payload_size INTEGER NOT NULL, "
            f"payload_digest BLOB NOT NULL, at TEXT NOT NULL, PRIMARY KEY ({_SCOPE_KEY}, place, event_id))"
        )
        yield (
            f"{make} {self.parked} ({_SCOPE}, key TEXT NOT NULL, place BLOB NOT NULL, event_id TEXT NOT NULL, "
            "position TEXT NOT NULL, payload BLOB NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, "
            f"at TEXT NOT NULL, PRIMARY KEY ({_SCOPE_KEY}, key, place, event_id))"
        )
        yield (
            f"{make} {self.effects} (seq INTEGER PRIMARY KEY AUTOINCREMENT, projection TEXT NOT NULL, "
            "generation INTEGER NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, payload TEXT NOT NULL, "
            "event_id TEXT NOT NULL, key TEXT NOT NULL, UNIQUE (projection, generation, id))"
        )
        yield (
            f"{make} {self.replicas} (replica TEXT NOT NULL PRIMARY KEY, beat INTEGER NOT NULL, runs TEXT NOT NULL) "
            "WITHOUT ROWID"
        )
        yield (
            f"{make} {self.skipped} ({_SCOPE}, place BLOB NOT NULL, after TEXT NOT NULL, through TEXT NOT NULL, "
            f"at TEXT NOT NULL, note TEXT NOT NULL, counted INTEGER NOT NULL, "
            f"PRIMARY KEY ({_SCOPE_KEY}, place)) WITHOUT ROWID"
        )
        generation = "projection TEXT NOT NULL, generation INTEGER NOT NULL"
        yield (
            f"{make} {self.standings} ({generation}, form TEXT NOT NULL, PRIMARY KEY (projection, generation)) "
            "WITHOUT ROWID"
        )
        yield (
            f"{make} {self.operations} ({generation}, sequence INTEGER NOT NULL, request TEXT NOT NULL, "
            "form TEXT NOT NULL, PRIMARY KEY (projection, generation, sequence), "
            "UNIQUE (projection, generation, request))"
        )
        yield (
            f"{make} {self.outcomes} ({generation}, sequence INTEGER NOT NULL, source TEXT NOT NULL, "
            "shard TEXT NOT NULL, form TEXT NOT NULL, "
            "PRIMARY KEY (projection, generation, sequence, source, shard))"
        )
        waiting = quoted(f"{self.prefix}-effects-waiting")
        yield f"CREATE INDEX IF NOT EXISTS {waiting} ON {self.effects} (projection, generation, seq)"

    def later_columns(self) -> Iterable[tuple[str, str, str]]:
        """Iterate the columns that tables of earlier schema versions lack: table, column, its declaration."""
        for column in ("redelivery", "since", "stuck_at"):
            yield self.checkpoints, column, "TEXT"
        yield self.dead_letters, "wish", "TEXT"
        yield self.parked, "wish", "TEXT"


def rows_statements(generation: Generation, indexes: Sequence[Index]) -> Iterable[str]:
    """Iterate the statements that make a generation's rows table with its declared indexes.

    `attributes` is a JSON object with exact numbers, NULL for a tombstone; `seq` the version vector as JSON.
    """
    table = quoted(generation.label)
    yield (
        f"CREATE TABLE IF NOT EXISTS {table} (key TEXT NOT NULL, view TEXT NOT NULL, attributes TEXT, "
        "v INTEGER NOT NULL, src TEXT NOT NULL, seq TEXT, expires INTEGER, PRIMARY KEY (key, view))"
    )
    expiry = quoted(f"{generation.label}-expiry")
    yield f"CREATE INDEX IF NOT EXISTS {expiry} ON {table} (expires) WHERE expires IS NOT NULL"
    for index in indexes:
        parts = [index.hash] if index.range is None else [index.hash, index.range]
        columns = ", ".join(_attribute(part) for part in parts)
        yield f"CREATE INDEX IF NOT EXISTS {quoted(f'{generation.label}-index-{index.name}')} ON {table} ({columns})"


def _attribute(name: str) -> str:
    if '"' in name or "\\" in name:
        raise StoreRefused(f"index attribute {name!r} holds a quote or backslash; rename the attribute")
    path = f'$."{name}"'.replace("'", "''")
    return f"json_extract(attributes, '{path}')"


def check_file(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether the file holds our schema already.

    Raises StoreRefused for another application's file, StoreTooNew for a newer schema.
    """
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application not in {0, APPLICATION_ID}:
        raise StoreRefused(
            f"{path}: belongs to another application (id {application:#010x}, not {APPLICATION_ID:#010x}); "
            "give the store a file of its own"
        )
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise StoreTooNew(
                f"{path}: schema version {version} is newer than {SCHEMA_VERSION}, the newest this projectiond knows; "
                "run the projectiond that wrote it, or a newer one"
            )
        return version == SCHEMA_VERSION
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables or version:
        raise StoreRefused(
            f"{path}: holds {tables} tables and indexes that are not projectiond's; give the store a file of its own"
        )
    return False


def create(connection: sqlite3.Connection, path: Path, tables: Tables) -> None:
    """Make what is missing, in one transaction; another process may be doing the same."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        check_file(connection, path)
        for statement in tables.statements():
            connection.execute(statement)
        for table, column, declaration in tables.later_columns():
            held = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            if column not in held:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declaration}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
