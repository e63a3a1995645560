"""Ranges of a log as people name them, asked of a source: where they lie, and whether what waits in them can be proven.

Used alike by the shards' owners, who decide, and by control, which foretells. Must not know any adapter.
"""

import re
from datetime import UTC, datetime

from daemon.core.checkpoint import Checkpoint
from daemon.core.identity import Scope
from daemon.core.planner import retention_horizon
from daemon.core.positions import START, Position, parse_position, position_text
from daemon.core.projection import Dedup, ProjectionSpec
from daemon.core.redelivery import Refusal
from daemon.core.waiting import Waiting
from daemon.ports.source import Source

EARLIEST, NOW = "earliest", "now"
_POSITION = re.compile(r"start|[0-9]+(\.[0-9]+)*")


async def located(source: Source, shard: str, text: str) -> Position | None:
    """Return the position that `earliest`, a position or an ISO time means for a shard; None for `now`.

    A time means the position before its first event. Raises ValueError naming the forms, SourceUnavailable.
    """
    if text == NOW:
        return None
    if text == EARLIEST:
        return await source.locate(shard, EARLIEST)
    if _POSITION.fullmatch(text):
        return parse_position(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r:.80} is not 'earliest', 'now', a position such as 42 or 3.1024, or a time (ISO 8601)"
        raise ValueError(message) from None
    return await source.locate(shard, moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


async def beyond_the_horizon(
    source: Source, spec: ProjectionSpec, scope: Scope, checkpoint: Checkpoint, waiting: Waiting
) -> Refusal | None:
    """Return why a range is refused: some of what is `waiting` in it is older than markers are kept.

    What was applied needs no marker, its position proves it; only what was not has to be proven new. Raises
    SourceUnavailable.
    """
    horizon = retention_horizon(checkpoint.watermark, spec.marker_retention)
    if spec.dedup is Dedup.SEQUENCE or not checkpoint.caught_up or horizon is None:
        return None
    if not (waiting.skipped or waiting.letters or waiting.parked):
        return None
    edge = await source.locate(scope.shard, horizon)
    old = waiting.within(START, edge)
    count = len(old.letters) + len(old.parked)
    if not (count or old.skipped):
        return None
    ranges = f" and {len(old.skipped)} skipped ranges" if old.skipped else ""
    return Refusal(
        f"{count} dead letters and parked events{ranges} in this range are older than markers are kept "
        f"({spec.marker_retention} behind the watermark {checkpoint.watermark}): nothing can prove them new",
        f"begin after {position_text(edge)}; retry dead letters by name (`dead-letters retry`), release keys "
        "(`keys release`), or rebuild the projection",
    )
