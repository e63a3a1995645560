"""What a seed comes to: a log, replicas, a store, and which faults exist in this run at all.

Swarm testing: each seed first draws the kinds of faults that exist and how often they strike, so that some runs meet
one kind alone and often, others many at once. Must not know how a fault is carried out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from tests.support.ledger import MODES, Line, write_log

_DRAWN = (
    "crash", "pause", "crash-at-request", "pause-at-request", "delay", "lost-answer", "dropped", "duplicate",
    "throttle", "conflict", "partial", "error", "retire", "torn", "log-away", "commands", "deploy", "gaps",
)  # fmt: skip
KINDS = (*_DRAWN, "stall")
"""Faults of the world: of replicas, of their way to the store, of the log, and people's commands."""
COMMANDS = (
    "pause", "resume", "drain", "restart", "rewind", "replay", "abort", "retry", "discard", "release", "skip",
)  # fmt: skip
_STALLED = {True: 0.9, False: 0.2}
"""How many runs of the store in memory know commits that are held and overtaken: a lone replica or several."""
_LONE = 0.75
"""How many single replicas know no leases."""
_STALL_RATES = (0.03, 0.1, 0.25)
_RATES = (0.01, 0.03, 0.1, 0.25)
_DEADLY_RATES = (0.005, 0.02)
_DEADLY = frozenset({"crash-at-request", "pause-at-request"})
_BATCHES = (3, 5, 12)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A line of a shard's log, and when it appears there (virtual seconds)."""

    at: float
    shard: str
    line: Line
    position: int


@dataclass(frozen=True, slots=True)
class Disaster:
    """Something that happens to a replica: `crash`, `pause` or `retire` (a graceful end), for so many seconds."""

    at: float
    kind: str
    replica: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """A command that somebody gives to a replica, about one shard or (None) all.

    `share`: which place it names, as a part of what there is.
    """

    at: float
    name: str
    replica: int
    shard: str | None
    share: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `rates`: faults that exist and how likely one strikes each request. Times in virtual seconds."""

    seed: int
    store: str
    mode: str
    replicas: int
    shards: tuple[str, ...]
    batch: int
    arrivals: tuple[Arrival, ...]
    rates: dict[str, float]
    disasters: tuple[Disaster, ...]
    faults_end: float
    late_by: tuple[float, ...]
    lasting_names: bool
    """Whether a replica that starts again has the name it had."""
    skews: tuple[float, ...]
    """By how much each replica's wall clock is wrong."""
    asks: tuple[Ask, ...] = ()
    parks: bool = False
    """Whether a failing event parks its key, rather than becoming a dead letter."""
    deploy_at: float | None = None
    """From when on replicas start with code in which no event is poison."""
    solo: bool = False
    """Whether the one replica takes every shard as its own, without leases: nobody grants it twice what it lost."""
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The shards that each shard continues: they end, and it may begin only then."""
    most_actions: int | None = None
    """What one transaction of the store in memory takes."""
    short: bool = False

    @property
    def plain(self) -> bool:
        """Whether every event has to be applied in the order of its log, so that the plain fold of it is the end."""
        swayed = {"skip", "discard", *(("release", "retry", "rewind", "replay") if self.deploy_at is not None else ())}
        return not (self.parks or self.deploy_at is not None or any(ask.name in swayed for ask in self.asks))

    def told(self) -> str:
        """Describe it in a line."""
        kinds = ", ".join(f"{kind} {rate:g}" for kind, rate in self.rates.items())
        return (
            f"seed {self.seed}: {self.store}, dedup {self.mode}, {self.replicas} replicas, {len(self.shards)} shards, "
            f"{len(self.arrivals)} events, batches of {self.batch}, {len(self.disasters)} disasters, "
            f"{len(self.asks)} commands, {'parks keys' if self.parks else 'dead letters'}"
            f"{', solo' * self.solo}{', a tree of shards' * bool(self.parents)}; "
            f"{kinds or 'no faults'}"
        )


class Size(NamedTuple):
    """How much a run holds, at most or one of these."""

    shards: int = 3
    replicas: tuple[int, ...] = (1, 2, 3, 3)
    lines: tuple[int, int] = (15, 45)
    ends: tuple[float, ...] = (20.0, 40.0, 80.0)
    asks: tuple[int, ...] = (1, 3, 8, 15)


_WHOLE = Size()
_SHORT = Size(shards=2, replicas=(1, 2), lines=(8, 16), ends=(10.0, 20.0), asks=(1, 3))


def plan_of(seed: int, *, short: bool = False) -> Plan:
    """Draw the plan of a seed; a short one has the same faults, and fewer replicas, shards and events."""
    chance, size = Random(f"plan {seed}"), _SHORT if short else _WHOLE
    mode = chance.choice(MODES)
    shards = tuple(f"s{n}" for n in range(chance.randint(1, size.shards)))
    replicas = chance.choice(size.replicas)
    rates = _rates(chance)
    faults_end = chance.choice(size.ends)
    world, stalls = Random(f"world {seed}"), Random(f"stall {seed}")
    solo = replicas == 1 and world.random() < _LONE
    if seed % 2 == 0 and stalls.random() < _STALLED[solo]:
        rates["stall"] = stalls.choice(_STALL_RATES)
    return Plan(
        seed=seed,
        store="dynamodb" if seed % 2 else "memory",
        mode=mode,
        replicas=replicas,
        shards=shards,
        batch=chance.choice(_BATCHES),
        arrivals=_arrivals(chance, mode, shards, faults_end, lines=size.lines, gaps=0.3 if "gaps" in rates else 0.0),
        rates=rates,
        disasters=_disasters(chance, rates, replicas, faults_end),
        faults_end=faults_end,
        late_by=chance.choice(((0.05, 1.0), (1.0, 15.0, 60.0), (0.2, 590.0, 700.0))),
        lasting_names=chance.random() < 0.5,
        skews=tuple(chance.choice((0.0, chance.uniform(-3600.0, 3600.0))) for _ in range(replicas)),
        asks=_asks(chance, mode, shards, replicas, faults_end, size.asks) if "commands" in rates else (),
        parks=chance.random() < 0.25,
        deploy_at=chance.uniform(0.0, faults_end) if "deploy" in rates else None,
        solo=solo,
        parents=_tree(world, shards) if world.random() < 0.3 else {},
        most_actions=world.choice((None, 8, 20)),
        short=short,
    )


def _tree(chance: Random, shards: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Let each shard but the first continue one or two before it: splits and merges."""
    return {
        shard: tuple(sorted(chance.sample(shards[:number], chance.randint(1, min(2, number)))))
        for number, shard in enumerate(shards)
        if number
    }


def _asks(
    chance: Random, mode: str, shards: tuple[str, ...], replicas: int, end: float, counts: tuple[int, ...]
) -> tuple[Ask, ...]:
    """Draw commands: a few kinds of them, or all. A skip leaves a gap that sequence numbers rightly refuse."""
    kinds = [name for name in COMMANDS if name != "skip" or mode != "sequence"]
    kinds = chance.sample(kinds, chance.choice((1, 2, 4, len(kinds))))
    drawn = [
        Ask(
            chance.uniform(0.0, end), chance.choice(kinds), chance.randrange(replicas),
            chance.choice((None, *shards)), chance.random(),
        )
        for _ in range(chance.choice(counts))
    ]  # fmt: skip
    return tuple(sorted(drawn, key=lambda ask: ask.at))


def _rates(chance: Random) -> dict[str, float]:
    """Draw which kinds exist: none, one, some or most of them."""
    share = chance.choice((0.0, 0.1, 0.25, 0.5, 0.8))
    kinds = [kind for kind in _DRAWN if chance.random() < share] or [chance.choice(_DRAWN)] * (share > 0)
    return {kind: chance.choice(_DEADLY_RATES if kind in _DEADLY else _RATES) for kind in kinds}


def _arrivals(
    chance: Random, mode: str, shards: tuple[str, ...], end: float, *, lines: tuple[int, int], gaps: float
) -> tuple[Arrival, ...]:
    """Write the log, with ids that come again: at once, later, and (where that can be told) in another shard.

    `gaps`: how likely positions without a record lie before a line, as aborted data and control records leave them.
    """
    unfit = {chance.randrange(5, 30): "poison"} if chance.random() < 0.5 else {}
    duplicates = chance.choice((0.0, 0.05, 0.3))
    logs = write_log(
        chance.randint(*lines), seed=chance.getrandbits(32), shards=shards, accounts=chance.choice((2, 8)),
        duplicates=duplicates, unfit=unfit,
    )  # fmt: skip
    if mode == "event":
        for shard, log in logs.items():
            _share(chance, shard, log, logs, duplicates)
    arrivals: list[Arrival] = []
    for shard, log in logs.items():
        at, position = 0.0, 0
        for line in log:
            at += chance.choice((0.0, 0.0, 0.0, chance.expovariate(len(log) / end)))
            position += 1 + (chance.randint(1, 5) if gaps and chance.random() < gaps else 0)
            arrivals.append(Arrival(at, shard, line, position))
    return tuple(sorted(arrivals, key=lambda arrival: arrival.at))


def _share(chance: Random, shard: str, lines: list[Line], logs: dict[str, list[Line]], rate: float) -> None:
    """Add events that do nothing but add to sums, and repeat them anywhere: their marker alone tells them apart."""
    for number in range(chance.randint(0, 10)):
        line = Line(f"{shard}-c{number}", f"{shard}-shared", 5 * number + 1, number, "shared")
        lines.insert(chance.randint(0, len(lines)), line)
        for _ in range(1 + (chance.random() < rate)):
            other = logs[chance.choice(list(logs))]
            other.insert(chance.randint(0, len(other)), line)


def _disasters(chance: Random, rates: dict[str, float], replicas: int, end: float) -> tuple[Disaster, ...]:
    lasting = {"crash": (0.0, 1.0, 15.0), "pause": (0.5, 5.0, 14.0, 40.0), "retire": (0.0, 3.0, 20.0)}
    drawn = [
        Disaster(chance.uniform(0, end), kind, chance.randrange(replicas), chance.choice(seconds))
        for kind, seconds in lasting.items()
        if kind in rates
        for _ in range(chance.randint(1, 4))
    ]
    return tuple(sorted(drawn, key=lambda disaster: disaster.at))
