"""A projection with a budget slows down, and does nothing else differently: on an event loop of virtual time."""

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest

from daemon.actors.runtime import EnginePolicy, Runtime
from daemon.actors.spending import Spending
from daemon.actors.supervisor import Supervisor
from daemon.coordination.solo import SoloCoordinator
from daemon.core.batcher import BatchPolicy
from daemon.core.budget import Budget
from daemon.core.commit import Commit, Committed, Outcome
from daemon.core.identity import Generation, Scope
from daemon.ports.observer import BatchCommitted
from daemon.ports.source import Source
from daemon.testing.clock import VirtualClock
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from daemon.testing.observer import RecordingObserver
from tests.support.engine import counting, event
from tests.support.virtual_loop import VIRTUAL

pytestmark = pytest.mark.anyio

UNITS = 40.0
"""What each batch costs here."""


class LoopTime(VirtualClock):
    """The loop's time as a Clock."""

    def monotonic(self) -> float:
        return anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class BillingStore(MemoryStore):
    """A store whose batches cost UNITS; changes of the checkpoint alone cost nothing here."""

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        outcome = await super().commit(commit, attempt)
        if isinstance(outcome, Committed) and commit.rows:
            return Committed({"wcu:rows": UNITS - 4, "wcu:state": 4.0, "rcu:state": 500.0})
        return outcome


@pytest.fixture
def anyio_backend() -> object:
    """Time is virtual."""
    return VIRTUAL


def runtime_of(store: MemoryStore, source: MemorySource, **parts: Any) -> tuple[Runtime, Supervisor, RecordingObserver]:
    """One projection over one source, batches of ten events."""
    spec, clock, observer = counting(), LoopTime(), RecordingObserver()
    generation = Generation(spec.name, 1)
    policy = EnginePolicy(batch=BatchPolicy(max_events=10, linger=0.0), beat=parts.pop("beat", None))
    sources: Mapping[str, Source] = {source.name: source}
    runtime = Runtime(store, sources, {generation: spec}, clock, observer, policy, **parts)
    follows: Mapping[Generation, Sequence[str]] = {generation: spec.sources}
    return runtime, Supervisor(runtime, SoloCoordinator(follows, sources, clock)), observer


def source_of(shards: int, events: int) -> MemorySource:
    """A log of so many shards with so many events each."""
    source = MemorySource("memory")
    for shard in range(shards):
        source.add_shard(f"s{shard}")
        source.append(f"s{shard}", *(event(n, f"k{shard}", id=f"{shard}-{n}") for n in range(1, events + 1)))
    return source


async def batches_timed(shards: int, spending: Spending, until: float = 1e6) -> list[float]:
    """Fold 100 events a shard; return when each batch was committed, in seconds of virtual time."""
    store, source = BillingStore(), source_of(shards, 100)
    await store.open()
    await store.create_generation(Generation("counting", 1), 1, live=True)
    runtime, supervisor, observer = runtime_of(store, source, spending=spending)
    times: list[float] = []
    see = observer.see

    def timed(fact: Any) -> None:
        if isinstance(fact, BatchCommitted) and fact.consumed:
            times.append(runtime.clock.monotonic())
        see(fact)

    observer.see = timed
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        with anyio.move_on_after(until):
            await supervisor.caught_up()
        assert await supervisor.drain(5.0)
        tasks.cancel_scope.cancel()
    return times


async def test_a_projection_keeps_to_its_budget() -> None:
    """Ten batches of 40 units with 10 units a second take as long as the budget says, and are all committed."""
    spending = Spending({"counting": Budget(10.0)})
    times = await batches_timed(1, spending)
    assert len(times) == 10
    (vitals,) = spending.vitals(times[-1])
    assert (vitals.projection, vitals.units_per_second, vitals.slowed) == ("counting", 10.0, 10)
    assert vitals.debt_seconds > 0
    for count, moment in enumerate(times, 1):
        # One batch is under way while the next is folded: two may be let through at once.
        assert count * UNITS <= 10.0 * (moment + 1.0) + 2 * UNITS
    assert 10 * UNITS / 10.0 - 1.0 - 2 * UNITS / 10.0 <= times[-1] <= 10 * UNITS / 10.0 + 5.0


async def test_the_shards_of_a_projection_share_its_budget() -> None:
    """Three shards together take three times as long: the budget is the projection's, not the shard's."""
    times = await batches_timed(3, Spending({"counting": Budget(10.0)}))
    assert len(times) == 30
    assert times[-1] >= 30 * UNITS / 10.0 - 1.0 - 6 * UNITS / 10.0


async def test_other_projections_are_not_held_up() -> None:
    """Another projection's budget is none of this one's business: no time passes at all."""
    assert (await batches_timed(1, Spending({"other": Budget(1.0)})))[-1] < 0.5


async def test_a_stop_does_not_wait_for_the_budget() -> None:
    """A drain amid a long wait for units ends within its grace period, with what was committed so far."""
    times = await batches_timed(1, Spending({"counting": Budget(0.01)}), until=10.0)
    assert 1 <= len(times) <= 2
    assert anyio.current_time() < 20.0


async def test_a_shard_that_waits_for_units_still_renews_its_lease() -> None:
    """A wait for units that is longer than a lease is beaten through: the checkpoint moves all the while."""
    store, source = BillingStore(), source_of(1, 100)
    await store.open()
    await store.create_generation(Generation("counting", 1), 1, live=True)
    spending = Spending({"counting": Budget(0.1)})
    runtime, supervisor, _ = runtime_of(store, source, spending=spending, beat=3.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(100.0)
        held = await runtime.store.read_checkpoint(Scope("counting", 1, "memory", "s0"))
        assert held is not None
        assert held.commit_seq >= 30
        assert await supervisor.drain(5.0)
        tasks.cancel_scope.cancel()
