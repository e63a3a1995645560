"""A file of an earlier schema version is upgraded as it is opened, and keeps what it holds."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.identity import RowKey
from daemon.stores.sqlite_schema import SCHEMA_VERSION, Tables, quoted

pytestmark = pytest.mark.anyio


async def test_columns_that_came_later_are_added(opened: Any, kit: Any, path: Path) -> None:
    """A file without the later columns and tables is opened, read and written as a new one is; its rows stay."""
    scope = kit.scope()
    async with opened() as store:
        await store.create_generation(kit.generation, 1, live=True)
        held = await store.take(scope, "me", Checkpoint())
        await store.commit(kit.commit(held, "c1", kit.put("k", 1)), 1)
    tables = Tables("projectiond")
    with closing(sqlite3.connect(path)) as old:
        for table, column, _ in tables.later_columns():
            old.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        old.execute(f"DROP TABLE {quoted('projectiond-skipped')}")
        old.execute("PRAGMA user_version = 2")
        old.commit()
    async with opened() as store:
        found = await store.read_checkpoint(scope)
        assert (found.commit_id, found.redelivery) == ("c1", None)
        rows = await store.load_rows(kit.generation, [RowKey("main", "k")])
        assert rows[RowKey("main", "k")].attributes == {"value": 1}
        waiting = await store.waiting(scope)
        assert not [*waiting.letters, *waiting.parked, *waiting.skipped]
        after = await store.take(scope, "you", Checkpoint())
        assert after.epoch == found.epoch + 1
    with closing(sqlite3.connect(path)) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
