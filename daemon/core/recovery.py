"""What to do about each outcome, error and crash: pure decisions, so that each row of the table can be tested.

Invariants: a commit is never guessed about; back-off has full jitter; whether an error parks a shard depends on the
error tree alone, and anything outside the tree is a bug.
"""

from dataclasses import dataclass
from enum import StrEnum

from daemon.core.commit import (
    Busy,
    Committed,
    Duplicate,
    Fenced,
    Outcome,
    Rejected,
    RowMoved,
    TooLarge,
    Unknown,
    Unlisted,
)
from daemon.core.errors import (
    LogLost,
    ProjectiondError,
    ProjectionProblem,
    Remedy,
    SettingsProblem,
    SourceUnavailable,
    StoreDamaged,
    StoreFull,
    StoreTooNew,
    StoreUnavailable,
    Superseded,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Back-off and patience. Times in seconds."""

    initial_backoff: float = 0.05
    max_backoff: float = 10.0
    max_row_conflicts: int = 20
    unknown_window: float = 15.0
    """How long the identical commit may be sent again after silence."""
    max_restarts: int = 5
    restart_window: float = 300.0


def backoff(attempt: int, policy: RetryPolicy, draw: float) -> float:
    """Return the seconds to wait before try `attempt` (from 1): full jitter, `draw` in [0, 1)."""
    ceiling = min(policy.max_backoff, policy.initial_backoff * 2.0 ** min(attempt - 1, 30))
    return ceiling * draw


class Step(StrEnum):
    """What the actor does next about a commit."""

    SETTLE = "settle"
    """It is applied: go on."""
    REFOLD_WITHOUT = "refold-without"
    """Some events are duplicates: drop them and fold the rest again."""
    RELOAD = "reload"
    """Rows moved: read them again and fold again."""
    SEND_AGAIN = "send-again"
    """The same payload, as a new attempt, after back-off."""
    SEND_SAME = "send-same"
    """The identical request, same attempt: no answer came."""
    RETAKE = "retake"
    """Still no answer: take the shard again (epoch + 1), then read what happened."""
    HALVE = "halve"
    """Some event in it is bad: commit a smaller prefix."""
    DEAD_LETTER = "dead-letter"
    """It holds one event, which is the bad one."""
    END = "end"
    """Another owner: this incarnation ends and drops all memory."""
    TROUBLE = "trouble"
    """Give up this incarnation for now; the supervisor restarts it with back-off."""


def after_outcome(outcome: Outcome, *, events: int, row_conflicts: int, waited: float, policy: RetryPolicy) -> Step:
    """Decide about a commit of `events` events, after `row_conflicts` moved rows and `waited` s without an answer.

    A commit without events (a heartbeat, a release) that is refused accuses no event: trouble.
    """
    match outcome:
        case Committed():
            return Step.SETTLE
        case Duplicate():
            return Step.REFOLD_WITHOUT
        case Unlisted():
            return Step.RELOAD
        case RowMoved():
            return Step.RELOAD if row_conflicts <= policy.max_row_conflicts else Step.TROUBLE
        case Busy():
            return Step.SEND_AGAIN
        case Unknown():
            return Step.SEND_SAME if waited < policy.unknown_window else Step.RETAKE
        case TooLarge() | Rejected():
            return Step.HALVE if events > 1 else Step.DEAD_LETTER if events else Step.TROUBLE
        case Fenced():
            return Step.END


class Fate(StrEnum):
    """What becomes of a shard whose incarnation ended by an error."""

    RESTART = "restart"
    PARK = "park"
    PARK_AS_BUG = "park-as-bug"
    FENCED = "fenced"


def fate_of(error: BaseException, restarts: int, policy: RetryPolicy) -> Fate:
    """Decide about a shard after `restarts` restarts within the restart window.

    What only needs waiting is tried again for ever: parking every shard over an outage would turn it into work for a
    person.
    """
    if isinstance(error, Superseded):
        return Fate.RESTART if error.released else Fate.FENCED
    if not isinstance(error, ProjectiondError) or error.remedy is Remedy.REPORT:
        return Fate.PARK_AS_BUG
    if isinstance(error, LogLost | StoreDamaged | StoreTooNew | SettingsProblem | ProjectionProblem):
        return Fate.PARK
    if isinstance(error, StoreUnavailable | StoreFull | SourceUnavailable):
        return Fate.RESTART
    return Fate.RESTART if restarts < policy.max_restarts else Fate.PARK
