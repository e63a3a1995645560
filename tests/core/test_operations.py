"""Where operations stand, what excludes what, and what a shard makes of each, as small tables."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commands import Actor, Target
from daemon.core.errors import CommandRefused, OperationsMoved
from daemon.core.identity import Generation, Scope, ShardId
from daemon.core.operations import (
    OBEYING,
    Obeyed,
    Operation,
    OutcomeStatus,
    Stand,
    Standing,
    check_seen,
    conflict,
    due,
    operation_of,
    operation_values,
    outcome_of,
    outcome_values,
    skip_target,
    skipped,
    standing_of,
    standing_values,
)

GENERATION = Generation("orders", 1)
ONE, TWO = ShardId("log", "a"), ShardId("log", "b")
SCOPE = Scope(*GENERATION, *ONE)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUNNING, PAUSED, PARKED = CheckpointState.RUNNING, CheckpointState.PAUSED, CheckpointState.PARKED


def operation(name: str, shard: ShardId | None = None, sequence: int = 1, **arguments: Any) -> Operation:
    """An operation of alice's."""
    by = Actor(1000, "alice", "web-1")
    return Operation(GENERATION, sequence, f"r{sequence}", name, arguments, shard, (ONE, TWO), by, AT)


def standing(*asked: tuple[str, ShardId | None]) -> Standing:
    """The standing after these were accepted, in this order."""
    stands = Standing()
    for sequence, (name, shard) in enumerate(asked, 1):
        stands = stands.after(operation(name, shard, sequence))
    return stands


P1 = "paused by alice@web-1 (operation 1)"
P2 = "paused by alice@web-1 (operation 2)"


@pytest.mark.parametrize(
    ("asked", "one", "two"),
    [
        ([], Stand(0), Stand(0)),
        ([("pause", None)], Stand(1, P1), Stand(1, P1)),
        ([("pause", ONE)], Stand(1, P1), Stand(0)),
        ([("pause", None), ("resume", ONE)], Stand(2), Stand(1, P1)),
        ([("pause", ONE), ("pause", None)], Stand(2, P2), Stand(2, P2)),
        ([("pause", ONE), ("resume", None)], Stand(2), Stand(2)),
        ([("pause", ONE), ("restart", None)], Stand(2, P1), Stand(2)),
        ([("pause", None), ("restart", ONE)], Stand(2, P1), Stand(1, P1)),
        ([("pause", None), ("resume", ONE), ("restart", None)], Stand(3), Stand(3, P1)),
        ([("drain", TWO)], Stand(0), Stand(1, "drained by alice@web-1 (operation 1)")),
    ],
)
def test_the_newest_command_about_a_shard_says_whether_it_is_to_run(
    asked: list[tuple[str, ShardId | None]], one: Stand, two: Stand
) -> None:
    """For one shard or for all, and for shards that start later, which begin so."""
    stands = standing(*asked)
    assert (stands.of(ONE), stands.of(TWO)) == (one, two)
    begins = stands.begins(Checkpoint(), TWO)
    assert (begins.state, begins.reason) == (RUNNING if two.paused is None else PAUSED, two.paused)
    assert begins.operation_seq == len(asked)
    assert standing_of(standing_values(stands)) == stands


@pytest.mark.parametrize(
    ("under_way", "asked", "refused"),
    [
        (("skip", ONE), ("skip", ONE), True),
        (("skip", ONE), ("skip", TWO), False),
        (("rewind", None), ("replay.apply", TWO), True),
        (("rewind", ONE), ("rewind", None), True),
        (("replay.apply", ONE), ("skip", ONE), True),
        (("rewind", None), ("pause", None), False),
        (("rewind", None), ("replay.abort", None), False),
        (("pause", None), ("resume", None), False),
    ],
)
def test_what_excludes_what(
    under_way: tuple[str, ShardId | None], asked: tuple[str, ShardId | None], refused: bool
) -> None:
    """Whatever moves over a range of a shard excludes the like on the same shard, and nothing else."""
    clash = conflict(standing(under_way), *asked)
    assert (clash is not None) is refused
    if clash is not None:
        assert (clash.name, clash.shard) == under_way


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ([("rewind", None), ("replay.abort", None)], []),
        ([("rewind", ONE), ("replay.abort", ONE)], []),
        ([("rewind", ONE), ("replay.abort", TWO)], ["rewind"]),
        ([("rewind", None), ("replay.abort", ONE)], ["rewind"]),
        ([("skip", ONE), ("replay.abort", None)], ["skip"]),
    ],
)
def test_what_is_ended_stands_in_no_later_way(asked: list[tuple[str, ShardId | None]], left: list[str]) -> None:
    """Each shard obeys in order, so that what comes after an abort meets nothing of what it ended."""
    assert [one.name for one in standing(*asked).open] == left


@pytest.mark.parametrize(
    ("name", "state", "after", "afresh"),
    [
        ("pause", RUNNING, PAUSED, False),
        ("pause", PAUSED, PAUSED, False),
        ("pause", PARKED, PAUSED, False),
        ("drain", RUNNING, PAUSED, False),
        ("resume", RUNNING, RUNNING, False),
        ("resume", PAUSED, RUNNING, True),
        ("resume", PARKED, RUNNING, True),
        ("restart", RUNNING, RUNNING, True),
        ("restart", PAUSED, PAUSED, False),
        ("restart", PARKED, RUNNING, True),
    ],
)
def test_what_a_shard_makes_of_a_command(
    name: str, state: CheckpointState, after: CheckpointState, afresh: bool
) -> None:
    """The table of commands and states; none moves the position."""
    held = Checkpoint(position=(7,), state=state, reason="bad event" if state is PARKED else None, stuck_at=(8,))
    obeyed = OBEYING[name](held, operation(name))
    assert (obeyed.checkpoint.state, obeyed.afresh, obeyed.status) == (after, afresh, OutcomeStatus.DONE)
    assert obeyed.checkpoint.position == (7,)
    if (name, state) == ("pause", PARKED):
        assert obeyed.checkpoint.reason == f"{P1}; it was parked before: bad event"
    if after is RUNNING and state is not RUNNING:
        assert (obeyed.checkpoint.reason, obeyed.checkpoint.stuck_at) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ({"position": "9", "standing": "7"}, None),
        ({"position": "9"}, None),
        ({"position": "7", "standing": "7"}, "at or past 7"),
        ({"position": "5"}, "at or past 5"),
        ({"position": "9", "standing": "6"}, "moved on from 6 to 7"),
    ],
)
def test_a_skip_holds_only_where_it_was_shown(arguments: Mapping[str, str], refusal: str | None) -> None:
    """Compare-and-set on the position: a shard that moved is left alone."""
    asked = replace(operation("skip", ONE), arguments=arguments)
    to = skip_target(Checkpoint(position=(7,)), asked)
    if refusal is None:
        assert to == (9,)
    else:
        assert isinstance(to, Obeyed)
        assert (to.status, refusal in to.detail) == (OutcomeStatus.REFUSED, True)


def test_what_is_skipped_is_counted_if_it_can_be() -> None:
    """A parked shard goes on behind the range; a paused one stays; counters add up or stay as they are."""
    held = Checkpoint(position=(7,), state=PARKED, reason="bad", dead_run=3, counters={"read": 7, "applied": 7})
    after = skipped(held, (9,), count=2, incarnation="x").checkpoint
    assert (after.position, after.state, after.reason, after.dead_run) == ((9,), RUNNING, None, 0)
    assert after.counters == {"read": 9, "applied": 7, "skipped": 2}
    paused = skipped(replace(held, state=PAUSED), (9,), count=None, incarnation=None).checkpoint
    assert (paused.state, paused.counters, paused.incarnation) == (PAUSED, held.counters, None)


def test_a_shard_obeys_what_is_newer_and_about_it_in_order() -> None:
    """Not what it has obeyed, nor what is about another shard or generation."""
    asked = [
        operation("pause", None, 4),
        operation("resume", ONE, 3),
        operation("pause", TWO, 5),
        operation("x", None, 2),
    ]
    other = replace(operation("pause", None, 6), generation=Generation("orders", 2))
    assert [one.sequence for one in due([*asked, other], SCOPE, Checkpoint(operation_seq=2))] == [3, 4]


def test_a_standing_that_moved_is_told() -> None:
    """None is never compared."""
    check_seen(SCOPE, 3, 3)
    check_seen(SCOPE, 3, None)
    with pytest.raises(OperationsMoved, match="operation 4 was accepted after 3"):
        check_seen(SCOPE, 4, 3)


def test_an_operation_reads_back() -> None:
    """The stored form holds all of it but its generation."""
    asked = operation("skip", ONE, position="9", standing=None, yes=True)
    assert operation_of(GENERATION, operation_values(asked)) == asked
    everywhere = operation("pause")
    assert operation_of(GENERATION, operation_values(everywhere)) == everywhere


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("all", Target()),
        ("orders", Target("orders")),
        ("order-summary-g12", Target("order-summary", 12)),
        ("orders:log/a/b.jsonl", Target("orders", None, "log", "a/b.jsonl")),
        ("orders-g1:log/a", Target("orders", 1, "log", "a")),
    ],
)
def test_targets_are_read_as_people_write_them(text: str, target: Target) -> None:
    """And written back the same way."""
    assert Target.of(text) == target
    assert target.label == text


@pytest.mark.parametrize("text", ["", "orders:", "orders:log", "orders:log/", ":log/a"])
def test_a_target_that_names_nothing_is_refused(text: str) -> None:
    """With the forms there are."""
    with pytest.raises(CommandRefused, match="write NAME"):
        Target.of(text)


def test_the_stored_forms_do_not_change() -> None:
    """What stores hold is read by every later release."""
    asked = operation("skip", ONE, 7, position="9", standing="7")
    assert operation_values(asked) == {
        "sequence": 7, "request": "r7", "name": "skip", "arguments": {"position": "9", "standing": "7"},
        "shard": ["log", "a"], "expected": [["log", "a"], ["log", "b"]], "uid": 1000, "user": "alice", "host": "web-1",
        "pid": 0, "at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    held = Checkpoint(position=(7,), epoch=3)
    made = OBEYING["pause"](held, operation("pause"))
    outcome = outcome_of(operation("pause"), SCOPE, held, made, replica="r-1", at=AT)
    assert outcome_values(outcome) == {
        "sequence": 1, "source": "log", "shard": "a", "status": "done",
        "detail": "stands still; everything up to 7 is committed",
        "before": {"state": "running", "position": "7", "epoch": 3, "reason": None},
        "after": {"state": "paused", "position": "7", "epoch": 3, "reason": P1},
        "replica": "r-1", "at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    assert standing_values(standing(("pause", None), ("skip", ONE))) == {
        "sequence": 2, "every": [1, P1], "shards": [["log", "a", 2, P1]], "open": [[2, "skip", ["log", "a"]]],
    }  # fmt: skip
