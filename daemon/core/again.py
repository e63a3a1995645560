"""The commands about what is to be applied again, or at last: re-delivery, dead letters, parked keys. Values only.

Owns their vocabulary and the shapes of their answers, positions as text. Must not know how they are carried out.

A place in a log (`to`, `since`, `until`) is text: `earliest`, `now`, a position such as `42` or `3.1024`, or a time in
the form of ISO 8601. A position is what comes *before* the first event that is delivered again; a time stands for the
position before its first event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, ClassVar

from daemon.core.commands import Plain, Target
from daemon.core.identity import Generation, Scope

_EVERYTHING = Target()

# ---------------------------------------------------------------------------------------------- changing commands


@dataclass(frozen=True, slots=True)
class Rewind:
    """Deliver again what lies after `to`, up to where each shard stands; the live position never moves."""

    name: ClassVar[str] = "rewind"
    target: Target
    to: str

    def arguments(self) -> dict[str, Plain]:
        """Return where it begins."""
        return {"to": self.to}


@dataclass(frozen=True, slots=True)
class ReplayApply:
    """Deliver a bounded range again, as `replay plan` described it: `plan` is the id that the plan gave."""

    name: ClassVar[str] = "replay.apply"
    target: Target
    since: str
    until: str
    plan: str

    def arguments(self) -> dict[str, Plain]:
        """Return both ends and the plan's id."""
        return {"from": self.since, "to": self.until, "plan": self.plan}


@dataclass(frozen=True, slots=True)
class ReplayAbort:
    """End the re-delivery under way, rewind or replay; what it applied stays applied."""

    name: ClassVar[str] = "replay.abort"
    target: Target

    def arguments(self) -> dict[str, Plain]:
        """Return nothing: the target says it all."""
        return {}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant: those that agree with all that is given; `every` one, where nothing is."""

    key: str | None = None
    reason: str | None = None
    handler: str | None = None
    event: str | None = None
    position: str | None = None
    every: bool = False

    def arguments(self) -> dict[str, Plain]:
        """Return what is given."""
        held: dict[str, Plain] = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in held.items() if value}


@dataclass(frozen=True, slots=True)
class LettersRetry:
    """Fold dead letters again, now that what was wrong is mended: each once, out of the order of its key by nature."""

    name: ClassVar[str] = "dead-letters.retry"
    target: Target
    which: Filter = Filter()

    def arguments(self) -> dict[str, Plain]:
        """Return the filter."""
        return self.which.arguments()


@dataclass(frozen=True, slots=True)
class LettersDiscard:
    """Remove dead letters for good: they count as skipped."""

    name: ClassVar[str] = "dead-letters.discard"
    target: Target
    which: Filter = Filter()

    def arguments(self) -> dict[str, Plain]:
        """Return the filter."""
        return self.which.arguments()


@dataclass(frozen=True, slots=True)
class KeysRelease:
    """Fold what queues behind a parked key in order, or behind `every` one; then the key goes on."""

    name: ClassVar[str] = "keys.release"
    target: Target
    key: str | None = None
    every: bool = False

    def arguments(self) -> dict[str, Plain]:
        """Return the key."""
        return {"key": self.key} if self.key is not None else {"every": self.every}


# ------------------------------------------------------------------------------------------------------- queries


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What delivering a range again would come to. `diff`: also which rows would change, as a dry run folds them.

    A `rewind` is planned with `until` = `now`.
    """

    name: ClassVar[str] = "replay.plan"
    target: Target
    since: str
    until: str = "now"
    diff: bool = False


@dataclass(frozen=True, slots=True)
class ReplayStatus:
    """How far each shard's re-delivery has come, or what the last one came to."""

    name: ClassVar[str] = "replay.status"
    target: Target = _EVERYTHING


@dataclass(frozen=True, slots=True)
class LettersList:
    """The dead letters that a filter means (all, where nothing is given), and their counts; `limit` of them whole."""

    name: ClassVar[str] = "dead-letters.list"
    target: Target = _EVERYTHING
    which: Filter = Filter()
    limit: int = 100


@dataclass(frozen=True, slots=True)
class LettersShow:
    """One dead letter with its payload: of the one shard that is the target, at a position (and id, if several)."""

    name: ClassVar[str] = "dead-letters.show"
    target: Target
    position: str
    event: str | None = None


@dataclass(frozen=True, slots=True)
class KeysParked:
    """The parked keys, the longest parked first, `limit` of them, and their counts."""

    name: ClassVar[str] = "keys.parked"
    target: Target = _EVERYTHING
    limit: int = 100


type AgainQuery = ReplayPlan | ReplayStatus | LettersList | LettersShow | KeysParked

# ------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What delivering a range of one shard again comes to.

    `after` exclusive, `until` inclusive. `events` in it; of them `duplicates` are expected to be suppressed, by layer,
    `late` to be applied (by where they wait), `failed` to fail as they did, and `left` to stay where they are.
    `commits` and `units` (write units by table kind) are what it writes. `refused`: why it would be refused, else
    empty.
    """

    scope: Scope
    after: str
    until: str
    events: int
    duplicates: Mapping[str, int]
    late: Mapping[str, int]
    failed: int
    left: int
    commits: int
    units: Mapping[str, float]
    rows: int
    refused: str = ""


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row that would change. None: absent, before or after."""

    scope: Scope
    view: str
    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The plan of a re-delivery. `plan`: its id, which `replay apply` insists upon.

    `duration`: how long it takes, as fast as was measured while planning and as commits went lately: a replica's shards
    one after the other, replicas side by side; a shard that has not caught up yet gives it its share.
    `units`: write units in all, `price` what they cost on demand in us-east-1, in US dollars. `handlers`: those left
    out (`replay=False`). `changes`: of a dry run, the first ones; `more`: how many rows besides.
    """

    generation: Generation
    plan: str
    since: str
    until: str
    shards: tuple[ShardPlan, ...]
    events: int
    duplicates: int
    late: int
    duration: timedelta
    units: float
    price: float
    handlers: tuple[str, ...]
    changes: tuple[RowChange, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class CursorReport:
    """One shard's re-delivery. `state`: running, done, aborted, failed. `share`: of its range that is done, 0 to 1.

    `suppressed`: by layer (position, marker, version); `late`: applied late, by where it waited.
    """

    scope: Scope
    command: str
    operation: str
    state: str
    after: str
    until: str
    position: str
    events: int
    suppressed: Mapping[str, int]
    late: Mapping[str, int]
    failed: int
    left: int
    rows_changed: int
    events_per_second: float
    began: datetime
    ended: datetime | None
    summary: str


@dataclass(frozen=True, slots=True)
class CursorsReport:
    """Every shard that has, or had, a re-delivery."""

    at: datetime
    shards: tuple[CursorReport, ...]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `wish`: what was asked to be done with it and is not done yet (retry, discard)."""

    scope: Scope
    position: str
    event: str
    key: str
    reason: str
    handler: str
    at: datetime
    wish: str | None


@dataclass(frozen=True, slots=True)
class LettersReport:
    """Dead letters: how many in all, by reason and by shard's label, and the first of them."""

    at: datetime
    total: int
    by_reason: Mapping[str, int]
    by_shard: Mapping[str, int]
    letters: tuple[Letter, ...]


@dataclass(frozen=True, slots=True)
class LetterReport:
    """One dead letter whole. `payload`: its record as text, as far as it is kept (`payload_size` bytes in all)."""

    letter: Letter
    detail: str
    payload: str
    payload_size: int
    retry: str
    """The command that folds it again."""


@dataclass(frozen=True, slots=True)
class ParkedKey:
    """One parked key: how many events queue behind it, the first one's place, and why it was parked."""

    scope: Scope
    key: str
    events: int
    position: str
    event: str
    reason: str
    since: datetime
    wish: str | None


@dataclass(frozen=True, slots=True)
class KeysReport:
    """Parked keys: how many, how many events queue behind them, by shard's label, and the longest parked of them."""

    at: datetime
    total: int
    events: int
    by_shard: Mapping[str, int]
    keys: tuple[ParkedKey, ...]
