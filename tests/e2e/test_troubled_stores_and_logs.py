"""A store that is locked, an event that fails, a file that shrinks, a second daemon: real processes, real files."""

import json
import os
import random
from collections import Counter
from datetime import datetime, timedelta

from tests.support.daemons import RealDaemon, Site

DEADLINE = timedelta(seconds=0.1)

POISONED = '''\
from daemon.api import Event, View, on, projection


@projection(name="board", version=1, source="movements", key=("data.origin", "data.day"), dedup="event")
class Board:
    """Trips, all but one."""

    @on("TripFlown")
    def flown(self, view: View, event: Event) -> None:
        view.add(trips=1)
        if event.id == "POISON":
            raise ValueError("poison")

    @on("TripDiverted")
    def diverted(self, view: View, event: Event) -> None:
        view.add(trips=1)
'''


def test_a_store_locked_beyond_the_deadline_is_waited_for(demo_site: Site):
    """Another process holds the store for longer than a commit's deadline, twice: the daemon tries again and again,
    then finishes right; no shard is parked.
    """
    daemon = demo_site.start(
        "--once",
        ENGINE__BATCH_MAX_EVENTS="4",
        STORE__BUSY_TIMEOUT_MS="20",
        ENGINE__COMMIT_DEADLINE_SECONDS="0.1",
    )
    for held in (1, 2):
        daemon.until(lambda held=held: demo_site.commits() >= 60 * held)
        with demo_site.locked():
            seen = len(daemon.records(event="commit not settled yet"))
            daemon.until(lambda seen=seen: lasted(daemon, seen) > 2 * DEADLINE)
            assert demo_site.look().read < demo_site.total
    ended = daemon.wait()
    assert ended.code == 0, ended.log
    assert ended.document["parked"] == []
    demo_site.assert_right()


def lasted(daemon: RealDaemon, seen: int) -> timedelta:
    """For how long commits have not settled, by the log's own times, without the first so many records."""
    times = [
        datetime.fromisoformat(record["timestamp"]) for record in daemon.records(event="commit not settled yet")[seen:]
    ]
    return max(times) - min(times) if times else timedelta(0)


def test_an_event_that_always_fails_is_dead_lettered_once(demo_site: Site):
    """A handler raises on one event: across kills and restarts it is one dead letter, and all others are applied."""
    poison = lonely_trip(demo_site)
    (demo_site.path / "poisoned.py").write_text(POISONED.replace("POISON", poison), encoding="utf-8")
    demo_site.variables |= {"DAEMON__PROJECTIONS": '["poisoned"]', "ENGINE__BATCH_MAX_EVENTS": "8"}
    chance = random.Random(3)
    for _ in range(10):
        before, wanted = demo_site.commits(), chance.randrange(1, 24)
        daemon = demo_site.start("--once")
        daemon.until(lambda before=before, wanted=wanted: demo_site.commits() >= before + wanted)
        assert daemon.kill()
    for _ in range(2):
        assert demo_site.once().code == 0
        letters = demo_site.query('SELECT event_id, reason, handler FROM "projectiond-dead-letters"')
        assert letters == [(poison, "handler-raised", "flown")]
        look, expected = demo_site.look(), demo_site.manifest
        assert look.total("dead_lettered") == 1
        assert look.total("applied") == expected.events("movements") - 1
        assert look.read == expected.lines("movements")
        rows = demo_site.query("""SELECT sum(json_extract(attributes, '$.trips')) FROM "board-g1" """)
        assert rows == [(expected.events("movements") - 1,)]


def lonely_trip(site: Site) -> str:
    """The id of a trip amid its shard that was told once only."""
    lines = {file: file.read_text(encoding="ascii").splitlines() for file in site.logs.glob("movements-*")}
    times = Counter(json.loads(line)["event_id"] for text in lines.values() for line in text)
    first = lines[site.logs / "movements-0.jsonl"]
    amid = (json.loads(line) for line in first[len(first) // 2 :])
    return next(each["event_id"] for each in amid if each["kind"] == "TripFlown" and times[each["event_id"]] == 1)


def test_a_file_that_shrinks_parks_its_shard_alone(demo_site: Site):
    """A file shorter than what was applied from it parks the shards that follow it, with what to do; the others finish,
    the daemon ends with 1, and once the file is whole again everything is folded.
    """
    file = demo_site.logs / "flights-1.jsonl"
    whole = file.read_bytes()
    daemon = demo_site.start("--once")
    daemon.until(lambda: len(applied_bytes(demo_site, file.name)) == 2)
    assert daemon.kill()
    os.truncate(file, min(applied_bytes(demo_site, file.name)) - 1)
    ended = demo_site.once()
    assert ended.code == 1
    parked = {shard["scope"]: shard["reason"] for shard in ended.document["parked"]}
    assert sorted(parked) == ["flight-g1:flights/flights-1.jsonl", "punctuality-g1:flights/flights-1.jsonl"]
    for reason in parked.values():
        assert "truncated" in reason
        assert "put the file back" in reason
    lines = {shard.file: shard.lines for shard in demo_site.manifest.shards}
    for shard in demo_site.look().shards:
        assert (shard.counters.get("read") == lines[shard.scope.shard]) == (shard.scope.shard != file.name)
    with file.open("r+b") as shrunk:
        shrunk.write(whole)
    resumed = demo_site.start("--resume", "all")
    resumed.until(lambda: demo_site.look().read == demo_site.total)
    resumed.terminate()
    assert resumed.wait().code == 0
    demo_site.assert_right()


def applied_bytes(site: Site, shard: str) -> list[int]:
    """Up to which byte each projection that follows a file has applied it; nothing for one that has not begun."""
    rows = site.query('SELECT position FROM "projectiond-checkpoints" WHERE shard = ?', shard)
    return [int(position.rpartition(".")[2]) for (position,) in rows if position != "start"]


def test_a_file_that_shrinks_under_a_running_daemon_parks_its_shard(demo_site: Site):
    """Truncated while it is followed, a file's shards are parked, and the daemon goes on folding the other files."""
    daemon = demo_site.start()
    daemon.until(lambda: demo_site.look().read == demo_site.total)
    os.truncate(demo_site.logs / "flights-2.jsonl", 100)
    daemon.until(lambda: len(demo_site.look().parked()) == 2)
    other = demo_site.logs / "movements-3.jsonl"
    last = json.loads(other.read_text(encoding="ascii").splitlines()[-1])
    with other.open("a", encoding="ascii") as log:
        log.write(json.dumps(last | {"event_id": "new/1"}) + "\n")
    daemon.until(lambda: demo_site.look().read == demo_site.total + 1)
    daemon.terminate()
    ended = daemon.wait()
    assert ended.code == 0, ended.log
    assert {shard["shard"] for shard in ended.document["parked"]} == {"flights-2.jsonl"}


def test_the_second_daemon_on_a_file_takes_over(demo_site: Site):
    """A second daemon takes every shard by epoch, once; the first is fenced, stays idle and leaves with 0 when it is
    told to; nothing is applied twice.
    """
    first = demo_site.start()
    first.until(lambda: len(demo_site.look().shards) == 12 and demo_site.commits() >= 40)
    second = demo_site.start()
    second.until(lambda: demo_site.look().read == demo_site.total)
    first.until(lambda: bool(first.records(state="fenced")))
    assert demo_site.query('SELECT DISTINCT epoch FROM "projectiond-checkpoints"') == [(2,)]
    for daemon in (first, second):
        daemon.terminate()
        ended = daemon.wait()
        assert ended.code == 0, ended.log
        assert ended.document["parked"] == []
    assert second.records(state="fenced") == []
    demo_site.assert_right()
