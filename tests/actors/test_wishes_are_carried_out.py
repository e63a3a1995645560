"""Dead letters retried and discarded, parked keys released: by the shard's owner, each entry once."""

import pytest

from daemon.core.identity import RowKey
from daemon.core.operations import OutcomeStatus
from daemon.core.projection import Dedup, OnError
from daemon.core.waiting import LetterRef, Wish
from daemon.ports.observer import WaitingSettled
from daemon.ports.store import Store
from tests.actors.test_ranges_are_delivered_again import (
    append,
    folded,
    fragile,
    log_of,
    reached,
    redelivered,
    rows,
    sums,
)
from tests.support.engine import Engine, engine
from tests.support.operating import operate, outcome

pytestmark = pytest.mark.anyio


async def wished(running: Engine, name: str, /, **arguments: str | bool) -> str:
    """Give an operation and wait until nothing is wished for any more; return what the shard answered."""
    sequence = await operate(running.store, running.scope().of, name, **arguments)
    running.supervisor.nudge()
    told = await outcome(running.store, running.scope(), sequence)
    assert told.status is OutcomeStatus.DONE, told
    while True:
        waiting = await running.store.waiting(running.scope())
        if not [note for note in (*waiting.letters, *waiting.parked) if note.wish is not None]:
            return told.detail


@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_a_retried_letter_is_applied_exactly_once(any_store: Store, dedup: Dedup) -> None:
    """After the fix a retry applies each letter once, with its effects; the same retry again finds nothing."""
    broken = {"e(5,)", "e(6,)", "e(50,)"}
    async with engine(fragile(broken, dedup=dedup, mailed=True), any_store, log_of(60)) as running:
        await running.caught_up()
        assert len(await any_store.effects(running.scope().of, 99)) == 57
        broken.clear()
        assert await wished(running, "dead-letters.retry", every=True) == (
            "3 dead letters are to be folded again, out of the order of their keys"
        )
        assert await any_store.dead_letters(running.scope(), 9) == []
        assert await rows(running) == folded([*(at for at in range(1, 61) if at not in {5, 6, 50}), 5, 6, 50])
        assert len(await any_store.effects(running.scope().of, 99)) == 60
        assert (await wished(running, "dead-letters.retry", every=True)).startswith("0 dead letters")
        counters = (await running.checkpoint()).counters
        assert (counters["applied"], counters["dead_lettered"]) == (60, 0)
        assert sums(counters)
        assert [fact.counts for fact in running.observer.facts if isinstance(fact, WaitingSettled)] == [{"applied": 3}]
        assert (await redelivered(running, to="earliest")).late == 0


async def test_a_letter_that_fails_again_stays(any_store: Store) -> None:
    """A retry before the fix leaves the letter with the newer reason and without the wish."""
    broken = {"e(5,)"}
    async with engine(fragile(broken), any_store, log_of(20)) as running:
        await running.caught_up()
        await wished(running, "dead-letters.retry", event="e(5,)")
        (left,) = await any_store.dead_letters(running.scope(), 9)
        assert (left.reason, left.detail, left.wish) == ("handler-raised", "ValueError: broken", None)
        assert (await running.checkpoint()).counters["dead_lettered"] == 1


async def test_only_what_the_filter_means_is_touched(any_store: Store) -> None:
    """A filter by key retries that key's letters, one by position discards that one, which counts as skipped."""
    broken = {"e(5,)", "e(6,)", "e(12,)"}
    async with engine(fragile(broken), any_store, log_of(20)) as running:
        await running.caught_up()
        broken.clear()
        assert (await wished(running, "dead-letters.retry", key="k5")).startswith("2 dead letters")
        assert (await wished(running, "dead-letters.discard", position="6")).startswith("1 dead letters")
        assert await any_store.dead_letters(running.scope(), 9) == []
        counters = (await running.checkpoint()).counters
        assert (counters["applied"], counters["skipped"], counters["dead_lettered"]) == (19, 1, 0)
        assert sums(counters)
        row = (await rows(running))["k6"]
        assert "e(6,)" not in row["seen"]


@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_a_released_key_goes_on_in_order(any_store: Store, dedup: Dedup) -> None:
    """A long queue is applied in order, piece by piece, while its key's new events queue until the last is through."""
    broken = {"e(7,)"}
    source = log_of(900)
    async with engine(fragile(broken, dedup=dedup, on_error=OnError.PARK_KEY), any_store, source) as running:
        await running.caught_up()
        queue = await any_store.parked_events(running.scope(), "k0", 999)
        assert len(queue) == 128
        broken.clear()
        sequence = await operate(any_store, running.scope().of, "keys.release", key="k0")
        running.supervisor.nudge()
        append(source, range(901, 1401))
        await outcome(any_store, running.scope(), sequence)
        while await any_store.parked_keys(running.scope()):
            await any_store.read_checkpoint(running.scope())
        await reached(running, 1400)
        assert await rows(running) == folded(range(1, 1401))
        counters = (await running.checkpoint()).counters
        assert (counters["applied"], counters["parked"]) == (1400, 0)


async def test_a_key_that_fails_again_stays_parked_behind_it(any_store: Store) -> None:
    """A release applies up to the event that still fails: that one and what follows queue on, in order."""
    broken = {"e(7,)", "e(28,)"}
    source = log_of(70)
    async with engine(fragile(broken, on_error=OnError.PARK_KEY), any_store, source) as running:
        await running.caught_up()
        broken.discard("e(7,)")
        await wished(running, "keys.release", every=True)
        left = await any_store.parked_events(running.scope(), "k0", 99)
        assert [event.position for event in left] == [(at,) for at in range(28, 71, 7)]
        assert left[0].detail == "ValueError: broken"
        append(source, range(71, 81))
        await reached(running, 80)
        broken.clear()
        await wished(running, "keys.release", every=True)
        assert await rows(running) == folded(range(1, 81))
        assert sums((await running.checkpoint()).counters)


async def test_a_wish_survives_the_owner(any_store: Store) -> None:
    """A wish that was noted while nobody ran the shard is carried out by whoever takes it next."""
    broken = {"e(5,)"}
    source = log_of(20)
    async with engine(fragile(broken), any_store, source) as running:
        await running.caught_up()
        scope = running.scope()
    broken.clear()
    await any_store.open()
    assert await any_store.wish(scope, [LetterRef((5,), "e(5,)")], Wish.RETRY) == 1
    await any_store.aclose()
    async with engine(fragile(broken), any_store, source) as running:
        await running.caught_up()
        while (await any_store.waiting(scope)).letters:
            await any_store.read_checkpoint(scope)
        row = (await any_store.load_rows(scope.of, [RowKey("main", "k5")]))[RowKey("main", "k5")]
        assert row is not None
        assert (row.attributes or {})["seen"] == ["e(12,)", "e(19,)", "e(5,)"]
