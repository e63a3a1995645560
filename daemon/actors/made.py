"""What a shard makes of an operation, before it is committed."""

from dataclasses import dataclass

from daemon.core.operations import Obeyed, ShardOutcome
from daemon.core.waiting import SkippedRange


@dataclass(frozen=True, slots=True)
class Made:
    """What a shard makes of an operation, ranges that stand as skipped from then on, and outcomes of earlier ones."""

    obeyed: Obeyed
    skips: tuple[SkippedRange, ...] = ()
    outcomes: tuple[ShardOutcome, ...] = ()
