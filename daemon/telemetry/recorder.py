"""The recorder: an observer that adds facts up into the numbers of metrics.

Owns the counters and histograms. Must not know how they are written (`daemon.telemetry.exposition`), nor anything that
is only true now (`daemon.ports.vitals`).

Invariants: a fact costs a few additions to one list, found once for its scope, whatever the number of its events; no
label is looked up or formatted here. Numbers are kept for as long as the process runs, so that a counter never falls.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from daemon.core.cursor import Redelivery
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.ports.observer import (
    BatchCommitted,
    CodeChanged,
    CommandAnswered,
    CommitDelayed,
    CommitRefused,
    EventsDeadLettered,
    Fact,
    GenerationNotRun,
    KeysParked,
    PayloadConflict,
    RedeliveryProgress,
    RowShared,
    ShardChanged,
    ShardRestarted,
    UnitsConsumed,
    WaitingSettled,
)
from daemon.telemetry.catalog import (
    BY_NAME,
    FAMILIES,
    GENERATION,
    MAX_OPEN,
    OTHER,
    OUTCOMES,
    REDELIVERED,
    SHARD,
    UNIT_KINDS,
    WAITED,
    Bounds,
    Kind,
    layout,
)

_RECORDED = [family for family in FAMILIES if family.kind is not Kind.GAUGE and family.sets is not None]
SHARD_SLOTS, SHARD_LENGTH = layout([family for family in _RECORDED if family.labels == SHARD])
GENERATION_SLOTS, GENERATION_LENGTH = layout([family for family in _RECORDED if family.labels == GENERATION])

_AT = SHARD_SLOTS
_COUNTS = {
    "read": _AT["events_read_total"],
    "applied": _AT["events_applied_total"],
    "duplicate_position": _AT["events_duplicate_total"],
    "duplicate_marker": _AT["events_duplicate_total"] + 1,
    "duplicate_version": _AT["events_duplicate_total"] + 2,
    "dead_lettered": _AT["events_dead_lettered_total"],
    "parked": _AT["events_parked_total"],
    "skipped": _AT["events_skipped_total"],
    "rows": _AT["rows_written_total"],
    "effects": _AT["effects_total"],
}
"""Where a checkpoint's counters are added."""
_COMMITS, _RETRIES = _AT["commits_total"], _AT["commit_retries_total"]
_OUTCOME = {
    "".join(word.capitalize() for word in name.split("_")): _COMMITS + index for index, name in enumerate(OUTCOMES)
}
"""Where an outcome is counted, by its class's name."""
_ACTIONS, _BYTES = _AT["commit_actions_total"], _AT["commit_bytes_total"]
_SECONDS, _AGE = _AT["commit_seconds"], _AT["event_to_commit_seconds"]
_AGAIN = {name: _AT["redelivered_events_total"] + index for index, name in enumerate(REDELIVERED)}
_WAITED = {name: _AT["waiting_settled_total"] + index for index, name in enumerate(WAITED)}
_HITS = _AT["row_cache_requests_total"]
_SECONDS_BOUNDS, _AGE_BOUNDS = BY_NAME["commit_seconds"].bounds, BY_NAME["event_to_commit_seconds"].bounds

_OF = GENERATION_SLOTS
_BATCH_EVENTS, _EVENTS_BOUNDS = _OF["batch_events"], BY_NAME["batch_events"].bounds
_BATCH_ACTIONS, _ACTIONS_BOUNDS = _OF["batch_actions"], BY_NAME["batch_actions"].bounds
_BATCH_BYTES, _BYTES_BOUNDS = _OF["batch_bytes"], BY_NAME["batch_bytes"].bounds
_PREFIX = {"read": "rcu", "write": "wcu"}
_UNITS = {
    f"{_PREFIX[operation]}:{kind}": _OF["store_units_total"] + index
    for index, (operation, kind) in enumerate(UNIT_KINDS)
}
NOBODYS = Generation("", 0)
"""Stands for what belongs to no projection."""


def observe(numbers: list[float], start: int, bounds: Bounds, value: float) -> None:
    """Add one observation to the histogram that begins at `start`."""
    numbers[start + bisect_left(bounds, value)] += 1
    numbers[start + len(bounds) + 1] += value


class Recorder:
    """See the module."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.shards: dict[Scope, list[float]] = {}
        self._both: dict[Scope, tuple[list[float], list[float]]] = {}
        self.generations: dict[Generation, list[float]] = {}
        self.dead_letters: dict[Generation, Counter[tuple[str, ...]]] = {}
        self.commands: Counter[tuple[str, ...]] = Counter()
        self.not_run: set[Generation] = set()
        self.redeliveries: dict[Scope, Redelivery] = {}
        self._epochs: dict[Scope, int] = {}

    def see(self, fact: Fact) -> None:
        """Add a fact up; one that no metric is about is passed over."""
        add = _ADDERS.get(type(fact))
        if add is not None:
            add(self, fact)

    def shard(self, scope: Scope) -> list[float]:
        """Return a shard's numbers, to be added to."""
        numbers = self.shards.get(scope)
        if numbers is None:
            numbers = self.shards[scope] = [0] * SHARD_LENGTH
        return numbers

    def generation(self, generation: Generation) -> list[float]:
        """Return a generation's numbers, to be added to."""
        numbers = self.generations.get(generation)
        if numbers is None:
            numbers = self.generations[generation] = [0] * GENERATION_LENGTH
        return numbers

    def committed(self, fact: BatchCommitted) -> None:
        """Add a settled commit."""
        both = self._both.get(fact.scope)
        if both is None:
            both = self._both[fact.scope] = self.shard(fact.scope), self.generation(fact.scope.of)
        (numbers, whole), counts = both, fact.counts
        for name, count in counts.items():
            slot = _COUNTS.get(name)
            if slot is not None:
                numbers[slot] += count
        numbers[_COMMITS] += 1
        numbers[_ACTIONS] += fact.actions
        numbers[_BYTES] += fact.size
        numbers[_HITS] += fact.hits
        numbers[_HITS + 1] += fact.misses
        observe(numbers, _SECONDS, _SECONDS_BOUNDS, fact.seconds)
        if fact.oldest is not None and fact.settled_at is not None:
            age = (fact.settled_at - fact.oldest).total_seconds()
            observe(numbers, _AGE, _AGE_BOUNDS, max(0.0, age))
        events = counts.get("read")
        if events:
            observe(whole, _BATCH_EVENTS, _EVENTS_BOUNDS, events)
        observe(whole, _BATCH_ACTIONS, _ACTIONS_BOUNDS, fact.actions)
        if fact.size:
            observe(whole, _BATCH_BYTES, _BYTES_BOUNDS, fact.size)
        if fact.consumed:
            _add_units(whole, fact.consumed)

    def consumed(self, fact: UnitsConsumed) -> None:
        """Add units that were billed outside a commit."""
        _add_units(self.generation(fact.generation or NOBODYS), fact.consumed)

    def delayed(self, fact: CommitDelayed) -> None:
        """Count a commit that will be sent again."""
        numbers = self.shard(fact.scope)
        numbers[_OUTCOME[fact.outcome]] += 1
        numbers[_RETRIES] += 1

    def refused(self, fact: CommitRefused) -> None:
        """Count a commit that was not applied."""
        self.shard(fact.scope)[_OUTCOME[fact.outcome]] += 1

    def changed(self, fact: ShardChanged) -> None:
        """Count takes under a new epoch, and fences."""
        numbers = self.shard(fact.scope)
        if fact.after is ShardState.FENCED and fact.before is not ShardState.FENCED:
            numbers[_AT["shard_fenced_total"]] += 1
        if fact.epoch > self._epochs.get(fact.scope, 0):
            self._epochs[fact.scope] = fact.epoch
            numbers[_AT["epoch_changes_total"]] += 1

    def dead_lettered(self, fact: EventsDeadLettered) -> None:
        """Count dead letters by reason."""
        reasons = self.dead_letters.setdefault(fact.scope.of, Counter())
        for reason, count in fact.reasons.items():
            _count(reasons, (reason,), count)

    def redelivered(self, fact: RedeliveryProgress) -> None:
        """Add what became of a stretch of a range; keep how far it is."""
        self.redeliveries[fact.scope] = fact.cursor
        numbers = self.shard(fact.scope)
        for name, count in fact.counts.items():
            slot = _AGAIN.get("late" if name.startswith("late_") else name)
            if slot is not None:
                numbers[slot] += count

    def settled(self, fact: WaitingSettled) -> None:
        """Add what became of entries that waited."""
        numbers = self.shard(fact.scope)
        for name, count in fact.counts.items():
            slot = _WAITED.get(name)
            if slot is not None:
                numbers[slot] += count

    def answered(self, fact: CommandAnswered) -> None:
        """Count a command."""
        _count(self.commands, (fact.command, fact.outcome), 1)


def _add_units(numbers: list[float], consumed: Mapping[str, float]) -> None:
    for name, units in consumed.items():
        slot = _UNITS.get(name)
        if slot is not None:
            numbers[slot] += units


def _count(counter: Counter[tuple[str, ...]], values: tuple[str, ...], count: int) -> None:
    """Count under values that come from elsewhere; beyond `MAX_OPEN` of them under `OTHER`."""
    if values not in counter and len(counter) >= MAX_OPEN:
        values = (OTHER,) * len(values)
    counter[values] += count


def _adding(name: str, amount: Callable[[Any], int]) -> Callable[[Recorder, Any], None]:
    slot = SHARD_SLOTS[name]

    def add(recorder: Recorder, fact: Any) -> None:
        recorder.shard(fact.scope)[slot] += amount(fact)

    return add


def _one(_fact: object) -> int:
    return 1


def _its_count(fact: PayloadConflict | RowShared | KeysParked) -> int:
    return fact.count


def _not_run(recorder: Recorder, fact: GenerationNotRun) -> None:
    recorder.not_run.add(fact.generation)


_ADDERS: dict[type, Callable[[Recorder, Any], None]] = {
    BatchCommitted: Recorder.committed,
    UnitsConsumed: Recorder.consumed,
    CommitDelayed: Recorder.delayed,
    CommitRefused: Recorder.refused,
    ShardChanged: Recorder.changed,
    EventsDeadLettered: Recorder.dead_lettered,
    CommandAnswered: Recorder.answered,
    RedeliveryProgress: Recorder.redelivered,
    WaitingSettled: Recorder.settled,
    GenerationNotRun: _not_run,
    PayloadConflict: _adding("payload_conflicts_total", _its_count),
    RowShared: _adding("rows_shared_total", _its_count),
    KeysParked: _adding("keys_parked_total", _its_count),
    ShardRestarted: _adding("shard_restarts_total", _one),
    CodeChanged: _adding("code_changes_total", _one),
}
