"""What a projection gets for its `dedup`, in words and write units, for `projectiond check`.

Owns the sentences and the arithmetic. Units are DynamoDB's write units: an item of up to 1 KB written in a transaction
costs 2. Another store writes the same items; it only prices them differently.

Invariant: figures are upper bounds for rows and checkpoints of up to 1 KB; nothing is promised that a test does not
show.
"""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from daemon.core.projection import Dedup, OnError, OnGap, OnLate, ProjectionSpec
from daemon.core.window import ENTRY_BYTES, SEGMENT_BYTES

MILLION = 1_000_000
TRANSACTIONAL_UNITS = 2
"""Write units of one item of up to 1 KB in a transaction."""
MAX_ACTIONS = 100
"""Items that one transaction may write."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What holds for one projection.

    `promise`, `remains` (duplicates that still get through, and other limits) and `cost` are sentences. The units are
    for a million new events in commits of `events_per_commit`: markers, checkpoints, and rows at most (every event of a
    commit on another row; folding several into one row divides them).
    """

    promise: str
    remains: tuple[str, ...]
    cost: str
    events_per_commit: int
    marker_units: int
    checkpoint_units: int
    row_units_at_most: int

    def __str__(self) -> str:
        lines = [self.promise, *(f"but: {limit}" for limit in self.remains), f"cost: {self.cost}"]
        return "\n".join(lines)


def describe(spec: ProjectionSpec, events_per_commit: int = 45) -> Guarantee:
    """Say what `spec` guarantees and costs, in commits of so many events.

    The default is what fits one transaction of 100 items when every event touches another row and needs a marker.
    Raises ValueError below 1.
    """
    if events_per_commit < 1:
        raise ValueError(f"events_per_commit={events_per_commit} is below 1; a commit holds one event at least")
    commits = ceil(MILLION / events_per_commit)
    markers = _marker_units(spec, events_per_commit, commits)
    checkpoints = commits * TRANSACTIONAL_UNITS
    rows = MILLION * TRANSACTIONAL_UNITS
    cost = (
        f"per million events in commits of {events_per_commit}: {markers:,} write units for markers, "
        f"{checkpoints:,} for checkpoints, {rows:,} at most for rows (each event on another row)"
    )
    return Guarantee(
        _promise(spec), tuple(_remains(spec)), cost, events_per_commit, markers, checkpoints, rows
    )  # fmt: skip


def _marker_units(spec: ProjectionSpec, events_per_commit: int, commits: int) -> int:
    if spec.dedup is Dedup.EVENT:
        return MILLION * TRANSACTIONAL_UNITS
    if spec.dedup is Dedup.SHARD:
        # A commit rewrites the open segment with its own entries; beyond 1 KB it writes a larger one.
        size = max(SEGMENT_BYTES, events_per_commit * ENTRY_BYTES)
        return commits * TRANSACTIONAL_UNITS * ceil(size / 1024)
    return 0


def _promise(spec: ProjectionSpec) -> str:
    held = _time(spec.marker_retention)
    if spec.dedup is Dedup.EVENT:
        return f"each event id is applied once, from whatever shard or source it comes again, for {held}."
    if spec.dedup is Dedup.SHARD:
        return (
            f"each event id is applied once per shard: a repetition is stopped while the id is among the newest "
            f"{spec.marker_window:,} of its shard, for {held}."
        )
    start = "the first number seen" if spec.sequence_start is None else f"number {spec.sequence_start}"
    per = "each source's own number" if len(spec.sources) > 1 else "the entity's own number"
    gap = "parks the key" if spec.on_gap is OnGap.PARK else "makes the shard wait"
    return (
        f"each event is applied once and in order, by {per} kept in the row, from {start} on; a gap {gap}. "
        "What is stale or repeated is stopped however old it is."
    )


def _remains(spec: ProjectionSpec) -> list[str]:
    """Return what is not guaranteed."""
    limits: list[str] = []
    held = _time(spec.marker_retention)
    if spec.dedup is Dedup.SHARD:
        limits.append("the same id in another shard, or further back than the window, is applied again.")
    if spec.dedup is Dedup.SEQUENCE:
        limits.append(f"a deleted row is remembered for {held}; a repetition after that makes it anew.")
        if spec.sequence_start is None:
            limits.append("what precedes the first number seen of an entity is taken for stale.")
        if spec.expires is not None:
            limits.append(f"a row that expires ({_time(spec.expires)}) forgets its number.")
    elif spec.late is OnLate.APPLY:
        limits.append(f"an event more than {held} behind its shard's watermark is applied, and may be a repetition.")
    else:
        limits.append(f"an event more than {held} behind its shard's watermark is dead-lettered, not applied.")
    limits.append(
        {
            OnError.DEAD_LETTER: "an event whose handler raises is dead-lettered, and its key goes on without it.",
            OnError.PARK_KEY: "an event whose handler raises parks its key until a person decides.",
            OnError.PARK_SHARD: "an event whose handler raises parks its shard until a person decides.",
        }[spec.on_error]
    )
    return limits


def _time(length: timedelta) -> str:
    days, seconds = length.days, length.seconds
    if days and not seconds:
        return f"{days} day{'s' if days != 1 else ''}"
    return str(length)
