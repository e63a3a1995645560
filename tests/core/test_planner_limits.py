"""Commits stay within a store's limits, each complete in itself, and bisection ends at the one bad event."""

from hypothesis import example, given
from hypothesis import strategies as st

from daemon.core.batcher import Chunk
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Action, Limits, MarkerWrite, ParkedEvent
from daemon.core.dedup import Judged
from daemon.core.errors import EventProblem
from daemon.core.events import Event, Record
from daemon.core.fold import Failure, FoldContext, Folded, fold
from daemon.core.identity import Scope
from daemon.core.planner import Oversize, PlanContext, Planned, actions_of, plan
from daemon.core.rows import Effect, RowCheck, RowWrite
from daemon.core.view import View
from tests.core.events import START_TIME, a_spec, an_event

SCOPE = Scope("orders", 1, "log", "a")
BAD = "bad"


def handler(view: View, event: Event) -> None:
    """Write a row as large as asked, and sometimes an effect."""
    view.put(text="x" * event.data["size"])
    if event.data["size"] % 3 == 0:
        view.emit("mail")


def measure(action: Action) -> int:
    """A row is as large as its text; a bad one can never be held."""
    if isinstance(action, RowWrite):
        if action.key.key == BAD:
            raise EventProblem("bad-item", "this store can never hold it")
        return 10 + len((action.attributes or {}).get("text", ""))
    return 10


def item_of(action: Action) -> object:
    """The item an action touches."""
    match action:
        case RowWrite() | RowCheck():
            return action.key
        case MarkerWrite():
            return ("marker", action.event_id)
        case Effect():
            return ("effect", action.id)
        case ParkedEvent():
            return ("parked", action.position)
        case _:
            return (type(action).__name__, getattr(action, "position", None))


EVENTS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", BAD]), st.integers(0, 60)), max_size=20)


@given(log=EVENTS, actions=st.integers(6, 20), item=st.integers(30, 60), total=st.sampled_from([90, 200, 5000]))
@example(log=[("a", 1)] * 5, actions=6, item=60, total=5000)  # one action too many, and nothing else
def test_prefixes_are_the_log_within_the_limits(
    log: list[tuple[str, int]], actions: int, item: int, total: int
) -> None:
    """Commits keep all limits, touch no item twice, cover the log once, and dead-letter exactly what never fits."""
    limits = Limits(actions, total, item, measure)
    records: list[Record] = [
        an_event(f"e{n}", data={"key": key, "size": size}, position=(n + 1,)) for n, (key, size) in enumerate(log)
    ]
    spec, held, start, dead = a_spec(handler), Checkpoint(), 0, list[int]()
    while start < len(records):
        rest = records[start:]
        count, failures = len(rest), dict[int, Failure]()
        while True:
            context = FoldContext(spec, SCOPE.shard_id, lambda _key: None, failures=failures)
            folded = fold(Judged(rest, [None] * len(rest)), context, count)
            assert isinstance(folded, Folded)
            planned = plan(folded, Chunk(rest, rest[-1].position),
                           PlanContext(SCOPE, spec, held, f"c{start}", START_TIME, limits))  # fmt: skip
            if isinstance(planned, Planned):
                break
            assert isinstance(planned, Oversize)
            assert planned.failure.detail
            if count == 1:
                assert not failures, "a dead letter alone fits"
                failures = {0: planned.failure}
                dead.append(start)
            else:
                assert 1 <= planned.suggest < count
            count = planned.suggest
        parts = list(actions_of(planned.commit))
        assert len(parts) <= actions
        assert sum(map(measure, parts)) <= total
        assert max(map(measure, parts)) <= item
        items = [item_of(part) for part in parts]
        assert len(set(items)) == len(items)
        assert planned.commit.fence == held.fence
        held = planned.commit.checkpoint
        start += planned.folded.count
        assert held.position == (start,)
    never_fit = {n for n, (key, size) in enumerate(log) if key == BAD or 10 + size > item}
    assert set(dead) <= never_fit, "an event that fits was dead-lettered"
    assert {n for n, (key, _) in enumerate(log) if key == BAD} <= set(dead)
    alone = {n for n in never_fit if all(key != log[n][0] for key, _ in log[n + 1 :])}
    assert alone <= set(dead), "what no later event of its row could overwrite is dead-lettered"
    assert held.counters.get("read", 0) == len(log)
    assert held.counters.get("dead_lettered", 0) == len(dead)


def test_empty_chunk_moves_the_position_only() -> None:
    """A chunk without records commits its position, counts nothing read, and never goes back."""
    spec = a_spec(handler)
    folded = fold(Judged([], []), FoldContext(spec, SCOPE.shard_id, lambda _key: None))
    assert isinstance(folded, Folded)
    for through, expected in (((9,), (9,)), ((2,), (5,))):
        context = PlanContext(SCOPE, spec, Checkpoint(position=(5,)), "c", START_TIME, Limits())
        planned = plan(folded, Chunk([], through, at_end=True), context)
        assert isinstance(planned, Planned)
        assert (planned.commit.checkpoint.position, planned.commit.rows) == (expected, ())
        assert planned.commit.checkpoint.counters == {"commits": 1}
        assert planned.commit.checkpoint.caught_up
