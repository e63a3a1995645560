"""The DynamoDB store against the one suite, on every server that is here. A server more is a parameter more."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from daemon.core.commit import MarkerWrite
from daemon.core.identity import RowKey
from daemon.core.rows import ABSENT, RowWrite, WriteKind
from daemon.ports.store import Store
from tests.contracts.store_contract import DIGEST, GENERATION, Connect, StoreContract, apply, begin, put
from tests.support.dynamodb import BILL, SERVERS, bill, connecting, store_on, visiting

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
def bill_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Says what the tests cost on servers that are somebody's own."""
    yield
    if BILL:
        tell(bill())


KNOWN_WRONG = {
    ("ministack", "test_add_is_exact"): "sums are made as floats; AWS, dynoxide and the strict server keep 38 digits",
}
"""Where one server alone is known to differ from AWS, and how."""


@pytest.mark.parametrize("server", SERVERS)
class TestDynamoDbStore(StoreContract):
    @pytest.fixture
    async def connect(self, server: str, request: pytest.FixtureRequest, table_prefix: str) -> AsyncIterator[Connect]:
        async with visiting(server, connecting(server, request), table_prefix) as reach:
            yield lambda: store_on(reach, table_prefix)

    @pytest.fixture(autouse=True)
    def known_wrong(self, server: str, request: pytest.FixtureRequest) -> None:
        reason = KNOWN_WRONG.get((server, request.node.originalname))
        if reason is not None:
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    async def test_expiry_takes_what_is_due(self, store: Store) -> None:
        """DynamoDB removes what has expired by itself, days later: what is still there still counts."""
        goes, dead = RowKey("main", "goes"), RowKey("main", "dead")
        tombstone = RowWrite(dead, WriteKind.PUT, None, ABSENT, "s", {"log": 1}, 100)
        rows = (put(goes, ABSENT, "s", 100, a=1), tombstone)
        await apply(store, await begin(store), rows=rows, markers=(MarkerWrite("m1", DIGEST),), markers_expire_at=100)
        assert await store.expire(200) == 0
        assert await store.find_markers(GENERATION, ["m1"]) == {"m1": DIGEST}
        assert None not in (await store.load_rows(GENERATION, [goes, dead])).values()
