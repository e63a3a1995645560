"""What every Source must do. An adapter subclasses the suites that fit it and gives a `rig` fixture.

A rig owns one source with the shard `a`, and writes to the log behind it: `grow` appends events with these ids.
`LogContract` is for sources with positions, `QueueContract` for those without.
"""

from collections.abc import Sequence
from typing import Protocol

from daemon.core.batcher import Passed
from daemon.core.events import Event, Record
from daemon.core.positions import START, Position
from daemon.ports.source import Reader, Source

SHARD = "a"
MANY = 1 << 30


class Rig(Protocol):
    """A source and the hand that writes its log. `shard` is the name the source lists it by."""

    source: Source
    shard: str

    async def grow(self, ids: Sequence[str]) -> None:
        """Append events with these ids."""
        ...


def ids_of(records: Sequence[Record]) -> list[str]:
    """Return the ids of events."""
    return [record.id for record in records if isinstance(record, Event)]


async def drain(reader: Reader, count: int, max_events: int = 1000, max_bytes: int = MANY) -> list[Record]:
    """Read until `count` records came."""
    records: list[Record] = []
    for _ in range(500):
        records += (await reader.read(max_events, max_bytes)).records
        if len(records) >= count:
            break
    return records


async def read_on(rig: Rig, after: Position, count: int, until: Position | None = None) -> list[Record]:
    """Open, read `count` records, close."""
    reader = await rig.source.open(rig.shard, after, None, until)
    records = await drain(reader, count)
    await reader.aclose()
    return records


class LogContract:
    """A log with positions, that can be read again."""

    async def test_shards_are_listed(self, rig: Rig) -> None:
        """The shard is listed, without parents, and listing again says the same."""
        await rig.grow(["e0"])
        listed = await rig.source.shards()
        assert rig.shard in {info.shard for info in listed}
        assert list(await rig.source.shards()) == list(listed)
        assert rig.source.traits.positioned

    async def test_records_come_in_position_order(self, rig: Rig) -> None:
        """Records come once each, in the order written, with positions that rise and lie above START."""
        names = [f"e{n}" for n in range(50)]
        await rig.grow(names)
        records = await read_on(rig, START, 50)
        assert ids_of(records) == names
        positions = [record.position for record in records]
        assert positions == sorted(set(positions))
        assert positions[0] > START

    async def test_reading_resumes_strictly_after(self, rig: Rig) -> None:
        """Opened after any record's position, reading begins with the next record."""
        names = [f"e{n}" for n in range(8)]
        await rig.grow(names)
        records = await read_on(rig, START, 8)
        for index in range(7):
            assert ids_of(await read_on(rig, records[index].position, 7 - index)) == names[index + 1 :]

    async def test_limits_of_a_read_hold(self, rig: Rig) -> None:
        """A read gives no more events than asked for, no more bytes but for a lone record, and loses none."""
        names = [f"e{n}" for n in range(10)]
        await rig.grow(names)
        reader = await rig.source.open(rig.shard, START, None)
        first = await reader.read(3, MANY)
        assert 1 <= len(first.records) <= 3
        second = await reader.read(10, 1)
        assert len(second.records) == 1
        rest = await drain(reader, 10 - len(first.records) - 1)
        assert ids_of([*first.records, *second.records, *rest]) == names
        await reader.aclose()

    async def test_through_covers_what_was_given(self, rig: Rig) -> None:
        """A chunk's `through` is at or above its last record, and opening there meets only what was not given."""
        names = [f"e{n}" for n in range(9)]
        await rig.grow(names)
        reader = await rig.source.open(rig.shard, START, None)
        chunk = await reader.read(4, MANY)
        await reader.aclose()
        assert chunk.through >= chunk.records[-1].position
        given = len(chunk.records)
        assert ids_of(await read_on(rig, chunk.through, 9 - given)) == names[given:]

    async def test_what_is_passed_over_is_counted(self, rig: Rig) -> None:
        """Skimming passes over exactly the records below a position; reading goes on with the one that stands there."""
        names = [f"e{n}" for n in range(40)]
        await rig.grow(names)
        records = await read_on(rig, START, 40)
        for target in (0, 1, 17, 39):
            reader = await rig.source.open(rig.shard, START, None, records[-1].position)
            count = 0
            for _ in range(500):
                passed = await reader.skim(records[target].position, MANY)
                count += passed.count
                assert passed.through < records[target].position
                if count >= target and not passed.count:
                    break
            assert count == target
            assert ids_of(await drain(reader, 40 - target)) == names[target:]
            await reader.aclose()

    async def test_a_whole_range_is_passed_over(self, rig: Rig) -> None:
        """Without a limit a range is skimmed to its end, which is told; reading behind it gives nothing more."""
        names = [f"e{n}" for n in range(30)]
        await rig.grow(names)
        records = await read_on(rig, START, 30)
        until = records[20].position
        reader = await rig.source.open(rig.shard, records[4].position, None, until)
        count, ends, passed = 0, False, Passed(0, START)
        for _ in range(500):
            passed = await reader.skim(None, MANY)
            count, ends = count + passed.count, ends or passed.ends
            if ends:
                break
        assert (count, passed.through) == (16, until)
        assert (await reader.read(10, MANY)).ends_shard
        await reader.aclose()

    async def test_what_was_kept_is_restored(self, rig: Rig) -> None:
        """Of positions and raw bytes the same events are made again, as they would be read."""
        await rig.grow([f"e{n}" for n in range(6)])
        records = await read_on(rig, START, 6)
        restored = await rig.source.restore(rig.shard, [(one.position, one.raw) for one in records[1:4]])
        assert [None if one is None else (one.position, one.raw) for one in restored] == [
            (one.position, one.raw) for one in records[1:4]
        ]
        assert ids_of([one for one in restored if one is not None]) == ["e1", "e2", "e3"]
        assert list(await rig.source.restore(rig.shard, [])) == []

    async def test_growth_is_followed(self, rig: Rig) -> None:
        """At its end the log says so with `at_end`; what is written afterwards comes through the same opening."""
        await rig.grow(["e0"])
        reader = await rig.source.open(rig.shard, START, None)
        assert ids_of(await drain(reader, 1)) == ["e0"]
        ends = [(await reader.read(10, MANY)).at_end for _ in range(2)]
        assert ends == [True, True]
        await rig.grow(["e1", "e2"])
        assert ids_of(await drain(reader, 2)) == ["e1", "e2"]
        await reader.aclose()

    async def test_bounded_range_beside_the_live_one(self, rig: Rig) -> None:
        """An opening with `until` ends there, inclusive, and disturbs no other opening of the shard."""
        names = [f"e{n}" for n in range(6)]
        await rig.grow(names)
        positions = [record.position for record in await read_on(rig, START, 6)]
        live = await rig.source.open(rig.shard, positions[2], None)
        bounded = await rig.source.open(rig.shard, positions[0], None, positions[3])
        given: list[Record] = []
        ended = False
        for _ in range(20):
            chunk = await bounded.read(2, MANY)
            given += chunk.records
            assert chunk.through <= positions[3]
            ended = ended or chunk.ends_shard
            if ended:
                break
        assert ids_of(given) == names[1:4]
        assert ended
        assert ids_of(await drain(live, 3)) == names[3:]
        await bounded.aclose()
        await live.aclose()

    async def test_identity_opens_again(self, rig: Rig) -> None:
        """What `identity` returned for a position is accepted when the shard is opened there again."""
        await rig.grow(["e0", "e1"])
        reader = await rig.source.open(rig.shard, START, None)
        chunk = await reader.read(1, MANY)
        identity = reader.identity(chunk.records[-1], chunk.records[-1].position)
        await reader.aclose()
        again = await rig.source.open(rig.shard, chunk.records[-1].position, identity)
        assert ids_of(await drain(again, 1)) == ["e1"]
        await again.aclose()

    async def test_earliest_and_latest_are_found(self, rig: Rig) -> None:
        """`earliest` meets the first record; `latest` meets only what is written afterwards."""
        await rig.grow(["e0", "e1"])
        assert ids_of(await read_on(rig, await rig.source.locate(rig.shard, "earliest"), 2)) == ["e0", "e1"]
        latest = await rig.source.locate(rig.shard, "latest")
        await rig.grow(["e2"])
        assert ids_of(await read_on(rig, latest, 1)) == ["e2"]

    async def test_backlog_shrinks_to_nothing(self, rig: Rig) -> None:
        """Whatever of events and bytes the log can tell is above 0 behind records, and 0 once read to the end."""
        await rig.grow(["e0", "e1"])
        reader = await rig.source.open(rig.shard, START, None)
        await drain(reader, 2)
        ends = [await reader.read(10, MANY) for _ in range(2)]
        await reader.aclose()
        before, after = (
            await rig.source.backlog(rig.shard, START),
            await rig.source.backlog(rig.shard, ends[-1].through),
        )
        for early, late in ((before.events, after.events), (before.bytes, after.bytes)):
            assert early is None or early > 0
            assert late is None or late == 0

    async def test_acknowledging_a_log_is_harmless(self, rig: Rig) -> None:
        """Acknowledging records of a log changes nothing."""
        await rig.grow(["e0"])
        reader = await rig.source.open(rig.shard, START, None)
        await reader.acknowledge(await drain(reader, 1))
        await reader.aclose()
        assert ids_of(await read_on(rig, START, 1)) == ["e0"]


class QueueContract:
    """A queue: no positions, acknowledged after the commit."""

    async def test_records_carry_no_position(self, rig: Rig) -> None:
        """The traits say so, and every record and chunk stands at START."""
        await rig.grow(["e0", "e1"])
        assert not rig.source.traits.positioned
        assert rig.source.traits.acknowledged
        assert {record.position for record in await read_on(rig, START, 2)} == {START}

    async def test_unacknowledged_records_come_again(self, rig: Rig) -> None:
        """What was acknowledged is gone for good; what was not is given to the next opening."""
        await rig.grow(["e0", "e1", "e2"])
        reader = await rig.source.open(rig.shard, START, None)
        records = await drain(reader, 3)
        assert sorted(ids_of(records)) == ["e0", "e1", "e2"]
        await reader.acknowledge([record for record in records if ids_of([record]) != ["e1"]])
        await reader.aclose()
        assert ids_of(await read_on(rig, START, 1)) == ["e1"]
