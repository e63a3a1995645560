"""Which event a row says it was last touched by, and what counts against the circuit."""

import pytest

from daemon.core.commit import Action, Limits, ParkedEvent
from daemon.core.errors import EventProblem
from daemon.core.identity import RowKey
from daemon.core.lifecycle import ShardState
from daemon.core.projection import OnError
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.support.engine import counting, engine, event

pytestmark = pytest.mark.anyio


def source_of(*events: tuple[str, bool]) -> MemorySource:
    """Return a log of (key, poison) events."""
    source = MemorySource("memory")
    source.add_shard("s0")
    source.append("s0", *[event(i + 1, key, poison=poison) for i, (key, poison) in enumerate(events)])
    return source


async def test_each_row_names_the_event_that_touched_it_last() -> None:
    """`_src` is the row's own last event, not the batch's."""
    store = MemoryStore()
    async with engine(counting(), store, source_of(("a", False), ("b", False), ("a", False), ("c", False))) as running:
        await running.caught_up()
        generation = running.scope().of
    sources = {key: store.data.rows[generation, RowKey("main", key)].source for key in "abc"}
    assert sources == {"a": "memory/s0@3#e(3,)", "b": "memory/s0@2#e(2,)", "c": "memory/s0@4#e(4,)"}


async def test_a_failed_event_is_no_provenance() -> None:
    """An event that was dead-lettered left no trace, so the row does not name it."""
    store = MemoryStore()
    async with engine(counting(), store, source_of(("a", False), ("a", True))) as running:
        await running.caught_up()
        generation = running.scope().of
    assert store.data.rows[generation, RowKey("main", "a")].source == "memory/s0@1#e(1,)"


async def test_a_bad_deploy_cannot_park_every_key() -> None:
    """Failures that park their keys count against the circuit as dead letters do."""
    store = MemoryStore()
    log = source_of(*[(f"k{i}", True) for i in range(40)])
    async with engine(counting(on_error=OnError.PARK_KEY), store, log) as running:
        await running.caught_up()
        assert running.state() is ShardState.PARKED
        assert await store.parked_keys(running.scope()) == set()


async def test_parking_a_key_whose_event_does_not_fit_parks_the_shard() -> None:
    """A parked event that the store can never hold is not lost: the shard stops before it."""

    def measure(action: Action) -> int:
        if isinstance(action, ParkedEvent):
            raise EventProblem("too-large", "500 KB exceed the item limit of 400 KB")
        return 1

    store = MemoryStore(limits=Limits(measure=measure))
    async with engine(counting(on_error=OnError.PARK_KEY), store, source_of(("a", False), ("b", True))) as running:
        await running.caught_up()
        assert running.state() is ShardState.PARKED
        assert "400 KB" in running.parked_reason()
        assert (await running.checkpoint()).position == (1,)
