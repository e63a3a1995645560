"""The coordinator contract, on every coordinator there is. An adapter adds a subclass with its `rig`."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import pytest

from daemon.coordination.group import GroupCoordinator
from daemon.coordination.leases import LeaseCoordinator
from daemon.coordination.solo import SoloCoordinator
from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commit import Commit, Committed
from daemon.core.identity import Generation, Scope
from daemon.core.leases import LeaseBook, LeasePolicy
from daemon.ports.coordinator import Coordinator
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.contracts.coordinator_contract import CoordinatorContract
from tests.support.engine import HurriedClock
from tests.support.group import FakeMember

pytestmark = pytest.mark.anyio

GENERATION = Generation("counting", 1)


@dataclass(slots=True)
class MemoryRig:
    """A coordinator over a memory log, and the store its shards' checkpoints are in."""

    coordinator: Coordinator
    store: MemoryStore

    def scope(self, shard: str) -> Scope:
        """Return the scope of a shard."""
        return Scope(*GENERATION, "memory", shard)

    async def finish(self, shard: str) -> None:
        """End a granted shard as an actor does."""
        scope = self.scope(shard)
        taken = await self.store.take(scope, "me/1", Checkpoint())
        done = replace(taken.next("end"), state=CheckpointState.DONE)
        assert await self.store.commit(Commit(scope, taken.fence, done), 1) == Committed()
        await self.coordinator.finished(scope)


def family() -> MemorySource:
    """Return a log with `parent`, its `child`, and `free`."""
    source = MemorySource("memory")
    source.add_shard("parent")
    source.add_shard("child", parents=("parent",))
    source.add_shard("free")
    return source


class TestSolo(CoordinatorContract):
    """One process alone."""

    @pytest.fixture
    async def rig(self) -> AsyncGenerator[MemoryRig]:
        """Give a solo coordinator."""
        store = MemoryStore()
        await store.open()
        coordinator = SoloCoordinator({GENERATION: ["memory"]}, {"memory": family()}, HurriedClock(), look_seconds=0.01)
        yield MemoryRig(coordinator, store)
        await coordinator.aclose()


class TestGroup(CoordinatorContract):
    """The only member of a consumer group, which is assigned every shard."""

    @pytest.fixture
    async def rig(self) -> AsyncGenerator[MemoryRig]:
        """Give a group coordinator."""
        store = MemoryStore()
        await store.open()
        member = FakeMember(["parent", "child", "free"])
        key = (GENERATION, "memory")
        coordinator = GroupCoordinator(
            {key: member}, {"memory": family()}, HurriedClock(), look_seconds=0.01, leave_after=0.05
        )
        yield MemoryRig(coordinator, store)
        await coordinator.aclose()
        await member.leave()


class TestLeases(CoordinatorContract):
    """One replica, which has no peers."""

    @pytest.fixture
    async def rig(self) -> AsyncGenerator[MemoryRig]:
        """Give a lease coordinator."""
        store = MemoryStore()
        await store.open()
        book = LeaseBook("me", {GENERATION: ["memory"]}, LeasePolicy())
        coordinator = LeaseCoordinator(book, {"memory": family()}, store, HurriedClock())
        yield MemoryRig(coordinator, store)
        await coordinator.aclose()
