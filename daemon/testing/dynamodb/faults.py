"""Scripted faults: what happens to which call.

Owns the kinds of fault and choosing the one that a call meets. Must not know how the server carries them out.

Invariants: a call meets at most one fault, the first in the script that wants it; counting is per fault, over the calls
that its operation and predicate match; the same script and calls give the same faults.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

type How = Literal["reset", "hang", "cut", "crc"]
"""How an answer is lost: the connection breaks, or stays open and silent; half the body comes, or a wrong checksum."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the script sees it: `number` counts all calls, `client` is who sent it."""

    operation: str
    body: Any
    number: int
    client: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection is refused: the request certainly never arrived."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The request is lost before anything happened; "hang" is a half-open connection."""

    how: Literal["reset", "hang"] = "reset"


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The request takes effect and its answer is lost."""

    how: How = "reset"


@dataclass(frozen=True, slots=True)
class Delay:
    """The request waits before it takes effect, or its answer waits afterwards (seconds).

    A client that gives up meanwhile does not call the request back.
    """

    before: float = 0.0
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class AnswerWith:
    """An error is answered; `applied`: the request took effect all the same. `fields` are members of the error."""

    code: str
    message: str = "Scripted by a test."
    status: int = 400
    applied: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class CancelWith:
    """A transaction is cancelled: `codes` by the index of the action, "None" elsewhere; nothing takes effect."""

    codes: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class DuplicateLater:
    """The request takes effect now, and the same bytes arrive once more after a while; the second answer is lost."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class Throttle:
    """This call and every later one that matches are throttled for a while."""

    seconds: float
    code: str = "ThrottlingException"


@dataclass(frozen=True, slots=True)
class PartialBatch:
    """A batch gets through its first `keys` keys; the rest comes back unprocessed."""

    keys: int


@dataclass(frozen=True, slots=True)
class StaleRead:
    """Eventually consistent reads of this call see the tables as they were `lag_seconds` ago."""

    lag_seconds: float


type FaultAction = (
    Refuse | Drop | LoseAnswer | Delay | AnswerWith | CancelWith | DuplicateLater | Throttle | PartialBatch | StaleRead
)


@dataclass(slots=True)
class Fault:
    """One line of the script.

    `operation` and `when` say which calls match (None: all); of those, the `nth` (from 1; None: every one) meets
    `action`, at most `times` times (None: without end).
    """

    action: FaultAction
    operation: str | None = None
    when: Callable[[Call], bool] | None = None
    nth: int | None = None
    times: int | None = 1
    seen: int = 0
    fired: int = 0
    until: float | None = None

    def wants(self, call: Call, now: float) -> bool:
        """Say whether a call meets this fault, counting it."""
        if self.operation is not None and self.operation != call.operation:
            return False
        if self.when is not None and not self.when(call):
            return False
        if self.until is not None:
            return now < self.until
        self.seen += 1
        if self.nth is not None and self.seen != self.nth:
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        self.fired += 1
        if isinstance(self.action, Throttle):
            self.until = now + self.action.seconds
        return True


class Faults:
    """The script."""

    def __init__(self) -> None:
        """Begin without faults."""
        self._script: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        """Append to the script."""
        self._script.extend(faults)

    def clear(self) -> None:
        """Forget the script."""
        self._script.clear()

    def __bool__(self) -> bool:
        return bool(self._script)

    def meet(self, call: Call, now: float) -> FaultAction | None:
        """Return what a call meets."""
        for fault in self._script:
            if fault.wants(call, now):
                return fault.action
        return None
