"""The coordinator contract, on every coordinator there is. An adapter adds a subclass with its `rig`."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from daemon.coordination.solo import SoloCoordinator
from daemon.core.identity import Generation, Scope
from daemon.testing.memory_source import MemorySource
from tests.contracts.coordinator_contract import CoordinatorContract
from tests.support.engine import HurriedClock

pytestmark = pytest.mark.anyio

GENERATION = Generation("counting", 1)


@dataclass(slots=True)
class SoloRig:
    """The solo coordinator over a memory log."""

    coordinator: SoloCoordinator

    def scope(self, shard: str) -> Scope:
        """Return the scope of a shard."""
        return Scope(*GENERATION, "memory", shard)


class TestSolo(CoordinatorContract):
    """One process alone."""

    @pytest.fixture
    async def rig(self) -> AsyncGenerator[SoloRig]:
        """Give a solo coordinator over `parent`, its `child`, and `free`."""
        source = MemorySource("memory")
        source.add_shard("parent")
        source.add_shard("child", parents=("parent",))
        source.add_shard("free")
        coordinator = SoloCoordinator({GENERATION: ["memory"]}, {"memory": source}, HurriedClock(), look_seconds=0.01)
        yield SoloRig(coordinator)
        await coordinator.aclose()
