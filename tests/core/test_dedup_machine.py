"""Deduplication in its three modes against an oracle that remembers what was applied."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from daemon.core.dedup import Judged, Verdict, id_digest, judge_by_event, judge_packed
from daemon.core.events import Event, Record
from daemon.core.fold import FoldContext, Folded, fold
from daemon.core.identity import MAIN_VIEW, RowKey, ShardId
from daemon.core.planner import expectation
from daemon.core.projection import Dedup
from daemon.core.rows import StoredRow
from daemon.core.view import View
from daemon.core.window import MarkerWindow
from tests.core.events import a_spec, an_event

IDS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=6)


class MarkerModes(RuleBasedStateMachine):
    """`event` and `shard`: the same ids in both, some with another payload, some still in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: dict[str, int] = {}
        self.window = MarkerWindow(1000)
        self.markers: dict[str, bytes] = {}
        self.flight: list[Event] = []

    @rule(batch=IDS)
    def judge(self, batch: list[tuple[int, int]]) -> None:
        """Verdicts are the oracle's, in both modes; new events go in flight."""
        records: list[Record] = [an_event(f"e{n}", data=payload) for n, payload in batch]
        expected: list[Verdict | None] = []
        for n, payload in batch:
            held = self.applied.setdefault(f"e{n}", -1)
            if held < 0:
                self.applied[f"e{n}"] = payload
                expected.append(None)
            else:
                expected.append(Verdict.DUPLICATE_MARKER if held == payload else Verdict.CONFLICT)
        by_event = judge_by_event(records, [None] * len(records), self.markers, {e.id: e.digest for e in self.flight})
        packed = judge_packed(records, [None] * len(records), self.window,
                              {id_digest(e.id): e.digest[:4] for e in self.flight})  # fmt: skip
        assert by_event.verdicts == packed.verdicts == expected
        assert [n for n, verdict in enumerate(expected) if verdict is None] == list(packed.marks)
        self.settle()
        self.flight = [r for r, verdict in zip(records, expected, strict=True) if verdict is None and type(r) is Event]

    @rule()
    def settle(self) -> None:
        """The commit in flight is applied."""
        for event in self.flight:
            self.markers[event.id] = event.digest
        self.window.remember(b"".join(id_digest(event.id) + event.digest[:4] for event in self.flight))
        self.flight = []

    @rule()
    def lose(self) -> None:
        """The commit in flight fails: its ids are new again."""
        for event in self.flight:
            del self.applied[event.id]
        self.flight = []


def number_of(event: Event) -> int:
    """The entity's own number."""
    return event.data["n"]


def remember(view: View, event: Event) -> None:
    """Keep what was applied, in order; delete when told."""
    if event.data["delete"]:
        view.delete()
    else:
        view.patch({f"n{event.data['n']}": event.id})


STEPS = st.lists(
    st.tuples(st.sampled_from(["k1", "k2"]), st.integers(-2, 2), st.booleans()), min_size=1, max_size=6
)  # fmt: skip


class SequenceMode(RuleBasedStateMachine):
    """`sequence`: two sources feed the same rows under a version vector; gaps park the key of that source's shard."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[RowKey, StoredRow] = {}
        self.last: dict[tuple[str, str], int] = {}
        self.parked: dict[str, set[str]] = {"one": set(), "two": set()}
        self.version = 0

    @rule(source=st.sampled_from(["one", "two"]), steps=STEPS)
    def deliver(self, source: str, steps: list[tuple[str, int, bool]]) -> None:
        """New numbers advance, stale ones are duplicates, gaps park, whatever the handler did to the row."""
        records: list[Record] = []
        expected: list[Verdict | None] = []
        parked = set(self.parked[source])
        for key, delta, delete in steps:
            last = self.last.get((source, key))
            number = max(0, (last or 0) + 1 + delta)
            self.version += 1
            records.append(an_event(f"e{self.version}", data={"key": key, "n": number, "delete": delete}))
            if key in self.parked[source]:
                expected.append(Verdict.PARKED)
            elif last is None or number == last + 1:
                self.last[source, key] = number
                expected.append(None)
            elif number <= last:
                expected.append(Verdict.DUPLICATE_VERSION)
            else:
                self.parked[source].add(key)
                expected.append(Verdict.PARKED)
        spec = a_spec(remember, dedup=Dedup.SEQUENCE, sequence=number_of, sources=("one", "two"))
        folded = fold(Judged(records, [None] * len(records)),
                      FoldContext(spec, ShardId(source, "a"), self.rows.get, frozenset(parked)))  # fmt: skip
        assert isinstance(folded, Folded)
        assert folded.verdicts == expected
        assert set(folded.newly_parked) == self.parked[source] - parked
        for view in folded.views:
            view.settle()
            if view.sequences is not None:
                version = expectation(view).version + 1
                self.rows[view.row_key] = StoredRow(view.image, version, f"{source}/a@1#x", view.sequences)

    @invariant()
    def vectors_are_the_oracle(self) -> None:
        """Each row holds the last number of each source, deleted or not."""
        for (source, key), number in self.last.items():
            assert self.rows[RowKey(MAIN_VIEW, key)].sequences[source] == number


TestMarkerModes = MarkerModes.TestCase
TestSequenceMode = SequenceMode.TestCase
