"""The lease coordinator over a store and a log in memory, in virtual time."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from daemon.coordination.leases import LeaseCoordinator
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed
from daemon.core.errors import StoreUnavailable
from daemon.core.identity import Generation, Scope
from daemon.core.leases import LeaseBook, LeasePolicy, Presence, owner_name, replica_of
from daemon.ports.coordinator import Grant
from daemon.testing.clock import VirtualClock
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore

pytestmark = pytest.mark.anyio

GENERATION = Generation("orders", 1)
_STEPS = 60
"""Steps of the event loop in which every replica has ended a turn: nothing here waits but in virtual time."""
POLICY = LeasePolicy(lease=10.0, settle=3.0)


class TroubledStore(MemoryStore):
    """A store that can be made not to answer reads."""

    away = hangs = False

    async def forget(self, replica: str) -> None:
        """Forget a replica, or never answer."""
        if self.hangs:
            await anyio.sleep_forever()
        await super().forget(replica)

    async def presences(self) -> dict[str, Presence]:
        """Read presences, unless it is away."""
        if self.away:
            raise StoreUnavailable("it is away")
        return dict(await super().presences())


class Peer:
    """A coordinator with a supervisor that takes and releases as actors do, without folding anything."""

    def __init__(self, name: str, store: MemoryStore, source: MemorySource, clock: VirtualClock) -> None:
        self.name = name
        self.store = store
        self.clock = clock
        book = LeaseBook(name, {GENERATION: ("log",)}, POLICY)
        self.coordinator = LeaseCoordinator(book, {"log": source}, store, clock, poll=1.0)
        self.seen: list[tuple[str, str, bool]] = []
        self.held: dict[Scope, Checkpoint] = {}

    async def run(self) -> None:
        async for assignment in self.coordinator.assignments():
            scope = assignment.scope
            if isinstance(assignment, Grant):
                self.seen.append(("grant", scope.shard, assignment.renewed))
                assert assignment.claim is not None
                assert assignment.claim.holds(await self.store.read_checkpoint(scope), self.name)
                owner = owner_name(self.name, self.clock.unique())
                self.held[scope] = await self.store.take(scope, owner, Checkpoint())
            else:
                self.seen.append(("revoke", scope.shard, False))
                await self.release(scope)

    async def renew(self) -> None:
        """Commit without rows on every shard held; let go of those that others took."""
        for scope, held in list(self.held.items()):
            after = held.next(self.clock.unique())
            if await self.store.commit(Commit(scope, held.fence, after), 1) == Committed():
                self.held[scope] = after
            else:
                del self.held[scope]
                await self.coordinator.released(scope)

    async def release(self, scope: Scope) -> None:
        held = self.held.pop(scope)
        after = replace(held.next(self.clock.unique()), owner=None)
        await self.store.commit(Commit(scope, held.fence, after), 1)  # fenced where another took it: as it should be
        await self.coordinator.released(scope)

    async def leave(self) -> None:
        await self.coordinator.aclose()
        for scope in list(self.held):
            await self.release(scope)


class Scene:
    """Replicas on one store, and the time."""

    def __init__(self, shards: int) -> None:
        self.clock = VirtualClock(manual=True)
        self.store = TroubledStore()
        self.source = MemorySource("log")
        for number in range(shards):
            self.source.add_shard(f"s{number}")
        self.peers: list[Peer] = []

    async def go_on(self, seconds: float) -> None:
        """Let time pass, in which every replica that is in the scene renews its leases every second."""
        for _ in range(int(seconds * 2)):
            await self.clock.advance(0.5)
            for _ in range(_STEPS):
                await anyio.lowlevel.checkpoint()
            for peer in self.peers:
                await peer.renew()

    def owners(self) -> dict[str, str]:
        return {scope.shard: replica_of(held.owner or "") for scope, held in self.store.data.checkpoints.items()}


@asynccontextmanager
async def scene(shards: int = 2) -> AsyncGenerator[tuple[Scene, TaskGroup]]:
    """Set a scene; whoever is started in it ends with it."""
    made = Scene(shards)
    await made.store.open()
    async with anyio.create_task_group() as tasks:
        yield made, tasks
        tasks.cancel_scope.cancel()


def enter(made: Scene, tasks: TaskGroup, name: str) -> Peer:
    """Start a replica."""
    peer = Peer(name, made.store, made.source, made.clock)
    made.peers.append(peer)
    tasks.start_soon(peer.run)
    return peer


async def test_a_replica_is_present_before_it_takes_and_gone_when_it_left() -> None:
    """It announces what it can run, renews that while it lives, and forgets itself when it leaves."""
    async with scene() as (made, tasks):
        peer = enter(made, tasks, "a")
        await made.go_on(1)
        assert made.store.data.presences == {"a": Presence("a", 1, ("orders-g1:log",))}
        assert made.owners() == {"s0": "a", "s1": "a"}
        await made.go_on(20)
        assert made.store.data.presences["a"].beat > 4
        await peer.leave()
        assert made.store.data.presences == {}
        assert made.owners() == {"s0": "", "s1": ""}


async def test_what_is_decided_is_told_before_a_dead_replica_is_forgotten() -> None:
    """Shards that a look gives count as run here, so nothing may come between the look and the word of it."""
    async with scene(0) as (made, tasks):
        await made.store.announce(Presence("dead", 1))
        made.store.hangs = True
        peer = enter(made, tasks, "a")
        await made.go_on(90)
        for second in range(30):
            made.source.add_shard(f"s{second}")
            peer.coordinator._listed_at = None  # pyright: ignore[reportPrivateUsage] - look at once
            await made.go_on(1)
        assert peer.held.keys() == set(peer.coordinator._book.claimed)  # pyright: ignore[reportPrivateUsage]
        assert 0 < len(peer.held) < 30, "it hangs in forgetting"
        made.store.hangs = False


async def test_a_share_is_handed_over_and_taken_back_when_the_newcomer_leaves() -> None:
    """A newcomer that owns nothing is seen; one shard is revoked, granted to it, and back when it leaves."""
    async with scene() as (made, tasks):
        first = enter(made, tasks, "a")
        await made.go_on(2)
        second = enter(made, tasks, "b")
        await made.go_on(8)
        assert sorted(made.owners().values()) == ["a", "b"]
        (shard,) = (scope.shard for scope in second.held)
        assert first.seen[2:] == [("revoke", shard, False)]
        made.peers.remove(second)
        await second.leave()
        await made.go_on(1.5)
        assert first.seen[3:] == [("grant", shard, True)]


async def test_a_fenced_replica_waits_and_is_granted_anew_only_what_is_its_share() -> None:
    """Silent beyond its lease a replica loses its shards, does not take them back from their new owner, and is granted
    its share as a renewal once that owner gives it.
    """
    async with scene() as (made, tasks):
        silent = enter(made, tasks, "a")
        await made.go_on(2)
        made.peers.remove(silent)  # its shards commit no more, though its coordinator lives
        other = enter(made, tasks, "b")
        await made.go_on(20)
        taken = set(other.held)
        assert taken
        await silent.renew()
        assert not taken & silent.held.keys()
        made.peers.append(silent)
        await made.go_on(80)
        assert sorted(made.owners().values()) == ["a", "b"]
        epochs = {scope: held.epoch for scope, held in made.store.data.checkpoints.items()}
        await made.go_on(60)
        assert {scope: held.epoch for scope, held in made.store.data.checkpoints.items()} == epochs


async def test_a_look_that_fails_decides_nothing() -> None:
    """While the store does not answer nobody takes or gives anything; afterwards leases run on from what is seen."""
    async with scene() as (made, tasks):
        first = enter(made, tasks, "a")
        await made.go_on(2)
        made.store.away = True
        second = enter(made, tasks, "b")
        await made.go_on(60)
        assert (len(first.seen), second.seen) == (2, [])
        made.store.away = False
        await made.go_on(8)
        assert sorted(made.owners().values()) == ["a", "b"]


async def test_what_runs_elsewhere_is_seen_at_once() -> None:
    """`elsewhere` looks for itself: a shard that a peer took, or that was added just now, is in it."""
    async with scene() as (made, tasks):
        first = enter(made, tasks, "a")
        await made.go_on(2)
        made.source.add_shard("s2")
        assert {scope.shard for scope in await first.coordinator.elsewhere()} == {"s2"}
