"""One commit as SQL: the checkpoint's condition first, then markers, rows, and what only is added.

Runs inside a savepoint that its caller opens and, on `Undo`, rolls back. Must not know threads, transactions or files.

Invariants: the optimistic path writes with the conditions inside the statements and compares counts; only when a count
is off, and after everything was rolled back, does it ask which item it was, so that the answer names all of them. A
marker or row whose time has come but that was not removed yet still exists.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from daemon.core.checkpoint import Checkpoint, Fence, check_over
from daemon.core.commit import Commit, Committed, Duplicate, Fenced, Outcome, Rejected, RowMoved
from daemon.core.errors import EventProblem
from daemon.core.events import DIGEST_BYTES
from daemon.core.identity import RowKey, Scope
from daemon.core.operations import check_seen
from daemon.core.rows import ABSENT, Expectation, RowWrite, WriteKind
from daemon.core.values import add_exact
from daemon.stores.sqlite_codec import (
    DEAD_LETTER_COLUMNS,
    EFFECT_COLUMNS,
    PARKED_COLUMNS,
    Params,
    checkpoint_of,
    checkpoint_params,
    dead_letter_params,
    effect_params,
    find_many,
    insert_many,
    parked_params,
    text_of,
    update_many,
)
from daemon.stores.sqlite_operations import Operations
from daemon.stores.sqlite_schema import CHECKPOINT_COLUMNS, SCOPE_COLUMNS, Tables, quoted
from daemon.stores.sqlite_waiting import WaitingEntries
from daemon.wire.exact_json import loads_row

_COMMITTED = Committed()
_SCOPE_IS = " AND ".join(f"{name} = ?" for name in SCOPE_COLUMNS)


class Undo(Exception):
    """Roll back this job, then answer with what `diagnose` finds."""

    def __init__(self, diagnose: Callable[[sqlite3.Connection], Outcome]) -> None:
        """Keep how to tell what was in the way."""
        super().__init__()
        self.diagnose = diagnose


class Committing:
    """The statements of commits, for one prefix."""

    def __init__(self, tables: Tables) -> None:
        """Build each statement once, so that the driver's cache of prepared ones finds it."""
        self._tables = tables
        self.waiting = WaitingEntries(tables)
        self.operations = Operations(tables)
        assignments = ", ".join(f"{name} = ?" for name in CHECKPOINT_COLUMNS)
        self._advance = (
            f"UPDATE {tables.checkpoints} SET {assignments} WHERE {_SCOPE_IS} AND epoch = ? AND commit_seq = ?"
        )
        columns = ", ".join((*SCOPE_COLUMNS, *CHECKPOINT_COLUMNS))
        marks = ", ".join("?" * (len(SCOPE_COLUMNS) + len(CHECKPOINT_COLUMNS)))
        self._begin = f"INSERT INTO {tables.checkpoints} ({columns}) VALUES ({marks})"
        self._read = f"SELECT {', '.join(CHECKPOINT_COLUMNS)} FROM {tables.checkpoints} WHERE {_SCOPE_IS}"
        scope = ", ".join(SCOPE_COLUMNS)
        self._dead_letter = f"INSERT OR IGNORE INTO {tables.dead_letters} ({scope}, {DEAD_LETTER_COLUMNS})"
        self._parked = f"INSERT OR IGNORE INTO {tables.parked} ({scope}, {PARKED_COLUMNS})"
        self._effect = f"INSERT OR IGNORE INTO {tables.effects} (projection, generation, {EFFECT_COLUMNS})"
        self._marker = f"INSERT OR IGNORE INTO {tables.markers} (generation, event_id, digest, expires_at)"
        self._marked = f"FROM {tables.markers} WHERE generation = ? AND event_id"
        self._segment = f"INSERT OR REPLACE INTO {tables.segments} ({scope}, number, entries, commit_seq)"
        self._drop_segments = f"DELETE FROM {tables.segments} WHERE {_SCOPE_IS} AND number < ?"

    def checkpoint(self, connection: sqlite3.Connection, scope: Scope) -> Checkpoint | None:
        """Read one checkpoint."""
        row = connection.execute(self._read, scope).fetchone()
        return None if row is None else checkpoint_of(row)

    def take(
        self,
        connection: sqlite3.Connection,
        scope: Scope,
        owner: str,
        initial: Checkpoint,
        over: Fence | None,
        seen: int | None,
    ) -> Checkpoint:
        """Raise the epoch in the name of `owner`, once per owner, where it stands as was seen.

        Raises Superseded, OperationsMoved.
        """
        stands = self.checkpoint(connection, scope)
        if stands is not None and stands.owner == owner:
            return stands
        check_over(scope.label, stands, over)
        if seen is not None:
            check_seen(scope, self.operations.standing(connection, scope.of).sequence, seen)
        if stands is None:
            taken = initial.taken(owner)
            connection.execute(self._begin, (*scope, *checkpoint_params(taken)))
        else:
            taken = stands.taken(owner)
            connection.execute(self._advance, (*checkpoint_params(taken), *scope, *stands.fence))
        return taken

    def apply(self, connection: sqlite3.Connection, encoded: "Encoded") -> Outcome:
        """Write a commit. Raises Undo where something stands in its way."""
        commit = encoded.commit
        scope = commit.scope
        advanced = connection.execute(self._advance, (*checkpoint_params(commit.checkpoint), *scope, *commit.fence))
        if advanced.rowcount != 1:
            raise Undo(lambda again: self._fenced(again, commit))
        if commit.markers and insert_many(connection, self._marker, encoded.markers) != len(commit.markers):
            raise Undo(lambda again: self._duplicate(again, commit))
        size = sum([len(marker.event_id) for marker in commit.markers]) + len(commit.markers) * DIGEST_BYTES
        if commit.rows or commit.checks:
            size += _write_rows(connection, encoded)
        if commit.segment is not None:
            segment = commit.segment
            size += len(segment.entries)
            params = [(*scope, segment.number, segment.entries, commit.checkpoint.commit_seq)]
            insert_many(connection, self._segment, params)
            if segment.drop_below > 0:
                connection.execute(self._drop_segments, (*scope, segment.drop_below))
        self._append(connection, commit)
        return Committed(size=size)

    def _append(self, connection: sqlite3.Connection, commit: Commit) -> None:
        """Write what only is added or settled. Raises Undo."""
        scope = commit.scope
        if commit.dead_letters:
            insert_many(connection, self._dead_letter, dead_letter_params(scope, commit.dead_letters))
        if commit.parked:
            insert_many(connection, self._parked, parked_params(scope, commit.parked))
        if commit.settles and not self.waiting.settle(connection, scope, commit.settles):
            raise Undo(lambda again: self.waiting.unlisted(again, commit))
        if commit.skips:
            self.waiting.skip(connection, scope, commit.skips)
        if commit.outcomes:
            self.operations.note(connection, commit.outcomes)
        if commit.effects:
            insert_many(connection, self._effect, effect_params(scope, commit.effects))

    def _fenced(self, connection: sqlite3.Connection, commit: Commit) -> Outcome:
        stands = self.checkpoint(connection, commit.scope)
        if stands is not None and stands.commit_id == commit.commit_id:
            return _COMMITTED
        return Fenced(stands)

    def _duplicate(self, connection: sqlite3.Connection, commit: Commit) -> Outcome:
        existing = self.markers(connection, commit.scope.of.label, [marker.event_id for marker in commit.markers])
        if existing:
            return Duplicate(existing)
        return Rejected("one commit marks the same event id twice; drop the second event before folding")

    def markers(self, connection: sqlite3.Connection, label: str, event_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the payload digests of those ids that are marked in the generation called `label`."""
        found = find_many(connection, "event_id, hex(digest)", self._marked, (label,), event_ids)
        return {event_id: bytes.fromhex(digest) for event_id, digest in found}


# ---------------------------------------------------------------------------------------------------------- rows


class Encoded:
    """A commit, and its rows and markers as SQLite takes them once they are `encoded`: before anything is locked."""

    __slots__ = ("added", "changed", "commit", "expected", "gone", "made", "markers")

    def __init__(self, commit: Commit) -> None:
        """Encode nothing yet."""
        self.commit = commit
        self.made: list[Params] = []
        self.changed: list[Params] = []
        self.gone: list[Params] = []
        self.added: list[RowWrite] = []
        self.markers: list[Params] = []
        self.expected: dict[RowKey, Expectation] = {}

    def encode(self) -> None:
        """Encode: done on the thread that writes, and before it takes the lock that every other process waits for."""
        commit = self.commit
        label, expires_at = commit.scope.of.label, commit.markers_expire_at
        self.markers = [(label, event_id, digest, expires_at) for event_id, digest in commit.markers]
        self.expected = {check.key: check.expect for check in commit.checks}
        made, changed, gone, added = self.made, self.changed, self.gone, self.added = [], [], [], []
        for write in commit.rows:
            if write.kind is WriteKind.ADD:
                added.append(write)
                continue
            (view, key), expect = write.key, write.expect or ABSENT
            if write.kind is WriteKind.DELETE:
                if expect == ABSENT:
                    self.expected[write.key] = ABSENT
                else:
                    gone.append((key, view, *expect))
                continue
            attributes = None if write.attributes is None else text_of(write.attributes)
            sequences = None if write.sequences is None else text_of(write.sequences)
            if expect == ABSENT:
                made.append((key, view, attributes, 1, write.source, sequences, write.expires_at))
            else:
                after = (attributes, expect.version + 1, write.source, sequences, write.expires_at)
                changed.append((*after, key, view, *expect))


def _write_rows(connection: sqlite3.Connection, encoded: Encoded) -> int:
    """Write all rows under their conditions; return how long their texts are. Raises Undo where any moved."""
    commit, made, changed, gone = encoded.commit, encoded.made, encoded.changed, encoded.gone
    table = quoted(commit.scope.of.label)
    if encoded.expected and moved_rows(connection, table, encoded.expected):
        raise Undo(lambda again: _moved(again, table, commit))
    head = f"INSERT OR IGNORE INTO {table} (key, view, attributes, v, src, seq, expires)"
    update = (
        f"UPDATE {table} SET attributes = new.column1, v = new.column2, src = new.column3, "
        "seq = coalesce(new.column4, seq), expires = new.column5"
    )
    stands = "key = new.column6 AND view = new.column7 AND v = new.column8 AND src = new.column9"
    delete = f"DELETE FROM {table} WHERE key = ? AND view = ? AND v = ? AND src = ?"
    if (
        insert_many(connection, head, made) != len(made)
        or update_many(connection, update, stands, changed) != len(changed)
        or (gone and connection.executemany(delete, gone).rowcount != len(gone))
    ):
        raise Undo(lambda again: _moved(again, table, commit))
    size = _length(made, 2) + _length(changed, 0)
    return size + _add(connection, table, encoded.added) if encoded.added else size


def _length(rows: Sequence[Params], place: int) -> int:
    """Return how long the texts are that stand at one place of each row."""
    return sum([len(cast("str | None", row[place]) or "") for row in rows])


def _moved(connection: sqlite3.Connection, table: str, commit: Commit) -> Outcome:
    expected: dict[RowKey, Expectation] = {check.key: check.expect for check in commit.checks}
    expected.update({write.key: write.expect or ABSENT for write in commit.rows if write.kind is not WriteKind.ADD})
    moved = moved_rows(connection, table, expected)
    if moved:
        return RowMoved(moved)
    return Rejected("one commit writes the same row twice, or a row with a missing value; report this")


def moved_rows(connection: sqlite3.Connection, table: str, expected: Mapping[RowKey, Expectation]) -> frozenset[RowKey]:
    """Return the rows that are not what was expected of them."""
    found = {
        RowKey(view, key): Expectation(version, source)
        for view, keys in by_view(expected).items()
        for key, version, source in find_many(
            connection, "key, v, src", f"FROM {table} WHERE view = ? AND key", (view,), keys
        )
    }
    return frozenset(key for key, expect in expected.items() if found.get(key, ABSENT) != expect)


def by_view(keys: Iterable[RowKey]) -> dict[str, list[str]]:
    """Group row keys by view: one lookup finds many keys of one view."""
    groups: dict[str, list[str]] = {}
    for view, key in keys:
        groups.setdefault(view, []).append(key)
    return groups


def _add(connection: sqlite3.Connection, table: str, writes: Sequence[RowWrite]) -> int:
    """Add amounts onto whatever is there, exactly: read, add, write, under the transaction's lock.

    Returns how long the rows' texts are.
    """
    found: dict[tuple[str, str], tuple[str | None, int]] = {
        (view, key): (attributes, version)
        for view, keys in by_view(write.key for write in writes).items()
        for key, attributes, version in find_many(
            connection, "key, attributes, v", f"FROM {table} WHERE view = ? AND key", (view,), keys
        )
    }
    made: list[Params] = []
    changed: list[Params] = []
    for write in writes:
        attributes, version = found.get(write.key, (None, 0))
        total = {} if attributes is None else cast("dict[str, Any]", loads_row(attributes))
        try:
            for name, amount in (write.attributes or {}).items():
                total[name] = add_exact(total.get(name), amount, name)
        except EventProblem as problem:
            rejected = Rejected(f"row {write.key.view}/{write.key.key:.80}: {problem}")
            raise Undo(lambda _, rejected=rejected: rejected) from problem
        view, key = write.key
        if version:
            changed.append((text_of(total), version + 1, write.source, write.expires_at, key, view))
        else:
            made.append((key, view, text_of(total), 1, write.source, None, write.expires_at))
    insert_many(connection, f"INSERT INTO {table} (key, view, attributes, v, src, seq, expires)", made)
    update = f"UPDATE {table} SET attributes = new.column1, v = new.column2, src = new.column3, expires = new.column4"
    update_many(connection, update, "key = new.column5 AND view = new.column6", changed)
    return _length(made, 2) + _length(changed, 0)
