"""The supervisor under a consumer group: what is given back and comes again runs again."""

import anyio
import pytest

from daemon.actors.runtime import Runtime
from daemon.actors.supervisor import Supervisor
from daemon.coordination.group import GroupCoordinator
from daemon.core.identity import Generation, Scope
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from daemon.testing.observer import RecordingObserver
from tests.support.engine import FAST, HurriedClock, counting, event
from tests.support.group import FakeMember

pytestmark = pytest.mark.anyio


async def test_a_drained_shard_that_comes_back_goes_on():
    """A rebalance takes a shard and gives it back: it is folded on from its checkpoint, at each turn."""
    source, store, spec = MemorySource("memory"), MemoryStore(), counting()
    source.add_shard("s0")
    await store.open()
    generation = Generation(spec.name, 1)
    await store.create_generation(generation, spec.version, live=True)
    clock = HurriedClock()
    member = FakeMember(["s0"])
    coordinator = GroupCoordinator({(generation, "memory"): member}, {"memory": source}, clock, look_seconds=0.01)
    runtime = Runtime(store, {"memory": source}, {generation: spec}, clock, RecordingObserver(), FAST)
    supervisor = Supervisor(runtime, coordinator)
    scope = Scope(*generation, "memory", "s0")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        for turn in range(1, 4):
            source.append("s0", event(turn))
            with anyio.fail_after(20):
                while (at := store.data.checkpoints.get(scope)) is None or at.position != (turn,):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            await member.rebalance(["s0"])
        await supervisor.drain(5.0)
        tasks.cancel_scope.cancel()
