"""Stores that actors run on: in memory, SQLite, and DynamoDB's adapter over the strict server in this process."""

from pathlib import Path

import pytest

from daemon.ports.store import Store
from daemon.stores.sqlite import SqliteStore
from daemon.testing.dynamodb import StrictDynamoDb
from daemon.testing.memory_store import MemoryStore
from tests.support.dynamodb import inside, store_on


@pytest.fixture(params=["memory", "sqlite", "dynamodb"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store that is not open yet."""
    match request.param:
        case "sqlite":
            return SqliteStore(tmp_path / "rows.sqlite")
        case "dynamodb":
            return store_on(inside(StrictDynamoDb()), "again")
        case _:
            return MemoryStore()
