"""What every Coordinator must do. An adapter subclasses `CoordinatorContract` and gives a `rig` fixture.

A rig owns a coordinator over the scopes of a log with the shards `parent`, `child` (of `parent`) and `free`.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import anyio

from daemon.core.identity import Scope
from daemon.ports.coordinator import Assignment, Coordinator, Grant

PATIENCE = 5.0
"""Seconds within which what must come comes; a guard against hanging, never a measure."""


class Rig(Protocol):
    """A coordinator and the scopes it is over."""

    coordinator: Coordinator

    def scope(self, shard: str) -> Scope:
        """Return the scope of a shard."""
        ...

    async def finish(self, shard: str) -> None:
        """End a granted shard as an actor does: its checkpoint says done, then the coordinator is told."""
        ...


async def next_of(assignments: AsyncIterator[Assignment]) -> Assignment:
    """Return the next assignment."""
    with anyio.fail_after(PATIENCE):
        return await anext(assignments)


class CoordinatorContract:
    """The suite."""

    async def test_ready_scopes_are_granted_once(self, rig: Rig) -> None:
        """Every shard whose parents are done is granted, once, and not as a renewal."""
        assignments = rig.coordinator.assignments()
        granted = [await next_of(assignments), await next_of(assignments)]
        assert all(isinstance(grant, Grant) and not grant.renewed for grant in granted)
        assert {grant.scope for grant in granted} == {rig.scope("parent"), rig.scope("free")}
        await rig.coordinator.aclose()
        assert [left async for left in assignments] == []

    async def test_child_follows_its_finished_parent(self, rig: Rig) -> None:
        """A child is granted after its parent finished, and not before."""
        assignments = rig.coordinator.assignments()
        for _ in range(2):
            await next_of(assignments)
        await rig.finish("parent")
        granted = await next_of(assignments)
        assert granted.scope == rig.scope("child")
        await rig.coordinator.aclose()

    async def test_what_is_not_granted_here_is_elsewhere(self, rig: Rig) -> None:
        """Ready scopes are elsewhere until they are granted here; a child whose parent runs is nowhere yet."""
        assert set(await rig.coordinator.elsewhere()) == {rig.scope("parent"), rig.scope("free")}
        assignments = rig.coordinator.assignments()
        for _ in range(2):
            await next_of(assignments)
        assert set(await rig.coordinator.elsewhere()) == set()
        await rig.coordinator.aclose()

    async def test_leaving_ends_the_assignments(self, rig: Rig) -> None:
        """After the coordinator left, the assignments end; leaving twice and releasing afterwards are harmless."""
        assignments = rig.coordinator.assignments()
        first = await next_of(assignments)
        await rig.coordinator.released(first.scope)
        await rig.coordinator.aclose()
        await rig.coordinator.aclose()
        with anyio.fail_after(PATIENCE):
            assert all(isinstance(left, Grant) for left in [left async for left in assignments])
