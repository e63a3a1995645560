import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from zlib import crc32

import pytest

from daemon.core.errors import SettingsProblem
from daemon.demo.events import Timed, fare, flight_events, trip
from daemon.demo.flights import Flight
from daemon.demo.log import Copy, copies_at_once, copies_later, copies_of_ranges, write_logs
from daemon.demo.manifest import FORMAT, MANIFEST_FILE, expected_duplicates, load_manifest, save_manifest
from tests.demo.conftest import Logs

FULL_SHARD = 250_000
"""Unique lines of a shard of the year's `flights`."""


def ids(logs: Logs, file: str) -> list[str]:
    """The id of each line."""
    name = "id" if file.startswith("flights") else "event_id"
    return [json.loads(line)[name] for line in logs.lines(file)]


def contents(directory: Path) -> dict[str, bytes]:
    """All files of a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# -- what an event looks like ---------------------------------------------------------------------------------------


def test_the_events_of_a_landed_flight_look_as_documented(flights: list[Flight]) -> None:
    """Golden: three CloudEvents and one trip, byte for byte."""
    envelope = '{"specversion":"1.0","source":"/nyc/flights","type":"%s","id":"UA1545-2013-01-01T10Z/%d","time":"%s",'
    data = (
        '"subject":"UA1545-2013-01-01T10Z",'
        '"data":{"flight_id":"UA1545-2013-01-01T10Z","carrier":"UA","month":"2013-01","seq":%d,'
    )
    assert [line for _, line in flight_events(flights[0])] == [
        envelope % ("FlightScheduled", 1, "2012-12-31T10:15:00Z")
        + data % 1
        + '"flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","sched_dep":"2013-01-01T05:15",'
        '"sched_arr":"2013-01-01T08:19","distance":1400,"fare":214.90}}\n',
        envelope % ("FlightDeparted", 2, "2013-01-01T10:17:00Z")
        + data % 2
        + '"dep_time":"2013-01-01T05:17","dep_delay":2}}\n',
        envelope % ("FlightLanded", 3, "2013-01-01T14:04:00Z")
        + data % 3
        + '"arr_time":"2013-01-01T08:30","arr_delay":11,"air_time":227}}\n',
    ]
    assert told(trip(flights[0])) == (
        '{"event_id":"UA1545-2013-01-01T10Z/trip","kind":"TripFlown","at":"2013-01-01T14:04:00Z","carrier":"UA",'
        '"origin":"EWR","day":"2013-01-01","dep_delay":2,"dest":"IAH","dest_day":"2013-01-01","arr_delay":11,'
        '"flight":1545}\n'
    )


def told(timed: Timed | None) -> str:
    """The line of an event that there is."""
    assert timed is not None
    return timed[1]


def test_a_flight_that_ends_otherwise_says_so(flights: list[Flight]) -> None:
    """A cancelled flight has two events and made no trip, a diverted one has three and a trip without an arrival."""
    cancelled = flights[0]._replace(dep_delay=None, arr_delay=None, air_time=None, tailnum=None)
    scheduled, last = (json.loads(line) for _, line in flight_events(cancelled))
    assert scheduled["data"]["tailnum"] is None
    assert (last["type"], last["time"], last["data"]["seq"]) == ("FlightCancelled", "2013-01-01T10:15:00Z", 2)
    assert last["id"] == "UA1545-2013-01-01T10Z/2"
    assert trip(cancelled) is None

    diverted = flights[0]._replace(arr_delay=None, air_time=None)
    *_, last = (json.loads(line) for _, line in flight_events(diverted))
    assert (last["type"], last["time"], last["data"]["seq"]) == ("FlightDiverted", "2013-01-01T14:17:00Z", 3)
    assert last["id"] == "UA1545-2013-01-01T10Z/3"
    assert told(trip(diverted)) == (
        '{"event_id":"UA1545-2013-01-01T10Z/trip","kind":"TripDiverted","at":"2013-01-01T14:17:00Z","carrier":"UA",'
        '"origin":"EWR","day":"2013-01-01","dep_delay":2,"flight":1545}\n'
    )


def test_an_arrival_past_midnight_counts_on_the_day_it_was_scheduled_for(flights: list[Flight]) -> None:
    """A board shows what its passengers expected: a delay past midnight does not move a flight to another day."""
    late = flights[0]._replace(sched_arr=flights[0].sched_arr + 16 * 60, arr_delay=30, dep_delay=1200)
    trip_made = json.loads(told(trip(late)))
    assert (trip_made["day"], trip_made["dest_day"]) == ("2013-01-01", "2013-01-02")


@pytest.mark.parametrize(
    ("miles", "expected"), [(0, "39.90"), (1, "40.03"), (3, "40.28"), (5, "40.53"), (7, "40.78"), (1400, "214.90")]
)
def test_a_fare_has_two_decimals_and_rounds_half_a_cent_up(miles: int, expected: str) -> None:
    """Fares are exact: 40.025 is 40.03, and nothing passes through a float."""
    assert str(fare(miles)) == expected


# -- what stands where ----------------------------------------------------------------------------------------------


def test_the_manifest_tells_what_each_file_holds(logs: Logs) -> None:
    """Counted again from the bytes: lines, unique events at home, copies from elsewhere, size."""
    home: dict[str, str] = {}
    for shard in logs.manifest.shards:
        unique = set(ids(logs, shard.file))
        own = {event_id for event_id in unique if shard_of(shard.source, event_id) == int(shard.file[-7])}
        assert len(own) == shard.events
        assert len(logs.lines(shard.file)) == shard.lines
        assert (logs.directory / shard.file).stat().st_size == shard.size_bytes
        assert not own & home.keys()
        home |= dict.fromkeys(own, shard.file)
    assert logs.manifest.events() == len(home) == logs.manifest.events("flights") + logs.manifest.events("movements")
    assert logs.manifest.events("flights") == 3 * 2004 - 47
    assert logs.manifest.events("movements") == 2004 - 47


def shard_of(source: str, event_id: str) -> int:
    """`flights` is sharded by flight, `movements` by event."""
    return crc32((event_id.rpartition("/")[0] if source == "flights" else event_id).encode()) % 4


def test_the_logs_hold_a_known_share_of_each_kind_of_duplicate(logs: Logs) -> None:
    """One in a hundred at once, one in two hundred later, three ranges a shard, one in five hundred elsewhere."""
    duplicates = expected_duplicates(logs.manifest)
    events = logs.manifest.events("flights")
    assert duplicates["flights"].at_once == pytest.approx(events / 100, abs=4)
    assert duplicates["flights"].later == pytest.approx(events / 200, abs=4)
    assert duplicates["flights"].ranges == pytest.approx(3 * events / 20, abs=12)
    assert duplicates["flights"].elsewhere == duplicates["movements"].later == duplicates["movements"].ranges == 0
    events = logs.manifest.events("movements")
    assert duplicates["movements"].at_once == pytest.approx(events / 100, abs=4)
    assert duplicates["movements"].elsewhere == pytest.approx(events / 500, abs=4)


def test_expected_duplicates_are_the_lines_that_tell_nothing_new(logs: Logs) -> None:
    """Per source, lines less events; within a shard, those whose original stands in the same file."""
    for source, expected in expected_duplicates(logs.manifest).items():
        assert expected.total == logs.manifest.lines(source) - logs.manifest.events(source) > 0
        files = [shard.file for shard in logs.manifest.shards if shard.source == source]
        # A copy elsewhere that was written twice into one shard would count there; none is.
        assert expected.within_shard == sum(len(ids(logs, file)) - len(set(ids(logs, file))) for file in files)


def test_a_duplicate_is_its_original_byte_for_byte(logs: Logs) -> None:
    """No id occurs with two payloads: nothing in the logs is a conflict."""
    payloads: defaultdict[str, set[str]] = defaultdict(set)
    for shard in logs.manifest.shards:
        for event_id, line in zip(ids(logs, shard.file), logs.lines(shard.file), strict=True):
            payloads[event_id].add(line)
    assert {len(lines) for lines in payloads.values()} == {1}


def test_a_flight_lives_in_one_shard_in_the_order_of_its_life(logs: Logs) -> None:
    """Sequence numbers count from 1 without a gap, and times rise, in the order of first deliveries."""
    shards: defaultdict[str, set[str]] = defaultdict(set)
    for shard in logs.manifest.shards[:4]:
        lives: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for line in dict.fromkeys(logs.lines(shard.file)):
            event = json.loads(line)
            assert event["subject"] == event["data"]["flight_id"]
            lives[event["subject"]].append((event["data"]["seq"], event["time"]))
            shards[event["subject"]].add(shard.file)
        for life in lives.values():
            assert [seq for seq, _ in life] == list(range(1, len(life) + 1))
            assert all(before < after for (_, before), (_, after) in itertools.pairwise(life))
    assert len(shards) == 2004
    assert {len(files) for files in shards.values()} == {1}


@pytest.mark.parametrize(("source", "time"), [("flights", "time"), ("movements", "at")])
def test_first_deliveries_of_a_shard_are_ordered_by_time(logs: Logs, source: str, time: str) -> None:
    """Without its duplicates, each shard is a log as it was written; copies from elsewhere come at any time."""
    for shard in logs.manifest.shards:
        if shard.source == source:
            numbered = zip(ids(logs, shard.file), logs.lines(shard.file), strict=True)
            own = [line for event_id, line in numbered if shard_of(source, event_id) == int(shard.file[-7])]
            times = [json.loads(line)[time] for line in dict.fromkeys(own)]
            assert len(times) == shard.events
            assert times == sorted(times)


def test_a_copy_elsewhere_may_come_before_its_original(logs: Logs) -> None:
    """Copies in another shard stand at any place, in its first half and in its second."""
    places = [
        place / len(logs.lines(shard.file))
        for shard in logs.manifest.shards[4:]
        for place, event_id in enumerate(ids(logs, shard.file))
        if shard_of("movements", event_id) != int(shard.file[-7])
    ]
    assert len(places) == expected_duplicates(logs.manifest)["movements"].elsewhere
    assert min(places) < 0.5 < max(places)


def test_no_fare_loses_its_cents(logs: Logs) -> None:
    """Each FlightScheduled carries a number of exactly two decimals, and no other event has a fraction."""
    for shard in logs.manifest.shards:
        for line in logs.lines(shard.file):
            fractions = re.findall(r":(-?\d+\.\d+)", line.replace('"specversion":"1.0"', ""))
            assert len(fractions) == ("FlightScheduled" in line)
            assert all(re.fullmatch(r"\d+\.\d\d", fraction) for fraction in fractions)
            if fractions:
                event = json.loads(line, parse_float=Decimal)
                assert event["data"]["fare"] == fare(event["data"]["distance"])


# -- where copies go in a shard of the year's size ------------------------------------------------------------------


def distances(copies: Callable[[int, Random], Iterator[Copy]]) -> list[int]:
    """How many unique lines stand between each copy and its original."""
    return [after - line for after, line in copies(FULL_SHARD, Random(1))]


def test_copies_at_once_follow_their_original() -> None:
    """One line in a hundred, nothing in between, none twice."""
    assert distances(copies_at_once) == [0] * 2500
    assert len(set(copies_at_once(FULL_SHARD, Random(1)))) == 2500


def test_copies_later_come_5000_to_60000_lines_later() -> None:
    """One line in two hundred, spread over all allowed distances, all within the shard."""
    found = distances(copies_later)
    assert len(found) == 1250
    assert 5_000 <= min(found) < 6_000
    assert 55_000 < max(found) <= 60_000
    assert max(after for after, _ in copies_later(FULL_SHARD, Random(1))) < FULL_SHARD


def test_ranges_are_delivered_again_a_while_after_their_end() -> None:
    """Three ranges of 2,000 lines each, whole and in order, 2,500 to 20,000 lines after their last."""
    copies = list(copies_of_ranges(FULL_SHARD, Random(1)))
    blocks = [list(block) for _, block in itertools.groupby(copies, lambda copy: copy[0])]
    assert [len(block) for block in blocks] == [2_000] * 3
    for block in blocks:
        lines = [line for _, line in block]
        assert lines == list(range(lines[0], lines[0] + 2_000))
        assert 2_500 <= block[0][0] + 1 - (lines[-1] + 1) <= 20_000
        assert block[0][0] < FULL_SHARD


def test_no_copy_in_a_shard_is_150000_lines_away() -> None:
    """A marker window of 200,000 ids finds every duplicate, even with all the shard's other copies in between."""
    others = sum(len(distances(kind)) for kind in (copies_at_once, copies_later, copies_of_ranges))
    assert max(distances(copies_later) + distances(copies_of_ranges)) + others < 150_000


@pytest.mark.parametrize("lines", [*range(30), 100, 1_000])
def test_a_short_shard_has_copies_too_but_never_before_their_original(lines: int) -> None:
    """Distances and counts shrink with the shard, down to none in one of a few lines."""
    for copies in (copies_at_once, copies_later, copies_of_ranges):
        assert all(0 <= line <= after < lines for after, line in copies(lines, Random(1)))
    assert all(after > line for after, line in copies_later(lines, Random(1)))


# -- the directory --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(logs: Logs, flights: list[Flight], tmp_path: Path) -> None:
    """Written again: every file and the manifest are equal. Another seed gives other logs of the same events."""
    assert write_logs(tmp_path / "again", flights, seed=1) == logs.manifest
    assert contents(tmp_path / "again") == contents(logs.directory)
    other = write_logs(tmp_path / "other", flights, seed=2)
    assert (logs.manifest.seed, other.seed) == (1, 2)
    for shard in other.shards:
        assert logs.lines(shard.file) != Logs(tmp_path / "other", other).lines(shard.file)
    assert [shard.events for shard in other.shards] == [shard.events for shard in logs.manifest.shards]


def test_several_processes_write_the_same_bytes(logs: Logs, flights: list[Flight], tmp_path: Path) -> None:
    """Shared out among three processes: files, manifest and progress are those of one."""
    told: list[tuple[int, int]] = []
    manifest = write_logs(
        tmp_path / "shared", flights, seed=1, processes=3, progress=lambda done, total: told.append((done, total))
    )
    assert manifest == logs.manifest
    assert contents(tmp_path / "shared") == contents(logs.directory)
    assert told == sorted(told)
    assert told[-1] == (manifest.events(), manifest.events())


def test_a_selection_is_remembered(flights: list[Flight], tmp_path: Path) -> None:
    """Logs of two months, or of a few flights, hold those alone; a single flight is enough."""
    manifest = write_logs(tmp_path / "two", flights, seed=1, months=["2013-12", "2013-02"])
    assert (manifest.flights, manifest.months, manifest.limit) == (315, ("2013-02", "2013-12"), None)
    months = {event["data"]["month"] for event in Logs(tmp_path / "two", manifest).events("flights")}
    assert months == {"2013-02", "2013-12"}
    manifest = write_logs(tmp_path / "one", flights, seed=1, limit=1)
    assert (manifest.flights, manifest.limit) == (1, 1)
    assert (manifest.events("flights"), manifest.events("movements")) == (3, 1)
    assert load_manifest(tmp_path / "one") == manifest


def test_progress_is_told_in_events_up_to_the_last(flights: list[Flight], tmp_path: Path) -> None:
    """What was told rises, never beyond the total, and ends there."""
    told: list[tuple[int, int]] = []

    def listen(done: int, total: int) -> None:
        told.append((done, total))

    manifest = write_logs(tmp_path / "logs", flights, seed=1, progress=listen)
    assert told == sorted(told)
    assert {total for _, total in told} == {manifest.events()}
    assert told[-1] == (manifest.events(), manifest.events())


class Interrupted(Exception):
    pass


def interrupt(done: int, total: int) -> None:
    """A listener that ends the generation half way."""
    if done > total // 2:
        raise Interrupted


def test_an_interrupted_generation_leaves_nothing(flights: list[Flight], tmp_path: Path) -> None:
    """Neither the directory nor a scratch one beside it is there afterwards."""
    with pytest.raises(Interrupted):
        write_logs(tmp_path / "logs", flights, seed=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_generation_leaves_earlier_logs_alone(flights: list[Flight], tmp_path: Path) -> None:
    """The old logs are replaced only by complete ones; then nothing is left of them."""
    write_logs(tmp_path / "logs", flights, seed=1, limit=50)
    before = contents(tmp_path / "logs")
    with pytest.raises(Interrupted):
        write_logs(tmp_path / "logs", flights, seed=2, progress=interrupt)
    assert contents(tmp_path / "logs") == before
    write_logs(tmp_path / "logs", flights, seed=2)
    assert contents(tmp_path / "logs") != before
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_what_a_killed_generation_left_is_removed_by_the_next(flights: list[Flight], tmp_path: Path) -> None:
    """A process killed hard can't clean up; the next one does, and touches nothing else."""
    left = tmp_path / ".logs.partial-killed" / "new"
    left.mkdir(parents=True)
    (left / "flights-0.jsonl").touch()
    (tmp_path / ".logs.other").mkdir()
    write_logs(tmp_path / "logs", flights, seed=1, limit=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".logs.other", "logs"]


def test_a_second_writer_is_refused(flights: list[Flight], tmp_path: Path) -> None:
    """Two generations side by side would remove each other's work."""

    def meddle(_done: int, _total: int) -> None:
        write_logs(tmp_path / "logs", flights, seed=2, limit=1)

    with pytest.raises(SettingsProblem, match=r"another process writes event logs .* wait for it"):
        write_logs(tmp_path / "logs", flights, seed=1, progress=meddle)


def test_a_directory_with_other_files_is_refused(flights: list[Flight], tmp_path: Path) -> None:
    """Replacing a directory deletes it, so nothing but logs may be in there."""
    write_logs(tmp_path / "logs", flights, seed=1, limit=1)
    (tmp_path / "logs" / "thesis.txt").touch()
    before = contents(tmp_path / "logs")
    with pytest.raises(SettingsProblem, match=r"holds 'thesis.txt'.* name a directory that is new, empty"):
        write_logs(tmp_path / "logs", flights, seed=2)
    assert contents(tmp_path / "logs") == before


def test_only_complete_logs_have_a_manifest(flights: list[Flight], tmp_path: Path) -> None:
    """No directory, a file cut short or gone, another format, a torn manifest: none of them is taken for logs."""
    logs = tmp_path / "logs"
    assert load_manifest(logs) is None
    manifest = write_logs(logs, flights, seed=1, limit=50)
    assert load_manifest(logs) == manifest

    save_manifest(logs, replace(manifest, format=FORMAT + 1))
    assert load_manifest(logs) is None
    save_manifest(logs, manifest)
    text = (logs / MANIFEST_FILE).read_text()
    for torn in ("", "[]", '{"shards":[1]}', text[: len(text) // 2]):
        (logs / MANIFEST_FILE).write_text(torn)
        assert load_manifest(logs) is None
    save_manifest(logs, manifest)

    shard = logs / "movements-2.jsonl"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert load_manifest(logs) is None
    shard.unlink()
    assert load_manifest(logs) is None
    shard.write_bytes(whole)
    assert load_manifest(logs) == manifest


def test_every_source_has_four_shards(logs: Logs) -> None:
    """Four files each, none empty, their events spread about evenly."""
    counts = Counter(shard.source for shard in logs.manifest.shards)
    assert counts == {"flights": 4, "movements": 4}
    for source in counts:
        events = [shard.events for shard in logs.manifest.shards if shard.source == source]
        assert max(events) < 1.3 * min(events)
