"""Every command of `projectionctl`, sent to either of two real daemons on one durable DynamoDB server.

One pair of daemons serves all tests here. Each test leaves every shard running and settled, and after each every row
is held against the fold of the logs.
"""

import json
from collections.abc import Generator
from typing import Any

import pytest

from tests.support.commands import Ended
from tests.support.steered import PROJECTIONS
from tests.support.steered_site import PATIENCE_SECONDS, SCOPES, SHARDS, Pair, key_of, label, steered_pair

pytestmark = pytest.mark.timeout(240)  # leases have to expire, several times in some tests


@pytest.fixture(scope="module")
def pair_of_daemons(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """The two daemons."""
    with steered_pair(tmp_path_factory.mktemp("steered")) as pair:
        yield pair


@pytest.fixture
def pair(pair_of_daemons: Pair) -> Generator[Pair]:
    """The two daemons, and a look at every row once the test is over."""
    assert not pair_of_daemons.spoiled, "an earlier test left the daemons in a state that no test can use"
    yield pair_of_daemons
    pair_of_daemons.assert_right()


@pytest.fixture(params=[0, 1], ids=["asked of the owner", "asked of the other"])
def away(request: pytest.FixtureRequest) -> int:
    """How far from a shard's owner a command is sent."""
    return request.param


def asked_of(pair: Pair, where: str, away: int) -> int:
    """Return the daemon that runs a shard, or the other one."""
    return (pair.owner(where) + away) % 2


def settled(pair: Pair, which: int, projection: str, event: str) -> Ended:
    """Wait, by the command, until an event is settled."""
    return pair.ctl(which, "wait", projection, "--event", event, "--timeout", str(PATIENCE_SECONDS))


# ------------------------------------------------------------------------------------------------------------ reading


def test_either_daemon_tells_of_every_shard(pair: Pair):
    """Both say the same of shards, lag, audit and a row's origin, whoever runs them, and which are their own."""
    first, second = pair.shards(0), pair.shards(1)
    assert first.keys() == second.keys() == {label(name, shard) for name in PROJECTIONS for shard in SHARDS}
    assert all(first[where]["here"] is not second[where]["here"] for where in first)
    for which in (0, 1):
        assert {one["events"] or one["bytes"] for one in pair.told(which, "lag")["shards"]} == {0}
        assert [one["states"] for one in pair.told(which, "status")["projections"]] == [{"running": 2}] * 3
    assert len(pair.told(0, "status")["replicas"]) == 2
    last = pair.logs["s1"][-1]
    for which in (0, 1):
        (row,) = pair.told(which, "explain", "tally", key_of(last))["rows"]
        assert (row["event_id"], row["shard"], row["marked"]) == (last, "s1.jsonl", "found")


def test_the_owner_tells_events_as_they_are_applied(pair: Pair):
    """`tail` and `top` of the daemon that runs a shard go on until they are ended, one document a line."""
    which = pair.owner(label("tally", "s0"))
    with pair.begun(which, "top", "tally", "--interval", "0.1") as top:
        assert top.stdout is not None
        assert {one["state"] for one in json.loads(top.stdout.readline())["shards"]} == {"running"}
    with pair.begun(which, "tail", "tally:log/s0.jsonl") as tail:
        assert tail.stdout is not None
        made: list[str] = []
        pair.until(lambda: is_listening(pair, which, made))
        told = json.loads(tail.stdout.readline())
    assert (told["events"][0]["id"] in made, told["events"][0]["verdict"]) == (True, "applied")


def is_listening(pair: Pair, which: int, made: list[str]) -> bool:
    """Append an event; tell whether enough were appended for one to come after the listening began."""
    made += pair.append(1, "s0")["s0"]
    assert settled(pair, which, "tally", made[-1]).code == 0
    return len(made) >= 20


# ------------------------------------------------------------------------------- pause, resume, drain, restart, wait


def test_a_paused_shard_stands_still_whoever_was_asked(pair: Pair, away: int):
    """It commits nothing, both daemons say why and how to leave, `wait` ends with 4, others flow; then it resumes."""
    where = label("tally", "s0")
    which = asked_of(pair, where, away)
    answer = pair.told(which, "pause", where, "--reason", "INC-7", "--wait")
    assert (answer["done"], answer["pending"], answer["refused"]) == (1, 0, 0)
    before = pair.shards(0, where)[where]["position"]
    made = pair.append(5)
    assert settled(pair, which, "tally", made["s1"][-1]).code == 0
    assert pair.ctl(which, "wait", "tally", "--event", made["s0"][-1], "--timeout", "0.2").code == 4
    for one in (0, 1):
        shard = pair.shards(one, where)[where]
        assert (shard["state"], shard["position"]) == ("paused", before)
        assert "INC-7" in shard["why"]
        assert (shard["since"], shard["leave"]) != (None, None)
    leave = pair.shards(1 - which, where)[where]["leave"].split()
    assert pair.ctl(1 - which, *leave[1:], "--wait").code == 0
    assert settled(pair, which, "tally", made["s0"][-1]).code == 0
    position = pair.shards(0, where)[where]["position"]
    assert pair.ctl(which, "wait", "tally", "--position", f"log/s0.jsonl:{position}", "--timeout", "60").code == 0


def test_a_drain_and_a_restart_reach_shards_of_both(pair: Pair):
    """A drained projection stands still behind all that was read; a restart raises each epoch, on both daemons."""
    made = pair.append(20)
    answer = pair.told(0, "drain", "strict", "--wait")
    assert (answer["done"], answer["pending"]) == (2, 0)
    assert {one["state"] for one in pair.shards(1, "strict").values()} == {"paused"}
    assert pair.told(1, "resume", "strict", "--wait")["done"] == 2
    for shard in SHARDS:
        assert settled(pair, 0, "strict", made[shard][-1]).code == 0
    before = pair.shards(0, "strict")
    assert pair.told(1, "restart", "strict", "--wait")["done"] == 2
    pair.until_settled()
    after = pair.shards(0, "strict")
    assert all(after[where]["epoch"] == before[where]["epoch"] + 1 for where in before)


def test_of_two_operators_at_once_one_prevails(pair: Pair):
    """A pause and a resume sent to either daemon at once are put in one order, which every shard obeys."""
    for _ in range(2):
        with pair.begun(0, "pause", "all", "--wait") as pause, pair.begun(1, "resume", "all", "--wait") as resume:
            assert [process.wait(PATIENCE_SECONDS) for process in (pause, resume)] == [0, 0]
        for projection in PROJECTIONS:
            newest = pair.told(0, "audit", projection, "--limit", "1")["entries"][0]["command"]
            wanted = {"pause": "paused", "resume": "running"}[newest]
            pair.until(lambda name=projection, state=wanted: states(pair, name) == {state})
    assert pair.told(1, "resume", "all", "--wait")["done"] == SCOPES


def states(pair: Pair, projection: str) -> set[str]:
    """Return the states of a projection's shards, as the second daemon sees them."""
    return {one["state"] for one in pair.shards(1, projection).values()}


def test_a_pause_meets_a_shard_that_is_restarting(pair: Pair):
    """Sent right behind a restart to the other daemon, a pause holds when both are obeyed."""
    assert pair.ctl(0, "restart", "all", "--timeout", "0", "--request", "again").code in {0, 4}
    assert pair.told(1, "pause", "all", "--wait")["done"] == SCOPES
    assert pair.told(1, "restart", "all", "--wait", "--request", "again")["repeated"] is True
    assert {one["state"] for one in pair.shards(0).values()} == {"paused"}
    assert pair.told(0, "resume", "all", "--wait")["done"] == SCOPES


# ------------------------------------------------------------------------------------------------ what could not be


def test_dead_letters_are_retried_and_discarded_by_the_owner(pair: Pair, away: int):
    """Listed and shown by either, retried once mended, applied exactly once, or discarded when that is confirmed."""
    where = label("tally", "s0")
    which = asked_of(pair, where, away)
    lost, kept = events = pair.append_failing("poison", 2, "s0")
    pair.append(1, "s0")
    pair.until(lambda: parked_or_dead(pair, "tally", 2))
    for one in (0, 1):
        listed = pair.told(one, "dead-letters", "list", "tally")
        assert (listed["total"], {letter["event"] for letter in listed["letters"]}) == (2, set(events))
    (position,) = (letter["position"] for letter in listed["letters"] if letter["event"] == kept)
    shown = pair.told(which, "dead-letters", "show", where, "--position", position)
    assert (shown["detail"], kept in shown["payload"]) == ("ValueError: poison", True)
    assert pair.ctl(which, "dead-letters", "retry", "tally").code == 2
    assert pair.told(which, "dead-letters", "retry", "tally", "--event", kept, "--wait")["done"] == 2
    pair.until(lambda: not wished(pair))
    assert pair.told(which, "dead-letters", "list", "tally")["total"] == 2
    pair.mends()
    answer = pair.told(which, "dead-letters", "retry", "tally", "--event", kept, "--wait")
    assert "out of the order of their keys" in " ".join(shard["detail"] for shard in answer["shards"])
    pair.until(lambda: parked_or_dead(pair, "tally", 1))
    assert pair.ctl(which, "dead-letters", "retry", "tally", "--event", kept).code == 3
    assert pair.ctl(which, "dead-letters", "discard", "tally", "--event", lost).code == 2
    assert pair.told(which, "dead-letters", "discard", "tally", "--event", lost, "--yes", "--wait")["done"] == 2
    pair.until(lambda: parked_or_dead(pair, "tally", 0))
    pair.without["tally"].add(lost)
    # What the other projections made of the same events.
    leave_everything(pair, which)


def parked_or_dead(pair: Pair, projection: str, count: int) -> bool:
    """Tell whether so many of a projection's events are dead letters."""
    return pair.told(0, "dead-letters", "list", projection)["total"] == count


def wished(pair: Pair) -> bool:
    """Tell whether a wish waits for its owner."""
    return any(letter["wish"] for letter in pair.told(0, "dead-letters", "list", "tally")["letters"])


def leave_everything(pair: Pair, which: int) -> None:
    """Mend all, and have whatever waits applied."""
    pair.mends()
    assert pair.ctl(which, "resume", "strict", "--wait").code == 0
    if pair.told(which, "keys", "parked")["total"]:
        assert pair.ctl(which, "keys", "release", "queued", "--all", "--yes", "--wait").code == 0
    if pair.told(which, "dead-letters", "list")["total"]:
        assert pair.ctl(which, "dead-letters", "retry", "tally", "--all", "--yes", "--wait").code == 0
    pair.until(lambda: not pair.told(which, "keys", "parked")["total"])
    pair.until(lambda: not pair.told(which, "dead-letters", "list")["total"])
    pair.until_settled()


def test_a_parked_key_is_released_in_order(pair: Pair, away: int):
    """Its events queue while other keys flow; released by either daemon, they are applied in order, and it goes on."""
    where = label("queued", "s1")
    which = asked_of(pair, where, away)
    (bad,) = pair.append_failing("poison", 1, "s1")
    later = pair.append(8, "s1")["s1"]
    assert settled(pair, which, "queued", later[-1]).code == 0
    for one in (0, 1):
        (key,) = pair.told(one, "keys", "parked", "queued")["keys"]
        assert (key["event"], key["events"]) == (bad, 3)
    rows = pair.rows("queued")
    assert later[0] in rows[f"s1-k{int(later[0][3:]) % 3}"]["seen"]
    assert bad not in rows[key["key"]]["seen"]
    assert pair.ctl(which, "keys", "release", "queued", "nobody").code == 3
    pair.mends()
    assert pair.told(which, "keys", "release", "queued", key["key"], "--wait")["done"] == 2
    pair.until(lambda: pair.told(which, "keys", "parked", "queued")["total"] == 0)
    made = pair.append(3, "s1")["s1"]
    assert settled(pair, which, "queued", made[-1]).code == 0
    seen = pair.rows("queued")[key["key"]]["seen"]
    assert seen == sorted(seen, key=lambda event: int(event[3:]))
    leave_everything(pair, which)


def test_a_parked_shard_goes_on_behind_what_is_skipped_and_applies_it_later(pair: Pair, away: int):
    """The status of either daemon holds the command that skips the event; a rewind applies it once mended, and once."""
    where = label("strict", "s0")
    which = asked_of(pair, where, away)
    (bad,) = pair.append_failing("poison", 1, "s0")
    pair.append(3, "s0")
    pair.until(lambda: pair.shards(1 - which, where)[where]["state"] == "parked")
    leave = pair.shards(1 - which, where)[where]["leave"]
    words = leave.rpartition("projectionctl ")[2].split()
    assert words[0] == "skip"
    assert pair.ctl(which, *words, "--wait").code == 2
    assert pair.told(which, *words, "--yes", "--wait")["done"] == 1
    pair.until(lambda: pair.shards(which, where)[where]["state"] == "running")
    pair.mends()
    words = ["rewind", "strict", "--to", "earliest", "--shard", "log/s0.jsonl"]
    plan = pair.told(which, *words, "--dry-run")
    assert [(row["after"]["seen"][-1], plan["late"], plan["more"]) for row in plan["changes"]] == [(bad, 1, 0)]
    assert pair.ctl(which, *words, "--wait").code == 2
    assert pair.told(which, *words, "--yes", "--wait")["done"] == 1
    report = cursor(pair, 1 - which, where)
    assert (report["late"], report["rows_changed"]) == ({"skipped": 1}, 1)
    assert report["events"] == sum(report["suppressed"].values()) + 1
    leave_everything(pair, which)


def cursor(pair: Pair, which: int, where: str) -> Any:
    """Return how a shard's re-delivery stands."""
    (report,) = pair.told(which, "replay", "status", where)["shards"]
    return report


# ------------------------------------------------------------------------------------------------------ re-delivery


def test_a_replay_is_planned_refused_beside_another_ended_and_applied(pair: Pair):
    """A plan changes nothing; only it is applied; a rewind has to wait meanwhile, on either daemon, and names what is
    under way; ended, the next one suppresses all that was applied, and changes no row.
    """
    plan = pair.told(0, "replay", "plan", "tally", "--from", "earliest", "--to", "now", "--dry-run")
    events = sum(map(len, pair.logs.values()))
    assert (plan["events"], plan["duplicates"], plan["late"], plan["changes"]) == (events, events, 0, [])
    assert plan["price"] == pytest.approx(plan["units"] * 0.625e-6)
    words = ["replay", "apply", "tally", "--from", "earliest", "--to", "now", "--plan"]
    assert pair.told(1, *words, "000000000000", code=3)["error"]["code"] == "conflict"
    assert pair.told(1, "pause", "tally", "--wait")["done"] == 2
    begun = pair.told(1, *words, plan["plan"], code=4)
    assert {shard["status"] for shard in begun["shards"]} == {"underway"}
    for which in (0, 1):
        error = pair.told(which, "rewind", "tally", "--to", "earliest", "--yes", code=3)["error"]
        assert (error["code"], "under way" in error["reason"]) == ("conflict", True)
        assert "replay abort" in error["remedy"]
    assert {cursor(pair, 0, label("tally", shard))["state"] for shard in SHARDS} == {"running"}
    assert pair.told(0, "replay", "abort", "tally", "--wait")["done"] == 2
    assert {cursor(pair, 1, label("tally", shard))["state"] for shard in SHARDS} == {"aborted"}
    assert pair.told(1, "resume", "tally", "--wait")["done"] == 2
    plan = pair.told(1, "replay", "plan", "tally", "--from", "earliest", "--to", "now")
    made = pair.append(5)
    assert pair.told(0, *words, plan["plan"], "--wait")["done"] == 2
    for shard in SHARDS:
        report = cursor(pair, 1, label("tally", shard))
        assert (report["state"], report["late"], report["rows_changed"]) == ("done", {}, 0)
        assert report["suppressed"]["position"] == report["events"] >= len(pair.logs[shard]) - 5
        assert "0 rows changed" in report["summary"]
        assert settled(pair, 0, "tally", made[shard][-1]).code == 0


# -------------------------------------------------------------------------------------------------------------- deaths


def test_what_a_killed_owner_was_told_its_peer_carries_out(pair: Pair):
    """Every change sent while the owner is frozen stays pending; killed, it is obeyed by the other, each once."""
    pair.until_divided()
    for shard in SHARDS:
        pair.append_failing("poison", 1, shard)
    pair.append(4)
    pair.until(lambda: parked_or_dead(pair, "tally", 2))
    pair.until(lambda: pair.told(0, "keys", "parked")["total"] == 2)
    pair.until(lambda: states(pair, "strict") == {"parked"})
    pair.mends()
    skipped = {where: one["stuck_at"] for where, one in pair.shards(1, "strict").items()}
    frozen = [where for where, one in pair.shards(1).items() if one["here"]]
    assert frozen
    pair.freeze(1)
    commands = {
        "retry": ["dead-letters", "retry", "tally", "--all", "--yes"],
        "release": ["keys", "release", "queued", "--all", "--yes"],
        "rewind": ["rewind", "queued", "--to", "earliest", "--yes"],
    } | {
        f"skip-{number}": ["skip", "strict", where.partition(":")[2], "--position", skipped[where], "--yes"]
        for number, where in enumerate(skipped)
    }
    ends = {name: pair.ctl(0, *words, "--request", name, "--timeout", "0.3").code for name, words in commands.items()}
    assert set(ends.values()) <= {0, 4}
    assert 4 in ends.values()
    assert pair.daemons[1].kill()
    for name, words in commands.items():
        again = pair.told(0, *words, "--request", name, "--wait")
        assert (again["pending"], again["refused"], again["repeated"]) == (0, 0, True), again
    pair.until_settled()
    entries = pair.told(0, "audit", "all", "--limit", "20")["entries"]
    told = {entry["request"]: entry for entry in entries if entry["request"] in commands}
    assert told.keys() == commands.keys()
    assert {(entry["pending"], entry["refused"]) for entry in told.values()} == {(0, 0)}
    assert pair.told(0, "rewind", "strict", "--to", "earliest", "--yes", "--wait")["done"] == 2
    pair.start(1)
    pair.until_divided()
    leave_everything(pair, 1)


def test_what_was_accepted_is_carried_out_though_the_daemon_asked_dies(pair: Pair):
    """The command that loses its daemon ends with 5; asked again of the other under its id, nothing is done twice."""
    pair.until_divided()
    where = next(where for where, one in pair.shards(0).items() if one["here"])
    pair.freeze(0)
    with pair.begun(1, "pause", where, "--request", "lost", "--wait") as lost:
        pair.until(lambda: pair.told(1, "audit", where, "--limit", "1")["entries"][0]["request"] == "lost")
        assert pair.daemons[1].kill()
        assert lost.wait(PATIENCE_SECONDS) == 5
    pair.thaw(0)
    answer = pair.told(0, "pause", where, "--request", "lost", "--wait")
    assert (answer["done"], answer["repeated"]) == (1, True)
    assert [one["command"] for one in pair.told(0, "audit", where, "--limit", "1")["entries"]] == ["pause"]
    pair.until(lambda: pair.shards(0, where)[where]["state"] == "paused")
    pair.start(1)
    assert pair.told(1, "resume", where, "--wait")["done"] == 1
    pair.until_divided()


def test_a_crash_loop_is_left_by_skipping_its_event(pair: Pair):
    """An event that kills every process that folds it is skipped through a daemon that was just started: it obeys
    before it folds. Mended, a rewind applies it.
    """
    where = label("strict", "s0")
    assert pair.told(0, "pause", "all", "--wait")["done"] == SCOPES
    number = pair.shards(0, where)[where]["position"].partition(".")[0]
    (bad,) = pair.append_failing("deadly", 1, "s0")
    position = f"{number}.{pair.end_of(bad)}"
    pair.append(2, "s0")
    assert pair.ctl(1, "resume", "strict", "--timeout", "0").code in {0, 4, 5}
    pair.until(lambda: not pair.daemons[0].alive and not pair.daemons[1].alive)
    words = ["skip", "strict", "log/s0.jsonl", "--position", position, "--yes", "--request", "out", "--timeout", "0"]
    pair.until(lambda: started_and_told(pair, words))
    pair.until(lambda: pair.shards(0, where)[where]["state"] == "running")
    pair.start(1)
    pair.mends()
    assert pair.told(1, "resume", "all", "--wait")["done"] == SCOPES
    assert pair.told(1, "rewind", where, "--to", "earliest", "--yes", "--wait")["done"] == 1
    assert cursor(pair, 0, where)["late"] == {"skipped": 1}
    pair.until_divided()


def started_and_told(pair: Pair, words: list[str]) -> bool:
    """Start the first daemon where it is dead; tell whether it accepted a command."""
    if not pair.daemons[0].alive:
        pair.start(0)
    return pair.ctl(0, *words).code in {0, 4}
