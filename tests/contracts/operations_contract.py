"""What every Store must do about operations. An adapter subclasses `OperationsContract`, and gives `connect`."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commands import Actor
from daemon.core.commit import Commit, Committed, Fenced
from daemon.core.errors import OperationsMoved
from daemon.core.identity import Generation, Scope, ShardId
from daemon.core.operations import OpenOperation, Operation, OutcomeStatus, ShardOutcome, Stand, Standing
from daemon.ports.store import Store
from tests.contracts.store_contract import GENERATION, SCOPE, Connect, begin

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ALICE = Actor(1000, "alice", "web-1", 4242)
OTHER = Generation("orders", 2)


def operation(sequence: int = 1, request: str | None = None, **changes: Any) -> Operation:
    """An operation as it is accepted."""
    made = Operation(
        GENERATION, sequence, request or f"r{sequence}", "pause", {"reason": "look", "n": 3, "yes": True, "none": None},
        SCOPE.shard_id, (SCOPE.shard_id, ShardId("log/x", "b.jsonl")), ALICE, AT,
    )  # fmt: skip
    return replace(made, **changes)


def outcome(sequence: int = 1, status: OutcomeStatus = OutcomeStatus.DONE, scope: Scope = SCOPE) -> ShardOutcome:
    """What a shard made of it."""
    before: dict[str, Any] = {"state": "running", "position": "12.3", "epoch": 4, "reason": None}
    return ShardOutcome(sequence, scope, status, "stands still", before, {"state": "paused"}, "r-1", AT)


async def accept(store: Store, asked: Operation) -> Standing:
    """Accept the next operation; return the standing after it."""
    after = (await store.standing(asked.generation)).after(asked)
    assert await store.accept(asked, after) == asked
    return after


class OperationsContract:
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

    # Accepting

    async def test_nothing_was_ever_asked(self, store: Store) -> None:
        """Before its first operation a generation has an empty standing, no operations and no outcomes."""
        assert await store.standing(GENERATION) == Standing()
        assert await store.operations(GENERATION, 0, 10) == []
        assert await store.requested(GENERATION, "r1") is None
        assert await store.outcomes(GENERATION, 1) == []

    async def test_what_is_accepted_reads_back(self, store: Store, second: Store) -> None:
        """An accepted operation and the standing after it read back equal, by every process, under their generation."""
        asked = operation()
        after = await accept(store, asked)
        assert await second.standing(GENERATION) == after
        assert await second.operations(GENERATION, 0, 10) == [asked]
        assert await second.requested(GENERATION, "r1") == asked
        assert await second.standing(OTHER) == Standing()
        assert await second.operations(OTHER, 0, 10) == []

    async def test_a_standing_keeps_all_it_says(self, store: Store) -> None:
        """Reasons, shards that differ, and operations under way survive the store."""
        shards = {ShardId("a/b", "s/1"): Stand(3, None), ShardId("a", "s"): Stand(4, "why")}
        opened = (OpenOperation(2, "skip", ShardId("a", "s")), OpenOperation(3, "rewind", None))
        standing = Standing(1, Stand(1, "all of it"), shards, opened)
        await store.accept(operation(), standing)
        assert await store.standing(GENERATION) == standing

    async def test_an_operation_is_the_next_one_or_none(self, store: Store, second: Store) -> None:
        """One that takes a sequence already taken, or leaves one out, is not accepted, and changes nothing."""
        after = await accept(store, operation(1))
        assert await second.accept(operation(1, "other"), Standing(1)) is None
        assert await second.accept(operation(3, "third"), Standing(3)) is None
        assert await store.standing(GENERATION) == after
        assert await store.operations(GENERATION, 0, 10) == [operation(1)]

    async def test_a_request_is_accepted_once(self, store: Store, second: Store) -> None:
        """The same request again answers with what it became, whatever sequence it comes with."""
        await accept(store, operation(1))
        await accept(store, operation(2))
        again = await second.accept(operation(3, "r1", name="resume"), Standing(3))
        assert again == operation(1)
        assert (await store.standing(GENERATION)).sequence == 2

    async def test_of_many_at_once_one_is_next(self, store: Store, second: Store) -> None:
        """Of operations that are accepted at the same moment, one takes the sequence and the others are told so."""
        answers: list[Operation | None] = []

        async def ask(one: Store, request: str) -> None:
            asked = operation(1, request)
            answers.append(await one.accept(asked, Standing().after(asked)))

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(ask, (store, second)[number % 2], f"q{number}")
        winners = [answer for answer in answers if answer is not None]
        assert len(winners) == 1
        assert await store.operations(GENERATION, 0, 10) == winners

    async def test_operations_come_in_order_and_in_part(self, store: Store) -> None:
        """Operations after a sequence come oldest first, as many as asked for."""
        for sequence in range(1, 13):
            await accept(store, operation(sequence))
        assert [one.sequence for one in await store.operations(GENERATION, 2, 4)] == [3, 4, 5, 6]
        assert [one.sequence for one in await store.operations(GENERATION, 9, 100)] == [10, 11, 12]
        assert await store.operations(GENERATION, 12, 100) == []

    # Taking

    async def test_a_shard_is_taken_only_as_operations_were_seen(self, store: Store, second: Store) -> None:
        """Taking, the first time and later, holds only while the standing is the one that was read; nothing changes."""
        await store.create_generation(GENERATION, 1, live=True)
        await accept(second, operation(1))
        with pytest.raises(OperationsMoved):
            await store.take(SCOPE, "me", Checkpoint(), seen=0)
        assert await store.read_checkpoint(SCOPE) is None
        first = await store.take(SCOPE, "me", Checkpoint(operation_seq=1), seen=1)
        assert (first.epoch, first.operation_seq) == (1, 1)
        await accept(second, operation(2))
        with pytest.raises(OperationsMoved):
            await second.take(SCOPE, "you", Checkpoint(), seen=1)
        assert await store.read_checkpoint(SCOPE) == first
        assert (await second.take(SCOPE, "you", Checkpoint(), seen=2)).epoch == 2
        assert (await store.take(SCOPE, "us", Checkpoint())).epoch == 3

    async def test_who_has_a_shard_is_told_so_whatever_moved(self, store: Store) -> None:
        """Taking again by the same owner, after silence, answers what stands, though an operation came in between."""
        await store.create_generation(GENERATION, 1, live=True)
        taken = await store.take(SCOPE, "me", Checkpoint(), seen=0)
        await accept(store, operation(1))
        assert await store.take(SCOPE, "me", Checkpoint(), seen=0) == taken

    # Outcomes

    async def test_an_outcome_is_committed_with_its_checkpoint(self, store: Store, second: Store) -> None:
        """What a shard makes of an operation shows with the checkpoint that obeyed it, and is all it said."""
        held = await begin(store)
        await accept(store, operation(1))
        after = replace(
            held.next("c1"), state=CheckpointState.PAUSED, operation_seq=1, since=AT, stuck_at=(3, 17), reason="why"
        )
        answer = await store.commit(Commit(SCOPE, held.fence, after, outcomes=(outcome(),)), 1)
        assert isinstance(answer, Committed)
        assert await second.read_checkpoint(SCOPE) == after
        assert await second.outcomes(GENERATION, 1) == [outcome()]
        assert await second.outcomes(GENERATION, 2) == []
        assert await second.outcomes(OTHER, 1) == []

    async def test_a_fenced_commit_leaves_no_outcome(self, store: Store, second: Store) -> None:
        """A commit that does not hold says nothing about an operation either."""
        held = await begin(store)
        await second.take(SCOPE, "you", Checkpoint())
        answer = await store.commit(Commit(SCOPE, held.fence, held.next("c1"), outcomes=(outcome(),)), 1)
        assert isinstance(answer, Fenced)
        assert await store.outcomes(GENERATION, 1) == []

    async def test_a_later_outcome_takes_the_place_of_an_earlier(self, store: Store) -> None:
        """What was under way and is done says only that it is done; other shards' outcomes stay beside it."""
        held, other = await begin(store), SCOPE._replace(shard="b.jsonl")
        beside = await store.take(other, "me", Checkpoint())
        for name, status in (("c1", OutcomeStatus.UNDERWAY), ("c2", OutcomeStatus.ABORTED)):
            commit = Commit(SCOPE, held.fence, held.next(name), outcomes=(outcome(1, status),))
            assert isinstance(await store.commit(commit, 1), Committed)
            held = commit.checkpoint
        refused = outcome(1, OutcomeStatus.REFUSED, other)
        assert isinstance(
            await store.commit(Commit(other, beside.fence, beside.next("d1"), outcomes=(refused,)), 1), Committed
        )
        assert await store.outcomes(GENERATION, 1) == [outcome(1, OutcomeStatus.ABORTED), refused]
