"""Batches against stores that take few actions at once: a full commit is sent, and little is read ahead of it."""

from dataclasses import replace

import pytest

from daemon.core.batcher import BatchPolicy, Chunk
from daemon.core.commit import Limits
from daemon.core.positions import Position
from daemon.testing.memory_source import MemoryReader, MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.support.engine import FAST, counting, engine, event

pytestmark = pytest.mark.anyio

ACTIONS = 21
"""A checkpoint, and a marker and a row for each of ten events."""
MANY = 1_000
PATIENT = replace(FAST, batch=BatchPolicy(max_events=MANY, linger=1e6))


class Asked(MemorySource):
    """A source that notes how many records it is asked for."""

    def __init__(self) -> None:
        """Hold as many events as one batch may have, and a few more, each of a key of its own."""
        super().__init__("memory")
        self.asked: list[int] = []
        self.add_shard("s0")
        self.append("s0", *[event(number + 1, key=f"k{number}") for number in range(MANY + 5)])

    async def open(
        self, shard: str, after: Position, incarnation: str | None, until: Position | None = None
    ) -> MemoryReader:
        """Open a reader that notes it."""
        reader, asked = await super().open(shard, after, incarnation, until), self.asked
        read = reader.read

        async def noted(max_events: int, max_bytes: int) -> Chunk:
            asked.append(max_events)
            return await read(max_events, max_bytes)

        reader.read = noted  # pyright: ignore[reportAttributeAccessIssue] - a stand-in
        return reader


async def test_a_full_commit_waits_for_no_linger() -> None:
    """Once a commit is known to be full with ten records, ten that wait are sent, however long a batch may linger."""
    store, source = MemoryStore(limits=Limits(actions=ACTIONS)), Asked()
    async with engine(counting(), store, source, policy=PATIENT) as running:
        await running.until(lambda: len(store.data.rows) >= MANY)
    sizes = [len(commit.rows) for commit, _ in store.commits if commit.rows]
    assert sizes.count(10) >= len(sizes) - 2


async def test_little_is_read_ahead_of_small_commits() -> None:
    """Where a commit holds ten records, readers are asked for a few commits' worth at once, not for a whole batch."""
    store, source = MemoryStore(limits=Limits(actions=ACTIONS)), Asked()
    async with engine(counting(), store, source, policy=PATIENT) as running:
        await running.until(lambda: len(store.data.rows) >= MANY)
    assert source.asked[0] == min(MANY, 256)
    assert source.asked[-1] == 40
