"""Replicas that join, leave, die, freeze and come back divide the shards evenly, each deciding alone."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daemon.core.checkpoint import Checkpoint, CheckpointState, Fence
from daemon.core.identity import Generation, Scope
from daemon.core.leases import (
    Claim,
    Lease,
    LeaseBook,
    LeasePolicy,
    Look,
    Presence,
    followed,
    generation_of,
    owner_name,
    replica_of,
    share,
)
from daemon.core.lineage import ShardNode

G1, G2 = Generation("orders", 1), Generation("carts", 3)
POLICY = LeasePolicy(lease=10.0, settle=3.0)
POLL = 1.0
CONVERGED = 9 * 10.0
"""Seconds within which any division is even: what was declined is forgotten, what is silent has expired."""


@dataclass
class World:
    """The store, the log and the time, which goes on as each test says."""

    shards: list[ShardNode]
    now: float = 0.0
    checkpoints: dict[Scope, Checkpoint] = field(default_factory=dict[Scope, Checkpoint])
    presences: dict[str, Presence] = field(default_factory=dict[str, Presence])

    def look(self) -> Look:
        return Look(
            self.now,
            self.now,
            {"log": list(self.shards)},
            {scope: Lease.of(checkpoint) for scope, checkpoint in self.checkpoints.items()},
            dict(self.presences),
        )


class Replica:
    """A replica without shard actors: what it runs, and what it believes it may still write."""

    def __init__(self, world: World, name: str, follows: tuple[Generation, ...] = (G1, G2)) -> None:
        self.world = world
        self.name = name
        self.book = LeaseBook(name, dict.fromkeys(follows, ("log",)), POLICY)
        self.runs: dict[Scope, Checkpoint] = {}
        self.frozen = False
        self.stale: Look | None = None
        self.starts = 0
        self.renewed: dict[Scope, float] = {}
        self.beat_at = -1e9
        self.beats = 0

    def poll(self, look: Look | None = None) -> None:
        """Do what a coordinator and its shards do in one turn."""
        world = self.world
        for scope in list(self.runs):
            if world.now - self.renewed[scope] >= POLICY.beat:
                self.commit(scope)
        if world.now - self.beat_at >= POLICY.beat:
            self.beats, self.beat_at = self.beats + 1, world.now
            world.presences[self.name] = self.book.presence(self.beats, {"log"})
        decision = self.book.decide(look or world.look())
        for scope in decision.give_back:
            self.release(scope)
        for won in decision.take:
            self.take(won.scope, won.claim)
        for name in decision.gone:
            world.presences.pop(name, None)

    def take(self, scope: Scope, claim: Claim) -> None:
        world, stands = self.world, self.world.checkpoints.get(scope)
        if not claim.holds(stands, self.name):
            self.book.released(scope)
            return
        self.starts += 1
        taken = (stands or Checkpoint()).taken(owner_name(self.name, f"{self.starts:012}"))
        world.checkpoints[scope] = self.runs[scope] = taken
        self.renewed[scope] = world.now

    def commit(self, scope: Scope, **changes: object) -> bool:
        """Commit under the epoch this replica believes in; fenced, it lets go."""
        mine, stands = self.runs[scope], self.world.checkpoints[scope]
        if mine.fence != stands.fence:
            self.runs.pop(scope)
            self.book.released(scope)
            return False
        after = stands.next("c")
        after = Checkpoint(**{name: getattr(after, name) for name in after.__slots__} | changes)  # type: ignore[arg-type]
        self.world.checkpoints[scope] = self.runs[scope] = after
        self.renewed[scope] = self.world.now
        return True

    def release(self, scope: Scope) -> None:
        if scope in self.runs and self.commit(scope, owner=None):
            self.runs.pop(scope)
        self.book.released(scope)

    def leave(self) -> None:
        self.world.presences.pop(self.name, None)
        for scope in list(self.runs):
            self.release(scope)


def spread(world: World, live: list[Replica]) -> dict[str, int]:
    """Count what each live replica may write."""
    return {
        replica.name: sum(world.checkpoints[scope].fence == mine.fence for scope, mine in replica.runs.items())
        for replica in live
    }


def pass_time(world: World, replicas: list[Replica], seconds: float) -> None:
    """Let the replicas that are not frozen take turns for so long."""
    end = world.now + seconds
    while world.now < end:
        world.now += POLL
        for replica in replicas:
            if not replica.frozen:
                replica.poll()


class Replicas(RuleBasedStateMachine):
    """Any order of joining, leaving, dying, freezing and waking, with looks that are acted on late."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World([])
        self.replicas: list[Replica] = []
        self.names = 0
        self.silent_since: dict[str, float] = {}

    @initialize(free=st.integers(0, 5), families=st.integers(0, 2))
    def begin(self, free: int, families: int) -> None:
        self.world.shards = [ShardNode(f"s{number}") for number in range(free)]
        for family in range(families):
            self.world.shards += [
                ShardNode(f"p{family}"),
                ShardNode(f"c{family}-0", (f"p{family}",)),
                ShardNode(f"c{family}-1", (f"p{family}",)),
            ]

    @property
    def live(self) -> list[Replica]:
        return [replica for replica in self.replicas if not replica.frozen]

    @rule()
    @precondition(lambda self: len(self.replicas) < 5)
    def join(self) -> None:
        self.names += 1
        self.replicas.append(Replica(self.world, f"r{self.names}"))

    @rule(which=st.integers(0, 4))
    def leave(self, which: int) -> None:
        if which < len(self.live):
            replica = self.live[which]
            replica.leave()
            self.replicas.remove(replica)

    @rule(which=st.integers(0, 4))
    def die(self, which: int) -> None:
        if which < len(self.replicas):
            self.replicas.pop(which)

    @rule(which=st.integers(0, 4))
    def freeze_or_wake(self, which: int) -> None:
        if which < len(self.replicas):
            replica = self.replicas[which]
            replica.frozen = not replica.frozen
            replica.stale = self.world.look() if replica.frozen else replica.stale

    @rule(which=st.integers(0, 4))
    def act_on_a_stale_look(self, which: int) -> None:
        """A replica that was frozen between looking and deciding decides by what it saw then."""
        if which < len(self.live) and self.live[which].stale is not None:
            replica = self.live[which]
            stale, replica.stale = replica.stale, None
            replica.poll(stale)

    @rule(seconds=st.floats(0.5, 25.0), turns=st.randoms(use_true_random=False))
    def go_on(self, seconds: float, turns: "object") -> None:
        turns.shuffle(self.replicas)  # type: ignore[attr-defined]
        pass_time(self.world, self.replicas, seconds)

    @rule(which=st.integers(0, 20))
    def end_a_shard(self, which: int) -> None:
        running = [(replica, scope) for replica in self.live for scope in sorted(replica.runs)]
        if which < len(running):
            replica, scope = running[which]
            if replica.commit(scope, state=CheckpointState.DONE):
                replica.runs.pop(scope)
                replica.book.released(scope)

    @rule()
    @precondition(lambda self: bool(self.live))
    def all_is_divided_evenly_in_the_end_and_stays_so(self) -> None:
        """Whatever happened: every open shard is some live replica's, as evenly as can be, and then nothing moves."""
        pass_time(self.world, self.replicas, CONVERGED)
        open_scopes = self.live[0].book.open_scopes(self.world.look())
        counts = spread(self.world, self.live)
        assert sum(counts.values()) == len(open_scopes)
        assert max(counts.values()) - min(counts.values()) <= 1
        owned = {scope: (held.epoch, held.owner) for scope, held in self.world.checkpoints.items()}
        pass_time(self.world, self.replicas, 4 * POLICY.lease)
        assert {scope: (held.epoch, held.owner) for scope, held in self.world.checkpoints.items()} == owned

    @invariant()
    def a_child_is_never_taken_before_its_parents_are_done(self) -> None:
        done = {scope for scope, held in self.world.checkpoints.items() if held.state is CheckpointState.DONE}
        parents = {node.shard: node.parents for node in self.world.shards}
        for scope in self.world.checkpoints:
            assert all(scope._replace(shard=parent) in done for parent in parents[scope.shard])

    @invariant()
    def two_replicas_never_may_write_the_same_shard(self) -> None:
        holders = [
            scope
            for replica in self.replicas
            for scope, mine in replica.runs.items()
            if self.world.checkpoints[scope].fence == mine.fence
        ]
        assert len(holders) == len(set(holders))


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


def world_of(shards: int) -> World:
    """Give a world with so many shards, each followed by two generations."""
    return World([ShardNode(f"s{number}") for number in range(shards)])


def test_an_owner_that_renews_is_never_taken_from_whatever_the_looks_take() -> None:
    """A look that lasts two leases, or a looker frozen for ten, takes no live owner for dead."""
    world = world_of(1)
    owner, looker = Replica(world, "a", (G1,)), Replica(world, "b", (G1,))
    owner.poll()
    for _ in range(5):
        look = world.look()
        for _ in range(20):
            world.now += POLL
            owner.poll()
        looker.poll(Look(look.began, world.now, look.shards, look.leases, look.presences))
        world.now += 100
        owner.poll()
    assert [held.epoch for held in world.checkpoints.values()] == [1]


def expired_after(looks: list[Look]) -> bool:
    """Tell whether a looker takes the only shard from its owner at the last of some looks."""
    book = LeaseBook("b", {G1: ("log",)}, POLICY)
    return [bool(book.decide(look).take) for look in looks][-1]


def test_what_changed_during_a_slow_look_counts_from_its_end() -> None:
    """A look that took longer than a lease may have seen the newest stamp at its very end."""
    world = world_of(1)
    world.checkpoints[Scope(*G1, "log", "s0")] = Checkpoint().taken("a/1")
    shards, leases = {"log": world.shards}, world.look().leases
    slow = Look(0.0, 20.0, shards, leases, {})
    assert not expired_after([slow, Look(29.9, 29.9, shards, leases, {})])
    assert expired_after([slow, Look(30.0, 30.0, shards, leases, {})])


def test_what_a_slow_look_saw_counts_as_of_its_beginning() -> None:
    """A look that took longer than a lease may have seen the old stamp at its very beginning."""
    world = world_of(1)
    world.checkpoints[Scope(*G1, "log", "s0")] = Checkpoint().taken("a/1")
    shards, leases = {"log": world.shards}, world.look().leases
    first = Look(0.0, 0.0, shards, leases, {})
    assert not expired_after([first, Look(9.9, 40.0, shards, leases, {})])
    assert expired_after([first, Look(10.0, 40.0, shards, leases, {})])


def test_what_is_being_given_back_is_not_asked_for_again() -> None:
    """A shard that takes long to drain is revoked once."""
    world = world_of(2)
    book = LeaseBook("a", {G1: ("log",)}, POLICY)
    world.presences = {name: Presence(name, 1, (followed(G1, "log"),)) for name in "a"}
    given: list[Scope] = []
    for turn in range(12):
        world.now += POLL
        if turn == 1:
            world.presences["b"] = Presence("b", 1, (followed(G1, "log"),))
        given += book.decide(world.look()).give_back
    assert len(given) == 1


def test_a_release_that_failed_is_taken_back_without_waiting() -> None:
    """Where the store still names this replica, but nothing runs the shard here, it takes it at the next poll."""
    world = world_of(1)
    replica = Replica(world, "a", (G1,))
    replica.poll()
    (scope,) = replica.runs
    del replica.runs[scope]
    replica.book.released(scope)
    replica.poll()
    assert world.checkpoints[scope].epoch == 2
    assert scope in replica.runs


def test_a_silent_owner_is_taken_from_after_a_lease_and_a_poll() -> None:
    """A killed replica's shards are taken no earlier than a lease after its last commit, and within a poll of it."""
    world = world_of(4)
    dead, peer = Replica(world, "a"), Replica(world, "b")
    pass_time(world, [dead, peer], 30)
    assert spread(world, [dead, peer]) == {"a": 4, "b": 4}
    for scope in dead.runs:
        dead.commit(scope)
    killed = world.now
    while spread(world, [peer])["b"] < 8:
        pass_time(world, [peer], POLL)
    assert POLICY.lease <= world.now - killed <= POLICY.lease + 2 * POLL


def test_what_was_released_is_taken_at_the_next_poll() -> None:
    """A replica that leaves hands everything over: its peer has it all one poll later."""
    world = world_of(4)
    leaving, peer = Replica(world, "a"), Replica(world, "b")
    pass_time(world, [leaving, peer], 30)
    leaving.leave()
    pass_time(world, [peer], POLL)
    assert spread(world, [peer]) == {"b": 8}


def test_a_newcomer_gets_its_share_once_it_has_stayed_a_while() -> None:
    """The owner keeps a surplus for `settle` seconds, then gives all of it back at once, and no more than it."""
    world = world_of(4)
    owner, newcomer = Replica(world, "a"), Replica(world, "b")
    pass_time(world, [owner], 5)
    pass_time(world, [owner, newcomer], POLICY.settle)
    assert spread(world, [owner, newcomer]) == {"a": 8, "b": 0}
    pass_time(world, [owner, newcomer], 3 * POLL)
    assert spread(world, [owner, newcomer]) == {"a": 4, "b": 4}


def test_each_generation_is_divided_not_only_the_sum() -> None:
    """What moves is taken from the generation that is divided most unevenly."""
    world = world_of(4)
    owner, newcomer = Replica(world, "a"), Replica(world, "b")
    pass_time(world, [owner], 5)
    pass_time(world, [owner, newcomer], 20)
    for replica in (owner, newcomer):
        assert sorted(scope.of for scope in replica.runs) == sorted([G1, G1, G2, G2])


def test_a_replica_is_given_only_what_it_has_code_for() -> None:
    """During a rolling deployment the older code runs its generations, the newer the rest, and nothing lies idle."""
    world = world_of(3)
    older, newer = Replica(world, "a", (G1,)), Replica(world, "b", (G1, G2))
    pass_time(world, [older, newer], 60)
    assert {scope.of for scope in older.runs} == {G1}
    assert spread(world, [older, newer]) == {"a": 3, "b": 3}


def test_a_shard_that_its_replica_lets_lie_is_taken_by_another() -> None:
    """A replica that lives but does not renew one shard loses that one, and it is not handed back at once."""
    world = world_of(2)
    stuck, peer = Replica(world, "a"), Replica(world, "b")
    pass_time(world, [stuck, peer], 20)
    lost = min(stuck.runs)
    stuck.commit(lost)
    del stuck.runs[lost]  # its actor hangs: it neither commits nor lets go
    pass_time(world, [stuck, peer], POLICY.lease + 2 * POLL)
    owner = world.checkpoints[lost].owner
    assert owner is not None
    assert owner.startswith("b/")
    pass_time(world, [stuck, peer], 2 * POLICY.lease)
    assert world.checkpoints[lost].owner == owner


def test_a_shard_that_nobody_takes_by_plan_is_taken_all_the_same() -> None:
    """Where the replica that should have a free shard never takes it, another does after a lease."""
    world = world_of(1)
    peer = Replica(world, "b", (G1,))
    world.presences["a"] = Presence("a", 1, (followed(G1, "log"),))
    for turn in range(30):
        world.presences["a"] = Presence("a", turn, (followed(G1, "log"),))
        pass_time(world, [peer], POLL)
        assert (spread(world, [peer])["b"] == 1) == (world.now > POLL + POLICY.lease + POLICY.beat)


def test_a_stranger_s_shards_are_left_alone_until_they_expire() -> None:
    """An owner without a presence (another kind of coordinator) keeps its shards while it commits."""
    world = world_of(2)
    peer = Replica(world, "b", (G1,))
    scope = Scope(*G1, "log", "s0")
    held = world.checkpoints[scope] = Checkpoint().taken("solo-1/x")
    for _ in range(40):
        held = world.checkpoints[scope] = held.next("c")
        pass_time(world, [peer], POLL)
    assert held.fence == world.checkpoints[scope].fence
    pass_time(world, [peer], POLICY.lease + 2 * POLL)
    assert spread(world, [peer]) == {"b": 2}


def test_a_dead_replica_s_presence_is_removed_in_the_end() -> None:
    """Presences of replicas that crashed do not pile up."""
    world = world_of(1)
    dead, peer = Replica(world, "a"), Replica(world, "b")
    pass_time(world, [dead, peer], 5)
    pass_time(world, [peer], 9 * POLICY.lease)
    assert set(world.presences) == {"a", "b"}
    pass_time(world, [peer], 2 * POLICY.lease)
    assert set(world.presences) == {"b"}


@pytest.mark.parametrize(
    ("stands", "holds"),
    [
        (None, True),
        (Checkpoint(epoch=5, commit_seq=9, owner=None), True),
        (Checkpoint(epoch=5, commit_seq=9, owner="me/1"), True),
        (Checkpoint(epoch=3, commit_seq=7, owner="you/1"), True),
        (Checkpoint(epoch=3, commit_seq=8, owner="you/1"), False),
        (Checkpoint(epoch=4, commit_seq=8, owner="you/2"), False),
        (Checkpoint(epoch=3, commit_seq=8, owner="me-2/1"), False),
    ],
)
def test_a_claim_holds_where_the_lease_stands_as_it_was_won(stands: Checkpoint | None, holds: bool) -> None:
    """A shard is taken when it is free, one's own, or exactly as it was seen; else its owner lives."""
    assert Claim(Fence(3, 7)).holds(stands, "me") is holds


def test_division_does_not_depend_on_the_order_of_anything() -> None:
    """Two replicas that see the same in another order divide alike."""
    scopes = [Scope(*generation, "log", f"s{number}") for generation in (G1, G2) for number in range(7)]
    runs = (followed(G1, "log"), followed(G2, "log"))
    held = {scope: "ab"[number % 2] for number, scope in enumerate(scopes[:9])}
    one = share(scopes, held, {"a": runs, "b": runs, "c": runs})
    other = share(scopes[::-1], dict(reversed(held.items())), {"c": runs, "b": runs, "a": runs})
    assert one == other
    assert sorted(list(one.values()).count(name) for name in "abc") == [4, 5, 5]
    assert sum(one[scope] != name for scope, name in held.items()) == 0


def test_a_generation_is_read_from_what_a_presence_runs() -> None:
    """The generation's number is the last part of its label, whatever its projection's name holds."""
    for generation in (G1, Generation("a-g1", 12), Generation("x:y-g", 3)):
        assert generation_of(followed(generation, "log-g7")) == generation


def test_owners_are_short_and_tell_their_replica() -> None:
    """An owner's name fits what stores keep of it, and begins with the replica's."""
    owner = owner_name("k" * 23, "0123456789" * 3 + "abcdef")
    assert len(owner) == 36
    assert replica_of(owner) == "k" * 23
    assert owner == "k" * 23 + "/456789abcdef"
