"""A batch folded, planned and committed equals the events applied one by one to a plain dict."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.batcher import Chunk
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Committed, Limits, Rejected
from daemon.core.dedup import Judged
from daemon.core.events import Event, Record
from daemon.core.fold import Failure, FoldContext, Missing, Unsettled, fold
from daemon.core.identity import MAIN_VIEW, RowKey, Scope
from daemon.core.planner import Oversize, PlanContext, Planned, plan
from daemon.core.projection import OnError
from daemon.core.view import UNLOADED, Base, View
from daemon.testing.memory_store import MemoryData, MemoryStore
from tests.core.events import START_TIME, a_bad_record, a_spec, an_event

pytestmark = pytest.mark.anyio
SCOPE = Scope("orders", 1, "log", "a")

NAMES = st.sampled_from(["a", "b"])
NO_VALUE = 1j
"""What no row can hold: the event that gives it fails, whatever comes after it."""
VALUES = st.one_of(st.integers(-5, 5), st.sampled_from(["x", None, True, [1], NO_VALUE]))
FIELDS = st.dictionaries(NAMES, VALUES, max_size=2)
AMOUNTS = st.dictionaries(NAMES, st.integers(-3, 3), min_size=1, max_size=2)
TARGETS = st.sampled_from(["", "side:k1", "side:k2", "main:k1", "main:k2"])
INTENTS = st.tuples(
    TARGETS,
    st.one_of(
        st.tuples(st.just("put"), FIELDS), st.tuples(st.just("patch"), FIELDS), st.tuples(st.just("add"), AMOUNTS),
        st.tuples(st.just("delete"), st.none()), st.tuples(st.just("copy"), st.none()),
        st.tuples(st.just("emit"), st.none()), st.tuples(st.just("fail"), st.none()),
        st.tuples(st.just("fail-if-there"), st.none()),
    ),
)  # fmt: skip
EVENTS = st.lists(
    st.one_of(
        st.none(),
        st.fixed_dictionaries({"key": st.sampled_from(["k1", "k2", "k3", ""]), "do": st.lists(INTENTS, max_size=4)}),
    ),
    max_size=14,
)


class HandlerError(Exception):
    """What a handler raises on purpose."""


def handle(view: View, event: Event) -> None:
    """Carry out an event's intents."""
    for target, (verb, given_value) in event.data["do"]:
        row = view.at(*target.split(":")) if target else view
        if verb == "put":
            row.put(given_value)
        elif verb == "patch":
            row.patch(given_value)
        elif verb == "add":
            row.add(given_value)
        elif verb == "delete":
            row.delete()
        elif verb == "copy":
            view.patch(seen=len(row.row or {}))
        elif verb == "emit":
            view.emit("mail", of=event.id)
        elif verb == "fail" or row.row is not None:
            raise HandlerError(verb)


type Rows = dict[tuple[str, str], dict[str, Any]]


def straight(rows: Rows, key: str, intents: list[Any]) -> tuple[Rows, int] | None:
    """Apply one event to a plain dict; None when it fails. Shares nothing with the fold."""
    rows = deepcopy(rows)
    emitted = 0
    for target, (verb, value) in intents:
        place = tuple(target.split(":")) if target else (MAIN_VIEW, key)
        assert len(place) == 2
        if verb in {"put", "patch"} and NO_VALUE in value.values():
            return None
        if verb == "put":
            rows[place] = dict(value)
        elif verb == "patch":
            rows[place] = {**rows.get(place, {}), **value}
        elif verb == "add":
            held = rows.get(place, {})
            if any(type(held.get(name)) in {str, bool, list} for name in value):
                return None
            rows[place] = {**held, **{name: (held.get(name) or 0) + amount for name, amount in value.items()}}
        elif verb == "delete":
            rows.pop(place, None)
        elif verb == "copy":
            mine = (MAIN_VIEW, key)
            rows[mine] = {**rows.get(mine, {}), "seen": len(rows.get(place, {}))}
        elif verb == "emit":
            emitted += 1
        elif verb == "fail" or place in rows:
            return None
    return rows, emitted


class Straight:
    """The whole log, event by event, on a dict."""

    def __init__(self, log: list[Mapping[str, Any] | None], on_error: OnError) -> None:
        self.rows: Rows = {}
        self.effects, self.dead, self.parked = 0, list[int](), list[int]()
        keys: set[str] = set()
        for index, data in enumerate(log):
            if data is None or not data["key"]:
                self.dead.append(index)
            elif data["key"] in keys:
                self.parked.append(index)
            elif (after := straight(self.rows, data["key"], data["do"])) is None:
                if on_error is OnError.PARK_KEY:
                    keys.add(data["key"])
                    self.parked.append(index)
                else:
                    self.dead.append(index)
            else:
                self.rows, emitted = after
                self.effects += emitted


class Engine:
    """Batches through fold, plan and store, with a cache that forgets."""

    def __init__(self, data: st.DataObject, on_error: OnError, limits: Limits) -> None:
        self.data, self.limits = data, limits
        self.spec = a_spec(handle, on_error=on_error, key_field=data.draw(st.sampled_from([None, "key"])))
        self.quick = data.draw(st.booleans(), label="quick")
        self.store = MemoryStore(MemoryData(), limits)
        self.checkpoint = Checkpoint()
        self.cache: dict[RowKey, Base] = {}

    async def run(self, records: list[Record]) -> None:
        await self.store.open()
        self.checkpoint = await self.store.take(SCOPE, "me", self.checkpoint)
        start = 0
        while start < len(records):
            size = self.data.draw(st.integers(1, 6), label="batch")
            start += await self.batch(records[start : start + size])

    async def batch(self, records: list[Record]) -> int:
        keep = self.data.draw(st.sampled_from([0, 1, 2]), label="keep")
        self.cache = {} if keep == 0 else self.cache
        count = self.data.draw(st.integers(1, len(records)), label="prefix")
        failures: dict[int, Failure] = {}
        for attempt in range(40):
            planned = await self.fold_and_plan(records, count, failures)
            if isinstance(planned, Oversize):
                assert planned.suggest < count, "a single event fits in every limit drawn here"
                count = planned.suggest
                continue
            outcome = await self.store.commit(planned.commit, attempt)
            if isinstance(outcome, Committed):
                break
            assert isinstance(outcome, Rejected), outcome
            if count == 1:
                failures = {0: Failure("rejected", outcome.detail)}
            count = max(1, count // 2)
        else:
            pytest.fail("the batch was never committed")
        self.checkpoint = planned.commit.checkpoint
        for write in planned.commit.rows:
            self.cache.pop(write.key, None)
        return count

    async def fold_and_plan(
        self, records: list[Record], count: int, failures: dict[int, Failure]
    ) -> Planned | Oversize:
        verdicts: list[Any] = [None] * len(records)
        context = FoldContext(self.spec, SCOPE.shard_id, lambda key: self.cache.get(key, UNLOADED),
                              frozenset(await self.store.parked_keys(SCOPE)), failures=failures,
                              quick=self.quick)  # fmt: skip
        while True:
            folded = fold(Judged(records, verdicts), context, count)
            assert not isinstance(folded, Unsettled)
            if not isinstance(folded, Missing):
                break
            assert not folded.keys & self.cache.keys()
            self.cache |= await self.store.load_rows(SCOPE.of, folded.keys)
        name = f"c{self.checkpoint.commit_seq}"
        chunk = Chunk(records, records[-1].position)
        return plan(folded, chunk, PlanContext(SCOPE, self.spec, self.checkpoint, name, START_TIME, self.limits))


@given(log=EVENTS, data=st.data(), on_error=st.sampled_from([OnError.DEAD_LETTER, OnError.PARK_KEY]))
async def test_batches_equal_single_events(
    log: list[Mapping[str, Any] | None], data: st.DataObject, on_error: OnError
) -> None:
    """Rows, effects, dead letters, parked events and counts are those of the straight pass, however the log is cut."""
    records: list[Record] = [
        a_bad_record((index + 1,))
        if given_data is None
        else an_event(f"e{index}", data=given_data, position=(index + 1,))
        for index, given_data in enumerate(log)
    ]
    engine = Engine(data, on_error, Limits(actions=data.draw(st.sampled_from([12, 20, None]), label="actions")))
    await engine.run(records)
    expected = Straight(log, on_error)
    rows = {(key.view, key.key): row.attributes for (_, key), row in engine.store.data.rows.items()}
    assert rows == expected.rows
    assert len(await engine.store.effects(SCOPE.of, 999)) == expected.effects
    assert [one.position[0] - 1 for one in await engine.store.dead_letters(SCOPE, 999)] == expected.dead
    held = engine.store.data.parked.get(SCOPE, [])
    assert [event.position[0] - 1 for event in held] == expected.parked
    counters = engine.checkpoint.counters
    read = sum(counters.get(name, 0) for name in (
        "applied", "duplicate_position", "duplicate_marker", "duplicate_version", "dead_lettered", "parked", "skipped"
    ))  # fmt: skip
    assert counters.get("read", 0) == read == len(log)
    assert engine.checkpoint.position == ((len(log),) if log else ())
