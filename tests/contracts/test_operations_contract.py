"""Every Store against the one suite about operations."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from daemon.stores.sqlite import SqliteStore
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.contracts.operations_contract import OperationsContract
from tests.contracts.store_contract import Connect
from tests.support.dynamodb import BILL, SERVERS, bill, connecting, store_on, visiting

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
def bill_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Says what the tests cost on servers that are somebody's own."""
    yield
    if BILL:
        tell(bill())


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
    async def connect(self, server: str, request: pytest.FixtureRequest, table_prefix: str) -> AsyncIterator[Connect]:
        async with visiting(server, connecting(server, request), table_prefix) as reach:
            yield lambda: store_on(reach, table_prefix)
