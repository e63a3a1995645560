"""What is the solo coordinator's alone, beside the contract of all coordinators."""

import pytest

from daemon.coordination.solo import SoloCoordinator
from daemon.core.identity import Generation, Scope
from daemon.ports.coordinator import Grant
from daemon.testing.memory_source import MemorySource
from tests.support.engine import HurriedClock

pytestmark = pytest.mark.anyio


async def test_a_shard_that_another_process_took_is_elsewhere_and_not_granted_again() -> None:
    """A run that ends once all is settled has to look at it where it is."""
    source, of = MemorySource("memory"), Generation("counts", 1)
    source.add_shard("s0")
    source.add_shard("s1")
    taken, kept = Scope(*of, "memory", "s0"), Scope(*of, "memory", "s1")
    coordinator = SoloCoordinator({of: ["memory"]}, {"memory": source}, HurriedClock(), look_seconds=0.001)
    assignments = coordinator.assignments()
    assert [await anext(assignments), await anext(assignments)] == [Grant(taken), Grant(kept)]
    await coordinator.released(taken)
    assert list(await coordinator.elsewhere()) == [taken]
    source.add_shard("s2")
    assert await anext(assignments) == Grant(Scope(*of, "memory", "s2"))
    await coordinator.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(assignments)
