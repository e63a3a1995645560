"""Vitals: how things stand now, read when somebody looks. What happened is told as facts (`daemon.ports.observer`).

Reading them costs the work nothing until it is done, so queue depths and the like are vitals and not facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from daemon.core.identity import Scope
from daemon.core.lifecycle import ShardState
from daemon.core.positions import Position


@dataclass(frozen=True, slots=True)
class ShardVitals:
    """One shard that runs here, or stands still here.

    `at_end`: everything that the log held when it was last looked at is settled. `settled`: events settled since the
    generation's origin. `waiting`, `waiting_bytes`: records read and not folded yet. `batches`: folded and not settled
    (0 to 2). `cached_rows`, `window_ids`, `parked_keys`: what is held in memory. `event_bytes`: of a record, on
    average. `position` None: not known here. `since`: since when it stands still, where it does; of a
    shard that follows its log and has settled nothing: the time of the first event that it read.
    """

    scope: Scope
    state: ShardState
    epoch: int = 0
    position: Position | None = None
    watermark: datetime | None = None
    at_end: bool = False
    settled: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    batches: int = 0
    cached_rows: int = 0
    window_ids: int = 0
    parked_keys: int = 0
    event_bytes: float | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class BudgetVitals:
    """A projection's budget: write units a second, the debt in seconds, and how many commits ran into debt."""

    projection: str
    units_per_second: float
    debt_seconds: float
    slowed: int


@dataclass(frozen=True, slots=True)
class SourceVitals:
    """One source. `hung`: by shard, how often a client that hung was made anew.

    `withheld`: by shard, positions passed over that gave no record: what an aborted transaction wrote, the marks of
    transactions, what compaction removed.
    """

    source: str
    hung: Mapping[str, int]
    withheld: Mapping[str, int]


@runtime_checkable
class TellsVitals(Protocol):
    """A source that has something to tell beside its log."""

    def vitals(self) -> SourceVitals:
        """Return it."""
        ...
