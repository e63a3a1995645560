"""What the engine makes of each answer to a commit: rows are the plain fold of the log, whatever the store says."""

from collections import Counter
from typing import Any

import pytest

from daemon.core.commit import Busy, Commit, Rejected, RowMoved, TooLarge
from daemon.core.errors import StoreFull, StoreRefused, StoreUnavailable
from daemon.core.events import Record
from daemon.core.identity import RowKey
from daemon.core.lifecycle import ShardState
from daemon.core.projection import Dedup
from daemon.ports.observer import CommitDelayed, ShardChanged
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import Fault, LostAnswer, MemoryStore
from tests.support.engine import Engine, counting, engine, event, summing

pytestmark = pytest.mark.anyio

DEDUPS = pytest.mark.parametrize("dedup", list(Dedup)[:2])


def log(count: int = 200, keys: int = 7, shard: str = "s0") -> MemorySource:
    """Return a source with one shard of events over a few keys."""
    source = MemorySource("memory")
    source.add_shard(shard)
    source.append(shard, *[event(i + 1, key=f"k{i % keys}") for i in range(count)])
    return source


def totals(store: MemoryStore) -> dict[str, int]:
    """Return `n` by key."""
    return {key.key: row.attributes["n"] for (_, key), row in store.data.rows.items() if row.attributes is not None}


def expected(count: int = 200, keys: int = 7) -> dict[str, int]:
    """Return the plain fold of `log`."""
    return dict(Counter(f"k{i % keys}" for i in range(count)))


async def fold_with(*faults: Fault, spec: Any = None, **more: Any) -> tuple[MemoryStore, Engine]:
    """Fold the log against a store that meets `faults` first."""
    store = MemoryStore()
    store.faults.extend(faults)
    async with engine(spec or counting(**more), store, log()) as running:
        await running.caught_up()
    return store, running


@DEDUPS
async def test_undisturbed_commits_give_the_plain_fold(dedup: Dedup) -> None:
    """Without faults the rows are the fold, and the counters add up."""
    store, running = await fold_with(dedup=dedup)
    assert totals(store) == expected()
    assert (await running.checkpoint()).counters["applied"] == 200


@DEDUPS
async def test_a_busy_store_is_sent_the_same_payload_as_a_new_attempt(dedup: Dedup) -> None:
    """Busy is answered by back-off and the frozen payload under the next attempt number."""
    store, running = await fold_with(Busy("locked"), Busy("locked"), dedup=dedup)
    assert totals(store) == expected()
    first = store.commits[0][0]
    assert [attempt for commit, attempt in store.commits if commit is first] == [1, 2, 3]
    assert [fact.outcome for fact in running.observer.of(CommitDelayed)] == ["Busy", "Busy"]
    assert ShardState.RETRYING in [fact.after for fact in running.observer.of(ShardChanged)]


@DEDUPS
@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_answer_is_resolved_by_the_identical_request(dedup: Dedup, applied: bool) -> None:
    """After silence the identical commit goes out under the same attempt, and is applied once."""
    store, _ = await fold_with(LostAnswer(applied=applied), dedup=dedup)
    assert totals(store) == expected()
    first = store.commits[0][0]
    assert [attempt for commit, attempt in store.commits if commit is first] == [1, 1]


@DEDUPS
@pytest.mark.parametrize("applied", [True, False])
async def test_beyond_the_window_of_silence_the_shard_is_taken_again(dedup: Dedup, applied: bool) -> None:
    """A commit that stays unanswered costs an epoch, never an event."""
    silence = [LostAnswer(applied=applied)] + [LostAnswer(applied=False)] * 3_000
    store = MemoryStore()
    store.faults.extend(silence)
    async with engine(counting(dedup=dedup), store, log()) as running:
        await running.until(lambda: any(c.epoch > 1 for c in store.data.checkpoints.values()))
        store.faults.clear()
        await running.caught_up()
        assert (await running.checkpoint()).epoch >= 2
    assert totals(store) == expected()


@DEDUPS
async def test_a_row_that_moved_is_read_again(dedup: Dedup) -> None:
    """RowMoved drops the cached row and folds again on what is there."""
    store, source = MemoryStore(), log()
    async with engine(counting(dedup=dedup), store, source) as running:
        await running.caught_up()
        generation = running.scope().of
        at = (generation, RowKey("main", "k0"))
        held = store.data.rows[at]
        assert held.attributes is not None
        store.data.rows[at] = type(held)(held.attributes | {"n": 1000}, held.version + 5, "elsewhere@1#x")
        source.append("s0", event(201, key="k0"))
        await running.until(lambda: totals(store)["k0"] == 1001)


@DEDUPS
async def test_rows_that_never_stop_moving_park_the_shard_in_the_end(dedup: Dedup) -> None:
    """Endless RowMoved is a wrong sharing of rows: tried often, then parked with the remedy."""
    store = MemoryStore()

    def moved(commit: Commit) -> RowMoved | None:
        return RowMoved(frozenset({commit.rows[0].key})) if commit.rows else None

    store.faults.extend([moved] * 10_000)
    async with engine(counting(dedup=dedup), store, log()) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        assert "add()" in running.parked_reason()


def refuse(answer: type[TooLarge | Rejected], poison: str) -> Any:
    """Return a fault that refuses every commit that writes the row of `poison` by an ordinary handler."""

    def fault(commit: Commit) -> TooLarge | Rejected | None:
        return answer("no such item") if any(write.key.key == poison for write in commit.rows) else None

    return fault


@DEDUPS
@pytest.mark.parametrize("answer", [TooLarge, Rejected])
async def test_a_refused_commit_is_halved_down_to_the_one_bad_event(
    dedup: Dedup, answer: type[TooLarge | Rejected]
) -> None:
    """The bad event alone is dead-lettered, with the store's words; its neighbours are applied."""
    source = log(count=100)
    source.append("s0", event(101, key="bad", id="bad"))
    source.append("s0", *[event(102 + i, key=f"k{i % 7}") for i in range(98)])
    store = MemoryStore()
    store.faults.extend([refuse(answer, "bad")] * 1_000)
    async with engine(counting(dedup=dedup), store, source) as running:
        await running.caught_up()
        letters = await store.dead_letters(running.scope(), 10)
    assert [(letter.event_id, letter.detail) for letter in letters] == [("bad", "no such item")]
    assert "bad" not in totals(store)
    assert sum(totals(store).values()) == 198


@pytest.mark.parametrize("problem", [StoreFull("disk full"), StoreUnavailable("locked")])
async def test_a_store_that_cannot_now_is_tried_again(problem: StoreFull | StoreUnavailable) -> None:
    """A full disk or a lost connection delays; nothing is lost."""
    store, running = await fold_with(problem, problem)
    assert totals(store) == expected()
    assert len(running.observer.of(CommitDelayed)) == 2


async def test_a_store_that_refuses_for_good_parks_the_shard_after_some_restarts() -> None:
    """A refusal that names no item is a settings error: never bisected, nothing dead-lettered."""
    store = MemoryStore()
    store.faults.extend([StoreRefused("no rights on table")] * 4)
    async with engine(counting(), store, log()) as running:
        await running.until(lambda: running.state() is ShardState.PARKED)
        assert await store.dead_letters(running.scope(), 10) == []
        await running.resume()
        await running.caught_up()
    assert totals(store) == expected()


async def test_markers_found_by_the_commit_are_duplicates_and_the_rest_goes_on() -> None:
    """Duplicate drops the marked events, counts them, and folds the rest again."""
    store = MemoryStore()
    source = log(count=100)
    async with engine(counting(), store, source) as running:
        await running.caught_up()
        again: list[Record] = [event(101 + i, key=f"k{i % 7}", id=f"e{(i + 1,)}") for i in range(50)]
        source.append("s0", *again)
        source.append("s0", *[event(151 + i, key=f"k{i % 7}") for i in range(10)])
        await running.until(lambda: sum(totals(store).values()) == 110)
        await running.caught_up()
        assert (await running.checkpoint()).counters["duplicate_marker"] == 50


async def test_adds_are_neither_read_nor_conditioned() -> None:
    """A projection that only adds commits without expectations and never loads a row."""
    store, _ = await fold_with(spec=summing())
    assert totals(store) == expected()
    assert all(write.expect is None for commit, _ in store.commits for write in commit.rows)
