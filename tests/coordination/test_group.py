"""What a consumer group's news mean: who runs what, what waits for what, and when a fenced shard is taken again."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import anyio
import pytest

from daemon.coordination.group import GroupCoordinator
from daemon.core.identity import Generation, Scope
from daemon.ports.coordinator import Assignment, Grant, Revoke
from daemon.testing.memory_source import MemorySource
from tests.contracts.coordinator_contract import next_of
from tests.support.engine import HurriedClock
from tests.support.group import FakeMember

pytestmark = pytest.mark.anyio

GENERATION = Generation("counting", 1)
KEY = (GENERATION, "memory")


def scope(shard: str) -> Scope:
    """Name a scope."""
    return Scope(*GENERATION, "memory", shard)


@dataclass(slots=True)
class Rig:
    """A coordinator, its only member, and what it assigns."""

    coordinator: GroupCoordinator
    member: FakeMember
    assignments: AsyncIterator[Assignment]

    async def nothing_more(self) -> None:
        """Look around for a while: nothing more is assigned."""
        for _ in range(20):
            await anyio.sleep(0.005)
        assert self.coordinator.waiting == 0


@pytest.fixture
async def rig() -> AsyncGenerator[Rig]:
    """A member that was assigned `a` and `b`."""
    source = MemorySource("memory")
    for shard in ("a", "b", "c"):
        source.add_shard(shard)
    member = FakeMember(["a", "b"])
    coordinator = GroupCoordinator(
        {KEY: member}, {"memory": source}, HurriedClock(), look_seconds=0.005, leave_after=0.1
    )
    assignments = coordinator.assignments()
    assert {await next_of(assignments), await next_of(assignments)} == {Grant(scope("a")), Grant(scope("b"))}
    yield Rig(coordinator, member, assignments)
    await coordinator.aclose()
    async for _ in assignments:
        pass


async def test_a_rebalance_waits_for_what_is_handed_over(rig: Rig):
    """The member joins again only once every revoked shard was released; then its new part is granted."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.member.rebalance, ["b", "c"])
        revoked = [await next_of(rig.assignments), await next_of(rig.assignments)]
        assert [each.scope for each in revoked] == [scope("a"), scope("b")]
        assert all(isinstance(each, Revoke) and each.deadline == 4.0 for each in revoked)
        await rig.coordinator.released(scope("a"))
        await rig.nothing_more()
        await rig.coordinator.released(scope("b"))
        assert {await next_of(rig.assignments), await next_of(rig.assignments)} == {
            Grant(scope("b")),
            Grant(scope("c")),
        }


async def test_a_shard_that_cannot_drain_does_not_hold_the_group(rig: Rig):
    """After its share of the rebalance time-out the member joins again, whatever was not released."""
    rig.member.rebalance_timeout = 0.05
    with anyio.fail_after(5):
        await rig.member.rebalance(["c"])
    kinds = [await next_of(rig.assignments) for _ in range(3)]
    assert kinds == [Revoke(scope("a"), 0.8 * 0.05), Revoke(scope("b"), 0.8 * 0.05), Grant(scope("c"))]


async def test_a_late_release_is_no_fence(rig: Rig):
    """A shard released after the time-out is not taken for fenced: it is another member's."""
    rig.member.rebalance_timeout = 0.05
    await rig.member.rebalance(["c"])
    for _ in range(3):
        await next_of(rig.assignments)
    await rig.coordinator.released(scope("a"))
    await rig.nothing_more()
    assert rig.member.heartbeats == 0


async def test_a_fenced_shard_comes_back_once_confirmed(rig: Rig):
    """A fenced shard is granted again, as renewed, after a heartbeat of later was answered."""
    await rig.coordinator.released(scope("a"))
    assert await next_of(rig.assignments) == Grant(scope("a"), renewed=True)
    assert rig.member.heartbeats == 1


async def test_a_zombie_takes_nothing_back(rig: Rig):
    """While the group refuses the heartbeat, a fenced shard stays fenced; a new assignment grants it plainly."""
    rig.member.answers = False
    await rig.coordinator.released(scope("a"))
    await rig.nothing_more()
    assert rig.member.heartbeats > 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.member.rebalance, ["a"])
        assert (await next_of(rig.assignments)).scope == scope("b")
        await rig.coordinator.released(scope("b"))
        assert await next_of(rig.assignments) == Grant(scope("a"))


async def test_the_group_is_left_after_the_last_release(rig: Rig):
    """Closing ends grants at once; the group is left when all was released, so that peers take over drained shards."""
    await rig.coordinator.aclose()
    async with anyio.create_task_group() as tasks:

        async def to_the_end() -> None:
            assert [left async for left in rig.assignments] == []

        tasks.start_soon(to_the_end)
        await rig.coordinator.released(scope("a"))
        await anyio.sleep(0.01)
        assert not rig.member.left
        await rig.coordinator.released(scope("b"))
    assert rig.member.left


async def test_what_is_granted_and_not_fetched_yet_is_not_run_here(rig: Rig):
    """Between a grant and its being fetched a shard is elsewhere: whoever waits for all shards must not miss it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.member.rebalance, ["c"])
        for shard in ("a", "b"):
            await next_of(rig.assignments)
            await rig.coordinator.released(scope(shard))
        while not rig.coordinator.waiting:  # noqa: ASYNC110 - a state, not an event of ours
            await anyio.sleep(0.001)
        assert scope("c") in await rig.coordinator.elsewhere()
        assert await next_of(rig.assignments) == Grant(scope("c"))
        assert scope("c") not in await rig.coordinator.elsewhere()


async def test_a_membership_that_breaks_ends_the_assignments():
    """An error that a membership cannot mend itself reaches whoever iterates the assignments."""

    class Broken(FakeMember):
        async def run(self, listener: object) -> None:
            raise RuntimeError("broken")

    coordinator = GroupCoordinator({KEY: Broken()}, {"memory": MemorySource("memory")}, HurriedClock())
    with pytest.raises(RuntimeError, match="broken"):
        await next_of(coordinator.assignments())
