"""What a Kafka partition gives: gaps, control records, tombstones, headers, forms of events, large records."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import anyio
import pytest

from daemon.core.batcher import Chunk
from daemon.core.events import BadRecord, Event, Record
from daemon.core.positions import START, Position
from daemon.demo.services.kafka import KafkaBroker
from daemon.ports.source import Reader
from daemon.sources.envelopes import FieldMap
from daemon.sources.kafka.lane import FetchPolicy
from daemon.sources.kafka.records import DebeziumOutbox, Structured
from daemon.sources.kafka.source import KafkaOptions, KafkaSource
from tests.support.kafka import Hand, a_hand, a_source, cloud_event

pytestmark = pytest.mark.anyio

MANY = 1 << 30
QUICK = KafkaOptions(poll_interval=0.05)


@pytest.fixture
async def hand(kafka: KafkaBroker) -> AsyncIterator[Hand]:
    """A topic of the test's own."""
    async with a_hand(kafka.bootstrap) as hand:
        yield hand


async def to_the_end(reader: Reader, max_events: int = 1000, max_bytes: int = MANY) -> tuple[list[Record], Chunk]:
    """Read until the log is at its end; give the records and the last chunk."""
    records: list[Record] = []
    with anyio.fail_after(30):
        while True:
            chunk = await reader.read(max_events, max_bytes)
            records += chunk.records
            if chunk.at_end:
                return records, chunk


async def all_of(source: KafkaSource, hand: Hand, after: Position = START) -> list[Record]:
    """Read a topic's first partition to its end, and close the source."""
    records, _ = await to_the_end(await source.open(f"{hand.topic}-0", after, None))
    await source.aclose()
    return records


async def only(source: KafkaSource, hand: Hand) -> Event:
    """Read the one event there is."""
    (event,) = await all_of(source, hand)
    assert isinstance(event, Event), event.detail
    return event


def ids(records: list[Record]) -> list[str]:
    """Ids of events, reasons of bad records."""
    return [record.id if isinstance(record, Event) else f"!{record.reason}" for record in records]


async def test_trailing_control_records_leave_no_lag(hand: Hand):
    """After a last transaction, aborted or not, the position reaches the last stable offset and the backlog is 0."""
    await hand.write("e0")
    await hand.transact("gone", "gone-too", commit=False)
    source = a_source(hand.bootstrap, hand.topic, options=QUICK)
    reader = await source.open(f"{hand.topic}-0", START, None)
    records, last = await to_the_end(reader)
    assert ids(records) == ["e0"]
    with anyio.fail_after(20):
        while last.through < (3,):  # e0, two aborted records, their control record
            last = await reader.read(10, MANY)
            assert last.records == []
    assert (await source.backlog(f"{hand.topic}-0", last.through)).events == 0
    assert source.vitals().withheld == {f"{hand.topic}-0": 3}  # what the broker's layer kept from us
    await source.aclose()


async def test_uncommitted_records_wait_for_their_transaction(hand: Hand):
    """Nothing at or after an open transaction is read, and the backlog says that a transaction holds it back."""
    await hand.write("e0")
    producer = await hand.transaction()
    await producer.send_and_wait(hand.topic, cloud_event("e1"), partition=0)
    await hand.write("e2")
    source = a_source(hand.bootstrap, hand.topic, options=QUICK)
    reader = await source.open(f"{hand.topic}-0", START, None)
    records, last = await to_the_end(reader)
    assert ids(records) == ["e0"]
    backlog = await source.backlog(f"{hand.topic}-0", last.through)
    assert (backlog.events, backlog.held) == (0, 2)
    await producer.commit_transaction()
    with anyio.fail_after(10):
        while len(records) < 3:
            records += (await reader.read(10, MANY)).records
    assert ids(records) == ["e0", "e1", "e2"]
    assert (await source.backlog(f"{hand.topic}-0", (9,))).held == 0
    await source.aclose()


async def test_keys_headers_and_times_reach_projections(hand: Hand):
    """Record headers come under their names, the key and the record's time as headers, and as the event's time."""
    headers = [("trace", b"t-1")]
    await hand.put(cloud_event("e0", tenant="acme"), key=b"k\xff", headers=headers, timestamp_ms=1_700_000_000_123)
    event = await only(a_source(hand.bootstrap, hand.topic), hand)
    assert dict(event.headers) == {
        "tenant": "acme",
        "trace": "t-1",
        "kafka_key": "a/8=",
        "kafka_timestamp": "1700000000123",
    }
    assert event.time.isoformat() == "2023-11-14T22:13:20.123000+00:00"


async def test_tombstones_are_events_without_data(hand: Hand):
    """A null value is an event of the tombstone type, named by its place, with the key as its subject."""
    await hand.put(None, key=b"order-7")
    event = await only(a_source(hand.bootstrap, hand.topic, options=KafkaOptions(tombstone_type="Gone")), hand)
    assert (event.type, event.data, event.subject, event.raw) == ("Gone", None, "order-7", b"")
    assert event.id == f"{hand.topic}/0/0"


async def test_cloud_events_come_in_both_modes(hand: Hand):
    """Structured and binary CloudEvents of one topic are told apart record by record, and mean the same."""
    binary = [("ce_specversion", b"1.0"), ("ce_id", b"b"), ("ce_type", b"T"), ("ce_source", b"/s"), ("ce_tenant", b"x")]
    await hand.write("a")
    await hand.put(b'{"n": 1}', headers=[*binary, ("content-type", b"application/json; charset=utf-8")])
    await hand.put(b"\x00\x01", headers=[*binary, ("ce_time", b"2026-03-01T00:00:00Z"), ("content-type", b"image/png")])
    await hand.put(b"{", headers=binary)
    await hand.put(b"1", headers=binary[:2])
    await hand.put(None, key=b"k", headers=binary)
    records = await all_of(a_source(hand.bootstrap, hand.topic), hand)
    assert ids(records) == ["a", "b", "b", "!not-json", "!missing-type", "b"]
    structured, plain, bytes_, *_, none = records
    assert isinstance(structured, Event)
    assert isinstance(plain, Event)
    assert isinstance(bytes_, Event)
    assert isinstance(none, Event)
    assert structured.digest == plain.digest
    assert (plain.type, plain.source, plain.headers["tenant"], plain.data) == ("T", "/s", "x", {"n": 1})
    assert (bytes_.data, bytes_.time.year) == (b"\x00\x01", 2026)
    assert none.data is None


@pytest.mark.parametrize(
    "value",
    [
        b'{"total": 0.10, "n": 12345678901234567.5}',
        json.dumps('{"n": 12345678901234567.5, "total": 0.1}').encode(),
        b'{"schema": {"type": "string"}, "payload": "{\\"total\\": 0.1, \\"n\\": 12345678901234567.5}"}',
        b'{"schema": null, "payload": {"total": 1e-1, "n": 12345678901234567.5}}',
    ],
    ids=["json", "string", "connect-string", "connect"],
)
async def test_debezium_s_outbox_is_read(hand: Hand, value: bytes):
    """Id and type from headers, the payload exactly, however Connect's converters wrapped it."""
    await hand.put(value, key=b'"order-1"', headers=[("id", b'"e-1"'), ("eventType", b"OrderPlaced")])
    event = await only(a_source(hand.bootstrap, hand.topic, form=DebeziumOutbox()), hand)
    assert (event.id, event.type, event.subject) == ("e-1", "OrderPlaced", "order-1")
    assert event.data == {"total": Decimal("0.1"), "n": Decimal("12345678901234567.5")}


async def test_outbox_records_without_an_id_are_bad(hand: Hand):
    """What the router did not write is a bad record, and the next one is read."""
    await hand.put(b"{}", headers=[("eventType", b"T")])
    await hand.put(b"{}", headers=[("id", b"x"), ("eventType", b"T")])
    records = await all_of(a_source(hand.bootstrap, hand.topic, form=DebeziumOutbox()), hand)
    assert ids(records) == ["!missing-id", "x"]


async def test_plain_json_is_read_by_field_map(hand: Hand):
    """Fields are taken where the map says."""
    await hand.put(b'{"meta": {"id": 7, "kind": "Placed"}, "body": {"total": 1.50}}')
    form = Structured(FieldMap(id="meta.id", type="meta.kind", data="body"))
    event = await only(a_source(hand.bootstrap, hand.topic, form=form), hand)
    assert (event.id, event.type, event.data) == ("7", "Placed", {"total": Decimal("1.5")})


async def test_poison_amid_a_batch_is_set_apart(hand: Hand):
    """Records of any bytes become bad records at their offsets; those around them are events."""
    for value in (cloud_event("a"), b"\xff\xfe", b"", b"[]", b"[" * 500, cloud_event("b")):
        await hand.put(value)
    records = await all_of(a_source(hand.bootstrap, hand.topic), hand)
    assert ids(records) == ["a", "!bad-utf8", "!not-json", "!bad-field", "!too-deep", "b"]
    assert [record.position for record in records] == [(n,) for n in range(6)]


async def test_large_records_come_alone_or_are_refused(kafka: KafkaBroker):
    """A record larger than all fetch sizes is read; one above the limit is a bad record that keeps its head."""
    async with a_hand(kafka.bootstrap, settings={"max.message.bytes": str(16 << 20)}) as hand:
        for size in (1 << 20, 10 << 20):
            await hand.put(cloud_event(f"e{size}", data={"text": "x" * size}))
        await hand.write("small")
        small = FetchPolicy(partition_bytes=4096, lane_bytes=4096)
        options = KafkaOptions(fetch=small, max_record_bytes=2 << 20)
        records = await all_of(a_source(kafka.bootstrap, hand.topic, options=options), hand)
        assert ids(records) == [f"e{1 << 20}", "!too-large", "small"]
        bad = records[1]
        assert isinstance(bad, BadRecord)
        assert len(bad.raw) == 4096


async def test_what_waits_is_bounded_and_never_fetched_twice(kafka: KafkaBroker):
    """A reader that does not read holds one fetched answer, however long the log; reading on meets every record."""
    async with a_hand(kafka.bootstrap) as hand:
        for n in range(400):
            await hand.producer.send(hand.topic, cloud_event(f"e{n}", data={"text": "x" * 1000}), partition=0)
        await hand.producer.flush()
        options = KafkaOptions(fetch=FetchPolicy(partition_bytes=64 * 1024))
        source = a_source(kafka.bootstrap, hand.topic, options=options)
        reader = await source.open(f"{hand.topic}-0", START, None)
        records = (await reader.read(1, MANY)).records
        fetched = source.fetched_bytes
        assert 0 < fetched <= 2 * 64 * 1024
        await anyio.sleep(0.5)  # five times a fetch's longest wait: the broker would have answered again
        assert source.fetched_bytes == fetched
        records += (await to_the_end(reader))[0]
        assert ids(records) == [f"e{n}" for n in range(400)]
        assert source.fetched_bytes < 1.2 * 400 * 1100
        await source.aclose()


async def test_many_partitions_share_a_consumer(kafka: KafkaBroker):
    """64 openings read through one consumer; a second opening of one partition reads through another, undisturbed."""
    async with a_hand(kafka.bootstrap, partitions=64) as hand:
        for partition in range(64):
            await hand.write(f"a{partition}", f"b{partition}", partition=partition)
        source = a_source(kafka.bootstrap, hand.topic, options=QUICK)
        readers = {n: await source.open(f"{hand.topic}-{n}", START, None) for n in range(64)}
        found: dict[int, list[str]] = {}

        async def read(number: int, reader: Reader) -> None:
            found[number] = ids((await to_the_end(reader))[0])

        async with anyio.create_task_group() as tasks:
            for number, reader in readers.items():
                tasks.start_soon(read, number, reader)
        assert found == {n: [f"a{n}", f"b{n}"] for n in range(64)}
        assert source.consumers == 1
        again = await source.open(f"{hand.topic}-3", (0,), None)
        assert ids((await to_the_end(again))[0]) == ["b3"]
        assert source.consumers == 2
        for reader in readers.values():
            await reader.aclose()
        await hand.write("c3", partition=3)
        assert ids((await again.read(10, MANY)).records) == ["c3"]
        await again.aclose()
        assert source.consumers == 0
        await source.aclose()


async def test_a_reader_that_joins_disturbs_nobody(kafka: KafkaBroker):
    """Partitions joined and left while another is read: that one is read on, each record once."""
    async with a_hand(kafka.bootstrap, partitions=3) as hand:
        names = [f"e{n}" for n in range(300)]
        await hand.write(*names)
        source = a_source(kafka.bootstrap, hand.topic, options=QUICK)
        reader = await source.open(f"{hand.topic}-0", START, None)
        records: list[Record] = []
        for turn in range(30):
            other = await source.open(f"{hand.topic}-{1 + turn % 2}", START, None)
            records += (await reader.read(10, MANY)).records
            await other.aclose()
        records += (await to_the_end(reader))[0]
        assert ids(records) == names
        await source.aclose()


async def test_a_time_is_found_by_the_records_timestamps(hand: Hand):
    """Reading from a time begins with the first record at or after it; a later time is the end."""
    begin = int(datetime.now(UTC).timestamp()) - 60  # older ones would be retained no longer
    for n in range(4):
        await hand.put(cloud_event(f"e{n}"), timestamp_ms=begin * 1000 + 1000 * n)
    source = a_source(hand.bootstrap, hand.topic)
    place = await source.locate(f"{hand.topic}-0", datetime.fromtimestamp(begin + 1.5, UTC))
    assert place == (1,)
    assert await source.locate(f"{hand.topic}-0", datetime(2036, 1, 1, tzinfo=UTC)) == (3,)
    assert ids(await all_of(source, hand, place)) == ["e2", "e3"]


async def test_a_consumer_that_hangs_is_made_anew(hand: Hand, monkeypatch: pytest.MonkeyPatch):
    """Alive, but bringing nothing though records wait and brokers answer: counted, replaced, nothing lost; while
    nothing waits it is left alone.
    """
    options = KafkaOptions(poll_interval=0.05, stuck=0.3)
    source = a_source(hand.bootstrap, hand.topic, options=options)
    await hand.write("e0")
    reader = await source.open(f"{hand.topic}-0", START, None)
    records, _ = await to_the_end(reader)
    for _ in range(20):
        await reader.read(10, MANY)
    assert not source.guard.restarts
    (lane,) = source._lanes

    async def hang(*_: object, timeout_ms: int = 0, **__: object) -> dict[object, object]:
        await anyio.sleep(timeout_ms / 1000)
        return {}

    monkeypatch.setattr(lane._consumer, "getmany", hang)
    await hand.write("e1", "e2")
    with anyio.fail_after(20):
        while len(records) < 3:
            records += (await reader.read(10, MANY)).records
    assert ids(records) == ["e0", "e1", "e2"]
    assert source.guard.restarts == {f"{hand.topic}-0": 1}
    await source.aclose()


async def test_the_time_to_loss_is_told(kafka: KafkaBroker):
    """While records wait, the backlog tells when retention takes the next one; with nothing waiting there is none."""
    async with a_hand(kafka.bootstrap, settings={"retention.ms": "3600000"}) as hand:
        source = a_source(kafka.bootstrap, hand.topic)
        now = int(datetime.now(UTC).timestamp() * 1000)
        await hand.put(cloud_event("e0"), timestamp_ms=now - 600_000)
        await hand.put(cloud_event("e1"), timestamp_ms=now)
        shard = f"{hand.topic}-0"
        assert (await source.backlog(shard, START)).seconds_to_loss == pytest.approx(3000, abs=120)
        assert (await source.backlog(shard, (0,))).seconds_to_loss == pytest.approx(3600, abs=120)
        assert (await source.backlog(shard, (1,))).seconds_to_loss is None
        await source.aclose()
    async with a_hand(kafka.bootstrap, settings={"retention.ms": "-1"}) as hand:
        source = a_source(kafka.bootstrap, hand.topic)
        await hand.write("e0")
        assert (await source.backlog(f"{hand.topic}-0", START)).seconds_to_loss is None
        await source.aclose()
