"""A daemon that starts while its store is away."""

from collections.abc import Sequence
from typing import override

import anyio
import pytest

from daemon.assembly.patience import heard_of, opened_in_time
from daemon.core.errors import SourceUnavailable, StoreRefused, StoreUnavailable
from daemon.ports.observer import Fact, SourceAwaited, SourceReached, StoreAwaited, StoreReached
from daemon.ports.source import ShardInfo
from daemon.stores.dynamodb.tuning import Tuning
from daemon.testing.clock import VirtualClock
from daemon.testing.dynamodb import Drop, Fault, StrictDynamoDb
from daemon.testing.memory_source import MemorySource
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
    store = store_on(inside(server), "pre", clock, tuning=Tuning(opening=0.0))
    began = clock.monotonic()
    await opened_in_time(store, clock, noting, "DynamoDB at home")
    assert clock.monotonic() >= back_at
    assert list(await store.generations("orders")) == []
    awaited = [fact for fact in noting.seen if isinstance(fact, StoreAwaited)]
    assert [fact.tries for fact in awaited] == list(range(1, len(awaited) + 1))
    assert awaited
    assert all("does not answer" in fact.detail and fact.where == "DynamoDB at home" for fact in awaited)
    assert awaited[0].seconds < 1, "the first failed try is told, and not the end of the store's own patience"
    (reached,) = [fact for fact in noting.seen if isinstance(fact, StoreReached)]
    assert (reached.tries, reached.seconds) == (len(awaited), clock.monotonic() - began)
    await store.aclose()
    await server.aclose()


async def test_an_outage_is_told_at_once_and_then_less_and_less() -> None:
    """Each wait is longer than the one before, up to half a minute; a limit ends them with the store's own words."""
    clock, noting = VirtualClock(), Noting()
    server = StrictDynamoDb(clock=clock)
    server.faults.add(Fault(Drop(), None, lambda _call: True, times=None))
    store = store_on(inside(server), "pre", clock, tuning=Tuning(opening=0.0))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await opened_in_time(store, clock, noting, "there", 300.0)
    waits = [fact.wait for fact in noting.seen if isinstance(fact, StoreAwaited)]
    growing = [wait for wait in waits if wait < 20]
    assert growing == sorted(growing)
    assert len(growing) == 5
    assert max(waits) <= 30
    assert len(waits) < 20
    await store.aclose()
    await server.aclose()


class Silent(MemorySource):
    """A source that fails, hangs, and answers at last."""

    def __init__(self) -> None:
        super().__init__("log")
        self.answers: list[Exception | None] = [SourceUnavailable("no broker at x:1"), ValueError("secret"), None]

    @override
    async def shards(self, within: float = 0.0) -> Sequence[ShardInfo]:
        if not self.answers:
            return await super().shards(within)
        answer = self.answers.pop(0)
        if answer is None:
            await anyio.sleep_forever()
        raise answer or AssertionError


async def test_a_source_that_never_answered_is_told_until_it_does() -> None:
    """Each question in vain is told, with the source's words, a bug's name without its words, or its silence."""
    clock, noting = VirtualClock(), Noting()
    await heard_of(Silent(), clock, noting, 0.01)
    awaited = [fact for fact in noting.seen if isinstance(fact, SourceAwaited)]
    assert [(fact.source, fact.tries, fact.detail) for fact in awaited] == [
        ("log", 1, "no broker at x:1"),
        ("log", 2, "asking failed with ValueError"),
        ("log", 3, "no answer within 0.01 s (health.check_timeout_seconds)"),
    ]
    assert [fact.wait for fact in awaited] == sorted(fact.wait for fact in awaited)
    assert isinstance(noting.seen[-1], SourceReached)
    noting.seen.clear()
    await heard_of(MemorySource("log"), clock, noting, 0.01)
    assert noting.seen == []


async def test_what_a_person_must_mend_ends_a_start_at_once() -> None:
    """A missing table that may not be made is refused with its remedy; nobody waits for it."""
    clock, noting = VirtualClock(), Noting()
    server = StrictDynamoDb(clock=clock)
    store = store_on(inside(server), "pre", clock, create_tables=False)
    with pytest.raises(StoreRefused, match="projectiond init"):
        await opened_in_time(store, clock, noting)
    assert noting.seen == []
    await server.aclose()
