"""The SQLite store: the embedded default, the whole Store port over one file.

Owns the file. Durability: write-ahead log with `synchronous = FULL`: a commit that was answered survives a power cut.
What was not answered yet may or may not be there after one, but whole; the checkpoint tells.

Invariants: all writes go through one thread and all reads through two others, one of them for what shards fold with,
never the event loop's; commits of many shards share one transaction and one fsync, each undone alone when it does not
hold; two processes may open one file:
each commit is conditioned on the checkpoint, so only the epoch decides who writes.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.core.checkpoint import Checkpoint, Fence
from daemon.core.commit import (
    Busy,
    Commit,
    DeadLetter,
    Limits,
    Outcome,
    ParkedEvent,
    Rejected,
    TooLarge,
    Unknown,
)
from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.inventory import Part
from daemon.core.leases import Presence
from daemon.core.operations import Operation, ShardOutcome, Standing
from daemon.core.projection import Index
from daemon.core.rows import Effect, StoredRow
from daemon.core.waiting import LetterRef, ParkedRef, Waiting, Wish
from daemon.core.window import ENTRY_BYTES, StoredSegment
from daemon.ports.store import GenerationRecord
from daemon.stores.sqlite_checkpoints import StoredCheckpoints
from daemon.stores.sqlite_codec import (
    DEAD_LETTER_COLUMNS,
    EFFECT_COLUMNS,
    PARKED_COLUMNS,
    all_at_once,
    dead_letter_of,
    effect_of,
    find_many,
    parked_of,
    stored_row,
)
from daemon.stores.sqlite_commit import Committing, Encoded, by_view
from daemon.stores.sqlite_errors import BadItem, NoAnswer, TooBig, code_of
from daemon.stores.sqlite_schema import (
    CHECKPOINT_COLUMNS,
    SCHEMA_VERSION,
    SCOPE_COLUMNS,
    Tables,
    check_file,
    create,
    quoted,
    rows_statements,
)
from daemon.stores.sqlite_survey import holds_tables, parts_of
from daemon.stores.sqlite_writer import ReaderThread, Work, WriterThread

_NO_LIMITS = Limits()
_EXPIRE_BLOCK = 5_000
"""Rows removed in one transaction, so that commits never wait long behind it."""
_SCOPE_IS = " AND ".join(f"{name} = ?" for name in SCOPE_COLUMNS)
_WRITER_CACHE_KIB = 64 * 1024
_READER_CACHE_KIB = 16 * 1024
_PREPARED = 256
OLDEST_SQLITE = (3, 33)
"""The first whose UPDATE takes its values from many rows at once."""
_FRAME_BYTES = 4_120
"""A page in the write-ahead log, with its header."""
_LOG_SLACK_BYTES = 1 << 20
"""By how much the log may outgrow the pages after which it is copied: a few transactions."""
_POLL_SECONDS = 0.02


class SqliteStore:
    """The Store port over one SQLite file. Bound to the event loop that opens it.

    `busy_timeout_ms`: how long a write waits for another process's lock before it answers `Busy`.
    `wal_autocheckpoint_pages`: pages (4 KB) of write-ahead log after which it is copied into the file. `prefix` begins
    the daemon's own tables' names. `read_only`: looks beside a running daemon, and refuses every write.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_ms: int = 5_000,
        wal_autocheckpoint_pages: int = 8_192,
        prefix: str = "projectiond",
        read_only: bool = False,
    ) -> None:
        """Keep the settings; `open` touches the file."""
        self.path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._log_pages = wal_autocheckpoint_pages
        self._log_bytes = wal_autocheckpoint_pages * _FRAME_BYTES
        self._read_only = read_only
        self._tables = Tables(prefix)
        self._committing = Committing(self._tables)
        self._writer: WriterThread | None = None
        self._reader: ReaderThread | None = None
        self._watcher: ReaderThread | None = None

    @property
    def limits(self) -> Limits:
        """None: a transaction holds what the disk holds."""
        return _NO_LIMITS

    async def recorded(self, projections: Collection[str]) -> Mapping[str, Sequence[GenerationRecord]]:
        """List generations by projection, from an existing file only."""
        if self._reader is None and not holds_tables(self.path, self._busy_timeout_ms):
            return {}
        store = self
        if self._reader is None:
            prefix, timeout = self._tables.prefix, self._busy_timeout_ms
            store = SqliteStore(self.path, busy_timeout_ms=timeout, prefix=prefix, read_only=True)
            await store.open()
        try:
            return {name: found for name in projections if (found := await store.generations(name))}
        finally:
            if store is not self:
                await store.aclose()

    async def survey(self, generations: Mapping[Generation, Sequence[Index]]) -> Sequence[Part]:
        """Look at the directory, the file and its tables; a generation's rows are part of its record here."""
        return parts_of(self.path, self._busy_timeout_ms)

    async def establish(self, generations: Mapping[Generation, Sequence[Index]]) -> None:
        """Make what is missing, as a start does."""
        if self._writer is None:
            await self.open()
            await self.aclose()

    async def open(self) -> None:
        """Open the file, making it and its directory where missing; open already, it stays so. Raises StoreProblem."""
        if self._reader is not None:
            return
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreRefused(
                f"this Python brings SQLite {sqlite3.sqlite_version}, and the store needs "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or newer (UPDATE ... FROM); run a Python with a newer one"
            )
        if not self._read_only:
            limit = self._log_bytes + _LOG_SLACK_BYTES
            writer = WriterThread("sqlite-writer", self.path, self._busy_timeout_ms, self._connect_writer, limit)
            await writer.start()
            self._writer = writer
        try:
            self._reader = await self._started("sqlite-reader")
            self._watcher = await self._started("sqlite-watcher")
        except BaseException:
            await self.aclose()
            raise

    async def _started(self, name: str) -> ReaderThread:
        thread = ReaderThread(name, self.path, self._busy_timeout_ms, self._connect_reader)
        await thread.start()
        return thread

    async def aclose(self) -> None:
        """Finish what was accepted and close the file; the last to close it folds the log into it."""
        reader, self._reader = self._reader, None
        watcher, self._watcher = self._watcher, None
        writer, self._writer = self._writer, None
        for thread in (reader, watcher, writer):
            if thread is not None:
                await thread.aclose()

    # ------------------------------------------------------------------------------------------------ connections

    def _connect(self, cache_kib: int, *, read_only: bool) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        connection = sqlite3.connect(
            uri,
            timeout=self._busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=True,
            cached_statements=_PREPARED,
            uri=True,
        )
        try:
            connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreRefused(
                f"{self.path.parent}: cannot be made ({error}); make it, or name another path"
            ) from error
        connection = self._connect(_WRITER_CACHE_KIB, read_only=False)
        try:
            existing = check_file(connection, self.path)
            self._use_write_ahead_log(connection)
            for pragma in (
                "synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON", "temp_store = MEMORY",
                f"wal_autocheckpoint = {self._log_pages}", f"journal_size_limit = {self._log_bytes}",
            ):  # fmt: skip
                connection.execute(f"PRAGMA {pragma}")
            if not existing or not self._has_tables(connection):
                create(connection, self.path, self._tables)
            connection.execute("BEGIN IMMEDIATE")
            # SQLite opens a file without write rights for reading alone; it says so now, not at the first commit.
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("ROLLBACK")
            connection.execute("PRAGMA busy_timeout = 0")  # the writer waits by itself, for its one lock
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect(_READER_CACHE_KIB, read_only=self._read_only)
        try:
            if not (check_file(connection, self.path) and self._has_tables(connection)):
                raise StoreRefused(
                    f"{self.path}: holds no tables named {self._tables.prefix}-…; let the daemon create it first, "
                    "or name the prefix it uses"
                )
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _has_tables(self, connection: sqlite3.Connection) -> bool:
        name = f"{self._tables.prefix}-checkpoints"
        return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Switch the file to WAL; SQLite doesn't wait for another process that does the same, so this does."""
        give_up = time.monotonic() + self._busy_timeout_ms / 1000
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            if mode != "wal":
                raise StoreRefused(f"{self.path}: journal mode {mode!r} instead of 'wal'; put the file on a local disk")
            return

    async def _write(self, work: Work, *, urgent: bool = False, before: Callable[[], None] | None = None) -> Any:
        if self._writer is None:
            if self._read_only:
                raise StoreRefused(f"{self.path}: was opened read-only; open it without read_only to write")
            raise StoreUnavailable(f"{self.path}: the store is not open; open it first")
        return await self._writer.call(work, urgent=urgent, before=before)

    async def _look(self, work: Work) -> Any:
        return await self._read(self._reader, work)

    async def _watch(self, work: Work) -> Any:
        """Read how things stand, for people and for orders: it waits behind no rows that shards load."""
        return await self._read(self._watcher, work)

    async def _read(self, thread: ReaderThread | None, work: Work) -> Any:
        if thread is None:
            raise StoreUnavailable(f"{self.path}: the store is not open; open it first")
        return await thread.call(work)

    # ------------------------------------------------------------------------------------------------ generations

    async def generations(self, projection: str) -> Sequence[GenerationRecord]:
        """List a projection's generations, oldest first."""
        return await self._watch(lambda connection: self._generations(connection, projection))

    def _generations(self, connection: sqlite3.Connection, projection: str) -> list[GenerationRecord]:
        select = f"SELECT number, version, live FROM {self._tables.generations} WHERE projection = ? ORDER BY number"
        return [
            GenerationRecord(Generation(projection, number), version, bool(live))
            for number, version, live in connection.execute(select, (projection,))
        ]

    async def create_generation(
        self, generation: Generation, version: int, *, live: bool, indexes: Sequence[Index] = ()
    ) -> GenerationRecord:
        """Make a generation's rows table with its indexes, and its record; idempotent. Returns what stands."""

        def work(connection: sqlite3.Connection) -> GenerationRecord:
            for record in self._generations(connection, generation.projection):
                if record.generation == generation:
                    return record
            for statement in rows_statements(generation, indexes):
                connection.execute(statement)
            table = self._tables.generations
            if live:
                connection.execute(f"UPDATE {table} SET live = 0 WHERE projection = ?", (generation.projection,))
            insert = f"INSERT INTO {table} (projection, number, version, live) VALUES (?, ?, ?, ?)"
            connection.execute(insert, (*generation, version, int(live)))
            return GenerationRecord(generation, version, live)

        return await self._write(work)

    # ------------------------------------------------------------------------------------------------ checkpoints

    async def checkpoints(self, generation: Generation) -> Mapping[Scope, Checkpoint]:
        """Read every checkpoint of a generation."""
        columns = ", ".join(("source", "shard", *CHECKPOINT_COLUMNS))
        select = f"SELECT {columns} FROM {self._tables.checkpoints} WHERE projection = ? AND generation = ?"
        return await self._watch(
            lambda connection: StoredCheckpoints(generation, all_at_once(connection, select, generation, columns))
        )

    async def read_checkpoint(self, scope: Scope) -> Checkpoint | None:
        """Read one checkpoint; None when the shard was never taken."""
        return await self._look(lambda connection: self._committing.checkpoint(connection, scope))

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, *, seen: int | None = None
    ) -> Checkpoint:
        """Raise the epoch in the name of `owner`, once per owner. Raises Superseded, OperationsMoved, StoreProblem."""
        return await self._write(
            lambda connection: self._committing.take(connection, scope, owner, initial, over, seen)
        )

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        """Apply a commit, whole or not at all.

        A commit sent again is known by its id in the checkpoint, whatever the `attempt`. Raises StoreFull,
        StoreRefused, StoreDamaged: nothing was applied.
        """
        try:
            encoded = Encoded(commit)
            return await self._write(
                lambda connection: self._committing.apply(connection, encoded), before=encoded.encode
            )
        except NoAnswer as error:
            return Unknown(str(error))
        except StoreUnavailable as error:
            return Busy(str(error))
        except TooBig as error:
            return TooLarge(str(error))
        except BadItem as error:
            return Rejected(str(error))

    # ------------------------------------------------------------------------------------------------ what it holds

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Read rows, all of one moment; None for an absent one."""
        tail = f"FROM {quoted(generation.label)} WHERE view = ? AND key"

        def work(connection: sqlite3.Connection) -> dict[RowKey, StoredRow | None]:
            rows: dict[RowKey, StoredRow | None] = dict.fromkeys(keys)
            for view, wanted in by_view(rows).items():
                for key, *columns in find_many(connection, "key, attributes, v, src, seq", tail, (view,), wanted):
                    rows[RowKey(view, key)] = stored_row(*columns)
            return rows

        return await self._look(work)

    async def find_markers(self, generation: Generation, event_ids: Collection[str]) -> Mapping[str, bytes]:
        """Return the payload digests (16 bytes) of those ids that are marked."""
        wanted = list(event_ids)
        return await self._look(lambda connection: self._committing.markers(connection, generation.label, wanted))

    async def load_segments(self, scope: Scope, max_ids: int) -> Sequence[StoredSegment]:
        """Return the newest packed segments that together hold at least `max_ids` ids (or all), oldest first."""
        select = (
            f"SELECT number, entries, commit_seq FROM {self._tables.segments} WHERE {_SCOPE_IS} ORDER BY number DESC"
        )

        def work(connection: sqlite3.Connection) -> list[StoredSegment]:
            segments: list[StoredSegment] = []
            missing = max_ids * ENTRY_BYTES
            cursor = connection.execute(select, scope)
            while missing > 0 and (row := cursor.fetchone()) is not None:
                segments.append(StoredSegment(*row))
                missing -= len(segments[-1].entries)
            cursor.close()
            return segments[::-1]

        return await self._look(work)

    async def parked_keys(self, scope: Scope) -> Collection[str]:
        """Return the keys that are parked."""
        select = f"SELECT DISTINCT key FROM {self._tables.parked} WHERE {_SCOPE_IS}"
        return await self._look(lambda connection: {key for (key,) in connection.execute(select, scope)})

    async def parked_events(self, scope: Scope, key: str, limit: int) -> Sequence[ParkedEvent]:
        """Return up to `limit` events that queue behind a parked key, in position order."""
        select = (
            f"SELECT {PARKED_COLUMNS} FROM {self._tables.parked} WHERE {_SCOPE_IS} AND key = ? "
            "ORDER BY place, rowid LIMIT ?"
        )
        return await self._watch(
            lambda connection: [parked_of(row) for row in connection.execute(select, (*scope, key, limit))]
        )

    async def dead_letters(self, scope: Scope, limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` dead letters, in position order."""
        select = (
            f"SELECT {DEAD_LETTER_COLUMNS} FROM {self._tables.dead_letters} WHERE {_SCOPE_IS} "
            "ORDER BY place, rowid LIMIT ?"
        )
        return await self._watch(
            lambda connection: [dead_letter_of(row) for row in connection.execute(select, (*scope, limit))]
        )

    async def waiting(self, scope: Scope) -> Waiting:
        """Read what waits to be applied, of one moment, without payloads."""
        return await self._watch(lambda connection: self._committing.waiting.read(connection, scope))

    async def find_letters(self, scope: Scope, refs: Collection[LetterRef]) -> Sequence[DeadLetter]:
        """Return those of these dead letters that are there, in position order."""
        return await self._watch(lambda connection: self._committing.waiting.letters(connection, scope, refs))

    async def wish(self, scope: Scope, refs: Collection[LetterRef | ParkedRef], wish: Wish | None) -> int:
        """Note a wish on entries, all together. Returns how many are there."""
        return await self._write(lambda connection: self._committing.waiting.wish(connection, scope, refs, wish))

    async def standing(self, generation: Generation) -> Standing:
        """Read where a generation's operations stand."""
        return await self._watch(lambda connection: self._committing.operations.standing(connection, generation))

    async def accept(self, operation: Operation, after: Standing) -> Operation | None:
        """Write an operation and the standing after it, where it is the next one."""
        held = self._committing.operations
        return await self._write(lambda connection: held.accept(connection, operation, after), urgent=True)

    async def requested(self, generation: Generation, request: str) -> Operation | None:
        """Return the operation that a request became."""
        held = self._committing.operations
        return await self._watch(lambda connection: held.requested(connection, generation, request))

    async def operations(self, generation: Generation, after: int, limit: int) -> Sequence[Operation]:
        """Return later operations, oldest first."""
        held = self._committing.operations
        return await self._watch(lambda connection: held.later(connection, generation, after, limit))

    async def outcomes(self, generation: Generation, sequence: int) -> Sequence[ShardOutcome]:
        """Return what shards made of an operation."""
        return await self._watch(lambda connection: self._committing.operations.noted(connection, generation, sequence))

    async def effects(self, generation: Generation, limit: int) -> Sequence[Effect]:
        """Return up to `limit` effects that wait to be relayed, in commit order."""
        select = (
            f"SELECT {EFFECT_COLUMNS} FROM {self._tables.effects} WHERE projection = ? AND generation = ? "
            "ORDER BY seq LIMIT ?"
        )
        return await self._watch(
            lambda connection: [effect_of(row) for row in connection.execute(select, (*generation, limit))]
        )

    # ------------------------------------------------------------------------------------------------ replicas

    async def announce(self, presence: Presence) -> None:
        """Keep a replica's presence."""
        replace = f"INSERT OR REPLACE INTO {self._tables.replicas} (replica, beat, runs) VALUES (?, ?, ?)"
        row = (presence.replica, presence.beat, "\n".join(presence.runs))
        await self._write(lambda connection: connection.execute(replace, row))

    async def presences(self) -> Mapping[str, Presence]:
        """Read every replica's presence."""
        select = f"SELECT replica, beat, runs FROM {self._tables.replicas}"
        return await self._watch(
            lambda connection: {
                replica: Presence(replica, beat, tuple(runs.split("\n")) if runs else ())
                for replica, beat, runs in connection.execute(select)
            }
        )

    async def forget(self, replica: str) -> None:
        """Remove a replica's presence."""
        delete = f"DELETE FROM {self._tables.replicas} WHERE replica = ?"
        await self._write(lambda connection: connection.execute(delete, (replica,)))

    async def expire(self, now_seconds: int) -> int:
        """Remove markers, rows and tombstones whose time has come, in small transactions. Returns the count."""
        markers = self._tables.markers
        due = f"SELECT generation, event_id FROM {markers} WHERE expires_at <= ? LIMIT {_EXPIRE_BLOCK}"
        removals = [f"DELETE FROM {markers} WHERE (generation, event_id) IN ({due})"]
        tables = f"SELECT projection, number FROM {self._tables.generations}"
        for projection, number in await self._look(lambda connection: connection.execute(tables).fetchall()):
            rows = quoted(Generation(projection, number).label)
            removals.append(
                f"DELETE FROM {rows} WHERE rowid IN (SELECT rowid FROM {rows} WHERE expires <= ? LIMIT {_EXPIRE_BLOCK})"
            )
        total = 0
        for removal in removals:
            removed = _EXPIRE_BLOCK
            while removed == _EXPIRE_BLOCK:
                removed = await self._write(_counting(removal, now_seconds))
                total += removed
        return total


def _counting(statement: str, now_seconds: int) -> Work:
    return lambda connection: connection.execute(statement, (now_seconds,)).rowcount
