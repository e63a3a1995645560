"""What one writes by hand, once, for one projection: the straight loop that the daemon is compared with.

Parses each line, folds `projections.punctuality` into dicts, and every 2,000 lines writes the changed rows, a
checkpoint and one packed segment of markers (16-byte digest of the id, 4-byte digest of the canonical payload) in one
transaction, into the same tables, with the same durability. It trusts its input: no validation, no dead letters, no
fencing, no restart.
"""

import sqlite3
from contextlib import closing
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from daemon.core.identity import Generation
from daemon.stores.sqlite_schema import Tables, create, quoted, rows_statements
from tests.benchmarks.daemons import Spent, Stopwatch

BATCH = 2_000
LATE = 15
GENERATION = Generation("punctuality", 1)
_TABLES = Tables("projectiond")
_SCOPE = (*GENERATION, "flights", "log.jsonl")


def fold_by_hand(log: Path, database: Path) -> Spent:
    """Fold a log into a new database; spent is what the loop used."""
    with closing(sqlite3.connect(database, autocommit=True)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 8192")
        create(connection, database, _TABLES)
        for statement in rows_statements(GENERATION, ()):
            connection.execute(statement)
        watch = Stopwatch()
        _loop(log, connection)
        return watch.read()


def _loop(log: Path, connection: sqlite3.Connection) -> None:
    loads, dumps, digest_of, sort = orjson.loads, orjson.dumps, blake2b, orjson.OPT_SORT_KEYS
    rows: dict[str, dict[str, Any]] = {}
    changed: set[str] = set()
    known: dict[bytes, bytes] = {}
    marks: list[bytes] = []
    position = number = segment = 0
    with log.open("rb") as lines:
        for line in lines:
            number += 1
            position += len(line)
            fields = loads(line)
            data = fields["data"]
            mark = digest_of(fields["id"].encode(), digest_size=16).digest()
            payload = digest_of(dumps(data, option=sort), digest_size=16).digest()[:4]
            if mark in known:
                assert known[mark] == payload
            else:
                known[mark] = payload
                marks.append(mark + payload)
                key = f"{data['carrier']}#{data['month']}"
                row = rows.get(key)
                if row is None:
                    row = rows[key] = {}
                changed.add(key)
                kind = fields["type"]
                if kind == "FlightScheduled":
                    row["scheduled"] = row.get("scheduled", 0) + 1
                    row["fares"] = row.get("fares", 0) + Decimal(repr(data["fare"]))
                elif kind == "FlightDeparted":
                    delay = data["dep_delay"] or 0
                    row["departed"] = row.get("departed", 0) + 1
                    row["dep_delay_minutes"] = row.get("dep_delay_minutes", 0) + delay
                    row["late_departures"] = row.get("late_departures", 0) + (1 if delay > LATE else 0)
                elif kind == "FlightLanded":
                    delay = data["arr_delay"] or 0
                    row["landed"] = row.get("landed", 0) + 1
                    row["arr_delay_minutes"] = row.get("arr_delay_minutes", 0) + delay
                    row["late_arrivals"] = row.get("late_arrivals", 0) + (1 if delay > LATE else 0)
                elif kind == "FlightCancelled":
                    row["cancelled"] = row.get("cancelled", 0) + 1
                elif kind == "FlightDiverted":
                    row["diverted"] = row.get("diverted", 0) + 1
            if number % BATCH == 0:
                segment += 1
                _write(connection, {key: rows[key] for key in changed}, position, segment, b"".join(marks))
                changed.clear()
                marks.clear()
    _write(connection, {key: rows[key] for key in changed}, position, segment + 1, b"".join(marks))


def _write(
    connection: sqlite3.Connection, rows: dict[str, dict[str, Any]], position: int, segment: int, marks: bytes
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        f"INSERT INTO {quoted(GENERATION.label)} (key, view, attributes, v, src) VALUES (?, 'main', ?, 1, ?) "
        "ON CONFLICT DO UPDATE SET attributes = excluded.attributes, v = v + 1, src = excluded.src",
        [
            (key, orjson.dumps(row, default=_exact).decode(), f"flights/log.jsonl@{position}#")
            for key, row in rows.items()
        ],
    )
    connection.execute(
        f"INSERT OR REPLACE INTO {_TABLES.segments} VALUES (?, ?, ?, ?, ?, ?, ?)", (*_SCOPE, segment, marks, segment)
    )
    connection.execute(
        f"INSERT OR REPLACE INTO {_TABLES.checkpoints} (projection, generation, source, shard, position, origin, "
        "epoch, commit_seq, commit_id, state, caught_up, segment, segment_seq, parked_seq, dead_run, operation_seq, "
        "code_digest, counters) VALUES (?, ?, ?, ?, ?, '', 1, ?, '', 'running', 0, ?, ?, 0, 0, 0, '', '{}')",
        (*_SCOPE, str(position), segment, segment, segment),
    )
    connection.execute("COMMIT")


def _exact(number: Any) -> orjson.Fragment:
    return orjson.Fragment(str(number))
