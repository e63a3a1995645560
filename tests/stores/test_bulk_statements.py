"""Statements that write many rows at once write what as many single ones would."""

import sqlite3
from collections.abc import Generator
from contextlib import closing

import pytest

from daemon.stores.sqlite_codec import insert_many, update_many

SIZES = (0, 1, 2, 8, 9, 63, 64, 65, 511, 512, 513, 1_300)
UPDATE = "UPDATE t SET value = new.column1, other = coalesce(new.column2, other)"
STANDS = "key = new.column3 AND v = new.column4"


@pytest.fixture
def connection() -> Generator[sqlite3.Connection]:
    """A table of 1,300 rows."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE t (key TEXT NOT NULL, value TEXT, other INTEGER, v INTEGER, PRIMARY KEY (key))"
        )
        rows = [(f"k{number}", "old", 7, number % 3) for number in range(1_300)]
        assert insert_many(connection, "INSERT INTO t (key, value, other, v)", rows) == 1_300
        yield connection


@pytest.mark.parametrize("size", SIZES)
def test_as_many_rows_are_inserted_as_are_new(connection: sqlite3.Connection, size: int) -> None:
    """Rows that are there already are left as they are, and not counted."""
    rows = [(f"k{number}", "new", None, 0) for number in range(1_290, 1_290 + size)]
    there = min(size, 10)
    assert insert_many(connection, "INSERT OR IGNORE INTO t (key, value, other, v)", rows) == size - there
    assert connection.execute("SELECT count(*) FROM t WHERE value = 'new'").fetchone() == (size - there,)


@pytest.mark.parametrize("size", SIZES)
def test_rows_are_changed_where_they_stand_as_expected(connection: sqlite3.Connection, size: int) -> None:
    """Each row gets its own values; one that stands otherwise, or is absent, is neither changed nor counted."""
    rows = [(f"new{number}", None if number % 2 else 8, f"k{number}", number % 3) for number in range(size)]
    if size > 1:
        rows[0] = ("moved", 8, "k0", 2)
        rows[1] = ("absent", 8, "nowhere", 0)
    expected = size if size < 2 else size - 2
    assert update_many(connection, UPDATE, STANDS, rows) == expected
    found = connection.execute("SELECT key, value, other FROM t WHERE value <> 'old'").fetchall()
    assert sorted(found) == sorted((key, value, other or 7) for value, other, key, _ in rows if value[:3] == "new")


def test_a_row_is_found_by_its_key_and_not_by_a_search_through_the_table(connection: sqlite3.Connection) -> None:
    """The planner looks each row up: a table of millions costs what a small one does."""
    plan = connection.execute(
        f"EXPLAIN QUERY PLAN {UPDATE} FROM (VALUES (?,?,?,?),(?,?,?,?)) AS new WHERE {STANDS}", [None] * 8
    ).fetchall()
    assert any("SEARCH t USING" in step[-1] and "key=?" in step[-1] for step in plan), plan
