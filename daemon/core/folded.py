"""What a fold is asked and what it answers: values only.

Owns the words between `daemon.core.fold`, the planner and the folder. A fold's answer is final (`Folded`), or says what
is needed first: rows (`Missing`), or that an uncommitted batch beneath settles (`Unsettled`).
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from daemon.core.dedup import Judged, Verdict
from daemon.core.identity import RowKey, ShardId
from daemon.core.projection import ProjectionSpec
from daemon.core.rows import Effect
from daemon.core.view import Base, View

type Lookup = Callable[[RowKey], Base]
"""Returns the row as the fold must see it, None when known absent, UNLOADED when nobody read it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event is dead-lettered or parks its key. `handler` is empty when no handler was involved."""

    reason: str
    detail: str
    handler: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """The fold needs these rows before it can run."""

    keys: frozenset[RowKey]


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Something failed on top of an uncommitted batch: fold again once that has settled."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The shard cannot go past the record at `index` now. `parks`: it parks; otherwise it waits for a missing event."""

    index: int
    failure: Failure
    parks: bool


@dataclass(slots=True)
class Folded:
    """What a batch comes to. `verdicts` is final; `stop` says that only `records[:stop.index]` were folded."""

    judged: Judged
    count: int
    views: list[View]
    effects: list[Effect]
    failures: dict[int, Failure]
    verdicts: list[Verdict | None]
    newly_parked: dict[str, Failure]
    watermark: datetime | None
    kinds: AbstractSet[Verdict | None]
    """The verdicts that occur."""
    stop: Stop | None = None
    quick: bool = True
    """Whether the next batch may be folded by quick views first (`FoldContext.quick`)."""


@dataclass(frozen=True, slots=True)
class FoldContext:
    """What a fold stands on, besides the records.

    `settled`: no uncommitted batch lies beneath, so failures are final. `parked`: keys that are parked already.
    """

    spec: ProjectionSpec
    shard: ShardId
    lookup: Lookup
    parked: AbstractSet[str] = frozenset()
    settled: bool = True
    redelivery: bool = False
    failures: Mapping[int, Failure] = field(default_factory=dict[int, Failure])
    accepts: Mapping[int, AbstractSet[Verdict]] = field(default_factory=dict[int, AbstractSet[Verdict]])
    """Indices of events that are known not to have been applied, and what their sequence numbers may all the same say.

    Such an event is applied, and advances its entity's sequence only upwards.
    """
    quick: bool = True
    """False where values have to be looked at as they are given: a projection that stores lists, say."""
