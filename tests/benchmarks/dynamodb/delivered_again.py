"""What was applied is delivered again: how fast it is told, by its position, by the window, by markers that are read.

The same lines are folded live first, with every row cached after a warm-up, as the rate to compare with. All on the
strict server, which has the markers; seconds are this process's CPU alone. What a run costs that finds nothing to do is
taken off a re-delivery.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import override

from daemon.core.positions import START, Position
from daemon.sources.file import FileSource
from daemon.sources.file_reader import FileReader
from tests.benchmarks.dynamodb.engine import Lap, Watching, fold_moves
from tests.benchmarks.dynamodb.moves import LOG, ByEvent, ByShard, write_moves
from tests.benchmarks.dynamodb.servers import new_prefix, store_on
from tests.benchmarks.figures import Figure, Sizes, figure


class FromItsStart(FileSource):
    """A source whose shards are read from their start, whatever the checkpoint says."""

    @override
    async def open(
        self, shard: str, after: Position, incarnation: str | None, until: Position | None = None
    ) -> FileReader:
        return await super().open(shard, START, None, until)


def delivered_again(sizes: Sizes, directory: Path, strict: str) -> Iterator[Figure]:
    """Measure the default kind of markers by position and by marker, and packed ones in their window."""
    events = sizes.strict_events
    rounds = [_round(sizes, directory / f"again-{number}", strict) for number in range(sizes.dynamodb_rounds)]
    live, by_position, by_marker, live_packed, by_window = (min(side) for side in zip(*rounds, strict=True))
    for name, seconds, beside, goal in (
        ("its position tells", by_position, live, "ratio >= 3"),
        ("its marker is read", by_marker, live, "ratio >= 1.5"),
        ("the window tells, packed markers", by_window, live_packed, "ratio >= 1.5"),
    ):
        title = f"{events:,} events again, {name}; baseline live (CPU)"
        yield figure(title, 1 / seconds, "events/s", baseline=1 / beside, goal=goal)


def _round(sizes: Sizes, directory: Path, strict: str) -> tuple[float, ...]:
    """Return seconds an event: live, by position, by marker; live with packed markers, by window."""
    events, keys = sizes.strict_events, max(1, sizes.strict_events // 10)
    log, other, packed = directory / LOG, directory / "other.jsonl", directory / "packed" / LOG
    write_moves(log, events, keys, 1)
    fold = partial(fold_moves, ByEvent, str(directory / "*.jsonl"), store_on(strict, strict, new_prefix()))
    live = fold(Lap(keys, events))
    again, idle = fold(source=FromItsStart), fold()
    by_position = _again(again, idle, "duplicate_position", events)
    copyfile(log, other)
    by_marker = _again(fold(), idle, "duplicate_marker", events)
    write_moves(packed, events, keys, 1)
    fold = partial(fold_moves, ByShard, str(packed), store_on(strict, strict, new_prefix()))
    live_packed, idle = fold(Lap(keys, events)), fold()
    with packed.open("ab") as lines:
        lines.write(log.read_bytes())
    by_window = _again(fold(), idle, "duplicate_marker", events)
    return live.lap.spent.cpu, by_position, by_marker, live_packed.lap.spent.cpu, by_window


def _again(side: Watching, idle: Watching, counter: str, events: int) -> float:
    assert side.counts[counter] == side.counts["read"] == events, side.counts
    return max(side.cpu - idle.cpu, 1e-9) / events
