"""Every Source against the suites that fit it. An adapter adds a class with a `rig` fixture."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from daemon.core.errors import LogLost, SourceUnavailable
from daemon.core.positions import START
from daemon.demo.services.kafka import KafkaBroker
from daemon.sources.envelopes import CloudEvents
from daemon.sources.file import FileSource
from daemon.testing.clock import VirtualClock
from daemon.testing.memory_source import MemorySource
from tests.contracts.source_contract import SHARD, LogContract, QueueContract, drain, ids_of
from tests.core.events import an_event
from tests.support.kafka import KafkaRig, a_hand, a_source

pytestmark = pytest.mark.anyio


class MemoryRig:
    shard = SHARD

    def __init__(self, source: MemorySource, stride: int = 1) -> None:
        self.source = source
        self.stride = stride
        self.written = 0
        source.add_shard(SHARD)

    async def grow(self, ids: Sequence[str]) -> None:
        for name in ids:
            self.written += self.stride
            position = START if self.source.queue else (self.written,)
            self.source.append(SHARD, an_event(name, position=position))


class TestMemoryLog(LogContract):
    @pytest.fixture(params=[1, 7], ids=["dense", "sparse"])
    def rig(self, request: pytest.FixtureRequest) -> MemoryRig:
        return MemoryRig(MemorySource(), request.param)

    async def test_trailing_gap_moves_the_position(self, rig: MemoryRig) -> None:
        """Positions without records move `through` in an empty chunk."""
        await rig.grow(["e0"])
        reader = await rig.source.open(SHARD, START, None)
        await drain(reader, 1)
        rig.source.advance(SHARD, (99,))
        chunk = await reader.read(10, 1000)
        assert (chunk.records, chunk.through) == ([], (99,))

    async def test_ended_shard_says_so(self, rig: MemoryRig) -> None:
        """The chunk that drains a closed shard ends it, and its child names it as a parent."""
        await rig.grow(["e0"])
        rig.source.end_shard(SHARD)
        rig.source.add_shard("child", parents=(SHARD,))
        reader = await rig.source.open(SHARD, START, None)
        assert (await reader.read(10, 1000)).ends_shard
        assert [info.parents for info in await rig.source.shards()] == [(), (SHARD,)]

    async def test_log_that_lost_the_position_refuses(self, rig: MemoryRig) -> None:
        """A trimmed, shrunk or recreated log raises LogLost; a fault raises once and loses nothing."""
        await rig.grow(["e0", "e1"])
        rig.source.problems.append(SourceUnavailable("away; wait"))
        reader = await rig.source.open(SHARD, START, None)
        with pytest.raises(SourceUnavailable):
            await reader.read(1, 1)
        assert ids_of(await drain(reader, 2)) == ["e0", "e1"]
        with pytest.raises(LogLost):
            await rig.source.open(SHARD, (999,), None)
        with pytest.raises(LogLost):
            await rig.source.open(SHARD, (rig.stride,), "another")
        rig.source.trim(SHARD, (rig.stride,))
        with pytest.raises(LogLost):
            await rig.source.open(SHARD, START, None)


class FileRig:
    def __init__(self, folder: Path) -> None:
        self.shard = "a.jsonl"
        self.path = folder / self.shard
        self.path.touch()
        self.source = FileSource("files", [str(folder / "*.jsonl")], CloudEvents(), clock=VirtualClock())

    async def grow(self, ids: Sequence[str]) -> None:
        lines = [{"specversion": "1.0", "id": name, "type": "T", "source": "/s", "data": {"n": 1}} for name in ids]
        with self.path.open("ab") as log:
            log.writelines(json.dumps(line).encode() + b"\n" for line in lines)


class TestFile(LogContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[FileRig]:
        rig = FileRig(tmp_path)
        yield rig
        await rig.source.aclose()


class TestKafka(LogContract):
    @pytest.fixture(params=[False, True], ids=["dense", "transactions"])
    async def rig(self, request: pytest.FixtureRequest, kafka: KafkaBroker) -> AsyncIterator[KafkaRig]:
        async with a_hand(kafka.bootstrap) as hand:
            source = a_source(kafka.bootstrap, hand.topic)
            yield KafkaRig(source, f"{hand.topic}-0", hand, request.param)
            await source.aclose()


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def rig(self) -> MemoryRig:
        return MemoryRig(MemorySource(queue=True))
