"""The Observer port: facts for people and machines to see. Observing never fails a shard and never awaits.

One fact per commit, transition or decision, never one per event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from daemon.core.cursor import Redelivery
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.positions import Position
from daemon.core.waiting import Wish


@dataclass(frozen=True, slots=True)
class ShardChanged:
    """A shard's incarnation moved through its transition table. `report` is a traceback, for a bug."""

    scope: Scope
    before: ShardState
    after: ShardState
    reason: str = ""
    epoch: int = 0
    report: str = ""


@dataclass(frozen=True, slots=True)
class BatchCommitted:
    """A commit settled. `counts` are the checkpoint's counters it added; times in seconds.

    `consumed`: the units billed for it, `wcu:KIND` or `rcu:KIND` by what a table holds (rows, markers, state, effects).
    `size`: bytes of the transaction, 0 where the store does not say. `settled_at`: when it settled; `oldest`: its first
    event's own time. `hits`: rows it read that were in memory; `misses`: rows fetched for it.
    """

    scope: Scope
    position: Position
    epoch: int
    counts: Mapping[str, int]
    actions: int
    seconds: float
    watermark: datetime | None
    consumed: Mapping[str, float] = field(default_factory=dict[str, float])
    size: int = 0
    settled_at: datetime | None = None
    oldest: datetime | None = None
    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """A commit was answered, and not applied: its batch is folded again, or its shard lost. `outcome`: its name."""

    scope: Scope
    outcome: str


@dataclass(frozen=True, slots=True)
class UnitsConsumed:
    """The store billed units outside a commit: reads, takes, lists.

    `generation`: whose they are, None for the daemon's own (tables, replicas). `consumed` is as a commit's: `wcu:KIND`
    or `rcu:KIND` to units.
    """

    generation: Generation | None
    consumed: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CommitDelayed:
    """A commit did not settle at once. `outcome` is the outcome's name; `wait` the seconds until the next try."""

    scope: Scope
    outcome: str
    detail: str
    attempt: int
    wait: float


@dataclass(frozen=True, slots=True)
class EventsDeadLettered:
    """Dead letters were committed: stable reason to count."""

    scope: Scope
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PayloadConflict:
    """An id came again with another payload: an alarm."""

    scope: Scope
    count: int


@dataclass(frozen=True, slots=True)
class RowShared:
    """Rows that another shard wrote last were written here without `add` or a version vector: an alarm."""

    scope: Scope
    count: int


@dataclass(frozen=True, slots=True)
class KeysParked:
    """Keys were parked in a commit."""

    scope: Scope
    count: int


@dataclass(frozen=True, slots=True)
class RedeliveryProgress:
    """A shard's second cursor moved, or ended, with a commit. `counts` are what that commit added to its counters."""

    scope: Scope
    cursor: Redelivery
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class WaitingSettled:
    """What a person wished for waiting entries was carried out: `applied`, `failed` (again), `discarded`."""

    scope: Scope
    wish: Wish
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ShardRestarted:
    """A shard's incarnation ended by an error and is tried again after `wait` seconds."""

    scope: Scope
    error: str
    restarts: int
    wait: float


@dataclass(frozen=True, slots=True)
class GenerationNotRun:
    """A generation is not folded here, and why (no code of its version, waits for a rebuild)."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class StoreAwaited:
    """The store did not answer as the daemon starts, for the `tries`-th time; it is opened again in `wait` seconds.

    `detail` says why, `where` it was looked for. `seconds`: since it was first tried.
    """

    detail: str
    tries: int
    wait: float
    where: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreReached:
    """The store that was awaited answers, after `tries` tries and `seconds`."""

    where: str
    tries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SourceAwaited:
    """A source has not answered since the daemon started, for the `tries`-th time; asked again in `wait` seconds."""

    source: str
    detail: str
    tries: int
    wait: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SourceReached:
    """A source that was awaited answers, after `tries` tries and `seconds`."""

    source: str
    tries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SourceEmpty:
    """A source has no shard as the daemon starts: its `paths` match no file. They are looked for still."""

    source: str
    paths: str


@dataclass(frozen=True, slots=True)
class CodeChanged:
    """The handlers' code changed under the same version."""

    scope: Scope
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CommandAnswered:
    """A command that came over the control socket was answered. `outcome`: `done`, or the refusal's code.

    `request`: the id its client chose; `changes`: whether it is one that changes anything.
    """

    command: str
    request: str
    uid: int
    user: str
    outcome: str
    seconds: float
    changes: bool


@dataclass(frozen=True, slots=True)
class ControlTrouble:
    """The control socket turned somebody away, could not be opened, or met a bug; `report` is a traceback then."""

    reason: str
    report: str = ""


type Fact = (
    ShardChanged
    | BatchCommitted
    | CommitRefused
    | UnitsConsumed
    | CommitDelayed
    | EventsDeadLettered
    | PayloadConflict
    | RowShared
    | KeysParked
    | RedeliveryProgress
    | WaitingSettled
    | ShardRestarted
    | GenerationNotRun
    | StoreAwaited
    | StoreReached
    | SourceAwaited
    | SourceReached
    | SourceEmpty
    | CodeChanged
    | CommandAnswered
    | ControlTrouble
)


class Observer(Protocol):
    """Sees facts."""

    def see(self, fact: Fact) -> None:
        """Take note of a fact, at once and without failing."""
        ...
