"""One hot row that many shards add to: what a partial row for each shard saves, where transactions conflict."""

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.dynamodb.engine import Lap, Watching, fold_moves
from tests.benchmarks.dynamodb.moves import Hot, HotInParts, write_moves
from tests.benchmarks.dynamodb.servers import new_prefix, read_table, store_on
from tests.benchmarks.figures import Figure, Sizes, figure


def hot_row(sizes: Sizes, directory: Path, holding: str) -> Iterator[Figure]:
    """Measure both, and compare what the row comes to."""
    for shard in range(sizes.hot_shards):
        write_moves(directory / "hot" / f"moves-{shard}.jsonl", sizes.strict_events, 1, 1, first=shard * 10_000_000)
    plain, total = _fold(Hot, directory, holding)
    parts, in_parts = _fold(HotInParts, directory, holding)
    assert total == in_parts == sizes.strict_events * sizes.hot_shards
    name = f"{sizes.hot_shards} shards add to one row, add(shared=True); baseline add()"
    yield figure(f"{name} (wall)", parts.lap.wall, "s", baseline=plain.lap.wall)
    yield figure("  the same", _tries(parts), "transactions/commit", baseline=_tries(plain))


def _tries(side: Watching) -> float:
    return (side.commits + side.delays) / side.commits


def _fold(projection: type, directory: Path, url: str) -> tuple[Watching, int]:
    prefix = new_prefix()
    side = fold_moves(projection, str(directory / "hot" / "*.jsonl"), store_on(url, url, prefix), Lap(0, 1 << 62))
    return side, sum(int(item["moves"]["N"]) for item in read_table(url, f"{prefix}-hot-g1"))
