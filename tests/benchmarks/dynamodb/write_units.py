"""Write units of an event, as the strict server counts them, by kind of markers and by events of a key in a row."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.dynamodb.engine import Lap, fold_moves
from tests.benchmarks.dynamodb.moves import LOG, ByEvent, BySequence, ByShard, write_moves
from tests.benchmarks.dynamodb.sdk_loops import SdkLoop
from tests.benchmarks.dynamodb.servers import make_tables, new_prefix, store_on
from tests.benchmarks.figures import Figure, Sizes, figure

_KINDS = (
    ("shard", ByShard, "value <= 0.15"),
    ("event", ByEvent, "value <= 2.2"),
    ("sequence", BySequence, "value <= 0.15"),
)
_PER_KEY = (1, 5, 20)
_NAIVE_EVENTS = 50


def write_units(sizes: Sizes, directory: Path, strict: str) -> Iterator[Figure]:
    """Measure each kind, beside the loop that sends a transaction an event."""
    naive = _naive(directory, strict)
    for kind, projection, goal in _KINDS:
        for per_key in _PER_KEY:
            log = directory / f"units-{per_key}" / LOG
            write_moves(log, sizes.strict_events, sizes.strict_events, per_key)
            watched = fold_moves(projection, str(log), store_on(strict, strict, new_prefix()))
            assert watched.counts["applied"] == sizes.strict_events
            units = sum(count for name, count in watched.units.items() if name.startswith("wcu:"))
            name = f'write units, dedup="{kind}", {per_key} of a key in a row; baseline a transaction an event'
            goal_here = goal if per_key == _PER_KEY[-1] else ""
            yield figure(name, units / sizes.strict_events, "WCU/event", baseline=naive, goal=goal_here)


def _naive(directory: Path, strict: str) -> float:
    log, prefix = directory / "units-naive" / LOG, new_prefix()
    write_moves(log, _NAIVE_EVENTS, _NAIVE_EVENTS, 1)
    asyncio.run(make_tables(strict, prefix, "by-event"))
    loop = SdkLoop(strict, prefix, "by-event")
    asyncio.run(loop.one_by_one(log, Lap(0, 0)))
    return loop.units / _NAIVE_EVENTS
