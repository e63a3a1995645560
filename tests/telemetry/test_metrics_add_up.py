"""What was told and what is true now, as Prometheus reads it: names, numbers, labels, form."""

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from daemon.core.cursor import CursorState, Redelivery
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.waiting import Wish
from daemon.ports.observer import (
    BatchCommitted,
    CodeChanged,
    CommandAnswered,
    CommitDelayed,
    CommitRefused,
    EventsDeadLettered,
    Fact,
    GenerationNotRun,
    KeysParked,
    PayloadConflict,
    RedeliveryProgress,
    RowShared,
    ShardChanged,
    ShardRestarted,
    UnitsConsumed,
    WaitingSettled,
)
from daemon.ports.vitals import BudgetVitals, ShardVitals, SourceVitals
from daemon.telemetry.backlog import CAUGHT_UP, Lag
from daemon.telemetry.catalog import FAMILIES, MAX_OPEN, OUTCOMES, PREFIX, SCRAPES, Kind
from daemon.telemetry.exposition import Exposition, Process, Sights
from daemon.telemetry.recorder import Recorder
from daemon.telemetry.reference import QUESTIONS, render
from tests.contracts.observer_contract import FACTS

GOLDEN = Path(__file__).parent / "goldens" / "metrics.txt"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
A, B = Scope("orders", 1, "log", "s0"), Scope("orders", 2, 'l"o\\g', "s\n\x1b\udcff")
COUNTS = {"read": 10, "applied": 4, "duplicate_position": 1, "duplicate_marker": 2, "duplicate_version": 1,
          "dead_lettered": 1, "parked": 1, "skipped": 0, "commits": 1, "rows": 3, "effects": 2}  # fmt: skip
CURSOR = Redelivery("r1", "replay", (10,), (110,), (50,), NOW)

TOLD: Sequence[Fact] = (
    ShardChanged(A, ShardState.STARTING, ShardState.RUNNING, epoch=3),
    ShardChanged(A, ShardState.RUNNING, ShardState.RETRYING, epoch=3),
    ShardChanged(A, ShardState.RETRYING, ShardState.FENCED, epoch=3),
    ShardChanged(A, ShardState.STARTING, ShardState.RUNNING, epoch=4),
    BatchCommitted(A, (9,), 3, COUNTS, 30, 0.02, NOW, {"wcu:rows": 6.0, "wcu:state": 2.0, "rcu:rows": 0.5},
                   size=5000, settled_at=NOW, oldest=NOW - timedelta(seconds=2), hits=2, misses=1),
    BatchCommitted(A, (19,), 3, {"read": 10, "applied": 10}, 99, 30.0, NOW, hits=3),
    BatchCommitted(B, (1,), 1, {"read": 1, "applied": 1}, 3, 0.001, None),
    CommitDelayed(A, "Busy", "locked", 1, 0.5),
    CommitDelayed(A, "Unknown", "silence", 2, 0.5),
    CommitRefused(A, "Duplicate"),
    CommitRefused(A, "RowMoved"),
    CommitRefused(B, "Fenced"),
    CommitRefused(B, "TooLarge"),
    CommitRefused(B, "Rejected"),
    CommitRefused(B, "Unlisted"),
    EventsDeadLettered(A, {"handler-raised": 2, "not-json": 1}),
    PayloadConflict(A, 2),
    RowShared(A, 3),
    KeysParked(A, 4),
    ShardRestarted(A, "x", 1, 0.1),
    CodeChanged(A, "a", "b"),
    GenerationNotRun(Generation("orders", 3), "version 3 waits"),
    UnitsConsumed(A.of, {"rcu:markers": 4.0}),
    UnitsConsumed(None, {"rcu:state": 1.5}),
    RedeliveryProgress(A, CURSOR, {"read": 9, "duplicate_marker": 3, "late_parked": 2, "late_skipped": 1, "failed": 1,
                                   "left": 2, "rows": 3, "commits": 1, "busy_ms": 7}),
    RedeliveryProgress(A, replace(CURSOR, position=(60,)), {"read": 1, "duplicate_position": 1}),
    WaitingSettled(A, Wish.RETRY, {"applied": 2, "failed": 1}),
    CommandAnswered("pause", "r1", 1000, "ada", "done", 0.1, changes=True),
)  # fmt: skip


def exposition(*facts: Fact) -> Exposition:
    """Return what shows these facts, and two shards: one behind, one caught up."""
    recorder = Recorder()
    for fact in facts:
        recorder.see(fact)
    process = Process(
        now=lambda: NOW,
        loop_delay=[5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7.25],
        reachable=lambda: {"": True, "log": False},
        ready=lambda: False,
        scrapes=dict.fromkeys(SCRAPES, 2),
        build=("1.2.3", "3.12.1", "uvloop"),
    )
    shown = Exposition(recorder, process)
    behind = ShardVitals(A, ShardState.RUNNING, 4, (19,), NOW - timedelta(seconds=90), False, 300, 7, 700, 2, 5, 6, 1)
    there = ShardVitals(B, ShardState.PARKED, 1, (1,), NOW, True, 1)
    lags = {A: Lag(100, 20_000, 3, 12.5, 3600.0), B: CAUGHT_UP}
    shown.sights = Sights(
        shards=lambda: [behind, there],
        lag=lambda shard: lags[shard.scope],
        budgets=lambda: [BudgetVitals("orders", 50.0, 0.25, 3)],
        sources=lambda: [SourceVitals("log", {"s0": 1}, {"s0": 12})],
        generations={A.of: 1, B.of: 2},
    )
    return shown


def text_of(shown: Exposition) -> str:
    """Return the text without the process's own metrics."""
    return "".join(shown.chunks(process=False))


class Numbers:
    """The numbers of a text."""

    def __init__(self, text: str) -> None:
        self.by_series = {
            (sample.name.removeprefix(PREFIX), *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """Return one number of shard A, or with the labels given."""
        shard = {"projection": "orders", "generation": "1", "source": "log", "shard": "s0"}
        for owner in (shard | labels, {"projection": "orders", "generation": "1"} | labels, labels):
            value = self.by_series.get((name, *sorted(owner.items())))
            if value is not None:
                return value
        return None


def test_the_whole_exposition_is_as_it_was() -> None:
    """Every family with its help, kind, labels and numbers, in order; a change of it is a change for dashboards."""
    text = text_of(exposition(*TOLD))
    assert text == GOLDEN.read_text(encoding="utf-8"), f"if this is meant, write it to {GOLDEN}"


def test_facts_add_up() -> None:
    """What several commits, refusals and troubles told is summed under its shard, outcome, layer, kind and reason."""
    number = Numbers(text_of(exposition(*TOLD)))
    assert number("events_read_total") == 20
    assert number("events_applied_total") == 14
    assert number("events_duplicate_total", layer="consumer", proof="position") == 1
    assert number("events_duplicate_total", layer="consumer", proof="marker") == 2
    assert number("events_duplicate_total", layer="projection", proof="version") == 1
    outcomes = [number("commits_total", outcome=outcome) for outcome in OUTCOMES]
    assert dict(zip(OUTCOMES, outcomes, strict=True)) == {
        "committed": 2, "duplicate": 1, "row_moved": 1, "busy": 1, "unknown": 1,
        "unlisted": 0, "fenced": 0, "too_large": 0, "rejected": 0,
    }  # fmt: skip
    assert number("commit_retries_total") == 2
    assert number("commit_actions_total") == 129
    assert number("commit_bytes_total") == 5000
    assert number("epoch_changes_total") == 2
    assert number("shard_fenced_total") == 1
    assert number("row_cache_requests_total", result="hit") == 5
    assert number("row_cache_requests_total", result="miss") == 1
    assert number("store_units_total", operation="write", kind="rows") == 6
    assert number("store_units_total", operation="read", kind="markers") == 4
    assert number("store_units_total", projection="", generation="", operation="read", kind="state") == 1.5
    assert number("dead_letters_total", reason="handler-raised") == 2
    assert number("control_commands_total", command="pause", outcome="done") == 1


def test_a_range_that_is_folded_again_is_followed() -> None:
    """What became of its events is added up, by proof; how far it is follows from its positions, until it ends."""
    number = Numbers(text_of(exposition(*TOLD)))
    outcomes = {
        "duplicate_position": 1,
        "duplicate_marker": 3,
        "duplicate_version": 0,
        "late": 3,
        "failed": 1,
        "left": 2,
    }
    assert {name: number("redelivered_events_total", outcome=name) for name in outcomes} == outcomes
    assert number("redelivery_active") == 1
    assert number("redelivery_progress_ratio") == 0.5
    ended = RedeliveryProgress(A, replace(CURSOR, position=(110,), state=CursorState.DONE), {})
    number = Numbers(text_of(exposition(*TOLD, ended)))
    assert (number("redelivery_active"), number("redelivery_progress_ratio")) == (0, 1)
    elsewhere = RedeliveryProgress(A, replace(CURSOR, after=(), position=(5,)), {})
    assert Numbers(text_of(exposition(elsewhere)))("redelivery_progress_ratio") is None


def test_histograms_put_each_observation_into_its_bucket() -> None:
    """A bucket counts what is at most its bound; the last counts all; the sum is of what was observed."""
    number = Numbers(text_of(exposition(*TOLD)))
    assert number("commit_seconds_bucket", le="0.01") == 0
    assert number("commit_seconds_bucket", le="0.025") == 1
    assert number("commit_seconds_bucket", le="10.0") == 1
    assert number("commit_seconds_bucket", le="+Inf") == number("commit_seconds_count") == 2
    assert number("commit_seconds_sum") == 30.02
    assert number("event_to_commit_seconds_count") == 1  # the second commit's events carry no time
    assert number("event_to_commit_seconds_sum") == 2
    assert number("batch_events_bucket", le="10.0") == 2
    assert number("batch_bytes_count") == 1  # the other did not say


def test_a_shard_that_settled_nothing_is_behind_too() -> None:
    """Its lag in seconds is told by whoever knows since when it waits."""
    shown = exposition()
    parked = ShardVitals(A, ShardState.PARKED, 1, ())
    shown.sights = Sights(lambda: [parked], behind_since=lambda _: NOW - timedelta(hours=1))
    assert Numbers(text_of(shown))("lag_seconds") == 3600


def test_what_is_true_now_is_of_the_shards_that_are_here() -> None:
    """Lag, age, what is held and the state come from the shards as they stand when somebody looks."""
    number = Numbers(text_of(exposition()))
    assert number("lag_events") == 100
    assert number("lag_seconds") == 90
    assert number("time_to_data_loss_seconds") == 3600
    assert number("time_to_catch_up_seconds") == 12.5
    assert number("queue_events") == 7
    assert number("generation_progress_ratio") == 0.75
    assert number("shard_state", state="running") == 1
    assert number("shard_state", state="parked") == 0
    assert number("source_up", source="log") == 0
    assert number("events_read_total") is None  # nothing was told of it
    gone = exposition(*TOLD)
    gone.sights = Sights()
    assert number("lag_events") is not None
    numbers = Numbers(text_of(gone))
    assert numbers("lag_events") is None
    assert numbers("events_read_total") == 20


class _Parsed(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def test_the_text_is_what_the_client_library_writes() -> None:
    """Parsed by the library and written by it again, the text has the same lines, but for the order of labels."""
    text = text_of(exposition(*TOLD))
    families = list(text_string_to_metric_families(text))
    again = generate_latest(_Parsed(families)).decode()
    assert _lines(again) == _lines(text)
    assert [family.name for family in families] == [
        name.removesuffix("_total") if kind is Kind.COUNTER else name
        for name, kind in ((family.full_name, family.kind) for family in FAMILIES)
    ]


def _lines(text: str) -> list[tuple[str, list[str], float | str]]:
    found: list[tuple[str, list[str], float | str]] = []
    for line in text.split("\n")[:-1]:
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        if line.startswith("#"):
            found.append((line, [], ""))
        else:
            found.append((name, sorted(re.findall(r'\w+="(?:\\.|[^"\\])*"', labels)), float(value)))
    return found


def test_promtool_has_nothing_to_say(promtool: Path) -> None:
    """Prometheus' own checker finds names, units and help texts as they should be, the process's included."""
    text = "".join(exposition(*TOLD).chunks())
    checked = subprocess.run(
        [str(promtool), "check", "metrics"], input=text.encode(), capture_output=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_names_from_outside_cannot_break_out_of_their_label() -> None:
    """Quotes, backslashes, line ends, control characters and what is no Unicode stay inside their value."""
    text = text_of(exposition(*TOLD))
    text.encode()
    shards = {
        sample.labels.get("shard") for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert shards == {None, "s0", "s\n\x1b?"}


def test_label_sets_are_bounded() -> None:
    """A label whose values come from elsewhere stops at its limit: all further values are one, and none is lost."""
    number = MAX_OPEN + 100
    facts = [EventsDeadLettered(A, {f"reason-{index}": 1}) for index in range(number)]
    commands = [CommandAnswered(f"c{index}", "r", 0, "", "done", 0.1, changes=False) for index in range(number)]
    values = Numbers(text_of(exposition(*facts, *commands))).by_series
    for name in ("dead_letters_total", "control_commands_total"):
        counts = [value for series, value in values.items() if series[0] == name]
        assert len(counts) == MAX_OPEN + 1
        assert sum(counts) == number


def test_nothing_out_of_an_event_is_ever_shown() -> None:
    """Of all kinds of facts, with ids, keys, reasons and reports in them, only names and numbers come out."""
    labels = {
        name
        for family in text_string_to_metric_families(text_of(exposition(*TOLD, *FACTS)))
        for sample in family.samples
        for name in sample.labels
    }
    assert labels <= {name for family in FAMILIES for name in (*family.labels, *family.extra)} | {"le"}
    assert labels.isdisjoint({"id", "key", "event", "position", "error", "user", "request", "detail"})


def test_a_scrape_is_written_in_short_pieces() -> None:
    """However many shards there are, no piece of the text is longer than its limit of lines and a family's head."""
    scopes = [Scope("orders", 1, "log", f"s{number}") for number in range(300)]
    facts = [BatchCommitted(scope, (1,), 1, {"read": 1}, 1, 0.1, None) for scope in scopes]
    pieces = list(exposition(*facts).chunks(process=False))
    assert max(piece.count("\n") for piece in pieces) <= 502
    assert "".join(pieces).count("\n") > 300 * 60


def test_the_reference_page_is_the_catalogue_s() -> None:
    """docs/reference/metrics.md is what the code says of its metrics."""
    assert PAGE.read_text(encoding="utf-8") == render(), f"write it anew: python -m daemon.telemetry.reference > {PAGE}"


@pytest.mark.parametrize("expression", [expression for _, expression in QUESTIONS])
def test_the_page_s_questions_ask_for_metrics_and_labels_that_exist(expression: str) -> None:
    """Every name in a documented question is a family's, and every label that it picks is one of its."""
    names = {family.full_name: family for family in FAMILIES}
    asked = re.findall(r"projectiond_\w+", expression)
    assert asked
    for name in asked:
        assert name.removesuffix("_bucket").removesuffix("_sum") in names or name in names
    for name, label in re.findall(r"(projectiond_\w+)\{(\w+)", expression):
        assert label in (*names[name].labels, *names[name].extra)
