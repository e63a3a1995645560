"""A list of shards of a moment ago will do for whoever looks, but not for refusing what came since."""

from collections.abc import Sequence
from typing import override

import pytest

from daemon.control.landscape import Landscape
from daemon.core.commands import Target
from daemon.core.errors import CommandRefused
from daemon.core.identity import Generation
from daemon.ports.source import ShardInfo
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore

pytestmark = pytest.mark.anyio

GENERATION = Generation("sales", 1)


class Late(MemorySource):
    """A source whose list of a moment ago lacks its newest shard."""

    def __init__(self) -> None:
        super().__init__("log")
        self.fresh_looks = 0

    @override
    async def shards(self, within: float = 0.0) -> Sequence[ShardInfo]:
        if within > 0.0:
            return [ShardInfo("old")]
        self.fresh_looks += 1
        return [ShardInfo("new"), ShardInfo("old")]


async def test_a_shard_that_came_since_the_last_list_is_found_by_its_name():
    """Who names a shard is refused only after a new look; who names none is content with the last list."""
    store, source = MemoryStore(), Late()
    await store.open()
    await store.create_generation(GENERATION, 1, live=True)
    landscape = Landscape(store, {"log": source}, {GENERATION: ["log"]})
    (found,) = await landscape.find(Target("sales"))
    assert [shard.shard for shard in found.shards] == ["old"]
    assert source.fresh_looks == 0
    assert await landscape.find(Target("sales", None, "log", "new"))
    with pytest.raises(CommandRefused, match="follows no shard"):
        await landscape.find(Target("sales", None, "log", "newer"))
