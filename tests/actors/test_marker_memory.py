"""The cap on all marker windows together: idle ones are dropped, and nothing is forgotten by it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import override

import pytest

from daemon.core.identity import Scope
from daemon.core.projection import Dedup
from daemon.core.window import StoredSegment
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.actors.test_commit_outcomes import totals
from tests.support.engine import FAST, counting, engine, event

pytestmark = pytest.mark.anyio


async def test_a_dropped_window_is_loaded_again_under_the_same_epoch() -> None:
    """With memory for one shard's ids, two shards still stop every duplicate, without a new epoch."""
    store, source = MemoryStore(), MemorySource("memory")
    for shard in ("s0", "s1"):
        source.add_shard(shard)
        source.append(shard, *[event(i + 1, key=f"{shard}-{i % 3}", id=f"{shard}-{i}") for i in range(100)])
    policy = replace(FAST, marker_memory_ids=120)
    async with engine(counting(dedup=Dedup.SHARD), store, source, policy=policy) as running:
        await running.until(lambda: sum(totals(store).values()) == 200)
        for round_ in range(3):
            for shard in ("s0", "s1"):
                again = [event(101 + round_ * 100 + i, key=f"{shard}-{i % 3}", id=f"{shard}-{i}") for i in range(100)]
                source.append(shard, *again)
                end = (200 + round_ * 100,)
                await running.until(lambda s=shard, e=end: store.data.checkpoints[running.scope(s)].position == e)
        for shard in ("s0", "s1"):
            checkpoint = await running.checkpoint(shard)
            assert (checkpoint.epoch, checkpoint.counters["duplicate_marker"]) == (1, 300)
    assert sum(totals(store).values()) == 200


class _Asked(MemoryStore):
    """Counts the reads of segments."""

    asked = 0

    @override
    async def load_segments(self, scope: Scope, max_ids: int) -> Sequence[StoredSegment]:
        self.asked += 1
        return await super().load_segments(scope, max_ids)


async def test_segments_are_read_where_the_checkpoint_names_one_and_only_there() -> None:
    """A shard never taken before reads no segments; the next owner reads them, and stops what they mark."""
    store, source = _Asked(), MemorySource("memory")
    source.add_shard("s0")
    source.append("s0", *[event(i + 1, key="k", id=f"e-{i}") for i in range(10)])
    async with engine(counting(dedup=Dedup.SHARD), store, source) as running:
        await running.until(lambda: sum(totals(store).values()) == 10)
    assert store.asked == 0
    source.append("s0", *[event(11 + i, key="k", id=f"e-{i}") for i in range(10)])
    async with engine(counting(dedup=Dedup.SHARD), store, source) as running:
        await running.until(lambda: store.data.checkpoints[running.scope("s0")].position == (20,))
    assert (store.asked, sum(totals(store).values())) == (1, 10)
