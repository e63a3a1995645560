"""Facts as log records: each kind is written, at its level, and none quotes a payload."""

import io
import json
from datetime import UTC, datetime
from typing import get_args

import pytest

from daemon.core.cursor import Redelivery
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.waiting import Wish
from daemon.ports import observer as facts
from daemon.ports.observer import Fact
from daemon.telemetry.facts import FanOut, LogObserver, public_reason
from daemon.telemetry.logs import configure_logging
from daemon.testing.observer import RecordingObserver

SCOPE = Scope("orders", 1, "log", "s0")
CURSOR = Redelivery("7", "rewind", (), (9,), (5,), datetime(2026, 1, 1, tzinfo=UTC))
SECRET = "4111-1111"
PARKED = facts.ShardChanged(SCOPE, ShardState.RUNNING, ShardState.PARKED, f"handler-raised: ValueError: {SECRET}", 3)
EXAMPLES: list[tuple[Fact, str]] = [
    (PARKED, "error"),
    (
        facts.ShardChanged(SCOPE, ShardState.PARKED, ShardState.PARKED, f"bug: ValueError: {SECRET}", 3, "places"),
        "error",
    ),
    (facts.BatchCommitted(SCOPE, (5,), 3, {"read": 2}, 4, 0.01, None), "debug"),
    (facts.UnitsConsumed(SCOPE.of, {"rcu:rows": 3.0}), "debug"),
    (facts.CommitRefused(SCOPE, "RowMoved"), "debug"),
    (facts.CommitDelayed(SCOPE, "Busy", "locked", 1, 0.5), "warning"),
    (facts.EventsDeadLettered(SCOPE, {"not-json": 2}), "warning"),
    (facts.PayloadConflict(SCOPE, 1), "error"),
    (facts.RowShared(SCOPE, 1), "error"),
    (facts.KeysParked(SCOPE, 1), "warning"),
    (facts.RedeliveryProgress(SCOPE, CURSOR, {"read": 5, "duplicate_position": 5}), "debug"),
    (facts.WaitingSettled(SCOPE, Wish.RETRY, {"applied": 3}), "info"),
    (facts.ShardRestarted(SCOPE, f"bug: ValueError: {SECRET}", 1, 0.5), "warning"),
    (facts.GenerationNotRun(Generation("orders", 2), "no code here for version 2"), "warning"),
    (facts.StoreAwaited("DynamoDB does not answer: reset", 2, 1.5, "DynamoDB at https://x", 3.0), "warning"),
    (facts.StoreReached("DynamoDB at https://x", 3, 4.5), "info"),
    (facts.SourceAwaited("orders", "no broker answers", 2, 1.5, 3.0), "warning"),
    (facts.SourceReached("orders", 3, 4.5), "info"),
    (facts.SourceEmpty("orders", "order-*.jsonl"), "warning"),
    (facts.CodeChanged(SCOPE, "a" * 32, "b" * 32), "warning"),
    (facts.CommandAnswered("pause", "r1", 1000, "ada", "done", 0.004, changes=True), "info"),
    (facts.CommandAnswered("status", "r2", 1000, "ada", "done", 0.001, changes=False), "debug"),
    (facts.ControlTrouble("user 65534 may not speak here"), "warning"),
    (facts.ControlTrouble("a bug in status", "places"), "error"),
]


@pytest.mark.parametrize(("fact", "level"), EXAMPLES, ids=[type(fact).__name__ for fact, _ in EXAMPLES])
def test_each_fact_is_one_record_without_a_payload(fact: Fact, level: str) -> None:
    """A fact becomes one record of its level that names its scope, if it has one, and quotes nobody's data."""
    stream = io.StringIO()
    logger = configure_logging(level="debug", form="json", max_field_characters=2000, stream=stream, is_terminal=False)
    LogObserver(logger).see(fact)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["level"] == level
    assert record.get("projection", "orders") == "orders"
    assert ("projection" in record) == (hasattr(fact, "scope") or hasattr(fact, "generation"))
    assert SECRET not in line


def test_every_kind_of_fact_has_an_example() -> None:
    """A new fact cannot be forgotten here."""
    assert {type(fact) for fact, _ in EXAMPLES} == set(get_args(Fact.__value__))


def test_what_is_ours_is_kept_and_what_is_foreign_is_cut() -> None:
    """Our own messages hold no payload; a foreign exception keeps its type only."""
    assert public_reason("orders.jsonl was truncated: rewind") == "orders.jsonl was truncated: rewind"
    assert public_reason("handler-raised: KeyError: 'name'") == "handler-raised: KeyError"


def test_an_observer_that_fails_is_told_no_more() -> None:
    """Observing never fails a shard, and the other observers go on."""

    class Failing:
        def see(self, fact: Fact) -> None:
            raise RuntimeError(str(fact))

    healthy = RecordingObserver()
    both = FanOut([Failing(), healthy])
    both.see(PARKED)
    both.see(PARKED)
    assert healthy.of(facts.ShardChanged) == [PARKED, PARKED]
