"""Each right that is missing is told by name: the strict server refuses what a role may not do."""

from typing import cast

import pytest

from daemon.core.errors import StoreUnavailable
from daemon.core.identity import Generation
from daemon.ports.clock import Clock
from daemon.stores.dynamodb import DynamoDbStore
from daemon.stores.dynamodb.rights import ACTIONS
from daemon.testing.clock import VirtualClock
from daemon.testing.dynamodb import AnswerWith, Call, Fault, Refuse, StrictDynamoDb, Throttle
from tests.support.dynamodb import inside, store_on

pytestmark = pytest.mark.anyio

ORDERS = Generation("orders", 1)
NAMES = {"state": "pre-state", "markers": "pre-markers", "effects": "pre-effects", "rows": "pre-orders-g1"}
EVERY = [(kind, action) for kind, actions in ACTIONS.items() for action in actions]


@pytest.fixture
def server() -> StrictDynamoDb:
    """A server on a clock that moves by sleeping."""
    return StrictDynamoDb(clock=VirtualClock())


async def made(server: StrictDynamoDb) -> DynamoDbStore:
    """A store, unopened, whose tables are there."""
    store = store_on(inside(server), "pre", cast("Clock", server.clock))
    await store.establish({ORDERS: ()})
    return store


def deny(server: StrictDynamoDb, operation: str, table: str) -> None:
    """Refuse an operation on a table from now on."""

    def meant(call: Call) -> bool:
        return f"'{table}'" in str(call.body)

    message = f"not authorized to perform: dynamodb:{operation}"
    server.faults.add(Fault(AnswerWith("AccessDeniedException", message), operation, meant, times=None))


async def test_whoever_may_do_everything_lacks_nothing(server: StrictDynamoDb) -> None:
    """With every right nothing is missing, and the tables are as empty as before."""
    store = await made(server)
    assert await store.missing_rights([ORDERS]) == []
    assert set(server.snapshot()) == set(NAMES.values())
    assert not any(server.snapshot().values())


@pytest.mark.parametrize(("kind", "action"), EVERY, ids=[f"{kind} {action}" for kind, action in EVERY])
async def test_each_missing_right_is_named(server: StrictDynamoDb, kind: str, action: str) -> None:
    """One refused action on one table is that action on that table, and no other."""
    store = await made(server)
    deny(server, "TransactWriteItems" if action == "ConditionCheckItem" else action, NAMES[kind])
    missing = await store.missing_rights([ORDERS])
    assert [(right.action, right.table) for right in missing] == [(action, NAMES[kind])]
    assert str(missing[0]).startswith(f"dynamodb:{action} on table {NAMES[kind]} (not authorized")


async def test_all_missing_rights_are_told_at_once(server: StrictDynamoDb) -> None:
    """A role with no right at all on two tables is told every one of them."""
    store = await made(server)
    for kind in ("state", "rows"):
        for action in ACTIONS[kind]:
            deny(server, "TransactWriteItems" if action == "ConditionCheckItem" else action, NAMES[kind])
    found = {(right.action, right.table) for right in await store.missing_rights([ORDERS])}
    assert found == {(action, NAMES[kind]) for kind in ("state", "rows") for action in ACTIONS[kind]}


async def test_tables_that_are_not_there_are_passed_over(server: StrictDynamoDb) -> None:
    """Before the tables are made there is nothing to try a right on."""
    assert await store_on(inside(server), "pre", VirtualClock()).missing_rights([ORDERS]) == []


async def test_a_throttled_probe_is_tried_again(server: StrictDynamoDb) -> None:
    """A throttle is no refusal: the probe waits it out."""
    store = await made(server)
    server.faults.add(Fault(Throttle(3.0, "ProvisionedThroughputExceededException"), operation="PutItem"))
    assert await store.missing_rights([ORDERS]) == []


async def test_no_answer_proves_nothing(server: StrictDynamoDb) -> None:
    """Without an answer no right is taken for there or missing: the store is unavailable."""
    store = await made(server)
    server.faults.add(Fault(Refuse(), operation="Query", times=None))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.missing_rights([ORDERS])
