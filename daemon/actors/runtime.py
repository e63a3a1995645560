"""What every actor is given: the ports, the policies and the projections. Frozen, made once by `daemon.app`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from daemon.actors.pace import Pace
from daemon.actors.spending import Spending
from daemon.actors.turns import Turns
from daemon.core.batcher import BatchPolicy
from daemon.core.circuit import CircuitPolicy
from daemon.core.identity import Generation, Scope, ShardId
from daemon.core.positions import Position
from daemon.core.projection import ProjectionSpec
from daemon.core.recovery import RetryPolicy
from daemon.ports.clock import Clock
from daemon.ports.observer import Observer
from daemon.ports.source import Source
from daemon.ports.store import Store
from daemon.ports.taps import Taps
from daemon.ports.tracing import Tracing


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """How the engine works, whatever the projection. Times in seconds, sizes in bytes.

    `row_cache_rows`: rows kept in memory per shard. `read_chunk_bytes`: the most a reader returns at once. `start`:
    where a new generation begins in a log it has no checkpoint for. `per_projection`: batches of projections that
    differ. `beat`: after how long without a commit an idle shard renews its lease; None: leases are nobody's concern.
    `operations_poll`: how often it is looked whether anybody asked for something elsewhere. `redelivery_share`: the
    part of its time that a shard gives to a re-delivery while live events wait; all of it while none do.
    """

    batch: BatchPolicy = field(default_factory=BatchPolicy)
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    commit_deadline: float = 15.0
    row_cache_rows: int = 50_000
    read_chunk_bytes: int = 256 * 1024
    marker_memory_ids: int = 2_000_000
    require_version_bump: bool = False
    per_projection: Mapping[str, BatchPolicy] = field(default_factory=dict[str, BatchPolicy])
    beat: float | None = None
    operations_poll: float = 0.5
    redelivery_share: float = 0.5

    def batch_of(self, projection: str) -> BatchPolicy:
        """Return the batch policy of one projection."""
        return self.per_projection.get(projection, self.batch)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The world as an actor sees it.

    `specs` maps each generation that runs here to its code. Where a shard without a checkpoint begins: `origins` say it
    for a projection's shard, else `own_starts` for the projection, else `starts` for the source. `replica` names this
    process among its peers. `spending` holds projections to their budgets, `pace` knows how long their commits took; at
    `taps` listens whoever watches commits. `turns` says when a fold may begin. `tracing` None: nobody traces.
    """

    store: Store
    sources: Mapping[str, Source]
    specs: Mapping[Generation, ProjectionSpec]
    clock: Clock
    observer: Observer
    policy: EnginePolicy
    starts: Mapping[str, datetime | str] = field(default_factory=dict[str, datetime | str])
    own_starts: Mapping[str, datetime | str] = field(default_factory=dict[str, datetime | str])
    origins: Mapping[tuple[str, ShardId], Position] = field(default_factory=dict[tuple[str, ShardId], Position])
    replica: str = "solo"
    spending: Spending = field(default_factory=Spending)
    pace: Pace = field(default_factory=Pace)
    taps: Taps = field(default_factory=Taps)
    turns: Turns = field(default_factory=Turns)
    tracing: Tracing | None = None

    def start_of(self, scope: Scope) -> datetime | str | Position:
        """Return where a scope without a checkpoint begins: a start to locate, or the position itself."""
        origin = self.origins.get((scope.projection, scope.shard_id))
        if origin is not None:
            return origin
        return self.own_starts.get(scope.projection, self.starts.get(scope.source, "earliest"))
