"""What every Store must do. An adapter subclasses `StoreContract` and gives a `connect` fixture.

`connect` is a callable: each call returns one more handle (not opened) on the same data. Two handles are two processes;
close one and connect again to reopen.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from daemon.core.checkpoint import UNTAKEN, Checkpoint, CheckpointState, Fence
from daemon.core.commit import (
    Commit,
    Committed,
    DeadLetter,
    Duplicate,
    Fenced,
    MarkerWrite,
    ParkedEvent,
    RowMoved,
    Unlisted,
)
from daemon.core.cursor import CursorState, Redelivery
from daemon.core.errors import Superseded
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.leases import Presence
from daemon.core.projection import Index
from daemon.core.rows import ABSENT, Effect, Expectation, RowCheck, RowWrite, StoredRow, WriteKind
from daemon.core.waiting import (
    Amended,
    LetterNote,
    LetterRef,
    ParkedNote,
    ParkedRef,
    Settle,
    SkippedRange,
    SkipRef,
    Wish,
)
from daemon.core.window import ENTRY_BYTES, SegmentWrite
from daemon.ports.store import Store

type Connect = Callable[[], Store]

GENERATION = Generation("orders", 1)
SCOPE = Scope("orders", 1, "log", "a.jsonl")
OTHER_SHARD = SCOPE._replace(shard="b.jsonl")
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FAR = 4_000_000_000
"""An expiry, in epoch seconds, that no test reaches by itself."""
ROW = RowKey("main", "k1")
DIGEST = bytes(range(16))


def put(
    key: RowKey = ROW, expect: Expectation = ABSENT, source: str = "log/a.jsonl@1#e1", expires: int | None = None, /,
    sequences: dict[str, int] | None = None, **attributes: Any,
) -> RowWrite:  # fmt: skip
    """A PUT."""
    return RowWrite(key, WriteKind.PUT, attributes, expect, source, sequences, expires)


def add(source: str = "log/a.jsonl@2#e2", key: RowKey = ROW, expires: int | None = None, /, **amounts: Any) -> RowWrite:
    """An ADD."""
    return RowWrite(key, WriteKind.ADD, amounts, None, source, None, expires)


def letter(position: tuple[int, ...], event_id: str = "e", reason: str = "not-json") -> DeadLetter:
    """A dead letter."""
    return DeadLetter(position, event_id, "k", reason, "why", "placed", b"\x00raw\xff", 6, DIGEST, AT)


def parked(key: str, position: tuple[int, ...], reason: str = "") -> ParkedEvent:
    """A parked event."""
    return ParkedEvent(key, position, f"id-{position}", b"\x00\xff", reason, "because" if reason else "", AT)


def following(held: Checkpoint, scope: Scope = SCOPE, name: str = "", **parts: Any) -> Commit:
    """The next commit on top of a checkpoint: one position on, with these parts."""
    after = replace(held.next(name or f"c-{held.epoch}-{held.commit_seq}"), position=(held.commit_seq,))
    return Commit(scope, held.fence, after, **parts)


async def begin(store: Store, scope: Scope = SCOPE, owner: str = "me") -> Checkpoint:
    """Create the generation and take the scope."""
    await store.create_generation(scope.of, 1, live=True)
    return await store.take(scope, owner, Checkpoint())


async def apply(store: Store, held: Checkpoint, scope: Scope = SCOPE, **parts: Any) -> Checkpoint:
    """Commit on top of a checkpoint, which must hold; return the checkpoint after it."""
    commit = following(held, scope, **parts)
    assert isinstance(await store.commit(commit, 1), Committed)
    return commit.checkpoint


async def row(store: Store, key: RowKey = ROW, generation: Generation = GENERATION) -> StoredRow | None:
    """Read one row."""
    return (await store.load_rows(generation, [key]))[key]


def exactly(value: Any) -> Any:
    """Return a value in a form where 1, True and "1" differ; a whole Decimal and an int are one number to a store."""
    if isinstance(value, Mapping):
        return {name: exactly(item) for name, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [exactly(item) for item in cast("list[Any]", value)]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return ("number", Decimal(value))
    return (type(value).__name__, str(value))


class StoreContract:
    """The suite."""

    @pytest.fixture
    async def store(self, connect: Connect) -> AsyncIterator[Store]:
        opened = connect()
        await opened.open()
        yield opened
        await opened.aclose()

    @pytest.fixture
    async def second(self, connect: Connect, store: Store) -> AsyncIterator[Store]:
        opened = connect()
        await opened.open()
        yield opened
        await opened.aclose()

    # What it stands on

    async def test_a_look_makes_nothing(self, connect: Connect) -> None:
        """Surveys of a store that was never opened find no generation, and leave nothing behind for the next one."""
        first = await connect().survey({GENERATION: ()})
        assert await connect().recorded(["orders"]) == {}
        assert await connect().survey({GENERATION: ()}) == first
        assert first

    async def test_what_is_established_exists(self, connect: Connect) -> None:
        """Establishing makes all that a survey asks for, indexes too; once more changes nothing."""
        wanted = {GENERATION: (Index("by-status", "status"), Index("by-day", "day", "status"))}
        await connect().establish(wanted)
        found = await connect().survey(wanted)
        assert not [part for part in found if part.to_do], found
        await connect().establish(wanted)
        assert await connect().survey(wanted) == found

    async def test_generations_are_found_without_opening(self, connect: Connect) -> None:
        """An unopened handle, and an open one, list the generations that are recorded, by projection."""
        store = connect()
        await store.open()
        record = await store.create_generation(GENERATION, 3, live=True)
        assert await connect().recorded(["orders", "unknown"]) == {"orders": [record]}
        assert await store.recorded(["orders"]) == {"orders": [record]}
        await store.aclose()

    async def test_an_open_store_is_surveyed_and_established_too(self, store: Store) -> None:
        """Survey and establish of an open store leave it open."""
        await store.establish({GENERATION: ()})
        assert not [part for part in await store.survey({GENERATION: ()}) if part.to_do]
        assert (await store.create_generation(GENERATION, 1, live=True)).version == 1

    # Generations

    async def test_generation_is_created_once(self, store: Store) -> None:
        """Creating a generation again changes nothing and returns what stands, whatever version is asked for."""
        made = await store.create_generation(GENERATION, 3, live=True)
        assert (made.generation, made.version, made.live) == (GENERATION, 3, True)
        assert await store.create_generation(GENERATION, 4, live=False) == made
        assert list(await store.generations("orders")) == [made]
        assert list(await store.generations("others")) == []

    async def test_pointer_names_one_generation(self, store: Store) -> None:
        """Generations are listed oldest first, and a rebuilt one beside the live one leaves the pointer alone."""
        for number, live in ((1, True), (2, False), (10, False)):
            await store.create_generation(Generation("orders", number), number, live=live)
        listed = [(r.generation.number, r.version, r.live) for r in await store.generations("orders")]
        assert listed == [(1, 1, True), (2, 2, False), (10, 10, False)]

    async def test_generations_are_isolated(self, store: Store) -> None:
        """The same key, event id, effect and shard in two generations are different things."""
        held = await begin(store)
        second = SCOPE._replace(generation=2)
        await store.create_generation(second.of, 2, live=False)
        other = await store.take(second, "me", Checkpoint())
        parts: dict[str, Any] = {
            "markers": (MarkerWrite("e1", DIGEST),),
            "markers_expire_at": FAR,
            "effects": (Effect("x", "mail", {}, "e1", "k1"),),
            "dead_letters": (letter((1,)),),
        }
        await apply(store, held, rows=(put(a=1),), **parts)
        assert await row(store, generation=second.of) is None
        assert await store.find_markers(second.of, ["e1"]) == {}
        assert list(await store.effects(second.of, 9)) == []
        assert list(await store.dead_letters(second, 9)) == []
        await apply(store, other, second, rows=(put(a=2),), **parts)
        one, two = await row(store), await row(store, generation=second.of)
        assert one is not None
        assert two is not None
        assert (one.attributes, two.attributes) == ({"a": 1}, {"a": 2})

    # Taking

    async def test_first_take_begins_with_initial(self, store: Store) -> None:
        """A shard never taken begins with the initial checkpoint, at epoch 1."""
        await store.create_generation(GENERATION, 1, live=True)
        assert await store.read_checkpoint(SCOPE) is None
        initial = Checkpoint(position=(7, 2**100), origin=(7,), incarnation="inode-1")
        held = await store.take(SCOPE, "me", initial)
        assert (held.position, held.origin, held.incarnation) == ((7, 2**100), (7,), "inode-1")
        assert (held.epoch, held.owner) == (1, "me")
        assert await store.read_checkpoint(SCOPE) == held

    async def test_take_raises_the_epoch_and_keeps_the_rest(self, store: Store) -> None:
        """Another owner's take raises the epoch by one; the initial checkpoint counts only the first time."""
        before = await apply(store, await begin(store))
        held = await store.take(SCOPE, "you", Checkpoint(position=(999,), origin=(999,)))
        assert (held.epoch, held.owner) == (before.epoch + 1, "you")
        assert held.commit_seq > before.commit_seq
        assert (held.position, held.origin) == (before.position, before.origin)

    async def test_take_is_idempotent_by_owner(self, store: Store) -> None:
        """Taking again as the same owner changes nothing."""
        held = await begin(store)
        assert await store.take(SCOPE, "me", Checkpoint(position=(5,))) == held

    async def test_take_over_a_fence_takes_only_what_stands_there(self, store: Store, second: Store) -> None:
        """A take over a fence has the shard where it still stands there, and leaves it alone where it moved on."""
        await store.create_generation(GENERATION, 1, live=True)
        held = await store.take(SCOPE, "me", Checkpoint(), UNTAKEN)
        with pytest.raises(Superseded, match="owned by me") as refused:
            await second.take(SCOPE, "you", Checkpoint(), UNTAKEN)
        assert not refused.value.released
        moved = await apply(store, held)
        with pytest.raises(Superseded):
            await second.take(SCOPE, "you", Checkpoint(), held.fence)
        assert await store.read_checkpoint(SCOPE) == moved
        taken = await second.take(SCOPE, "you", Checkpoint(), moved.fence)
        assert (taken.epoch, taken.owner) == (moved.epoch + 1, "you")
        assert await second.take(SCOPE, "you", Checkpoint(), moved.fence) == taken
        released = replace(taken.next("bye"), owner=None)
        assert isinstance(await store.commit(Commit(SCOPE, taken.fence, released), 1), Committed)
        with pytest.raises(Superseded, match="owned by nobody") as freed:
            await store.take(SCOPE, "me", Checkpoint(), taken.fence)
        assert freed.value.released

    async def test_checkpoint_round_trip(self, store: Store) -> None:
        """Every field of a checkpoint comes back as it was committed."""
        held = await begin(store)
        after = replace(
            held.next("c1"), position=(1, 2**129), origin=(0, 5), state=CheckpointState.PARKED, reason="why é",
            incarnation="log-1", watermark=AT, caught_up=True, segment=4, segment_seq=3, parked_seq=2, dead_run=5,
            operation_seq=6, code_digest="abc", counters={"read": 2**40, "applied": 1},
        )  # fmt: skip
        assert isinstance(await store.commit(Commit(SCOPE, held.fence, after), 1), Committed)
        assert await store.read_checkpoint(SCOPE) == after

    async def test_release_leaves_no_owner(self, store: Store) -> None:
        """A commit that clears the owner releases the shard, and whoever takes it next raises the epoch."""
        held = await begin(store)
        released = replace(held.next("bye"), owner=None)
        assert isinstance(await store.commit(Commit(SCOPE, held.fence, released), 1), Committed)
        assert (await store.take(SCOPE, "me", Checkpoint())).epoch == held.epoch + 1

    async def test_checkpoints_are_listed_by_generation(self, store: Store) -> None:
        """Listing returns each scope's checkpoint of that generation and no other."""
        one, two = await begin(store), await begin(store, OTHER_SHARD)
        await begin(store, SCOPE._replace(generation=2))
        await begin(store, SCOPE._replace(projection="others"))
        assert await store.checkpoints(GENERATION) == {SCOPE: one, OTHER_SHARD: two}

    # The fence

    async def test_old_epoch_writes_nothing(self, store: Store, second: Store) -> None:
        """After another handle took the shard, the first owner's commit is fenced and leaves no trace of any part."""
        held = await begin(store)
        taken = await second.take(SCOPE, "you", Checkpoint())
        outcome = await store.commit(full(held), 1)
        assert outcome == Fenced(taken)
        await assert_untouched(second, taken)

    async def test_commit_sequence_is_compared(self, store: Store) -> None:
        """A commit on top of a checkpoint that moved under the same epoch is fenced and shows what stands there."""
        held = await begin(store)
        after = await apply(store, held, name="first")
        assert await store.commit(replace(full(held), checkpoint=held.next("second")), 1) == Fenced(after)
        await assert_untouched(store, after)

    async def test_commit_on_nothing_is_fenced(self, store: Store) -> None:
        """A commit for a shard that nobody ever took is fenced, with no checkpoint to show."""
        await store.create_generation(GENERATION, 1, live=True)
        outcome = await store.commit(Commit(SCOPE, Fence(1, 1), Checkpoint(epoch=1, commit_seq=2)), 1)
        assert outcome == Fenced(None)

    async def test_identical_commit_is_applied_once(self, store: Store, second: Store) -> None:
        """The identical request again, after reads, over any handle, answers Committed and adds nothing."""
        held = await begin(store)
        commit = following(held, rows=(add(n=5),), markers=(MarkerWrite("e", DIGEST),), markers_expire_at=FAR)
        assert isinstance(await store.commit(commit, 1), Committed)
        assert await store.find_markers(GENERATION, ["e"]) == {"e": DIGEST}
        assert isinstance(await store.commit(commit, 1), Committed)
        assert isinstance(await second.commit(commit, 1), Committed)
        held_row = await row(store)
        assert held_row is not None
        assert (held_row.attributes, held_row.version) == ({"n": 5}, 1)
        assert await store.read_checkpoint(SCOPE) == commit.checkpoint

    async def test_cancelled_commit_can_be_sent_anew(self, store: Store) -> None:
        """A commit that did not hold may be sent again as a new attempt once its cause is gone."""
        held = await begin(store)
        other = await begin(store, OTHER_SHARD)
        other = await apply(store, other, OTHER_SHARD, rows=(put(a=1),))
        commit = following(held, rows=(put(a=2),))
        assert await store.commit(commit, 1) == RowMoved(frozenset({ROW}))
        gone = RowWrite(ROW, WriteKind.DELETE, None, Expectation(1, "log/a.jsonl@1#e1"), "s")
        await apply(store, other, OTHER_SHARD, rows=(gone,))
        assert isinstance(await store.commit(commit, 2), Committed)

    # All or nothing

    async def test_commit_makes_every_part_visible(self, store: Store) -> None:
        """Rows, markers, segment, effects, dead letters, parked events and checkpoint of one commit are all there."""
        held = await begin(store)
        commit = full(held)
        assert isinstance(await store.commit(commit, 1), Committed)
        found = await row(store)
        assert found is not None
        assert found.attributes == {"a": 1}
        assert await store.find_markers(GENERATION, ["m1", "m2", "none"]) == {"m1": DIGEST, "m2": DIGEST}
        segments = await store.load_segments(SCOPE, 100)
        assert [(s.number, s.entries, s.commit_seq) for s in segments] == [
            (0, bytes(ENTRY_BYTES), commit.checkpoint.commit_seq)
        ]
        assert list(await store.effects(GENERATION, 9)) == list(commit.effects)
        assert list(await store.dead_letters(SCOPE, 9)) == list(commit.dead_letters)
        assert list(await store.parked_events(SCOPE, "p", 9)) == list(commit.parked)
        assert await store.read_checkpoint(SCOPE) == commit.checkpoint

    async def test_one_broken_condition_undoes_every_part(self, store: Store) -> None:
        """A marker that exists, a row that moved and a check that fails each leave all parts unwritten."""
        taken = RowKey("main", "taken")
        other = await begin(store, OTHER_SHARD)
        other = await apply(
            store, other, OTHER_SHARD, rows=(put(taken, a=0),), markers=(MarkerWrite("old", b"y" * 16),),
            markers_expire_at=FAR,
        )  # fmt: skip
        held = await begin(store)
        good = full(held)
        assert await store.commit(replace(good, markers=(*good.markers, MarkerWrite("old", DIGEST))), 1) == Duplicate(
            {"old": b"y" * 16}
        )
        await assert_untouched(store, held)
        assert await store.commit(replace(good, rows=(*good.rows, put(taken, a=9))), 2) == RowMoved(frozenset({taken}))
        await assert_untouched(store, held)
        assert await store.commit(replace(good, checks=(RowCheck(taken, ABSENT),)), 3) == RowMoved(frozenset({taken}))
        await assert_untouched(store, held)
        assert isinstance(await store.commit(good, 4), Committed)

    async def test_committed_data_survives_reopening(self, store: Store, connect: Connect) -> None:
        """What was acknowledged is there for a handle opened afterwards."""
        commit = full(await begin(store))
        await store.commit(commit, 1)
        await store.aclose()
        again = connect()
        await again.open()
        assert await again.read_checkpoint(SCOPE) == commit.checkpoint
        found = await row(again)
        assert found is not None
        assert found.attributes == {"a": 1}
        await again.aclose()
        await store.open()

    # Presences

    async def test_presences_are_kept_by_replica(self, store: Store, connect: Connect) -> None:
        """What a replica announces replaces what it announced before, and every handle sees it at once."""
        await store.announce(Presence("a/é", 1, ("orders-g1:log", "carts-g12:log")))
        await store.announce(Presence("b", 7))
        await store.announce(Presence("a/é", 2, ("orders-g1:log",)))
        other = connect()
        await other.open()
        assert await other.presences() == {"a/é": Presence("a/é", 2, ("orders-g1:log",)), "b": Presence("b", 7)}
        await other.aclose()
        await store.open()

    async def test_a_forgotten_replica_is_gone(self, store: Store) -> None:
        """Forgetting removes one presence; forgetting it again, or one that never was, is harmless."""
        assert await store.presences() == {}
        for name in ("a", "b"):
            await store.announce(Presence(name, 1))
        for name in ("a", "a", "c"):
            await store.forget(name)
        assert await store.presences() == {"b": Presence("b", 1)}

    # Markers

    async def test_duplicate_names_every_marker_with_its_digest(self, store: Store) -> None:
        """Duplicate gives all markers of the commit that exist, each with the payload digest that it holds."""
        held = await begin(store)
        first = (MarkerWrite("e1", b"1" * 16), MarkerWrite("e2", b"2" * 16))
        held = await apply(store, held, markers=first, markers_expire_at=FAR)
        again = (MarkerWrite("e2", b"9" * 16), MarkerWrite("e3", b"3" * 16), MarkerWrite("e1", b"1" * 16))
        outcome = await store.commit(following(held, markers=again, markers_expire_at=FAR), 1)
        assert outcome == Duplicate({"e1": b"1" * 16, "e2": b"2" * 16})
        assert await store.find_markers(GENERATION, ["e3"]) == {}

    async def test_markers_hold_across_shards(self, store: Store) -> None:
        """An id marked by one shard is a duplicate in another of the same generation."""
        one, two = await begin(store), await begin(store, OTHER_SHARD)
        marker = (MarkerWrite("é#\x00", DIGEST),)
        await apply(store, one, markers=marker, markers_expire_at=FAR)
        outcome = await store.commit(following(two, OTHER_SHARD, markers=marker, markers_expire_at=FAR), 1)
        assert outcome == Duplicate({"é#\x00": DIGEST})

    async def test_markers_of_many_ids_are_found(self, store: Store) -> None:
        """Looking up more ids than any one request holds returns exactly the marked ones."""
        held = await begin(store)
        names = [f"e{n}" for n in range(1500)]
        for start in range(0, 1500, 50):
            some = tuple(MarkerWrite(name, DIGEST) for name in names[start : start + 50])
            held = await apply(store, held, markers=some, markers_expire_at=FAR)
        found = await store.find_markers(GENERATION, [*names, "unknown"])
        assert set(found) == set(names)
        assert await store.find_markers(GENERATION, []) == {}

    # Row conditions

    async def test_row_expected_absent_but_there(self, store: Store) -> None:
        """Writing a row as new when it exists moves nothing and names the row."""
        held = await apply(store, await begin(store), rows=(put(a=1),))
        assert await store.commit(following(held, rows=(put(a=2),)), 1) == RowMoved(frozenset({ROW}))

    async def test_row_expected_but_absent(self, store: Store) -> None:
        """Writing or deleting a row that is gone names the row."""
        held = await begin(store)
        gone = Expectation(3, "s")
        assert await store.commit(following(held, rows=(put(ROW, gone, a=1),)), 1) == RowMoved(frozenset({ROW}))
        delete = RowWrite(ROW, WriteKind.DELETE, None, gone, "s")
        assert await store.commit(following(held, rows=(delete,)), 2) == RowMoved(frozenset({ROW}))

    async def test_version_and_provenance_are_both_compared(self, store: Store) -> None:
        """The same version with another `_src`, and the same `_src` with another version, are both moved rows."""
        held = await apply(store, await begin(store), rows=(put(ROW, ABSENT, "s1", a=1),))
        for wrong in (Expectation(1, "s2"), Expectation(2, "s1")):
            assert await store.commit(following(held, rows=(put(ROW, wrong, a=2),)), 1) == RowMoved(frozenset({ROW}))
        await apply(store, held, rows=(put(ROW, Expectation(1, "s1"), "s2", a=2),))
        assert await row(store) == StoredRow({"a": 2}, 2, "s2")

    async def test_row_deleted_and_made_again_has_moved(self, store: Store) -> None:
        """A row deleted and remade has the old version but not the old provenance: it is another row."""
        held = await apply(store, await begin(store), rows=(put(ROW, ABSENT, "s1", a=1),))
        held = await apply(store, held, rows=(RowWrite(ROW, WriteKind.DELETE, None, Expectation(1, "s1"), "s2"),))
        assert await row(store) is None
        held = await apply(store, held, rows=(put(ROW, ABSENT, "s3", a=1),))
        outcome = await store.commit(following(held, rows=(put(ROW, Expectation(1, "s1"), a=2),)), 1)
        assert outcome == RowMoved(frozenset({ROW}))

    async def test_every_moved_row_is_named(self, store: Store) -> None:
        """RowMoved names all rows that moved, written and checked ones, and none that stands."""
        keys = [RowKey("main", f"k{n}") for n in range(4)]
        held = await apply(store, await begin(store), rows=tuple(put(key, a=1) for key in keys))
        stands = Expectation(1, "log/a.jsonl@1#e1")
        commit = following(
            held,
            rows=(put(keys[0], ABSENT, a=2), put(keys[1], stands, a=2)),
            checks=(RowCheck(keys[2], ABSENT), RowCheck(keys[3], stands)),
        )
        assert await store.commit(commit, 1) == RowMoved(frozenset({keys[0], keys[2]}))

    async def test_check_holds_without_writing(self, store: Store) -> None:
        """A check of a row that stands, present or absent, lets the commit pass and leaves the row alone."""
        held = await apply(store, await begin(store), rows=(put(ROW, ABSENT, "s1", a=1),))
        absent = RowKey("main", "absent")
        await apply(store, held, checks=(RowCheck(ROW, Expectation(1, "s1")), RowCheck(absent, ABSENT)))
        assert await row(store) == StoredRow({"a": 1}, 1, "s1")
        assert await row(store, absent) is None

    # Adding

    async def test_add_needs_no_row_and_no_condition(self, store: Store) -> None:
        """Amounts make an absent row, count absent attributes as 0, keep the others, and raise the version."""
        held = await apply(store, await begin(store), rows=(add("s1", n=2),))
        assert await row(store) == StoredRow({"n": 2}, 1, "s1")
        held = await apply(store, held, rows=(put(ROW, Expectation(1, "s1"), "s2", n=2, name="x"),))
        await apply(store, held, rows=(add("s3", n=-5, other=1),))
        assert await row(store) == StoredRow({"n": -3, "name": "x", "other": 1}, 3, "s3")

    async def test_add_is_exact(self, store: Store) -> None:
        """Decimals and large integers add up without rounding."""
        held = await begin(store)
        for amount in (Decimal("0.1"), Decimal("0.2"), Decimal("-0.3"), Decimal("12345678901234567890.123456789")):
            held = await apply(store, held, rows=(add(d=amount, n=2**62),))
        found = await row(store)
        assert found is not None
        assert found.attributes == {"d": Decimal("12345678901234567890.123456789"), "n": 2**64}

    async def test_add_to_a_tombstone_revives_it(self, store: Store) -> None:
        """Amounts on a tombstone make a row that keeps the sequences and no longer expires."""
        tombstone = RowWrite(ROW, WriteKind.PUT, None, ABSENT, "s1", {"log": 4}, 100)
        held = await apply(store, await begin(store), rows=(tombstone,))
        await apply(store, held, rows=(add("s2", n=1),))
        assert await store.expire(200) == 0
        assert await row(store) == StoredRow({"n": 1}, 2, "s2", {"log": 4})

    async def test_tombstone_keeps_its_sequences(self, store: Store) -> None:
        """A tombstone has no attributes but a version and a version vector; an empty row is no tombstone."""
        tombstone = RowWrite(ROW, WriteKind.PUT, None, ABSENT, "s1", {"log": 4, "other": 2**62}, FAR)
        held = await apply(store, await begin(store), rows=(tombstone,))
        assert await row(store) == StoredRow(None, 1, "s1", {"log": 4, "other": 2**62})
        await apply(store, held, rows=(put(ROW, Expectation(1, "s1"), "s2", sequences={"log": 5}),))
        assert await row(store) == StoredRow({}, 2, "s2", {"log": 5})

    # Values

    @pytest.mark.parametrize(
        "value",
        [
            "", "text", "naïve ☃ \U0001f600", "a\x00b", "'; --", "1", 0, -1, 2**63 - 1, -(2**63), 10**38 - 1,
            -(10**38) + 1, True, False, None, Decimal(0), Decimal("1.50"), Decimal("-0.000"), Decimal("1E+20"),
            Decimal("12345678901234567890123456789012345.678"), Decimal("1E-100"), b"", b"\x00\xff", [], {},
            [1, [True, None, Decimal("1.0"), {"x": [b"\x01", "é"]}]],
            {"": 1, "$type": {"a": []}, "decimal": "1.0", "_": {"__bytes__": "AA=="}},
        ],
        ids=repr,
    )  # fmt: skip
    async def test_values_come_back_as_they_went(self, store: Store, value: object) -> None:
        """Every portable value comes back equal and of the same kind, numbers with no digit rounded."""
        await apply(store, await begin(store), rows=(put(value=value),))
        found = await row(store)
        assert found is not None
        assert exactly(found.attributes) == exactly({"value": value})

    async def test_attribute_names_and_keys_with_odd_characters(self, store: Store) -> None:
        """Names with quotes, dots, spaces and unicode, and keys and views with separators, are kept apart and exact."""
        names = {"a.b": 1, "q\"uo'te": 2, "sp ace": 3, "é☃": 4, "#hash": 5, "SELECT": 6, "a:b": 7, "A": 8, "a": 9}
        keys = [RowKey("main", "a#b"), RowKey("main@log/a", "a#b"), RowKey("v w", "é'\"%_\\"), RowKey("main", "A#b")]
        writes = tuple(RowWrite(key, WriteKind.PUT, {**names, "at": str(key)}, ABSENT, "s") for key in keys)
        held = await apply(store, await begin(store), rows=writes)
        await apply(store, held, rows=(RowWrite(keys[0], WriteKind.ADD, {"a.b": 1, "é☃": 1}, None, "s"),))
        found = await store.load_rows(GENERATION, keys)
        assert {key: held.attributes for key, held in found.items() if held} == {
            **{key: {**names, "at": str(key)} for key in keys},
            keys[0]: {**names, "at": str(keys[0]), "a.b": 2, "é☃": 5},
        }

    async def test_every_key_asked_for_is_answered(self, store: Store) -> None:
        """Loading names absent rows with None, also beyond what one request holds; asking for none answers none."""
        keys = [RowKey(f"v{n % 3}", f"k{n}") for n in range(1000)]
        held = await begin(store)
        for start in range(0, 500, 50):
            held = await apply(store, held, rows=tuple(put(key, n=start) for key in keys[start : start + 50]))
        found = await store.load_rows(GENERATION, keys)
        assert set(found) == set(keys)
        assert sum(held_row is not None for held_row in found.values()) == 500
        assert await store.load_rows(GENERATION, []) == {}

    async def test_big_batch(self, store: Store) -> None:
        """A commit as large as the store's limits allow, up to 1000 rows, is one commit."""
        count = min(1000, (store.limits.actions or 2000) - 1)
        held = await begin(store)
        keys = [RowKey("main", f"k{n}") for n in range(count)]
        await apply(store, held, rows=tuple(put(key, n=n, text="x" * 50) for n, key in enumerate(keys)))
        found = await store.load_rows(GENERATION, keys)
        assert [held_row.attributes for held_row in found.values() if held_row] == [
            {"n": n, "text": "x" * 50} for n in range(count)
        ]

    # Segments

    async def test_newest_segments_are_loaded_oldest_first(self, store: Store) -> None:
        """Loading returns the newest segments that hold at least the ids asked for, oldest first, or all."""
        held = await begin(store)
        written: dict[int, int] = {}
        for number in range(5):
            held = await apply(store, held, segment=SegmentWrite(number, bytes([number]) * ENTRY_BYTES * 10, 0))
            written[number] = held.commit_seq
        for asked, numbers in ((1, [4]), (10, [4]), (11, [3, 4]), (25, [2, 3, 4]), (999, [0, 1, 2, 3, 4])):
            loaded = await store.load_segments(SCOPE, asked)
            assert [s.number for s in loaded] == numbers
            assert all(s.entries == bytes([s.number]) * ENTRY_BYTES * 10 for s in loaded)
            assert all(s.commit_seq == written[s.number] for s in loaded)
        assert list(await store.load_segments(OTHER_SHARD, 10)) == []

    async def test_open_segment_is_rewritten_whole(self, store: Store) -> None:
        """A segment written again holds the new content and names the newer commit, so that a torn read shows."""
        held = await apply(store, await begin(store), segment=SegmentWrite(0, b"a" * ENTRY_BYTES, 0))
        held = await apply(store, held, segment=SegmentWrite(0, b"b" * ENTRY_BYTES * 2, 0))
        (only,) = await store.load_segments(SCOPE, 100)
        assert (only.entries, only.commit_seq) == (b"b" * ENTRY_BYTES * 2, held.commit_seq)

    # Dead letters, parked events, effects

    async def test_dead_letter_is_kept_once(self, store: Store) -> None:
        """The same position and id dead-lettered again leaves the first; letters come in position order, limited."""
        held = await apply(store, await begin(store), dead_letters=(letter((10,)), letter((9,)), letter((2, 5))))
        held = await apply(store, held, dead_letters=(letter((9,), reason="other"), letter((9,), "f")))
        found = await store.dead_letters(SCOPE, 99)
        assert [found_letter.position for found_letter in found] == [(2, 5), (9,), (9,), (10,)]
        assert {one.reason for one in found} == {"not-json"}
        assert list(await store.dead_letters(SCOPE, 1)) == [letter((2, 5))]
        assert list(await store.dead_letters(OTHER_SHARD, 9)) == []

    async def test_parked_events_keep_their_order(self, store: Store) -> None:
        """Parked keys are listed once each; the events behind one come in position order (as numbers), limited."""
        first, second = parked("k", (9,), "handler-raised"), parked("k", (10,))
        held = await apply(store, await begin(store), parked=(first, parked("é#", (9, 1))))
        await apply(store, held, parked=(second,))
        assert sorted(await store.parked_keys(SCOPE)) == ["k", "é#"]
        assert list(await store.parked_events(SCOPE, "k", 9)) == [first, second]
        assert list(await store.parked_events(SCOPE, "k", 1)) == [first]
        assert list(await store.parked_keys(OTHER_SHARD)) == []

    async def test_effect_lands_once_in_commit_order(self, store: Store) -> None:
        """Effects come in the order of their commits and within them; an id already there is not added again."""
        one, two, three = (Effect(name, "mail", {"n": name, "d": Decimal("1.0")}, "e", "k") for name in ("z", "a", "m"))
        held = await apply(store, await begin(store), effects=(one, two))
        await apply(store, held, effects=(three, replace(one, name="again")))
        assert [(e.id, e.name) for e in await store.effects(GENERATION, 9)] == [
            ("z", "mail"), ("a", "mail"), ("m", "mail"),
        ]  # fmt: skip
        assert exactly((await store.effects(GENERATION, 1))[0].payload) == exactly(one.payload)

    # What waits

    async def test_the_second_cursor_round_trips(self, store: Store) -> None:
        """Every field of a re-delivery comes back as it was committed, with a take in between."""
        held = await begin(store)
        cursor = Redelivery(
            "op-1", "rewind", (1, 2**100), (9,), (3, 0), AT, CursorState.FAILED, AT, "why é", {"read": 2**40}
        )
        after = replace(held.next("c1"), redelivery=cursor)
        assert isinstance(await store.commit(Commit(SCOPE, held.fence, after), 1), Committed)
        assert await store.read_checkpoint(SCOPE) == after
        assert (await store.take(SCOPE, "you", Checkpoint())).redelivery == cursor

    async def test_what_waits_is_listed_in_order(self, store: Store) -> None:
        """Letters, parked events and skipped ranges of one scope are listed in position order, without payloads."""
        held = await begin(store)
        skips = (SkippedRange((10,), (11,), AT, "by é", counted=True), SkippedRange((), (9, 2), AT))
        held = await apply(
            store, held, dead_letters=(letter((10,)), letter((9,), "f")), parked=(parked("k", (10,)),), skips=skips
        )
        await apply(store, held, parked=(parked("k", (9,), "poison"), parked("é#", (2,))))
        found = await store.waiting(SCOPE)
        assert [note.ref for note in found.letters] == [((9,), "f"), ((10,), "e")]
        assert found.letters[0] == LetterNote((9,), "f", "k", "not-json", "placed", AT, None)
        assert sorted(found.parked) == [
            ParkedNote("k", (9,), "id-(9,)", "poison", AT, None),
            ParkedNote("k", (10,), "id-(10,)", "", AT, None),
            ParkedNote("é#", (2,), "id-(2,)", "", AT, None),
        ]
        assert [note.position for note in found.queues["k"]] == [(9,), (10,)]
        assert list(found.skipped) == [skips[1], skips[0]]
        other = await store.waiting(OTHER_SHARD)
        assert not [*other.letters, *other.parked, *other.skipped]

    async def test_a_wish_stands_on_what_is_there(self, store: Store, second: Store) -> None:
        """A wish is noted on entries that exist, by whichever handle, and taken back; what is gone stays gone."""
        await apply(store, await begin(store), dead_letters=(letter((9,)),), parked=(parked("k", (9,)),))
        there, gone = LetterRef((9,), "e"), LetterRef((8,), "e")
        queued, unqueued = ParkedRef("k", (9,), "id-(9,)"), ParkedRef("k", (8,), "x")
        assert await second.wish(SCOPE, [there, gone], Wish.RETRY) == 1
        assert await second.wish(SCOPE, [queued, unqueued], Wish.RELEASE) == 1
        found = await store.waiting(SCOPE)
        assert [(note.ref, note.wish) for note in found.letters] == [(there, Wish.RETRY)]
        assert [(note.ref, note.wish) for note in found.parked] == [(queued, Wish.RELEASE)]
        assert [one.wish for one in await store.find_letters(SCOPE, [there, gone])] == [Wish.RETRY]
        assert [one.wish for one in await store.parked_events(SCOPE, "k", 9)] == [Wish.RELEASE]
        assert await store.wish(SCOPE, [there], None) == 1
        assert [note.wish for note in (await store.waiting(SCOPE)).letters] == [None]

    async def test_letters_are_found_by_name(self, store: Store) -> None:
        """Whole dead letters are returned by position and id, in position order; unknown ones are left out."""
        held = await begin(store)
        await apply(store, held, dead_letters=tuple(letter((number,)) for number in (10, 9, 2)))
        refs = [LetterRef((10,), "e"), LetterRef((2,), "e"), LetterRef((3,), "e")]
        assert list(await store.find_letters(SCOPE, refs)) == [letter((2,)), letter((10,))]
        assert list(await store.find_letters(SCOPE, [])) == []

    async def test_what_is_settled_goes_with_its_commit(self, store: Store) -> None:
        """Entries are removed and amended in the commit that applies them, and new skips replace those of one end."""
        held = await begin(store)
        held = await apply(
            store,
            held,
            dead_letters=(letter((1,)), letter((2,))),
            parked=(parked("k", (3,), "poison"), parked("k", (4,))),
            skips=(SkippedRange((4,), (8,), AT), SkippedRange((8,), (9,), AT)),
        )
        held = await apply(
            store,
            held,
            rows=(put(a=1),),
            settles=(
                Settle(LetterRef((1,), "e")),
                Settle(LetterRef((2,), "e"), Amended("again", "still", "shipped")),
                Settle(ParkedRef("k", (3,), "id-(3,)")),
                Settle(ParkedRef("k", (4,), "id-(4,)"), Amended("", "", "", Wish.RELEASE)),
                Settle(SkipRef((9,))),
            ),
            skips=(SkippedRange((6,), (8,), AT, "rest"),),
        )
        found = await store.waiting(SCOPE)
        assert found.letters == [LetterNote((2,), "e", "k", "again", "shipped", AT, None)]
        assert found.parked == [ParkedNote("k", (4,), "id-(4,)", "", AT, Wish.RELEASE)]
        assert found.skipped == [SkippedRange((6,), (8,), AT, "rest")]
        (kept,) = await store.dead_letters(SCOPE, 9)
        assert kept == replace(letter((2,)), reason="again", detail="still", handler="shipped")
        assert await row(store) is not None

    async def test_what_is_gone_cannot_be_settled(self, store: Store) -> None:
        """A commit that settles entries of which one is not there applies nothing and names it, and it stays away."""
        held = await apply(store, await begin(store), dead_letters=(letter((1,)),), parked=(parked("k", (3,)),))
        gone = (LetterRef((2,), "e"), ParkedRef("k", (4,), "x"), SkipRef((7,)))
        commit = following(
            held,
            rows=(put(a=1),),
            segment=SegmentWrite(0, bytes(ENTRY_BYTES), 0),
            effects=(Effect("x1", "mail", {}, "m1", "k1"),),
            dead_letters=(letter((5,)),),
            parked=(parked("p", (5,)),),
            settles=(
                Settle(LetterRef((1,), "e")),
                Settle(gone[0], Amended("r", "d")),
                Settle(gone[1]),
                Settle(gone[2]),
                Settle(ParkedRef("k", (3,), "id-(3,)")),
            ),
            skips=(SkippedRange((1,), (2,), AT),),
        )
        assert await store.commit(commit, 1) == Unlisted(frozenset(gone))
        found = await store.waiting(SCOPE)
        assert [note.ref for note in found.letters] == [((1,), "e")]
        assert [note.ref for note in found.parked] == [("k", (3,), "id-(3,)")]
        assert not found.skipped
        assert await row(store) is None
        assert await store.read_checkpoint(SCOPE) == held

    # Expiry

    async def test_expiry_takes_what_is_due(self, store: Store) -> None:
        """Markers, rows and tombstones go at their time, not before; what has no time stays."""
        keeps, goes, later = (RowKey("main", name) for name in ("keeps", "goes", "later"))
        tombstone = RowWrite(RowKey("main", "dead"), WriteKind.PUT, None, ABSENT, "s", {"log": 1}, 100)
        rows = (put(keeps, a=1), put(goes, ABSENT, "s", 100, a=1), put(later, ABSENT, "s", 300, a=1), tombstone)
        held = await apply(
            store, await begin(store), rows=rows, markers=(MarkerWrite("m1", DIGEST),), markers_expire_at=100
        )
        await apply(store, held, markers=(MarkerWrite("m2", DIGEST),), markers_expire_at=300)
        assert await store.expire(50) == 0
        assert await store.expire(200) == 3
        found = await store.load_rows(GENERATION, [keeps, goes, later, tombstone.key])
        assert [held_row is not None for held_row in found.values()] == [True, False, True, False]
        assert set(await store.find_markers(GENERATION, ["m1", "m2"])) == {"m2"}


def full(held: Checkpoint) -> Commit:
    """A commit with every part."""
    return following(
        held,
        rows=(put(a=1),),
        checks=(RowCheck(RowKey("main", "absent"), ABSENT),),
        markers=(MarkerWrite("m1", DIGEST), MarkerWrite("m2", DIGEST)),
        markers_expire_at=FAR,
        segment=SegmentWrite(0, bytes(ENTRY_BYTES), 0),
        effects=(Effect("x1", "mail", {"to": "é"}, "m1", "k1"),),
        dead_letters=(letter((1,)),),
        parked=(parked("p", (1,), "handler-raised"),),
    )


async def assert_untouched(store: Store, held: Checkpoint) -> None:
    """Nothing of `full` is there, and the checkpoint is `held`."""
    assert await row(store) is None
    assert await store.find_markers(GENERATION, ["m1", "m2"]) == {}
    assert list(await store.load_segments(SCOPE, 9)) == []
    assert list(await store.effects(GENERATION, 9)) == []
    assert list(await store.dead_letters(SCOPE, 9)) == []
    assert list(await store.parked_keys(SCOPE)) == []
    assert await store.read_checkpoint(SCOPE) == held
