"""The exit codes of `projectiond` and `projectionctl`: one table, shown in `--help`.

Owns the numbers and their meaning, and which error leads to which. Invariant: a number never changes its meaning; the
two commands share them.
"""

from enum import IntEnum
from types import MappingProxyType
from typing import Self

from daemon.core.errors import ProjectiondError, ProjectionProblem, Remedy, SettingsProblem


class ExitCode(IntEnum):
    """How a command ended. `meaning` says it for people, in a line of the help."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        """Keep the sentence beside the number."""
        code = int.__new__(cls, number)
        code._value_ = number
        code.meaning = meaning
        return code

    DONE = 0, "done; a daemon that was told to stop has drained"
    ATTENTION = 1, "a person is needed: a shard is parked (run --once), a row wrong (demo)"
    INVALID = 2, "wrong command line, settings or projections; nothing was started"
    REFUSED = 3, "store or log refuse: rights, damage, a newer version, a foreign file"
    PENDING = 4, "not finished in time; nothing is lost, the next start goes on"
    UNREACHABLE = 5, "store, log or stdout locked, full or away; try it again later"
    BUG = 70, "a bug outside every shard; the report is on stderr"
    SIGNALLED = 130, "a second signal ended it; nothing is lost, the next start goes on"
    UNREAD = 141, "whoever read stdout left before its end; what was committed stays"


_BY_REMEDY = MappingProxyType({
    Remedy.NOTHING: ExitCode.REFUSED,
    Remedy.WAIT: ExitCode.UNREACHABLE,
    Remedy.FREE_SPACE: ExitCode.UNREACHABLE,
    Remedy.FIX_SETTINGS: ExitCode.REFUSED,
    Remedy.FIX_PROJECTION: ExitCode.REFUSED,
    Remedy.FIX_DATA: ExitCode.REFUSED,
    Remedy.RESTORE: ExitCode.REFUSED,
    Remedy.DECIDE: ExitCode.REFUSED,
    Remedy.REPORT: ExitCode.BUG,
})  # fmt: skip


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code that an error leads to; whatever is not of our tree is a bug."""
    if isinstance(error, SettingsProblem | ProjectionProblem):
        return ExitCode.INVALID
    if isinstance(error, ProjectiondError):
        return _BY_REMEDY[error.remedy]
    return ExitCode.BUG
