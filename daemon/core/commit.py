"""A commit: everything one transaction writes, and the values that answer it.

Invariants: a commit is frozen once made; the identical commit under the same `attempt` may be sent again after silence
and is applied at most once. All parts become visible together or not at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from daemon.core.checkpoint import Checkpoint, Fence
from daemon.core.identity import RowKey, Scope
from daemon.core.operations import ShardOutcome
from daemon.core.positions import Position
from daemon.core.rows import Effect, RowCheck, RowWrite
from daemon.core.waiting import LetterRef, ParkedRef, Ref, Settle, SkippedRange, Wish
from daemon.core.window import SegmentWrite

INLINE_PAYLOAD_BYTES = 256 * 1024
"""Largest payload kept whole in a dead letter, in bytes."""
EXCERPT_BYTES = 4 * 1024
"""What is kept of a larger one, in bytes."""


class MarkerWrite(NamedTuple):
    """An event marker: this id, with this payload digest (16 bytes), was applied."""

    event_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that will not be applied, kept with the reason. One per scope, position and event id.

    `payload` is the raw record, or its first 4 KB when `payload_size` (bytes) exceeds 256 KB; `payload_digest` covers
    it whole.
    """

    position: Position
    event_id: str
    key: str
    reason: str
    detail: str
    handler: str
    payload: bytes
    payload_size: int
    payload_digest: bytes
    at: datetime
    wish: Wish | None = None
    """What a person asked to be done with it, until the shard's owner has."""

    @property
    def ref(self) -> LetterRef:
        """Its name within its scope."""
        return LetterRef(self.position, self.event_id)


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that queues behind its parked key, in position order.

    `reason` and `detail` are set on the one that parked it.
    """

    key: str
    position: Position
    event_id: str
    payload: bytes
    reason: str
    detail: str
    at: datetime
    wish: Wish | None = None
    """Set while its key is being released."""

    @property
    def ref(self) -> ParkedRef:
        """Its name within its scope."""
        return ParkedRef(self.key, self.position, self.event_id)


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of one scope.

    `fence` is the checkpoint's condition, `checkpoint` its whole new value. `markers` must not exist yet.
    `markers_expire_at` is in epoch seconds. `settles` are waiting entries that must be there, and what becomes of them.
    `skips` are ranges that stand as skipped from now on, in place of any that end where they do. `outcomes` say what
    the shard makes of operations, in place of what it said of the same ones before.
    """

    scope: Scope
    fence: Fence
    checkpoint: Checkpoint
    rows: tuple[RowWrite, ...] = ()
    checks: tuple[RowCheck, ...] = ()
    markers: tuple[MarkerWrite, ...] = ()
    markers_expire_at: int = 0
    segment: SegmentWrite | None = None
    effects: tuple[Effect, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    parked: tuple[ParkedEvent, ...] = ()
    settles: tuple[Settle, ...] = ()
    skips: tuple[SkippedRange, ...] = ()
    outcomes: tuple[ShardOutcome, ...] = ()

    @property
    def commit_id(self) -> str:
        """The id that tells, on read-back, whether this very commit was applied."""
        return self.checkpoint.commit_id


type Action = (
    RowWrite
    | RowCheck
    | MarkerWrite
    | SegmentWrite
    | Effect
    | DeadLetter
    | ParkedEvent
    | Settle
    | SkippedRange
    | ShardOutcome
    | Checkpoint
)
"""One item that a transaction touches."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a store takes in one transaction; None means no limit.

    `measure` returns an action's stored size in bytes, and raises EventProblem for one that the store can never hold.
    `bound` returns a bound of all actions' sizes together at a glance, where they are surely such as the store can
    hold, or None where each has to be measured. `units` returns the write units that a commit will be billed for, by
    table kind, as far as can be told beforehand.
    """

    actions: int | None = None
    transaction_bytes: int | None = None
    item_bytes: int | None = None
    measure: Callable[[Action], int] | None = None
    bound: Callable[[Commit], int | None] | None = None
    units: Callable[[Commit], Mapping[str, float]] | None = None


# Outcomes


@dataclass(frozen=True, slots=True)
class Committed:
    """Applied, now or by an earlier delivery of the same commit.

    `consumed` counts store units by kind (empty: free). `size`: bytes of the transaction, 0 where the store does not
    say.
    """

    consumed: Mapping[str, float] = field(default_factory=dict[str, float])
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Nothing applied: these markers exist (event id to the payload digest they hold)."""

    markers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class RowMoved:
    """Nothing applied: these rows are not what the commit expected."""

    keys: frozenset[RowKey]


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Nothing applied: these waiting entries, which the commit settles, are not there (any more)."""

    refs: frozenset[Ref]


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing applied: the checkpoint moved under another hand.

    `checkpoint` is what stands there now, None if it is gone.
    """

    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing applied: conflict, throttle, lock. `retry_after` in seconds, None: back off as configured."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Nothing applied: the transaction or an item exceeds a limit that the planner did not foresee."""

    detail: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing applied: the store refuses some item of this commit as invalid."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer: it may have been applied or may yet be. Send the identical commit again, or take the shard again."""

    detail: str


type Outcome = Committed | Duplicate | RowMoved | Unlisted | Fenced | Busy | TooLarge | Rejected | Unknown
