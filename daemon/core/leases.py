"""Leases: how several replicas divide the shards between them, each deciding alone and all coming to the same.

Owns the rules; every fact comes in as an argument. A lease is what a checkpoint says of its owner: the name, and the
stamp (`epoch`, `commit_seq`) that every commit renews. A replica's presence is a record of its own, so that one that
owns nothing is seen too.

Theory of operation. Each replica looks at all checkpoints and presences from time to time. What did not change for a
whole lease on the looker's own monotonic clock has expired: counted from the end of the look that first saw it to the
beginning of the newest, so that neither a slow look nor a looker that was frozen takes a live owner for a dead one.
From what it sees each replica computes the same division (`share`): what is held stays where it is, what is free goes
to the least loaded, and a shard moves only from one that has at least two more than the other. It takes what the
division gives it and nobody holds, and gives back what the division gives to others, once that has stood for a while.

Invariants: nothing here makes a write safe, only the epoch does; a division differs by at most one shard between two
replicas that may run the same; from a division that even nothing moves, so two replicas never hand a shard to and fro;
a child is free only when its parents' checkpoints say done.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from daemon.core.checkpoint import Checkpoint, CheckpointState, Fence
from daemon.core.identity import Generation, Scope
from daemon.core.lineage import ShardNode, ready

_NONCE_CHARACTERS = 12
_DECLINED_LEASES = 5.0
"""For how many leases a replica that let a shard lie is not thought of for it."""
_GONE_LEASES = 10.0
"""After how many leases without a beat the presence of a replica is removed."""
_UNEVEN = 2
"""A smaller difference would only change hands with the move, and move for ever."""


def owner_name(replica: str, unique: str) -> str:
    """Name an actor's start: the replica and what makes it unique, at most 36 characters for a replica of 23."""
    return f"{replica}/{unique[-_NONCE_CHARACTERS:]}"


def replica_of(owner: str) -> str:
    """Return the replica that an owner belongs to."""
    return owner.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Claim:
    """Why a shard is taken from its owner: the lease as it stood when it was won. Without `over`: only a free shard."""

    over: Fence | None = None

    def holds(self, stands: Checkpoint | None, replica: str) -> bool:
        """Tell whether `replica` may take the shard as it stands now: free, its own, or as it was when won."""
        if stands is None or stands.owner is None or replica_of(stands.owner) == replica:
            return True
        return stands.fence == self.over


@dataclass(frozen=True, slots=True)
class Presence:
    """A replica makes itself known: `beat` rises while it lives, `runs` names what it can run (`followed`)."""

    replica: str
    beat: int
    runs: tuple[str, ...] = ()


def followed(generation: Generation, source: str) -> str:
    """Name a source that a generation follows, as presences do."""
    return f"{generation.label}:{source}"


def generation_of(followed_source: str) -> Generation:
    """Return the generation in what `followed` named."""
    name, _, number = followed_source.rpartition(":")[0].rpartition("-g")
    return Generation(name, int(number))


class Lease(NamedTuple):
    """What a checkpoint says of its owner."""

    fence: Fence
    owner: str | None
    done: bool

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Lease":
        """Read it off a checkpoint."""
        return cls(checkpoint.fence, checkpoint.owner, checkpoint.state is CheckpointState.DONE)


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """Times in seconds. `settle`: how long a surplus stands before it is given back."""

    lease: float = 10.0
    settle: float = 3.0

    @property
    def beat(self) -> float:
        """After how long without a commit an idle owner renews its lease, and a replica its presence."""
        return self.lease / 3


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw. `began` and `ended` on the looker's monotonic clock, in seconds.

    `shards` are those that each source lists, `leases` of every scope that was ever taken, of all generations that this
    replica or a present one runs: what a replica runs beyond this one's code is part of its load.
    """

    began: float
    ended: float
    shards: Mapping[str, Sequence[ShardNode]]
    leases: Mapping[Scope, Lease]
    presences: Mapping[str, Presence]


@dataclass(frozen=True, slots=True)
class Won:
    """A shard to take. `renewed`: it was had before."""

    scope: Scope
    claim: Claim
    renewed: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after a look: shards to take, to give back (or to let go: others took them), dead presences."""

    take: tuple[Won, ...] = ()
    give_back: tuple[Scope, ...] = ()
    gone: tuple[str, ...] = ()


class _Seen[T](NamedTuple):
    value: T
    since: float


@dataclass(slots=True)
class LeaseBook:
    """What one replica remembers of its looks, and which shards it runs.

    `follows` maps the generations it has code for to the names of their sources.
    """

    replica: str
    follows: Mapping[Generation, Sequence[str]]
    policy: LeasePolicy
    _leases: dict[Scope, _Seen[Lease | None]] = field(default_factory=dict[Scope, "_Seen[Lease | None]"])
    _presences: dict[str, _Seen[Presence]] = field(default_factory=dict[str, "_Seen[Presence]"])
    _claims: dict[Scope, Fence | None] = field(default_factory=dict[Scope, "Fence | None"])
    _leaving: set[Scope] = field(default_factory=set[Scope])
    _ever: set[Scope] = field(default_factory=set[Scope])
    _declined: dict[tuple[Scope, str], float] = field(default_factory=dict[tuple[Scope, str], float])
    _surplus_since: float | None = None

    @property
    def claimed(self) -> Collection[Scope]:
        """The scopes that are granted here and were not released."""
        return self._claims.keys()

    def presence(self, beat: int, sources: Collection[str]) -> Presence:
        """Return this replica's own presence, when those sources list shards here."""
        runs = [
            followed(generation, name)
            for generation, names in self.follows.items()
            for name in names
            if name in sources
        ]
        return Presence(self.replica, beat, tuple(sorted(runs)))

    def released(self, scope: Scope) -> None:
        """Note that a scope is not run here any more, whatever the reason."""
        self._claims.pop(scope, None)
        self._leaving.discard(scope)

    def open_scopes(self, look: Look) -> list[Scope]:
        """Return every scope that should be run somewhere: listed, not done, its parents done."""
        scopes: list[Scope] = []
        for generation, names in self.follows.items():
            for name in names:
                done = {
                    scope.shard
                    for scope, lease in look.leases.items()
                    if lease.done and scope.of == generation and scope.source == name
                }
                scopes += [Scope(*generation, name, shard) for shard in ready(look.shards.get(name, ()), done)]
        return scopes

    def decide(self, look: Look) -> Decision:
        """Take a look in and decide. What is to be taken counts as run here until it is `released`."""
        scopes = self.open_scopes(look)
        scopes += [scope for scope, lease in look.leases.items() if not lease.done and scope.of not in self.follows]
        self._leases = _seen(self._leases, {scope: look.leases.get(scope) for scope in scopes}, look.ended)
        self._presences = _seen(self._presences, look.presences, look.ended)
        now = look.began
        replicas = {
            name: seen.value.runs for name, seen in self._presences.items() if now - seen.since < self.policy.lease
        }
        replicas[self.replica] = self.presence(0, look.shards.keys()).runs
        held, free = self._holders(scopes, replicas, now)
        self._declined = {what: until for what, until in self._declined.items() if until > now}
        plan = share([*held, *free], held, replicas, self._declined.keys())
        take = [self._win(scope) for scope in scopes if scope in free and self._is_mine(scope, plan, replicas, now)]
        gone = [
            name
            for name, seen in self._presences.items()
            if name != self.replica and now - seen.since >= _GONE_LEASES * self.policy.lease
        ]
        return Decision(tuple(take), tuple(self._lost() + self._surplus(plan, now)), tuple(gone))

    def _holders(
        self, scopes: Sequence[Scope], replicas: Mapping[str, Collection[str]], now: float
    ) -> tuple[dict[Scope, str], set[Scope]]:
        """Return who holds what, and what nobody does. What a stranger holds (not present) is in neither."""
        held: dict[Scope, str] = {}
        free: set[Scope] = set()
        for scope in scopes:
            lease, since = self._leases[scope]
            owner = None if lease is None else lease.owner
            holder = None if owner is None else replica_of(owner)
            if scope in self._claims:
                held[scope] = self.replica
            elif holder is None or holder == self.replica:
                free.add(scope)
            elif now - since >= self.policy.lease:
                free.add(scope)
                if holder in replicas:
                    self._declined[scope, holder] = now + _DECLINED_LEASES * self.policy.lease
            elif holder in replicas:
                held[scope] = holder
        return held, free

    def _is_mine(
        self, scope: Scope, plan: Mapping[Scope, str], replicas: Mapping[str, Collection[str]], now: float
    ) -> bool:
        """Tell whether a free shard is to be taken here: by plan, or because whoever should take it lets it lie."""
        planned = plan.get(scope)
        if planned == self.replica or planned is None:
            return planned is not None
        lies = now - self._leases[scope].since >= self.policy.lease + self.policy.beat
        if not lies or followed(scope.of, scope.source) not in replicas[self.replica]:
            return False
        self._declined[scope, planned] = now + _DECLINED_LEASES * self.policy.lease
        return True

    def _win(self, scope: Scope) -> Won:
        lease = self._leases[scope].value
        renewed = scope in self._ever
        self._ever.add(scope)
        self._claims[scope] = None if lease is None else lease.fence
        return Won(scope, Claim(self._claims[scope]), renewed)

    def _lost(self) -> list[Scope]:
        """Return what runs here while another replica took it since: it will be fenced, sooner this way."""
        lost: list[Scope] = []
        for scope, won in self._claims.items():
            seen = self._leases.get(scope)
            lease = None if seen is None else seen.value
            if lease is None or lease.owner is None or scope in self._leaving:
                continue
            if replica_of(lease.owner) != self.replica and lease.fence.epoch > (won.epoch if won else 0):
                lost.append(scope)
        self._leaving.update(lost)
        return lost

    def _surplus(self, plan: Mapping[Scope, str], now: float) -> list[Scope]:
        """Return what is to be given back now."""
        surplus = [
            scope
            for scope in self._claims
            if scope not in self._leaving and plan.get(scope, self.replica) != self.replica
        ]
        if not surplus:
            self._surplus_since = None
            return []
        if self._surplus_since is None:
            self._surplus_since = now
        if now - self._surplus_since < self.policy.settle:
            return []
        self._surplus_since = None
        self._leaving.update(surplus)
        return surplus


def _seen[K, T](before: Mapping[K, _Seen[T]], found: Mapping[K, T], at: float) -> dict[K, _Seen[T]]:
    """Return what is seen now; what did not change keeps the time since when it stands so."""
    seen: dict[K, _Seen[T]] = {}
    for key, value in found.items():
        known = before.get(key)
        seen[key] = known if known is not None and known.value == value else _Seen(value, at)
    return seen


# Dividing


@dataclass(slots=True)
class _Division:
    replicas: Mapping[str, Collection[str]]
    declined: Collection[tuple[Scope, str]]
    plan: dict[Scope, str] = field(default_factory=dict[Scope, str])
    load: Counter[str] = field(default_factory=Counter[str])
    within: Counter[tuple[str, Generation]] = field(default_factory=Counter[tuple[str, Generation]])

    def may_run(self, replica: str, scope: Scope) -> bool:
        runs = followed(scope.of, scope.source) in self.replicas[replica]
        return runs and (scope, replica) not in self.declined

    def give(self, scope: Scope, replica: str) -> None:
        before = self.plan.get(scope)
        if before is not None:
            self.load[before] -= 1
            self.within[before, scope.of] -= 1
        self.plan[scope] = replica
        self.load[replica] += 1
        self.within[replica, scope.of] += 1

    def place(self, scope: Scope) -> None:
        """Give a free shard to the least loaded."""
        able = [replica for replica in self.replicas if self.may_run(replica, scope)]
        if able:
            self.give(scope, min(able, key=lambda one: (self.load[one], self.within[one, scope.of], one)))

    def move(self) -> bool:
        """Move one shard from a replica to one that has at least two fewer; False where there is none to move."""
        for to in sorted(self.replicas, key=lambda one: (self.load[one], one)):
            for giver in sorted(self.replicas, key=lambda one: (-self.load[one], one)):
                if self.load[giver] - self.load[to] < _UNEVEN:
                    break
                movable = [scope for scope, one in self.plan.items() if one == giver and self.may_run(to, scope)]
                if movable:
                    self.give(max(movable, key=lambda scope: (self._lean(giver, to, scope.of), scope)), to)
                    return True
        return False

    def _lean(self, giver: str, to: str, generation: Generation) -> int:
        """How much more of a generation one has: the most uneven is moved first."""
        return self.within[giver, generation] - self.within[to, generation]


def share(
    scopes: Sequence[Scope],
    held: Mapping[Scope, str],
    replicas: Mapping[str, Collection[str]],
    declined: Collection[tuple[Scope, str]] = (),
) -> dict[Scope, str]:
    """Divide `scopes` between `replicas` (what each can run): who should have what.

    `held` says who has what now. A replica is not given a scope that it `declined`. A scope that none can run is left
    out. The answer depends on nothing but the arguments' contents, so replicas that see the same divide alike.
    """
    division = _Division(replicas, declined)
    for scope in sorted(scopes):
        if scope in held:
            division.give(scope, held[scope])
    for scope in sorted(scopes):
        if scope not in held:
            division.place(scope)
    while division.move():
        pass
    return division.plan
