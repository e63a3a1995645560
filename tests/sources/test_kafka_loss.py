"""What a log that lost something does to a shard: it stops, with the range and the remedy, and skips nothing."""

import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import pytest
from aiokafka.errors import KafkaError

from daemon.core.errors import LogLost, SourceUnavailable
from daemon.core.events import Record
from daemon.core.positions import START
from daemon.demo.services.kafka import KafkaBroker
from daemon.ports.source import Reader
from daemon.sources.kafka.source import KafkaOptions, KafkaSource
from tests.contracts.source_contract import drain, ids_of
from tests.support.kafka import Hand, a_hand, a_source, cloud_event

pytestmark = pytest.mark.anyio

MANY = 1 << 30
OPTIONS = KafkaOptions(poll_interval=0.05, silence=1.0)


@pytest.fixture
async def hand(kafka: KafkaBroker) -> AsyncIterator[Hand]:
    """A topic of the test's own."""
    async with a_hand(kafka.bootstrap) as hand:
        yield hand


@pytest.fixture
async def source(hand: Hand) -> AsyncIterator[KafkaSource]:
    """A source over it."""
    source = a_source(hand.bootstrap, hand.topic, options=OPTIONS)
    yield source
    await source.aclose()


async def applied(source: KafkaSource, hand: Hand, count: int) -> tuple[tuple[int, ...], str | None]:
    """Read `count` events and give the checkpoint's position and incarnation after them."""
    reader = await source.open(f"{hand.topic}-0", START, None)
    records = await drain(reader, count, max_events=count)
    identity = reader.identity(records[-1], records[-1].position)
    await reader.aclose()
    return records[-1].position, identity


async def test_records_deleted_past_the_checkpoint_are_named(hand: Hand, source: KafkaSource):
    """Retention past the checkpoint stops the opening with the range lost and how to go on."""
    await hand.write(*(f"e{n}" for n in range(10)))
    position, identity = await applied(source, hand, 3)
    await hand.delete_records(7)
    with pytest.raises(LogLost, match=r"lost offsets 3 to 6 \(4 of them\).*skip NAME log/.*-0 --position 6"):
        await source.open(f"{hand.topic}-0", position, identity)


async def test_records_deleted_under_a_reader_are_named(hand: Hand, source: KafkaSource):
    """A reader that retention overtakes stops likewise, and gives no record from behind the gap."""
    await hand.write(*(f"e{n}" for n in range(10)))
    reader = await source.open(f"{hand.topic}-0", START, None)
    assert ids_of(await drain(reader, 10)) == [f"e{n}" for n in range(10)]
    await reader.aclose()
    reader = await source.open(f"{hand.topic}-0", (2,), None)
    await hand.delete_records(7)
    with pytest.raises(LogLost, match="lost offsets 3 to 6"):
        await drain(reader, 1)


async def test_retention_below_the_checkpoint_loses_nothing(hand: Hand, source: KafkaSource):
    """Where the last applied record itself is gone, nothing can be told, and reading goes on."""
    await hand.write(*(f"e{n}" for n in range(6)))
    position, identity = await applied(source, hand, 3)
    await hand.delete_records(3)
    reader = await source.open(f"{hand.topic}-0", position, identity)
    assert ids_of(await drain(reader, 3)) == ["e3", "e4", "e5"]


async def test_compaction_below_the_checkpoint_loses_nothing(kafka: KafkaBroker):
    """A compacted topic gives what is left; a last applied record that was compacted away tells nothing."""
    settings = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.001",
        "segment.ms": "100",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "100",
    }
    async with a_hand(kafka.bootstrap, settings=settings) as hand:
        source = a_source(kafka.bootstrap, hand.topic, options=OPTIONS)
        await hand.put(cloud_event("e0"), key=b"a")
        position, identity = await applied(source, hand, 1)
        assert position == (0,)
        written = 0
        with anyio.fail_after(90):
            compacted = False
            while not compacted:  # a segment rolls with the next record after its time
                written += 1
                await hand.put(cloud_event(f"e{written}"), key=b"a")
                await anyio.sleep(0.3)
                fresh = await source.open(f"{hand.topic}-0", START, None)
                compacted = (await drain(fresh, 1))[0].position > (1,)
                await fresh.aclose()
        reader = await source.open(f"{hand.topic}-0", position, identity)
        records = [*await drain(reader, 1)]
        while ids_of(records)[-1] != f"e{written}":
            records += await drain(reader, 1)
        assert len(records) < written
        await source.aclose()


async def test_a_topic_made_anew_is_never_half_skipped(hand: Hand, source: KafkaSource):
    """A topic under the same name, longer than the checkpoint's offset, is told by its record there."""
    await hand.write("e0", "e1", "e2")
    position, identity = await applied(source, hand, 2)
    await _make_anew(hand)
    await hand.write("f0", "f1", "f2", "f3")
    with pytest.raises(LogLost, match="holds another record at offset 1"):
        await source.open(f"{hand.topic}-0", position, identity)


async def test_a_shorter_topic_is_told_too(hand: Hand, source: KafkaSource):
    """A topic under the same name that ends before the checkpoint stops the opening."""
    await hand.write("e0", "e1", "e2")
    position, identity = await applied(source, hand, 3)
    await _make_anew(hand)
    await hand.write("f0")
    with pytest.raises(LogLost, match="ends at offset 1, but all below 3 was read"):
        await source.open(f"{hand.topic}-0", position, identity)


async def test_a_topic_made_anew_under_a_reader_stops_it(hand: Hand, source: KafkaSource):
    """While it is read: nothing of the new topic is handed on before the last record was compared."""
    await hand.write("e0", "e1")
    reader = await source.open(f"{hand.topic}-0", START, None)
    assert ids_of(await drain(reader, 2)) == ["e0", "e1"]
    async with anyio.create_task_group() as tasks:

        async def read_on() -> None:
            with pytest.raises(LogLost, match=r"another record|ends at offset|does not exist"):
                await read_nothing(reader)

        tasks.start_soon(read_on)
        await anyio.sleep(0.2)  # a fetch is out
        await _make_anew(hand)
        await hand.write("f0", "f1", "f2", "f3")


async def test_a_deleted_topic_says_what_to_do(hand: Hand, source: KafkaSource):
    """A topic that stays away stops the reader with the remedies; opening it again says the same."""
    await hand.write("e0")
    reader = await source.open(f"{hand.topic}-0", START, None)
    await drain(reader, 1)
    await hand.delete()
    with anyio.fail_after(30), pytest.raises(LogLost, match=r"does not exist any more.*Restore it"):
        await read_nothing(reader)
    with pytest.raises(LogLost, match="does not exist any more"):
        await source.open(f"{hand.topic}-0", (0,), None)
    with pytest.raises(SourceUnavailable, match="does not exist; create it"):
        await source.shards()


async def test_reading_makes_no_topic():
    """A topic that does not exist is not made by asking for it, even where brokers would."""
    with KafkaBroker(extra_properties={"auto.create.topics.enable": "true"}) as broker:
        async with a_hand(broker.bootstrap) as hand:
            await hand.write("e0")
            source = a_source(broker.bootstrap, hand.topic, options=OPTIONS)
            reader = await source.open(f"{hand.topic}-0", START, None)
            await drain(reader, 1)
            await hand.delete()
            with anyio.fail_after(30), pytest.raises(LogLost, match="does not exist any more"):
                await read_nothing(reader)
            assert hand.topic not in await hand.admin.list_topics()
            missing = a_source(broker.bootstrap, f"t{uuid.uuid4().hex}", options=OPTIONS)
            with pytest.raises(SourceUnavailable, match="does not exist"):
                await missing.shards()
            await missing.aclose()
            await source.aclose()


async def test_brokers_away_are_waited_for():
    """A broker killed hard and started again costs no record; while it is away reading says so."""
    with KafkaBroker() as broker:
        async with a_hand(broker.bootstrap) as mine:
            await mine.write("e0", "e1")
            source = a_source(broker.bootstrap, mine.topic, options=OPTIONS)
            reader = await source.open(f"{mine.topic}-0", START, None)
            await drain(reader, 2)
            broker.kill()
            with anyio.fail_after(30), pytest.raises(SourceUnavailable):
                await read_nothing(reader)
            with pytest.raises(SourceUnavailable):
                await source.open(f"{mine.topic}-0", (1,), None)
            await anyio.to_thread.run_sync(broker.restart)
            await mine.write("e2")
            records: list[Record] = []
            with anyio.fail_after(60):
                while not records:
                    with suppress(SourceUnavailable):
                        records += (await reader.read(10, MANY)).records
            assert ids_of(records) == ["e2"]
            assert ids_of(await drain(await source.open(f"{mine.topic}-0", (0,), None), 2)) == ["e1", "e2"]
            await source.aclose()


async def read_nothing(reader: Reader) -> None:
    """Read on for as long as it lets us; not one record may come."""
    while True:
        assert (await reader.read(10, MANY)).records == []


async def _make_anew(hand: Hand) -> None:
    await hand.delete()
    with anyio.fail_after(30):
        while True:
            try:
                await hand.create()
            except KafkaError:  # the name is taken while the old topic goes
                await anyio.sleep(0.1)
            else:
                return
