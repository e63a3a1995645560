"""What waits to be applied, as SQL: read without payloads, wished for, removed and amended.

Owns the statements over dead letters, parked events and skipped ranges that are not plain inserts. Must not know
threads, transactions or what a wish comes to.
"""

import sqlite3
from collections.abc import Collection, Iterable
from datetime import datetime

from daemon.core.commit import Commit, DeadLetter, Outcome, Rejected, Unlisted
from daemon.core.identity import Scope
from daemon.core.positions import parse_position, position_text
from daemon.core.waiting import (
    LetterNote,
    LetterRef,
    ParkedNote,
    ParkedRef,
    Ref,
    Settle,
    SkippedRange,
    Waiting,
    Wish,
)
from daemon.stores.sqlite_codec import DEAD_LETTER_COLUMNS, Params, dead_letter_of, insert_many, place, wish_of
from daemon.stores.sqlite_schema import SCOPE_COLUMNS, Tables

_SCOPE_IS = " AND ".join(f"{name} = ?" for name in SCOPE_COLUMNS)


class WaitingEntries:
    """The statements, for one prefix."""

    def __init__(self, tables: Tables) -> None:
        """Remember the tables' names."""
        self._tables = tables

    def read(self, connection: sqlite3.Connection, scope: Scope) -> Waiting:
        """Read what waits in one scope, without payloads."""
        letters = connection.execute(
            f"SELECT position, event_id, key, reason, handler, at, wish FROM {self._tables.dead_letters} "
            f"WHERE {_SCOPE_IS} ORDER BY place, event_id",
            scope,
        )
        parked = connection.execute(
            f"SELECT key, position, event_id, reason, at, wish FROM {self._tables.parked} "
            f"WHERE {_SCOPE_IS} ORDER BY key, place, event_id",
            scope,
        )
        skipped = connection.execute(
            f"SELECT after, through, at, note, counted FROM {self._tables.skipped} WHERE {_SCOPE_IS} ORDER BY place",
            scope,
        )
        return Waiting(
            [
                LetterNote(
                    parse_position(position), event_id, key, reason, handler, datetime.fromisoformat(at), wish_of(wish)
                )
                for position, event_id, key, reason, handler, at, wish in letters
            ],
            [
                ParkedNote(key, parse_position(position), event_id, reason, datetime.fromisoformat(at), wish_of(wish))
                for key, position, event_id, reason, at, wish in parked
            ],
            [
                SkippedRange(
                    parse_position(after), parse_position(through), datetime.fromisoformat(at), note, bool(counted)
                )
                for after, through, at, note, counted in skipped
            ],
        )

    def letters(self, connection: sqlite3.Connection, scope: Scope, refs: Iterable[LetterRef]) -> list[DeadLetter]:
        """Read whole dead letters, in position order."""
        select = (
            f"SELECT {DEAD_LETTER_COLUMNS} FROM {self._tables.dead_letters} "
            f"WHERE {_SCOPE_IS} AND place = ? AND event_id = ?"
        )
        rows = [connection.execute(select, (*scope, place(ref.position), ref.event_id)).fetchone() for ref in refs]
        found = [dead_letter_of(row) for row in rows if row is not None]
        return sorted(found, key=lambda letter: letter.ref)

    def wish(
        self,
        connection: sqlite3.Connection,
        scope: Scope,
        refs: Collection[LetterRef | ParkedRef],
        wish: Wish | None,
    ) -> int:
        """Note a wish on entries; return how many are there."""
        found = 0
        for ref in refs:
            table, where, params = self._named(scope, ref)
            found += connection.execute(f"UPDATE {table} SET wish = ? WHERE {where}", (wish, *params)).rowcount
        return found

    def settle(self, connection: sqlite3.Connection, scope: Scope, settles: Iterable[Settle]) -> bool:
        """Remove or amend entries; False where one is not there."""
        whole = True
        for settle in settles:
            table, where, params = self._named(scope, settle.ref)
            keep = settle.keep
            if keep is None:
                changed = connection.execute(f"DELETE FROM {table} WHERE {where}", params)
            else:
                values: Params = (keep.reason, keep.detail, keep.wish)
                columns = "reason = ?, detail = ?, wish = ?"
                if isinstance(settle.ref, LetterRef):
                    values, columns = (*values, keep.handler), f"{columns}, handler = ?"
                changed = connection.execute(f"UPDATE {table} SET {columns} WHERE {where}", (*values, *params))
            whole = whole and changed.rowcount == 1
        return whole

    def skip(self, connection: sqlite3.Connection, scope: Scope, ranges: Iterable[SkippedRange]) -> None:
        """Write skipped ranges, each in place of one that ends where it does."""
        columns = ", ".join((*SCOPE_COLUMNS, "place", "after", "through", "at", "note", "counted"))
        insert = f"INSERT OR REPLACE INTO {self._tables.skipped} ({columns})"
        params: list[Params] = [
            (
                *scope,
                place(one.through),
                position_text(one.after),
                position_text(one.through),
                one.at.isoformat(),
                one.note,
                int(one.counted),
            )
            for one in ranges
        ]
        insert_many(connection, insert, params)

    def unlisted(self, connection: sqlite3.Connection, commit: Commit) -> Outcome:
        """Tell which entries of a commit are not there."""
        gone: set[Ref] = set()
        for settle in commit.settles:
            table, where, params = self._named(commit.scope, settle.ref)
            if connection.execute(f"SELECT 1 FROM {table} WHERE {where}", params).fetchone() is None:
                gone.add(settle.ref)
        if gone:
            return Unlisted(frozenset(gone))
        return Rejected("one commit settles the same waiting entry twice; report this")

    def _named(self, scope: Scope, ref: Ref) -> tuple[str, str, Params]:
        """Return an entry's table, the condition that finds it, and its parameters."""
        if isinstance(ref, LetterRef):
            where = f"{_SCOPE_IS} AND place = ? AND event_id = ?"
            return self._tables.dead_letters, where, (*scope, place(ref.position), ref.event_id)
        if isinstance(ref, ParkedRef):
            where = f"{_SCOPE_IS} AND key = ? AND place = ? AND event_id = ?"
            return self._tables.parked, where, (*scope, ref.key, place(ref.position), ref.event_id)
        return self._tables.skipped, f"{_SCOPE_IS} AND place = ?", (*scope, place(ref.through))
