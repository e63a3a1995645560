"""What becomes of shards in trouble, of the others meanwhile, and of two owners."""

import anyio
import anyio.lowlevel
import pytest

from daemon.core.commit import Commit
from daemon.core.errors import LogLost, SourceUnavailable
from daemon.core.events import Event
from daemon.core.identity import Scope
from daemon.core.lifecycle import ShardState
from daemon.core.projection import Dedup, Handler, OnError, OnGap
from daemon.core.view import View
from daemon.ports.observer import ShardChanged, ShardRestarted
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.actors.test_commit_outcomes import expected, log, totals
from tests.support.engine import counting, engine, event

pytestmark = pytest.mark.anyio


def two_shards() -> MemorySource:
    """Return a source with two shards that share no key."""
    source = MemorySource("memory")
    for shard in ("s0", "s1"):
        source.add_shard(shard)
        source.append(shard, *[event(i + 1, key=f"{shard}-{i % 3}", id=f"{shard}-{i}") for i in range(60)])
    return source


def payload_seq(event: Event) -> int:
    """Return the payload's sequence number."""
    return event.data["seq"]


async def test_a_bug_in_one_shard_parks_it_with_a_report_and_the_other_goes_on() -> None:
    """An error outside our tree parks the shard at once, durably, and says what happened."""
    store = MemoryStore()

    def bug(commit: Commit) -> None:
        if commit.scope.shard == "s0" and commit.rows:
            raise ZeroDivisionError("a bug in the adapter")

    store.faults.extend([bug] * 1_000)
    async with engine(counting(), store, two_shards()) as running:
        await running.until(lambda: running.supervisor.actors.get(running.scope("s0")) is not None)
        await running.caught_up()
        actor = running.supervisor.actors[running.scope("s0")]
        assert actor.state is ShardState.PARKED
        assert actor.parked_reason == "bug: ZeroDivisionError: a bug in the adapter"
        assert (await running.checkpoint("s0")).state == "parked"
        assert any("ZeroDivisionError" in fact.report for fact in running.observer.of(ShardChanged))
        assert (await running.checkpoint("s1")).position == (60,)
        store.faults.clear()
        await running.resume()
        await running.until(lambda: store.data.checkpoints[running.scope("s0")].position == (60,))


async def test_a_parked_shard_stays_parked_across_a_restart_until_it_is_resumed() -> None:
    """The state is persisted: a new process obeys it."""
    store, source = MemoryStore(), log()
    source.append("s0", event(201, key="k0", poison=True))
    spec = counting(on_error=OnError.PARK_SHARD)
    for _ in range(2):
        async with engine(spec, store, source) as running:
            await running.caught_up()
            assert running.state() is ShardState.PARKED
            assert "poison" in running.parked_reason()
        checkpoint = await running.checkpoint()
        assert (checkpoint.position, checkpoint.owner, checkpoint.state) == ((200,), None, "parked")
    assert totals(store) == expected()


async def test_a_lost_log_parks_at_once_with_the_remedy() -> None:
    """Truncation is for a person to decide: no restart helps."""
    store, source = MemoryStore(), log()
    source.problems.append(LogLost("orders-0 was truncated from 10 to 5 bytes; rewind or rebuild"))
    async with engine(counting(), store, source) as running:
        await running.caught_up()
        assert "rewind or rebuild" in running.parked_reason()
        assert running.observer.of(ShardRestarted) == []


async def test_an_unreachable_log_is_tried_again_for_as_long_as_it_takes() -> None:
    """Waiting is not a person's work: more failures than max_restarts do not park."""
    store, source = MemoryStore(), log()
    source.problems.extend([SourceUnavailable("connection refused")] * 10)
    async with engine(counting(), store, source) as running:
        await running.until(lambda: totals(store) == expected())
    assert len(running.observer.of(ShardRestarted)) == 10


async def test_a_second_owner_fences_the_first_which_writes_nothing_more() -> None:
    """Taking raises the epoch; the first owner ends as fenced and nothing is committed under its epoch."""
    store, source = MemoryStore(), log()
    async with engine(counting(), store, source) as first:
        await first.caught_up()
        async with engine(counting(), MemoryStore(store.data), source) as second:
            await second.caught_up()
            source.append("s0", *[event(201 + i, key=f"k{(200 + i) % 7}") for i in range(100)])
            await first.until(lambda: first.state() is ShardState.FENCED)
            await second.caught_up()
            assert (await second.checkpoint()).epoch == 2
        assert first.state() is ShardState.FENCED
    assert totals(store) == expected(300)


async def test_draining_waits_for_the_commit_in_flight_and_releases() -> None:
    """A stop in the middle of a commit neither loses nor repeats it, and a peer can take over at once."""
    store, source = MemoryStore(), log()
    async with engine(counting(), store, source) as running:
        await running.until(lambda: bool(store.data.checkpoints))
        store.gate = anyio.Event()
        await running.until(lambda: running.state() is ShardState.RUNNING)
        before = len(store.commits)
        await running.until(lambda: len(store.commits) > before or sum(totals(store).values()) == 200)
        actor = running.supervisor.actors[running.scope()]
        actor.ask_to_drain()
        await anyio.lowlevel.checkpoint()
        assert actor.state is ShardState.DRAINING
        store.gate.set()
    checkpoint = await running.checkpoint()
    assert checkpoint.owner is None
    assert sum(totals(store).values()) == checkpoint.counters["applied"]


async def test_children_begin_only_when_their_parents_are_settled() -> None:
    """A split's children are granted after the parent's end was committed, in this life or an earlier one."""
    store, source = MemoryStore(), MemorySource("memory")
    source.add_shard("parent")
    source.append("parent", *[event(i + 1, key="k", id=f"p{i}") for i in range(100)])
    for child in ("left", "right"):
        source.add_shard(child, parents=("parent",))
        source.append(child, *[event(i + 1, key=child, id=f"{child}{i}") for i in range(10)])
    spec = counting()
    async with engine(spec, store, source) as running:
        await running.until(lambda: totals(store).get("k") == 100)
        await running.caught_up()
        assert [scope.shard for scope in running.supervisor.actors] == ["parent"]
        source.end_shard("parent")
        await running.until(lambda: totals(store) == {"k": 100, "left": 10, "right": 10})
        assert (await running.checkpoint("parent")).state == "done"
    async with engine(spec, store, source) as again:
        await again.until(lambda: len(again.supervisor.actors) == 3)


async def test_a_queue_is_acknowledged_only_after_the_commit() -> None:
    """The marker is the checkpoint: what was not acknowledged comes again and is a duplicate."""
    store, source = MemoryStore(), MemorySource("memory", queue=True)
    held = source.add_shard("s0")
    source.append("s0", *[event((), key=f"k{i % 3}", id=f"m{i}") for i in range(90)])
    store.gate = anyio.Event()
    async with engine(counting(), store, source) as running:
        await running.until(lambda: len(store.commits) == 1)
        assert held.acknowledged == set()
        store.gate.set()
        await running.until(lambda: len(held.acknowledged) == 90)
    assert totals(store) == {"k0": 30, "k1": 30, "k2": 30}


async def test_a_sequence_waits_for_the_event_that_another_source_brings() -> None:
    """With on_gap = wait the shard stands before the gap until the missing number arrives, then goes on."""
    store, source = MemoryStore(), MemorySource("memory")
    source.add_shard("s0")
    source.append("s0", event(1, key="k", seq=1), event(2, key="k", seq=3))
    source.add_shard("s1")
    spec = counting(dedup=Dedup.SEQUENCE, sequence=payload_seq, sequence_start=1, on_gap=OnGap.WAIT)
    async with engine(spec, store, source) as running:
        await running.until(lambda: store.data.checkpoints.get(running.scope()) is not None)
        await running.until(lambda: store.data.checkpoints[running.scope()].position == (1,))
        source.append("s1", event(1, key="k", id="late", seq=2))
        await running.until(lambda: totals(store) == {"k": 3})


async def test_the_next_batch_is_folded_while_one_is_in_flight_and_thrown_away_when_that_fails() -> None:
    """Handlers run for batch n+1 before n is answered; a failed n has both folded again, and rows are right."""
    store, source = MemoryStore(), log(count=100)
    folded: list[str] = []
    plain = counting().handlers["Added"][0].function

    def watched(view: View, seen: Event) -> None:
        folded.append(seen.id)
        plain(view, seen)

    spec = counting(handlers={"Added": (Handler("added", watched),)})
    store.gate = anyio.Event()
    async with engine(spec, store, source) as running:
        await running.until(lambda: len(store.commits) == 1 and "e(100,)" in folded)
        store.data.markers[(running.scope().of, "e(1,)")] = (event(1, key="k0").digest, 2**40)
        store.gate.set()
        await running.caught_up()
        assert (await running.checkpoint()).counters["duplicate_marker"] == 1
    assert sum(totals(store).values()) == 99
    assert folded.count("e(100,)") >= 2


async def test_a_key_is_parked_with_its_later_events_and_others_flow() -> None:
    """on_error = park-key keeps the failed event and all later ones of its key, in order, across restarts."""
    store, source = MemoryStore(), MemorySource("memory")
    source.add_shard("s0")
    source.append("s0", event(1, "a"), event(2, "b", poison=True), event(3, "b"), event(4, "a"))
    spec = counting(on_error=OnError.PARK_KEY)
    async with engine(spec, store, source) as running:
        await running.caught_up()
    source.append("s0", event(5, "b"), event(6, "a"))
    async with engine(spec, store, source) as running:
        await running.until(lambda: store.data.checkpoints[running.scope()].position == (6,))
        queued = await store.parked_events(running.scope(), "b", 10)
    assert totals(store) == {"a": 3}
    assert [(parked.position, bool(parked.reason)) for parked in queued] == [((2,), True), ((3,), False), ((5,), False)]


async def test_an_event_that_always_fails_is_dead_lettered_once_across_restarts() -> None:
    """Restarts and re-deliveries of a poison event leave one dead letter."""
    store, source = MemoryStore(), log(count=20)
    source.append("s0", event(21, key="k0", id="poison", poison=True))
    for round_ in range(3):
        async with engine(counting(), store, source) as running:
            await running.until(lambda: store.data.checkpoints.get(running.scope()) is not None)
            await running.caught_up()
        source.append("s0", event(22 + round_, key="k0", id="poison", poison=True))
    letters = await store.dead_letters(Scope("counting", 1, "memory", "s0"), 10)
    assert [(letter.event_id, letter.reason, letter.position) for letter in letters] == [
        ("poison", "handler-raised", (21,))
    ]


async def test_a_bad_deploy_parks_the_shard_before_it_eats_the_log() -> None:
    """More failures in a row than allowed are not committed: the shard parks before the first of them."""
    store, source = MemoryStore(), log(count=20)
    source.append("s0", *[event(21 + i, key="k0", poison=True) for i in range(40)])
    async with engine(counting(), store, source) as running:
        await running.caught_up()
        assert running.state() is ShardState.PARKED
        assert (await running.checkpoint()).position == (20,)
        assert await store.dead_letters(running.scope(), 100) == []
    assert totals(store) == expected(20)
