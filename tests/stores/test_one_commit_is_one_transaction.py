"""What SQLite keeps of a commit, beyond the contract that every store is held to."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commit import Committed, DeadLetter, Duplicate, Fenced, MarkerWrite, ParkedEvent, Rejected, RowMoved
from daemon.core.identity import Generation, RowKey
from daemon.core.projection import Index
from daemon.core.rows import ABSENT, Effect, Expectation, RowCheck, RowWrite, WriteKind
from daemon.core.window import SegmentWrite
from daemon.stores.sqlite_codec import place

pytestmark = pytest.mark.anyio

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
HUGE = 10**128


async def test_every_field_of_a_checkpoint_reads_back_equal(opened: Any, kit: Any) -> None:
    """A checkpoint reads back as it was written, field by field."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint(origin=(1,)))
        after = replace(
            taken.next("c1"), position=(HUGE, 3), state=CheckpointState.PAUSED, reason="why", incarnation="log-1",
            watermark=AT, caught_up=True, segment=4, segment_seq=5, parked_seq=6, dead_run=7, operation_seq=8,
            code_digest="ab", counters={"read": 9},
        )  # fmt: skip
        assert await store.commit(replace(kit.commit(taken, "c1"), checkpoint=after), 1) == Committed()
        assert await store.read_checkpoint(kit.scope()) == after
        assert await store.checkpoints(kit.generation) == {kit.scope(): after}


async def test_all_that_stands_in_the_way_is_named_and_nothing_stays(opened: Any, kit: Any) -> None:
    """A refused commit names every marker or row in its way and leaves no trace, in few rows and in many."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        rows = [kit.put(f"k{n}", n) for n in range(300)]
        markers = tuple(MarkerWrite(f"e{n}", bytes([n % 256]) * 16) for n in range(300))
        first = kit.commit(taken, "c1", *rows, markers=markers, markers_expire_at=9)
        assert await store.commit(first, 1) == Committed()
        before = first.checkpoint
        again = tuple(MarkerWrite(f"e{n}", b"x" * 16) for n in range(290, 500))
        duplicate = await store.commit(kit.commit(before, "c2", kit.put("new", 1), markers=again), 1)
        assert duplicate == Duplicate({f"e{n}": bytes([n % 256]) * 16 for n in range(290, 300)})
        moved = await store.commit(
            kit.commit(
                before,
                "c2",
                *(kit.put(f"k{n}", 0) for n in range(2)),
                kit.put("k2", 0, Expectation(1, "elsewhere")),
                kit.put("k3", 0, Expectation(1, "log/0@1#e")),
                RowWrite(RowKey("main", "k4"), WriteKind.DELETE, None, Expectation(2, "log/0@1#e"), "s"),
                kit.put("new", 1),
                checks=(RowCheck(RowKey("main", "k5"), ABSENT), RowCheck(RowKey("main", "gone"), ABSENT)),
                markers=(MarkerWrite("fresh", b"f" * 16),),
            ),
            1,
        )
        assert moved == RowMoved(frozenset(RowKey("main", key) for key in ("k0", "k1", "k2", "k4", "k5")))
        loaded = await store.load_rows(kit.generation, [RowKey("main", key) for key in ("k3", "new")])
        assert loaded[RowKey("main", "k3")].attributes == {"value": 3}
        assert loaded[RowKey("main", "new")] is None
        assert await store.find_markers(kit.generation, ["fresh", "e400"]) == {}
        assert await store.read_checkpoint(kit.scope()) == before


async def test_a_commit_sent_again_is_known_by_its_id(opened: Any, kit: Any) -> None:
    """The identical commit is applied once and answers Committed twice; a stale one is fenced."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        commit = kit.commit(taken, "c1", kit.add("k", 1))
        assert await store.commit(commit, 1) == Committed()
        assert await store.commit(commit, 1) == Committed()
        assert await store.commit(kit.commit(taken, "other"), 1) == Fenced(commit.checkpoint)
        rows = await store.load_rows(kit.generation, [RowKey("main", "k")])
        assert rows[RowKey("main", "k")].attributes == {"value": 1}


async def test_amounts_are_added_exactly_and_never_to_text(opened: Any, kit: Any) -> None:
    """Sums are exact beyond floats and 64 bits; adding to text is rejected naming the row and changes nothing."""
    async with opened() as store:
        cp = await store.take(kit.scope(), "me", Checkpoint())
        for number, amount in enumerate((Decimal("0.1"), Decimal("0.2"), 2**70)):
            commit = kit.commit(cp, f"c{number}", kit.add("sum", amount), kit.add(f"other{number}", 1))
            assert await store.commit(commit, 1) == Committed()
            cp = commit.checkpoint
        text = kit.commit(cp, "text", kit.put("text", "seven"))
        assert await store.commit(text, 1) == Committed()
        wrong = await store.commit(kit.commit(text.checkpoint, "bad", kit.add("sum", 1), kit.add("text", 1)), 1)
        assert isinstance(wrong, Rejected)
        assert "main/text" in wrong.detail
        row = (await store.load_rows(kit.generation, [RowKey("main", "sum")]))[RowKey("main", "sum")]
        assert row.attributes == {"value": Decimal("0.3") + 2**70}
        assert row.version == 3


async def test_what_was_not_removed_yet_still_stands(opened: Any, kit: Any) -> None:
    """An expired marker or row counts until `expire` removes it, and only what expired is removed."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        old = replace(kit.put("old", 1), expires_at=100)
        commit = kit.commit(taken, "c1", old, kit.put("kept", 1), markers=(MarkerWrite("e", b"d" * 16),),
                            markers_expire_at=100)  # fmt: skip
        assert await store.commit(commit, 1) == Committed()
        again = kit.commit(commit.checkpoint, "c2", kit.put("old", 2))
        assert await store.commit(again, 1) == RowMoved(frozenset({RowKey("main", "old")}))
        assert await store.expire(99) == 0
        assert await store.expire(100) == 2
        assert await store.commit(again, 2) == Committed()
        assert await store.find_markers(kit.generation, ["e"]) == {}
        assert (await store.load_rows(kit.generation, [RowKey("main", "kept")]))[RowKey("main", "kept")] is not None


async def test_the_rest_of_a_commit_is_kept_in_order(opened: Any, kit: Any) -> None:
    """Dead letters and parked events come back by position (numbers, not text), effects once, segments bounded."""

    def letter(position: tuple[int, ...]) -> DeadLetter:
        return DeadLetter(position, "e", "k", "reason", "detail", "handler", b"\xff", 1, b"d" * 16, AT)

    positions = [(9,), (10,), (255, 1), (256,), (HUGE,)]
    parked = tuple(ParkedEvent("k", position, "e", b"p", "", "", AT) for position in positions)
    effects = tuple(Effect(name, "mail", {"total": Decimal("1.50")}, "e", "k") for name in ("b", "a", "b"))
    async with opened() as store:
        cp = await store.take(kit.scope(), "me", Checkpoint())
        letters = tuple(letter(position) for position in reversed(positions))
        for number in range(3):
            commit = kit.commit(cp, f"c{number}", effects=effects, segment=SegmentWrite(number, b"x" * 40, number - 1),
                                parked=parked, dead_letters=letters)  # fmt: skip
            assert await store.commit(commit, 1) == Committed()
            cp = commit.checkpoint
        scope = kit.scope()
        assert await store.dead_letters(scope, 9) == [letter(position) for position in positions]
        assert await store.parked_keys(scope) == {"k"}
        assert await store.parked_events(scope, "k", 3) == list(parked[:3])
        assert await store.effects(kit.generation, 9) == list(effects[:2])
        assert [segment.number for segment in await store.load_segments(scope, 99)] == [1, 2]
        assert [segment.commit_seq for segment in await store.load_segments(scope, 2)] == [cp.commit_seq]


def test_places_sort_as_positions_do() -> None:
    """The bytes of positions sort as the positions, at every length."""
    positions = [(), (0,), (0, 0), (1,), (1, HUGE), (2,), (255,), (256,), (256, 0), (HUGE,), (HUGE + 1,)]
    assert sorted(positions, key=place) == positions


async def test_rows_are_readable_by_any_client(opened: Any, kit: Any, path: Path) -> None:
    """Another client reads a generation's table by its name, numbers in full, and its declared index serves it."""
    async with opened() as store:
        generation = Generation("board", 2)
        await store.create_generation(generation, 1, live=True, indexes=[Index("by-value", "value", "it's")])
        scope = kit.scope()._replace(projection="board", generation=2)
        taken = await store.take(scope, "me", Checkpoint())
        commit = replace(kit.commit(taken, "c", kit.put("k\0é", Decimal("0.10"))), scope=scope)
        assert await store.commit(commit, 1) == Committed()
        assert (await store.load_rows(generation, [RowKey("main", "k\0é")]))[RowKey("main", "k\0é")] is not None
        other = sqlite3.connect(path)
        assert other.execute('SELECT key, view, attributes, v, src, seq, expires FROM "board-g2"').fetchall() == [
            ("k\0é", "main", '{"value":0.10}', 1, "log/0@1#e", None, None)
        ]
        query = """EXPLAIN QUERY PLAN SELECT * FROM "board-g2" WHERE json_extract(attributes, '$."value"') = 1"""
        assert "board-g2-index-by-value" in other.execute(query).fetchone()[3]
        other.close()


async def test_many_shards_share_a_transaction_and_fail_alone(opened: Any, kit: Any) -> None:
    """Commits of many shards sent at once are each applied or refused for themselves."""
    outcomes: dict[int, Any] = {}
    async with opened() as store:

        async def shard(number: int) -> None:
            taken = await store.take(kit.scope(str(number)), f"o{number}", Checkpoint())
            key = "same" if number % 3 == 0 else f"k{number}"
            commit = kit.commit(taken, "c", kit.put(key, number), kit.add("sum", 1), shard=str(number))
            outcomes[number] = await store.commit(commit, 1)

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(shard, number)
        applied = [number for number, outcome in outcomes.items() if outcome == Committed()]
        assert len(applied) == 41
        row = (await store.load_rows(kit.generation, [RowKey("main", "sum")]))[RowKey("main", "sum")]
        assert row.attributes == {"value": 41}


async def test_generations_stand_as_first_made(opened: Any, kit: Any) -> None:
    """Making a generation again returns what stands; a new live one takes the pointer."""
    async with opened() as store, opened() as other:
        stands = await other.create_generation(kit.generation, 7, live=False)
        assert (stands.version, stands.live) == (1, True)
        await other.create_generation(Generation("flights", 2), 2, live=True)
        records = await store.generations("flights")
        assert [(r.generation.number, r.version, r.live) for r in records] == [(1, 1, False), (2, 2, True)]


async def test_the_epoch_alone_fences(opened: Any, kit: Any) -> None:
    """Another epoch under the same commit number is fenced: both halves of the fence are compared."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        stale = replace(kit.commit(taken, "c1"), fence=taken.fence._replace(epoch=taken.epoch + 1))
        assert await store.commit(stale, 1) == Fenced(taken)


async def test_a_write_without_sequences_keeps_them(opened: Any, kit: Any) -> None:
    """A row's version vector stays when a write says nothing about it, and goes when the write's is empty."""
    async with opened() as store:
        cp = await store.take(kit.scope(), "me", Checkpoint())
        for number, (written, kept) in enumerate((({"log": 4}, {"log": 4}), (None, {"log": 4}), ({}, {}))):
            expect = Expectation(number, "s") if number else ABSENT
            commit = kit.commit(cp, f"c{number}", replace(kit.put("k", 1, expect, "s"), sequences=written))
            assert await store.commit(commit, 1) == Committed()
            row = (await store.load_rows(kit.generation, [RowKey("main", "k")]))[RowKey("main", "k")]
            assert row.sequences == kept
            cp = commit.checkpoint
