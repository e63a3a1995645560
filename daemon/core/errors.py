"""The error tree, grouped by what an operator must do about it.

Owns the base class of every error the daemon raises on purpose. Anything outside this tree that surfaces inside a
shard is a bug by definition and parks that shard (see `daemon.core.recovery`).

Invariant: a message names the value, the limit it broke, and the remedy.
"""

from enum import StrEnum
from typing import ClassVar


class Remedy(StrEnum):
    """What a person has to do before the condition goes away."""

    NOTHING = "nothing"
    """It passes by itself, or another replica already carries on."""
    WAIT = "wait"
    """A dependency is slow, locked or away; the daemon tries again."""
    FREE_SPACE = "free-space"
    """A disk or quota is full."""
    FIX_SETTINGS = "fix-settings"
    """The settings, the rights or the tables are wrong."""
    FIX_PROJECTION = "fix-projection"
    """The projection's code is wrong; deploy a corrected one."""
    FIX_DATA = "fix-data"
    """One event is wrong; it was dead-lettered or its key was parked."""
    RESTORE = "restore"
    """Stored state is damaged; restore it or rebuild the read model."""
    DECIDE = "decide"
    """The log lost something; only a person can say how to go on."""
    REPORT = "report"
    """A bug in projectiond itself."""


class ProjectiondError(Exception):
    """Root of the tree. `remedy` says which group of actions clears it."""

    remedy: ClassVar[Remedy] = Remedy.REPORT


class SettingsProblem(ProjectiondError):
    """The settings cannot be used as they stand."""

    remedy = Remedy.FIX_SETTINGS


class ProjectionProblem(ProjectiondError):
    """Projection code cannot be loaded or breaks the API's rules."""

    remedy = Remedy.FIX_PROJECTION


class EventProblem(ProjectiondError):
    """One event cannot be decoded, validated or applied.

    `reason` is a short stable code (`not-json`, `handler-raised`, ...) kept in the dead letter.
    """

    remedy = Remedy.FIX_DATA

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the stable code apart from the human sentence."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SourceProblem(ProjectiondError):
    """A log cannot be read."""

    remedy = Remedy.WAIT


class SourceUnavailable(SourceProblem):
    """The log does not answer now; reading it is tried again with back-off."""


class LogLost(SourceProblem):
    """The log no longer holds, at the checkpoint, what was applied from it: truncated, replaced or trimmed."""

    remedy = Remedy.DECIDE


class StoreProblem(ProjectiondError):
    """The store cannot be used."""

    remedy = Remedy.WAIT


class StoreUnavailable(StoreProblem):
    """The store is locked, throttled or away; tried again with back-off."""


class StoreFull(StoreProblem):
    """The disk or quota behind the store is full; nothing was lost, commits are tried again."""

    remedy = Remedy.FREE_SPACE


class RowsContended(StoreProblem):
    """Rows keep moving under the shard: another shard writes them otherwise than by `add` or a version vector."""

    remedy = Remedy.FIX_PROJECTION


class StoreRefused(StoreProblem):
    """The store refuses for a reason that names no item: rights, a missing table, a read-only file."""

    remedy = Remedy.FIX_SETTINGS


class StoreDamaged(StoreProblem):
    """The store's own state is corrupt."""

    remedy = Remedy.RESTORE


class StoreTooNew(StoreProblem):
    """The store was written by a newer projectiond than this one."""

    remedy = Remedy.FIX_SETTINGS


class OperationsMoved(StoreProblem):
    """A command was accepted since the operations were read: they are read again before the shard is taken."""

    remedy = Remedy.NOTHING


class Superseded(ProjectiondError):
    """Another owner raised the epoch; this incarnation of the shard ends and drops all memory."""

    remedy = Remedy.NOTHING

    def __init__(self, message: str, *, released: bool = False) -> None:
        """`released`: nobody owns the shard now (a command changed it), so it may be taken again."""
        super().__init__(message)
        self.released = released


class IllegalTransition(ProjectiondError):
    """A lifecycle was asked for a step its transition table does not have; nothing changed."""


class RefusalCode(StrEnum):
    """Why a command was not carried out, for machines."""

    USAGE = "usage"
    """The command is malformed, or its arguments make no sense together."""
    REFUSED = "refused"
    """What it found forbids it."""
    FORBIDDEN = "forbidden"
    """Whoever asks may not."""
    NOT_FOUND = "not-found"
    """It names something that is not there."""
    CONFLICT = "conflict"
    """Another command is under way that excludes it."""
    PENDING = "pending"
    """Accepted, and not finished in the time given."""
    BUSY = "busy"
    """Too much is being asked at once."""
    UNAVAILABLE = "unavailable"
    """A store or log does not answer now."""
    BUG = "bug"
    """A bug in projectiond itself."""


class CommandRefused(ProjectiondError):
    """A command that is not carried out. `reason` says why, `way_out` what to do about it."""

    remedy = Remedy.DECIDE

    def __init__(self, code: RefusalCode, reason: str, way_out: str) -> None:
        """Keep the code apart from the two sentences."""
        super().__init__(f"{reason}; {way_out}")
        self.code = code
        self.reason = reason
        self.way_out = way_out
