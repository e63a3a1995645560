"""The Shards port: what control asks of whoever runs the shards of this replica.

Control only accepts operations; the shards' owners carry them out. So all that it needs is how shards stand here, and
to say that there is something new to obey.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.core.checkpoint import Checkpoint
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.positions import Position
from daemon.core.rows import StoredRow


@dataclass(frozen=True, slots=True)
class LiveShard:
    """One shard that is run here, or stands still here, and why.

    `seconds`: since its state last changed. `stuck_at`: the first record that it could not settle. `restarts`: in a
    row. `retry_seconds`: until it is tried again; None where nothing is waited for. `obeyed`: the newest operation that
    its checkpoint has obeyed; None before it was taken here.
    """

    scope: Scope
    state: ShardState
    reason: str
    seconds: float
    stuck_at: Position | None
    restarts: int
    retry_seconds: float | None
    obeyed: int | None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a re-delivery would come to, had it been carried out.

    `counters`: as its cursor would hold them. `units`: write units by table kind (empty: free). `seconds`: how long it
    took, without the commits; `commit_seconds`: how long those will, as far as this replica has seen commits.
    `changes`: rows before and after, the first ones of `rows`.
    """

    counters: Mapping[str, int]
    commits: int
    units: Mapping[str, float]
    seconds: float
    commit_seconds: float
    changes: Sequence[tuple[RowKey, StoredRow | None, StoredRow | None]]
    rows: int


class Shards(Protocol):
    """The shards of this replica."""

    @property
    def replica(self) -> str:
        """This replica's name among its peers."""
        ...

    @property
    def generations(self) -> Collection[Generation]:
        """The generations whose code is here."""
        ...

    def live(self) -> Sequence[LiveShard]:
        """List the shards that were granted here and not given back."""
        ...

    def nudge(self) -> None:
        """Look at once whether there are operations to obey."""
        ...

    async def rehearse(self, scope: Scope, checkpoint: Checkpoint) -> Rehearsal:
        """Go through the re-delivery that `checkpoint` holds, wherever the shard is run, and write nothing.

        Raises SourceProblem, StoreProblem.
        """
        ...
