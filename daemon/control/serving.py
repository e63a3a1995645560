"""What stands between the socket and the engine: one request, on its way to whoever carries it out.

Owns the shape of that call and how errors become refusals. Must not know sockets or commands.

Invariant: whatever an executor raises becomes one failure with a code, a reason and a remedy; an error outside the tree
is a bug, and its words stay out of the answer, since they may quote a payload.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from daemon.control.frames import Failure
from daemon.control.peers import Access, Peer
from daemon.core.errors import CommandRefused, ProjectiondError, RefusalCode, Remedy

type Tell = Callable[[object], None]
"""Takes a progress value or a row; never waits, never fails."""


type Haste = Callable[[], AbstractContextManager[None]]
"""Has the daemon's other work make way for the time of a block, as far as it can."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request that may be carried out: its command, its checked arguments, who asked, under which id."""

    command: str
    arguments: Any
    by: Peer
    request: str


class Route(Protocol):
    """One command as the server knows it: its rights, whether it changes anything, and how its arguments are read."""

    @property
    def access(self) -> Access:
        """The right it needs."""
        ...

    @property
    def streams(self) -> bool:
        """Whether what it tells are rows, the content itself, rather than progress."""
        ...

    @property
    def lasting(self) -> bool:
        """Whether it goes on when its client has gone: a change, once begun."""
        ...

    def read(self, args: Mapping[str, Any], request: str) -> Any:
        """Check the arguments. Raises BadRequest."""
        ...

    async def carry_out(self, order: Order, tell: Tell) -> object:
        """Do it and return the result's value. Raises CommandRefused, or what it likes."""
        ...


_CODES: Mapping[Remedy, RefusalCode] = {
    Remedy.NOTHING: RefusalCode.UNAVAILABLE,
    Remedy.WAIT: RefusalCode.UNAVAILABLE,
    Remedy.FREE_SPACE: RefusalCode.UNAVAILABLE,
    Remedy.FIX_SETTINGS: RefusalCode.REFUSED,
    Remedy.FIX_PROJECTION: RefusalCode.REFUSED,
    Remedy.FIX_DATA: RefusalCode.REFUSED,
    Remedy.RESTORE: RefusalCode.REFUSED,
    Remedy.DECIDE: RefusalCode.REFUSED,
    Remedy.REPORT: RefusalCode.BUG,
}
_REMEDIES: Mapping[Remedy, str] = {
    Remedy.NOTHING: "ask again in a moment",
    Remedy.WAIT: "ask again when store and log answer; with the same request id nothing is done twice",
    Remedy.FREE_SPACE: "free space, then ask again",
    Remedy.FIX_SETTINGS: "correct the settings, rights or tables that it names",
    Remedy.FIX_PROJECTION: "deploy a corrected projection",
    Remedy.FIX_DATA: "look at the event that it names",
    Remedy.RESTORE: "restore the store, or rebuild the read model",
    Remedy.DECIDE: "decide how to go on",
    Remedy.REPORT: "report it with the daemon's log",
}


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an error comes to."""
    if isinstance(error, CommandRefused):
        return Failure(error.code, error.reason, error.way_out)
    if isinstance(error, ProjectiondError):
        return Failure(_CODES[error.remedy], str(error), _REMEDIES[error.remedy])
    return Failure(RefusalCode.BUG, f"a bug: {type(error).__name__}", _REMEDIES[Remedy.REPORT])
