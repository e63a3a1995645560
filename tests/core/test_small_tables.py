"""Positions, keys, lineage, lifecycle, recovery, circuit, batcher: each against its table or a naive twin."""

from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.batcher import Batcher, BatchPolicy, Chunk
from daemon.core.circuit import Circuit, CircuitPolicy, Tripped, pass_through
from daemon.core.commit import Busy, Committed, Duplicate, Fenced, Outcome, Rejected, RowMoved, TooLarge, Unknown
from daemon.core.dedup import Verdict
from daemon.core.errors import (
    EventProblem,
    IllegalTransition,
    LogLost,
    ProjectiondError,
    ProjectionProblem,
    SettingsProblem,
    SourceUnavailable,
    StoreDamaged,
    StoreFull,
    StoreRefused,
    StoreTooNew,
    StoreUnavailable,
    Superseded,
)  # fmt: skip
from daemon.core.events import Record
from daemon.core.keys import MAX_KEY_BYTES, key_text
from daemon.core.lifecycle import TRANSITIONS, ShardState, Signal, step
from daemon.core.lineage import ShardNode, ready
from daemon.core.positions import START, parse_position, position_text
from daemon.core.recovery import Fate, RetryPolicy, Step, after_outcome, backoff, fate_of
from tests.core.events import an_event

POSITIONS = st.lists(st.integers(0, 2**129), max_size=3).map(tuple)


@given(position=POSITIONS)
def test_position_text_round_trips(position: tuple[int, ...]) -> None:
    """A position written is the position read."""
    assert parse_position(position_text(position)) == position
    assert position >= START


@pytest.mark.parametrize("text", ["", "x", "1.", ".1", "-1", "1,2", "٣"])
def test_nonsense_is_no_position(text: str) -> None:
    """Text that is no position is refused, quoting it."""
    with pytest.raises(ValueError, match="whole numbers"):
        parse_position(text)


PARTS = st.lists(st.text(alphabet="a#\\b", min_size=1, max_size=5), min_size=2, max_size=2).map(tuple)


@given(one=PARTS, two=PARTS)
def test_keys_are_injective(one: tuple[object, ...], two: tuple[object, ...]) -> None:
    """Two different tuples of one length never share a key, whatever separators they hold."""
    assert (key_text(one) == key_text(two)) == (one == two)


@pytest.mark.parametrize("parts", [(), ("",), (None,), (1.5,), (True,), (Decimal("NaN"),), ("x" * (MAX_KEY_BYTES + 1),),
                                   ("é" * 600,)], ids=repr)  # fmt: skip
def test_bad_keys_are_refused(parts: tuple[object, ...]) -> None:
    """What has no one canonical text, or is too long, is no key."""
    with pytest.raises(EventProblem, match="bad-key"):
        key_text(parts)


def test_keys_have_their_natural_text() -> None:
    """A lone part stays as it is; numbers and dates have their plain text."""
    assert [key_text(p) for p in (("a#b",), (7,), (date(2026, 1, 2), "x#"))] == ["a#b", "7", "2026-01-02#x\\#"]
    assert key_text(("é" * 500,)) == "é" * 500


@given(parents=st.lists(st.sets(st.integers(0, 9)), max_size=8), done=st.sets(st.integers(0, 9)))
def test_parents_are_drained_first(parents: list[set[int]], done: set[int]) -> None:
    """Ready is exactly what is not done and has no listed parent that is not done."""
    nodes = [ShardNode(str(n), tuple(map(str, named))) for n, named in enumerate(parents)]
    expected = [str(n) for n, named in enumerate(parents)
                if n not in done and not {p for p in named if p < len(parents)} - done]  # fmt: skip
    assert ready(nodes, {str(n) for n in done}) == expected


@pytest.mark.parametrize("state", ShardState)
@pytest.mark.parametrize("signal", Signal)
def test_every_transition_is_in_the_table(state: ShardState, signal: Signal) -> None:
    """A signal in the table leads to its state; any other raises, naming both, and changes nothing."""
    before = {held: dict(row) for held, row in TRANSITIONS.items()}
    if signal in TRANSITIONS[state]:
        assert step(state, signal) is TRANSITIONS[state][signal]
    else:
        with pytest.raises(IllegalTransition, match=f"{state}.*{signal}"):
            step(state, signal)
    assert before == TRANSITIONS


def test_every_state_is_reached_and_only_done_ends() -> None:
    """From STARTING every state can be reached, and DONE alone leads nowhere."""
    reached, front = {ShardState.STARTING}, [ShardState.STARTING]
    while front:
        found = set(TRANSITIONS[front.pop()].values()) - reached
        reached |= found
        front += found
    assert reached == set(ShardState) == set(TRANSITIONS)
    assert [state for state, row in TRANSITIONS.items() if not row] == [ShardState.DONE]


POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("outcome", "events", "conflicts", "waited", "expected"),
    [
        (Committed(), 5, 0, 0, Step.SETTLE),
        (Duplicate({}), 5, 0, 0, Step.REFOLD_WITHOUT),
        (RowMoved(frozenset()), 5, POLICY.max_row_conflicts, 0, Step.RELOAD),
        (RowMoved(frozenset()), 5, POLICY.max_row_conflicts + 1, 0, Step.TROUBLE),
        (Busy("x"), 5, 0, 0, Step.SEND_AGAIN),
        (Unknown("x"), 5, 0, POLICY.unknown_window - 0.1, Step.SEND_SAME),
        (Unknown("x"), 5, 0, POLICY.unknown_window, Step.RETAKE),
        (TooLarge("x"), 2, 0, 0, Step.HALVE),
        (Rejected("x"), 2, 0, 0, Step.HALVE),
        (TooLarge("x"), 1, 0, 0, Step.DEAD_LETTER),
        (Rejected("x"), 1, 0, 0, Step.DEAD_LETTER),
        (TooLarge("x"), 0, 0, 0, Step.TROUBLE),
        (Fenced(None), 5, 0, 0, Step.END),
    ],
)
def test_each_outcome_has_its_step(
    outcome: Outcome, events: int, conflicts: int, waited: float, expected: Step
) -> None:
    """Each row of the recovery table."""
    decided = after_outcome(outcome, events=events, row_conflicts=conflicts, waited=waited, policy=POLICY)
    assert decided is expected


@pytest.mark.parametrize(
    ("error", "early", "late"),
    [
        (Superseded("x"), Fate.FENCED, Fate.FENCED),
        (Superseded("x", released=True), Fate.RESTART, Fate.RESTART),
        (KeyError("x"), Fate.PARK_AS_BUG, Fate.PARK_AS_BUG),
        (ProjectiondError("x"), Fate.PARK_AS_BUG, Fate.PARK_AS_BUG),
        *[(kind("x"), Fate.PARK, Fate.PARK)
          for kind in (LogLost, StoreDamaged, StoreTooNew, SettingsProblem, ProjectionProblem)],
        *[(kind("x"), Fate.RESTART, Fate.RESTART) for kind in (SourceUnavailable, StoreUnavailable, StoreFull)],
        (StoreRefused("x"), Fate.RESTART, Fate.PARK),
    ],
    ids=repr,
)  # fmt: skip
def test_each_error_has_its_fate(error: BaseException, early: Fate, late: Fate) -> None:
    """Each error class, at its first restart and beyond the last."""
    assert fate_of(error, 0, POLICY) is early
    assert fate_of(error, POLICY.max_restarts, POLICY) is late


@given(attempt=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_backoff_has_full_jitter(attempt: int, draw: float) -> None:
    """A wait lies in [0, ceiling), the ceiling doubling up to the maximum."""
    ceiling = min(POLICY.max_backoff, POLICY.initial_backoff * 2 ** min(attempt - 1, 60))
    assert 0 <= backoff(attempt, POLICY, draw) <= ceiling * draw + 1e-9


OUTCOMES = st.sampled_from(
    [None, Verdict.FAILED, Verdict.CONFLICT, Verdict.LATE, Verdict.DUPLICATE_MARKER, Verdict.PARKED]
)
DEAD = {Verdict.FAILED, Verdict.CONFLICT, Verdict.LATE}


@given(batches=st.lists(st.lists(OUTCOMES, max_size=8), max_size=8))
def test_circuit_equals_the_naive_one(batches: list[list[Verdict | None]]) -> None:
    """It trips at the first dead letter too many, in a row or in the window, and where a naive recount says."""
    policy, circuit, history = CircuitPolicy(2, 10, 0.3), Circuit(), list[Verdict | None]()
    for batch in batches:
        expected: int | None = None
        for index, verdict in enumerate(batch):
            if verdict not in DEAD:
                continue
            seen = [*history, *batch[: index + 1]]
            since = max((at + 1 for at, one in enumerate(seen) if one is None), default=0)
            if sum(one in DEAD for one in seen[since:]) > 2:
                expected = max(0, since - len(history))
            elif sum(one in DEAD for one in seen[-10:]) > 3:
                expected = index
            if expected is not None:
                break
        result = pass_through(circuit, batch, [at for at, verdict in enumerate(batch) if verdict in DEAD], policy)
        if isinstance(result, Tripped):
            assert result.index == expected
            return
        assert expected is None
        circuit = result
        history += batch


@given(
    sizes=st.lists(st.lists(st.integers(1, 40), max_size=5), max_size=8), events=st.integers(1, 4),
    room=st.integers(1, 100), data=st.data(),
)  # fmt: skip
def test_batches_are_the_log(sizes: list[list[int]], events: int, room: int, data: st.DataObject) -> None:
    """Batches hold every record once, in order, within the limits but for a lone record, and end where they say."""
    batcher, log, end = Batcher(BatchPolicy(events, room)), list[Record](), 0
    for chunk_sizes in sizes:
        records: list[Record] = []
        for size in chunk_sizes:
            end += 1
            event = an_event(f"e{end}", position=(end,))
            event.raw = b"x" * size
            records.append(event)
        end += 1
        log += records
        batcher.add(Chunk(records, (end,)))
    taken: list[Record] = []
    through = [START]
    while batcher:
        assert len(batcher) == len(log) - len(taken)
        chunk = batcher.take()
        keep = data.draw(st.integers(0, len(chunk.records)))
        if 0 < keep < len(chunk.records):
            batcher.put_back(Chunk(chunk.records[keep:], chunk.through))
            chunk = Chunk(chunk.records[:keep], chunk.records[keep - 1].position)
        assert len(chunk.records) <= events
        assert len(chunk.records) <= 1 or sum(len(record.raw) for record in chunk.records) <= room
        taken += chunk.records
        assert [r for r in log if r.position <= chunk.through] == taken
        through.append(chunk.through)
    assert taken == log
    assert all(one <= two for one, two in pairwise(through))
    assert through[-1] == ((end,) if sizes else START)


def test_batch_is_due_by_count_linger_or_end() -> None:
    """A batch is due after its linger, at once when full or at a shard's end; cleared, nothing is."""
    batcher = Batcher(BatchPolicy(2, 100, 5.0))
    assert batcher.due_in(0) is None
    batcher.add(Chunk([an_event()], (1,), arrived=10.0))
    assert (batcher.due_in(11), batcher.due_in(99)) == (4.0, 0.0)
    batcher.add(Chunk([an_event()], (2,), arrived=10.0))
    assert batcher.due_in(11) == 0
    batcher.clear()
    assert (len(batcher), bool(batcher)) == (0, False)
    batcher.add(Chunk([], (3,), arrived=11.0, ends_shard=True))
    assert batcher.due_in(11) == 0
    assert batcher.take().ends_shard
