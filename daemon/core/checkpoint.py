"""The checkpoint: the single source of truth about one scope, and what becomes of it.

Invariant: every change is a compare-and-set on (`epoch`, `commit_seq`) that writes `commit_seq + 1` and a fresh
`commit_id`. A change of state, a release and a heartbeat are ordinary commits without rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from daemon.core.cursor import Redelivery
from daemon.core.errors import Superseded
from daemon.core.positions import START, Position


class CheckpointState(StrEnum):
    """What is persisted about a shard's life: it survives restarts and is obeyed by whoever takes the shard."""

    RUNNING = "running"
    PAUSED = "paused"
    PARKED = "parked"
    DONE = "done"
    """The shard ended and everything in it was settled; its children may begin."""


class Fence(NamedTuple):
    """What a checkpoint must still be for a commit to hold."""

    epoch: int
    commit_seq: int


UNTAKEN = Fence(0, 0)
"""Stands for a shard that was never taken."""

COUNTERS = (
    "read", "applied", "duplicate_position", "duplicate_marker", "duplicate_version",
    "dead_lettered", "parked", "skipped", "commits", "rows", "effects",
)  # fmt: skip
"""Names of a checkpoint's counters. `read` is the sum of applied, duplicate_*, dead_lettered, parked and skipped."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One scope's checkpoint.

    `position`: all at or below it is settled. `origin`: where the generation began. `owner`: unique per actor start,
    None when released. `reason`: why it is parked or paused, for people. `incarnation`: the log's identity, opaque to
    all but its source. `segment`, `segment_seq`: the newest packed segment and the commit that wrote it; `parked_seq`:
    the commit that last changed the parked keys: a new owner reads until it sees both. `dead_run`: dead letters in a
    row. `counters`: totals since the origin. `redelivery`: the second cursor, also once its work is done.
    `since`: when `state` last changed. `stuck_at`: the position of the record that a parked shard cannot go past.
    """

    position: Position = START
    origin: Position = START
    epoch: int = 0
    commit_seq: int = 0
    commit_id: str = ""
    owner: str | None = None
    state: CheckpointState = CheckpointState.RUNNING
    reason: str | None = None
    incarnation: str | None = None
    watermark: datetime | None = None
    caught_up: bool = False
    segment: int = -1
    segment_seq: int = 0
    parked_seq: int = 0
    dead_run: int = 0
    operation_seq: int = 0
    code_digest: str = ""
    counters: Mapping[str, int] = field(default_factory=dict[str, int])
    redelivery: Redelivery | None = None
    since: datetime | None = None
    stuck_at: Position | None = None

    @property
    def fence(self) -> Fence:
        """The condition that a commit on top of this checkpoint carries."""
        return Fence(self.epoch, self.commit_seq)

    def taken(self, owner: str) -> "Checkpoint":
        """Return the checkpoint after `owner` took the shard.

        The epoch rises, everything earlier owners send is void.
        """
        return replace(self, epoch=self.epoch + 1, commit_seq=self.commit_seq + 1, commit_id=owner, owner=owner)

    def next(self, commit_id: str) -> "Checkpoint":
        """Return the checkpoint one commit later; nothing else changes."""
        return replace(self, commit_seq=self.commit_seq + 1, commit_id=commit_id)


def stands_at(checkpoint: Checkpoint | None) -> Fence:
    """Return the fence at which a shard stands, never taken or not."""
    return UNTAKEN if checkpoint is None else checkpoint.fence


def check_over(label: str, stands: Checkpoint | None, over: Fence | None) -> None:
    """Raise Superseded where the shard `label` no longer stands at `over` (None: it may stand anywhere)."""
    if over is not None and stands_at(stands) != over:
        owner = None if stands is None else stands.owner
        raise Superseded(
            f"{label}: it was to be taken at {tuple(over)}, but stands at {tuple(stands_at(stands))}, "
            f"{'owned by nobody' if owner is None else f'owned by {owner}'}; whoever moved it carries on",
            released=stands is not None and owner is None,
        )


def counted(counters: Mapping[str, int], added: Mapping[str, int]) -> dict[str, int]:
    """Return `counters` with `added` on top; zero entries are left out."""
    total = dict(counters)
    for name, count in added.items():
        if count:
            total[name] = total.get(name, 0) + count
    return total
