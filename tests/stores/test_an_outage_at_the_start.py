"""A daemon that starts while its store is away."""

import pytest

from daemon.assembly.patience import opened_in_time
from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.ports.observer import Fact, StoreAwaited
from daemon.testing.clock import VirtualClock
from daemon.testing.dynamodb import Drop, Fault, StrictDynamoDb
from tests.support.dynamodb import inside, store_on

pytestmark = pytest.mark.anyio


class Noting:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[Fact] = []

    def see(self, fact: Fact) -> None:
        """Note a fact."""
        self.seen.append(fact)


async def test_an_outage_of_minutes_is_waited_out() -> None:
    """A store that answers only after five minutes is opened then; each wait is told, with what was the matter."""
    clock, noting = VirtualClock(), Noting()
    server = StrictDynamoDb(clock=clock)
    back_at = clock.monotonic() + 300.0
    server.faults.add(Fault(Drop(), None, lambda _call: clock.monotonic() < back_at, times=None))
    store = store_on(inside(server), "pre", clock)
    with pytest.raises(StoreUnavailable):
        await store.open()
    await opened_in_time(store, clock, noting)
    assert clock.monotonic() >= back_at
    assert list(await store.generations("orders")) == []
    awaited = [fact for fact in noting.seen if isinstance(fact, StoreAwaited)]
    assert [fact.tries for fact in awaited] == list(range(1, len(awaited) + 1))
    assert awaited
    assert all("does not answer" in fact.detail for fact in awaited)
    await store.aclose()
    await server.aclose()


async def test_what_a_person_must_mend_ends_a_start_at_once() -> None:
    """A missing table that may not be made is refused with its remedy; nobody waits for it."""
    clock, noting = VirtualClock(), Noting()
    server = StrictDynamoDb(clock=clock)
    store = store_on(inside(server), "pre", clock, create_tables=False)
    with pytest.raises(StoreRefused, match="projectiond init"):
        await opened_in_time(store, clock, noting)
    assert noting.seen == []
    await server.aclose()
