"""What must hold after every single change of the store, whoever made it. Knows stored values, not how they came.

Invariants watched: a checkpoint moves one step at a time; under one epoch it has one owner; raising the epoch changes
nothing else; no position goes back; `read` is the sum of what became of the events; the sums that every event adds to
hold exactly the events that are counted as applied, at any moment; no replica takes for committed what the store never
held; a shard is taken only once those that it continues are done; and each commit put into the rows what it settled,
in the order of the log (`tests.simulation.order`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daemon.core.positions import Position
from tests.simulation.order import Log, Order, Waits

_FATES = (
    "applied", "duplicate_position", "duplicate_marker", "duplicate_version", "dead_lettered", "parked", "skipped",
)  # fmt: skip


class Violation(AssertionError):
    """Something that must hold did not."""


class Stand(NamedTuple):
    """A checkpoint as it stands in the store."""

    position: Position
    epoch: int
    commit_seq: int
    commit_id: str
    owner: str | None
    state: str
    counters: Mapping[str, int]
    caught_up: bool
    cursor: object = None
    """The second cursor, whatever it is made of."""


@dataclass(slots=True)
class Watch:
    """Compares each stand of a checkpoint with the one before. `note` is told of each change."""

    note: Callable[[str, str], None]
    logs: Mapping[str, Log] = field(default_factory=dict[str, Log])
    parents: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    stands: dict[str, Stand] = field(default_factory=dict[str, Stand])
    broken: list[str] = field(default_factory=list[str])
    changes: int = 0
    order: Order = field(init=False)
    _held: set[tuple[str, int, Position]] = field(default_factory=set[tuple[str, int, Position]])
    """Shards, epochs and positions of every stand there was."""

    def __post_init__(self) -> None:
        """Know the logs."""
        self.order = Order(self.logs, self.broke)

    def moved(self, shard: str, now: Stand, rows: Mapping[str, Sequence[str]], waits: Waits) -> None:
        """Take in a checkpoint that changed, with the rows of accounts that changed with it and what waits now."""
        before = self.stands.get(shard)
        if before is None:
            self._begins(shard)
        self.stands[shard] = now
        self._held.add((shard, now.epoch, now.position))
        self.changes += 1
        self.note("store", f"{shard} {_shown(now)}")
        for problem in _problems(before, now):
            self.broke(f"{shard}: {problem}; before {before}, now {now}")
        was, cursor = ((), None) if before is None else (before.position, before.cursor)
        self.order.committed(shard, was, now.position, rows, waits, redelivers=now.cursor != cursor)

    def _begins(self, shard: str) -> None:
        for parent in self.parents.get(shard, ()):
            stands = self.stands.get(parent)
            if stands is None or stands.state != "done":
                self.broke(f"{shard} is taken before {parent}, which it continues, is done: {stands}")

    def told(self, who: str, shard: str, epoch: int, position: Position) -> None:
        """Hold what a replica takes for committed against what the store ever held."""
        if (shard, epoch, position) not in self._held:
            self.broke(f"{shard}: {who} takes {position} under epoch {epoch} for committed; the store never held it")

    def summed(self, events: int) -> None:
        """Compare how many events the sums hold with how many are counted as applied."""
        applied = sum(stand.counters.get("applied", 0) for stand in self.stands.values())
        if events != applied:
            self.broke(f"the rows hold {events} events, {applied} are counted as applied")

    def broke(self, problem: str) -> None:
        """Keep a violation; the run ends by it."""
        self.broken.append(problem)
        self.note("VIOLATION", problem)

    @property
    def read(self) -> int:
        """How many records were settled."""
        return sum(stand.counters.get("read", 0) for stand in self.stands.values())


def _shown(stand: Stand) -> str:
    place = ".".join(map(str, stand.position)) or "start"
    counts = " ".join(f"{name}={count}" for name, count in stand.counters.items())
    return f"{stand.state} at {place}, epoch {stand.epoch}.{stand.commit_seq} of {stand.owner}: {counts}"


def _problems(before: Stand | None, now: Stand) -> list[str]:
    found: list[str] = []
    if now.counters.get("read", 0) != sum(now.counters.get(name, 0) for name in _FATES):
        found.append("`read` is not the sum of what became of the events")
    if before is None:
        return found
    if now.commit_seq != before.commit_seq + 1:
        found.append(f"commit_seq went from {before.commit_seq} to {now.commit_seq}")
    if now.position < before.position:
        found.append("its position went back")
    if now.epoch == before.epoch:
        if now.owner not in {before.owner, None}:
            found.append("another owner wrote under the same epoch")
        if before.owner is None:
            found.append("it was written after its owner had released it")
    elif now.epoch != before.epoch + 1:
        found.append(f"its epoch went from {before.epoch} to {now.epoch}: an old owner wrote")
    elif (now.position, now.counters, now.state) != (before.position, before.counters, before.state):
        found.append("taking it changed more than its owner")
    return found


def count_of(rows: Mapping[Any, Mapping[str, Any]]) -> int:
    """Return how many events the sums of the branches hold."""
    return int(sum(row["n"] for row in rows.values()))
