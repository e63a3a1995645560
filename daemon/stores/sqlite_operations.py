"""Operations as SQL: standings, accepted operations, and what shards made of them.

Owns their statements. Must not know threads or transactions: every function runs inside a caller's.

Invariant: an operation and the standing after it are written together, and only as the next one of its generation.
"""

import sqlite3
from collections.abc import Iterable, Sequence

import orjson

from daemon.core.identity import Generation
from daemon.core.operations import (
    Operation,
    ShardOutcome,
    Standing,
    operation_of,
    operation_values,
    outcome_values,
    shard_outcome_of,
    standing_of,
    standing_values,
)
from daemon.stores.sqlite_codec import all_at_once
from daemon.stores.sqlite_schema import Tables

_OF = "projection = ? AND generation = ?"


class Operations:
    """The statements about operations, for one prefix."""

    def __init__(self, tables: Tables) -> None:
        """Build each statement once."""
        self._standing = f"SELECT form FROM {tables.standings} WHERE {_OF}"
        self._stand = f"INSERT OR REPLACE INTO {tables.standings} (projection, generation, form) VALUES (?, ?, ?)"
        self._insert = (
            f"INSERT INTO {tables.operations} (projection, generation, sequence, request, form) VALUES (?, ?, ?, ?, ?)"
        )
        self._requested = f"SELECT form FROM {tables.operations} WHERE {_OF} AND request = ?"
        self._later = f"SELECT form FROM {tables.operations} WHERE {_OF} AND sequence > ? ORDER BY sequence LIMIT ?"
        self._note = (
            f"INSERT OR REPLACE INTO {tables.outcomes} (projection, generation, sequence, source, shard, form) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        self._noted = f"SELECT form FROM {tables.outcomes} WHERE {_OF} AND sequence = ? ORDER BY source, shard"

    def standing(self, connection: sqlite3.Connection, generation: Generation) -> Standing:
        """Read a generation's standing."""
        row = connection.execute(self._standing, generation).fetchone()
        return Standing() if row is None else standing_of(orjson.loads(row[0]))

    def accept(self, connection: sqlite3.Connection, operation: Operation, after: Standing) -> Operation | None:
        """Write an operation where it is the next one and its request is new."""
        generation = operation.generation
        known = self.requested(connection, generation, operation.request)
        if known is not None:
            return known
        if operation.sequence != self.standing(connection, generation).sequence + 1:
            return None
        form = orjson.dumps(operation_values(operation)).decode()
        connection.execute(self._insert, (*generation, operation.sequence, operation.request, form))
        connection.execute(self._stand, (*generation, orjson.dumps(standing_values(after)).decode()))
        return operation

    def requested(self, connection: sqlite3.Connection, generation: Generation, request: str) -> Operation | None:
        """Read the operation that a request became."""
        row = connection.execute(self._requested, (*generation, request)).fetchone()
        return None if row is None else operation_of(generation, orjson.loads(row[0]))

    def later(
        self, connection: sqlite3.Connection, generation: Generation, after: int, limit: int
    ) -> Sequence[Operation]:
        """Read operations after a sequence, oldest first."""
        rows = connection.execute(self._later, (*generation, after, limit))
        return [operation_of(generation, orjson.loads(form)) for (form,) in rows]

    def note(self, connection: sqlite3.Connection, outcomes: Iterable[ShardOutcome]) -> None:
        """Write outcomes down, in place of earlier ones of the same operation and shard."""
        for outcome in outcomes:
            form = orjson.dumps(outcome_values(outcome)).decode()
            scope = outcome.scope
            connection.execute(self._note, (*scope.of, outcome.sequence, scope.source, scope.shard, form))

    def noted(self, connection: sqlite3.Connection, generation: Generation, sequence: int) -> Sequence[ShardOutcome]:
        """Read the outcomes of one operation."""
        rows = all_at_once(connection, self._noted, (*generation, sequence), "form")
        return [shard_outcome_of(generation, orjson.loads(form)) for (form,) in rows]
