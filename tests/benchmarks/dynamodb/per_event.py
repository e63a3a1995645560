"""CPU of an event from file to DynamoDB's wire: ours, the loops on the stock client, and the bare loop.

All send to one server in another process, which answers each commit at once; takes and reads of ours go to the strict
server. Rows are cached on both sides: counting begins after a warm-up that has met every key.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks.answering import answering
from tests.benchmarks.daemons import Spent
from tests.benchmarks.dynamodb.comparing import EACH, PACKED, Shape, bare_loop, compare
from tests.benchmarks.dynamodb.engine import Lap, fold_moves
from tests.benchmarks.dynamodb.moves import LOG, write_moves
from tests.benchmarks.dynamodb.sdk_loops import SdkLoop
from tests.benchmarks.dynamodb.servers import consumed_body, new_prefix, store_on
from tests.benchmarks.figures import MICRO, Figure, Sizes, figure

_NAIVE_SHARE = 10

type Side = Callable[[Path, Lap], Coroutine[Any, Any, None]]
type Run = Callable[[Coroutine[Any, Any, None]], None]


def per_event(sizes: Sizes, directory: Path, strict: str) -> Iterator[Figure]:
    """Measure both shapes, all sides in turns."""
    for shape in (EACH, PACKED):
        compare(shape, directory, strict)
    prefix = new_prefix()
    with answering(consumed_body(prefix)) as url:
        sides: dict[str, list[Spent]] = {}
        logs = {shape: _log(shape, sizes, directory, sizes.dynamodb_events) for shape in (EACH, PACKED)}
        for _ in range(sizes.dynamodb_rounds):
            for shape, (log, warm, last) in logs.items():
                lap = Lap(warm, last)
                fold_moves(shape.projection, str(log), store_on(url, strict, new_prefix()), lap)
                sides.setdefault(f"{shape.name} ours", []).append(lap.spent)
                lap = Lap(warm, last)
                uvloop.run(bare_loop(shape, url, prefix).run(log, lap))
                sides.setdefault(f"{shape.name} bare", []).append(lap.spent)
            for name, spent in _sdk_sides(sizes, directory, url, prefix).items():
                sides.setdefault(name, []).append(spent)
    yield from _figures({name: _least(spent) for name, spent in sides.items()})


def _figures(least: dict[str, Spent]) -> Iterator[Figure]:
    ours = least["by-event ours"]
    for name, other, goal in (
        ("a transaction an event through aioboto3", "naive", 40),
        ("batched by hand through aioboto3", "batched", 5),
        ("batched by hand, uvloop, no validation", "tuned", 5),
    ):
        yield _speed(f"file to DynamoDB, a marker an event (CPU); {name}", ours, least[other], f"ratio >= {goal}")
        yield _wall(ours, least[other])
    for shape in (EACH, PACKED):
        mine, bare = least[f"{shape.name} ours"], least[f"{shape.name} bare"]
        kind = f"packed markers, {shape.per_key} events a key" if shape.packed else "a marker an event, 1 event a key"
        yield _speed(f"file to DynamoDB, {kind} (CPU); the bare loop", mine, bare, "ratio >= 0.8")
        yield _wall(mine, bare)


def _speed(name: str, mine: Spent, other: Spent, goal: str) -> Figure:
    """Compare speeds: the ratio is how many of the other's events ours folds in the same CPU time."""
    return figure(name, mine.cpu * MICRO, "µs/event", baseline=other.cpu * MICRO, ratio=other.cpu / mine.cpu, goal=goal)


def _wall(mine: Spent, other: Spent) -> Figure:
    return figure("  the same (wall)", 1 / mine.wall, "events/s", baseline=1 / other.wall)


def _least(sides: list[Spent]) -> Spent:
    return Spent(min(each.wall for each in sides), min(each.cpu for each in sides))


def _log(shape: Shape, sizes: Sizes, directory: Path, events: int) -> tuple[Path, int, int]:
    """Write a log; return it, the events after which all keys were met, and all events."""
    keys = max(1, sizes.dynamodb_keys // shape.per_key) if shape.packed else sizes.dynamodb_keys
    warm = max(shape.batch, keys * shape.per_key)
    log = directory / f"timed-{shape.name}" / LOG
    count = warm + max(events, 3 * shape.batch)
    write_moves(log, count, keys, shape.per_key)
    return log, warm, count


def _sdk_sides(sizes: Sizes, directory: Path, url: str, prefix: str) -> dict[str, Spent]:
    found: dict[str, Spent] = {}
    log = directory / "sdk" / LOG
    write_moves(log, sizes.sdk_events, sizes.dynamodb_keys, 1)
    few = directory / "naive" / LOG
    write_moves(few, max(20, sizes.sdk_events // _NAIVE_SHARE), sizes.dynamodb_keys, 1)
    loop = SdkLoop(url, prefix, EACH.name)
    sides: dict[str, tuple[Path, Side, Run]] = {
        "naive": (few, loop.one_by_one, asyncio.run),
        "batched": (log, loop.batched, asyncio.run),
        "tuned": (log, partial(loop.batched, parameter_validation=False), uvloop.run),
    }
    for name, (lines, side, run) in sides.items():
        lap = Lap(1, sizes.sdk_events)
        run(side(lines, lap))
        found[name] = lap.spent
    return found
