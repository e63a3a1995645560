"""The DynamoDB store against the one suite, on every server that is here. A server more is a parameter more."""

from collections.abc import Iterator

import pytest

from daemon.core.commit import MarkerWrite
from daemon.core.identity import RowKey
from daemon.core.rows import ABSENT, RowWrite, WriteKind
from daemon.ports.store import Store
from tests.contracts.store_contract import DIGEST, GENERATION, Connect, StoreContract, apply, begin, put
from tests.support.dynamodb import SERVERS, fresh_prefix, store_on

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=sorted(SERVERS))
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of one server, started for this file."""
    with SERVERS[request.param]() as server:
        yield server.endpoint


class TestDynamoDbStore(StoreContract):
    @pytest.fixture
    def connect(self, endpoint: str) -> Connect:
        prefix = fresh_prefix()
        return lambda: store_on(endpoint, prefix)

    async def test_expiry_takes_what_is_due(self, store: Store) -> None:
        """DynamoDB removes what has expired by itself, days later: what is still there still counts."""
        goes = RowKey("main", "goes")
        rows = (
            put(goes, ABSENT, "s", 100, a=1),
            RowWrite(RowKey("main", "dead"), WriteKind.PUT, None, ABSENT, "s", {"log": 1}, 100),
        )
        await apply(store, await begin(store), rows=rows, markers=(MarkerWrite("m1", DIGEST),), markers_expire_at=100)
        assert await store.expire(200) == 0
        assert await store.find_markers(GENERATION, ["m1"]) == {"m1": DIGEST}
