"""Reports: what control answers with. Values only, positions as text, for the socket, the commands and people.

Owns their shapes. Must not know how they are gathered or shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from daemon.core.commands import Actor, Plain
from daemon.core.identity import Generation, Scope

# Changes


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """What one shard made of a command.

    `status`: `done`, `refused`, `underway`, `aborted`, or `pending`; `detail` says what, or why not yet.
    """

    scope: Scope
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """One operation that a command became."""

    generation: Generation
    sequence: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command has come: how many shards have answered of how many, and which did since the last progress."""

    settled: int
    total: int
    shards: tuple[ShardAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command. `pending` shards still obey it, whether or not anybody waits.

    `repeated`: this request was accepted before; nothing was done again.
    """

    command: str
    target: str
    request: str
    operations: tuple[Accepted, ...]
    shards: tuple[ShardAnswer, ...]
    done: int
    pending: int
    refused: int
    repeated: bool = False


# Reading


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard. `state`: as its replica sees it where that is this one, else as its checkpoint says.

    `replica`: who owns it, None for nobody. `here`: this replica does. `why`, `since`, `stuck_at`, `leave`: of a shard
    that does not run: why not, since when, at which position, and the command that leaves that state.
    `retry_seconds`: until it is tried again. `restarts`: in a row. `pending`: operations it has still to obey.
    """

    scope: Scope
    state: str
    replica: str | None
    here: bool
    position: str | None
    watermark: datetime | None
    caught_up: bool
    epoch: int
    counters: Mapping[str, int]
    why: str | None = None
    since: datetime | None = None
    stuck_at: str | None = None
    leave: str | None = None
    restarts: int = 0
    retry_seconds: float | None = None
    pending: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """One generation of a projection.

    `states`: shards by state. `stuck`: those that do not run and need a look. `paused`: why all are to stand still,
    those that start later too. `newest`: the sequence of its newest operation; `underway`: those that exclude others.
    `code`: this replica has the code of its version.
    """

    generation: Generation
    version: int
    live: bool
    code: bool
    shards: int
    states: Mapping[str, int]
    stuck: tuple[ShardStatus, ...]
    paused: str | None
    newest: int
    underway: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How everything stands. `replicas`: those present, by name; `replica` is the one that answers."""

    at: datetime
    replica: str
    replicas: tuple[str, ...]
    projections: tuple[ProjectionStatus, ...]


@dataclass(frozen=True, slots=True)
class ShardsReport:
    """Every shard."""

    at: datetime
    shards: tuple[ShardStatus, ...]


@dataclass(frozen=True, slots=True)
class ShardLag:
    """How far one shard is behind: None where the log cannot tell.

    `events`, `bytes`: after its position. `seconds`: between now and its watermark while anything waits, else 0.
    `rate`: events a second settled lately, `eta_seconds`: until it has caught up at that rate. `held`: events that a
    transaction keeps back. `seconds_to_loss`: until retention removes the next event.
    """

    scope: Scope
    state: str
    position: str | None
    end: str | None
    events: int | None
    bytes: int | None
    seconds: float | None
    rate: float | None
    eta_seconds: float | None
    held: int | None
    seconds_to_loss: float | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class LagReport:
    """The lag of every shard."""

    at: datetime
    shards: tuple[ShardLag, ...]


@dataclass(frozen=True, slots=True)
class TopRow:
    """One look at every shard, as `top` tells it again and again."""

    at: datetime
    shards: tuple[ShardLag, ...]


@dataclass(frozen=True, slots=True)
class TailEvent:
    """One event of a commit. `verdict`: `applied`, or what else became of it; empty `id`, `type`, `key`: no event."""

    position: str
    id: str
    type: str
    key: str
    verdict: str


@dataclass(frozen=True, slots=True)
class TailRow:
    """One commit of one shard, as `tail` tells it. `more`: events that are not listed; `counts`: all, by verdict."""

    scope: Scope
    at: datetime
    position: str
    events: tuple[TailEvent, ...]
    more: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AuditedShard:
    """What one shard made of an operation, and how it stood before and after. `at`, `replica` None: not obeyed yet."""

    scope: Scope
    status: str
    detail: str
    before: Mapping[str, Plain]
    after: Mapping[str, Plain]
    replica: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One operation: who asked for what, when, from where, and what became of it."""

    generation: Generation
    sequence: int
    request: str
    command: str
    target: str
    arguments: Mapping[str, Plain]
    by: Actor
    at: datetime
    done: int
    pending: int
    refused: int
    shards: tuple[AuditedShard, ...]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The newest operations, newest first."""

    entries: tuple[AuditEntry, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """A row of one generation, and what last touched it.

    `present` False: there is no such row (`deleted` tells a tombstone). `src`: the row's own `_src`, which `source`,
    `shard`, `position` and `event_id` take apart. `marked`: the marker of that event, if the
    projection keeps any by event: `found`, `absent` or `not kept`. `commit_seq`, `at_or_below`: the shard's newest
    commit, and whether its checkpoint covers that position.
    """

    generation: Generation
    live: bool
    view: str
    key: str
    present: bool
    deleted: bool
    version: int | None
    src: str | None
    source: str | None
    shard: str | None
    position: str | None
    event_id: str | None
    sequences: Mapping[str, int]
    marked: str
    commit_seq: int | None
    at_or_below: bool | None
    parked: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a key's row comes from, in each generation asked about."""

    rows: tuple[Provenance, ...]
