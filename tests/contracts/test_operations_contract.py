"""Every Store against the one suite about operations."""

from pathlib import Path

import pytest

from daemon.stores.sqlite import SqliteStore
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.contracts.operations_contract import OperationsContract
from tests.contracts.store_contract import Connect
from tests.support.dynamodb import SERVERS, connecting, store_on

pytestmark = pytest.mark.anyio


class TestMemoryStore(OperationsContract):
    @pytest.fixture
    def connect(self) -> Connect:
        data = MemoryData()
        return lambda: MemoryStore(data)


class TestSqliteStore(OperationsContract):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: SqliteStore(tmp_path / "contract.db")


@pytest.mark.parametrize("server", SERVERS)
class TestDynamoDbStore(OperationsContract):
    @pytest.fixture
    def connect(self, server: str, request: pytest.FixtureRequest, table_prefix: str) -> Connect:
        reach = connecting(server, request)
        return lambda: store_on(reach, table_prefix)
