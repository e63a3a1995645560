"""Every Store against the one suite. An adapter adds a class with a `connect` fixture."""

from pathlib import Path

import pytest

from daemon.stores.sqlite import SqliteStore
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.contracts.store_contract import Connect, StoreContract

pytestmark = pytest.mark.anyio


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def connect(self) -> Connect:
        data = MemoryData()
        return lambda: MemoryStore(data)


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: SqliteStore(tmp_path / "contract.db")
