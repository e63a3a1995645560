"""The DynamoDB store against the one suite, on every server that is here. A server more is a parameter more."""

import pytest

from daemon.core.commit import MarkerWrite
from daemon.core.identity import RowKey
from daemon.core.rows import ABSENT, RowWrite, WriteKind
from daemon.ports.store import Store
from tests.contracts.store_contract import DIGEST, GENERATION, Connect, StoreContract, apply, begin, put
from tests.support.dynamodb import SERVERS, connecting, store_on

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("server", SERVERS)
class TestDynamoDbStore(StoreContract):
    @pytest.fixture
    def connect(self, server: str, request: pytest.FixtureRequest, table_prefix: str) -> Connect:
        reach = connecting(server, request)
        return lambda: store_on(reach, table_prefix)

    async def test_expiry_takes_what_is_due(self, store: Store) -> None:
        """DynamoDB removes what has expired by itself, days later: what is still there still counts."""
        goes, dead = RowKey("main", "goes"), RowKey("main", "dead")
        tombstone = RowWrite(dead, WriteKind.PUT, None, ABSENT, "s", {"log": 1}, 100)
        rows = (put(goes, ABSENT, "s", 100, a=1), tombstone)
        await apply(store, await begin(store), rows=rows, markers=(MarkerWrite("m1", DIGEST),), markers_expire_at=100)
        assert await store.expire(200) == 0
        assert await store.find_markers(GENERATION, ["m1"]) == {"m1": DIGEST}
        assert None not in (await store.load_rows(GENERATION, [goes, dead])).values()
