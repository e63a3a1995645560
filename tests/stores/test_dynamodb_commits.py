"""Commits against a strict server with scripted faults: tokens, silence, windows, fences, every code everywhere."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anyio
import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import (
    Busy,
    Commit,
    Committed,
    Duplicate,
    Fenced,
    MarkerWrite,
    Outcome,
    Rejected,
    RowMoved,
    TooLarge,
    Unknown,
)
from daemon.core.errors import StoreRefused
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.rows import ABSENT, Effect, Expectation, RowCheck, RowWrite, WriteKind
from daemon.core.window import ENTRY_BYTES, SegmentWrite
from daemon.stores.dynamodb import DynamoDbStore
from daemon.testing.clock import VirtualClock
from daemon.testing.dynamodb import (
    AnswerWith,
    Call,
    CancelWith,
    Drop,
    DuplicateLater,
    Fault,
    LoseAnswer,
    Refuse,
    StrictDynamoDb,
    Throttle,
)
from tests.support.dynamodb import inside, store_on

pytestmark = pytest.mark.anyio

SCOPE = Scope("orders", 1, "log", "a")
ROW = RowKey("main", "k1")
WRITE = "TransactWriteItems"
PREFIX = "strict"


class Place:
    """A strict server, a store on it, and what arrived there."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = StrictDynamoDb(clock=self.clock, gate=self._gate)
        self.gate: anyio.Event | None = None
        self.store = self.another()
        self.arrived: list[dict[str, Any]] = []
        self.server.faults.add(Fault(Refuse(), WRITE, self._note, times=None))

    def another(self, **settings: Any) -> DynamoDbStore:
        return store_on(inside(self.server), PREFIX, self.clock, **settings)

    async def _gate(self) -> None:
        if self.gate is not None:
            await self.gate.wait()

    def _note(self, call: Call) -> bool:
        if call.client == "commits":
            self.arrived.append(call.body)
        return False

    def meet(self, *actions: Any, operation: str = WRITE) -> None:
        """Script what the next calls meet, one each."""
        self.server.faults.add(*(Fault(action, operation, _of_commits) for action in actions))

    @property
    def tokens(self) -> list[str]:
        return [body["ClientRequestToken"] for body in self.arrived]

    async def begin(self, owner: str = "me") -> Checkpoint:
        await self.store.create_generation(SCOPE.of, 1, live=True)
        return await self.store.take(SCOPE, owner, Checkpoint())

    async def row(self, key: RowKey = ROW) -> Any:
        held = (await self.store.load_rows(SCOPE.of, [key]))[key]
        return None if held is None else held.attributes


def _of_commits(call: Call) -> bool:
    return call.client == "commits"


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A server with an open store on it."""
    made = Place()
    await made.store.open()
    yield made
    await made.store.aclose()
    await made.server.aclose()


def following(held: Checkpoint, name: str = "c1", **parts: Any) -> Commit:
    """The next commit on top of a checkpoint."""
    return Commit(SCOPE, held.fence, replace(held.next(name), position=(held.commit_seq,)), **parts)


def put(value: object, expect: Expectation = ABSENT, key: RowKey = ROW) -> RowWrite:
    """A PUT."""
    return RowWrite(key, WriteKind.PUT, {"value": value}, expect, "log/a@1#e")


def add(amount: int | Decimal, key: RowKey = ROW, name: str = "value") -> RowWrite:
    """An ADD."""
    return RowWrite(key, WriteKind.ADD, {name: amount}, None, "log/a@2#e")


# Tokens and silence


@pytest.mark.parametrize("how", ["reset", "cut", "crc", "hang"])
async def test_lost_answer_is_unknown_and_the_same_request_finds_out(place: Place, how: Any) -> None:
    """An answer lost after the commit took effect is Unknown; the identical bytes again answer Committed, once."""
    held = await place.begin()
    commit = following(held, rows=(add(5),))
    place.meet(LoseAnswer(how))
    assert isinstance(await place.store.commit(commit, 1), Unknown)
    assert isinstance(await place.store.commit(commit, 1), Committed)
    assert place.arrived[0] == place.arrived[1]
    assert await place.row() == {"value": 5}


@pytest.mark.parametrize("how", ["reset", "hang"])
async def test_lost_request_is_unknown_and_is_sent_again(place: Place, how: Any) -> None:
    """A request lost on its way is Unknown too; sent again under the same token it is applied."""
    commit = following(await place.begin(), rows=(add(5),))
    place.meet(Drop(how))
    assert isinstance(await place.store.commit(commit, 1), Unknown)
    assert await place.row() is None
    assert isinstance(await place.store.commit(commit, 1), Committed)
    assert len(set(place.tokens)) == 1
    assert await place.row() == {"value": 5}


async def test_request_delivered_twice_late_changes_nothing(place: Place) -> None:
    """The same bytes arriving once more, within the token's window and beyond, are applied once."""
    commit = following(await place.begin(), rows=(add(5),))
    place.meet(DuplicateLater(1.0), DuplicateLater(700.0))
    assert isinstance(await place.store.commit(commit, 1), Committed)
    again = following(commit.checkpoint, "c2", rows=(add(1),))
    assert isinstance(await place.store.commit(again, 1), Committed)
    while place.server.running:
        await place.clock.sleep(100)
    assert await place.row() == {"value": 6}
    assert await place.store.read_checkpoint(SCOPE) == again.checkpoint


async def test_new_attempt_has_a_new_token_and_the_same_actions(place: Place) -> None:
    """After a cancellation the frozen payload is sent under another token."""
    commit = following(await place.begin(), rows=(put(1),), markers=(MarkerWrite("e", b"1" * 16),))
    place.meet(CancelWith({1: "TransactionConflict"}), CancelWith({0: "ThrottlingError"}))
    outcomes = [await place.store.commit(commit, attempt) for attempt in (1, 2, 3)]
    assert [type(outcome) for outcome in outcomes] == [Busy, Busy, Committed]
    assert len(set(place.tokens)) == 3
    assert all(len(token) <= 36 for token in place.tokens)
    assert place.arrived[0]["TransactItems"] == place.arrived[2]["TransactItems"]


async def test_tokens_differ_between_commits_scopes_and_prefixes(place: Place) -> None:
    """A token belongs to one attempt of one commit of one shard under one prefix."""
    held = await place.begin()
    requests = place.store._requests
    commit, other = following(held), following(held, "c2")
    elsewhere = replace(commit, scope=SCOPE._replace(shard="b"))
    tokens = {requests.token(one, attempt, 0) for one in (commit, other, elsewhere) for attempt in (1, 2)}
    tokens.add(store_on(inside(place.server), "other")._requests.token(commit, 1, 0))
    tokens.add(requests.token(commit, 1, 1))
    assert len(tokens) == 8


async def test_attempt_is_not_sent_beyond_its_window(place: Place) -> None:
    """An attempt whose token may be forgotten is not sent: it stays Unknown, and the shard is to be taken again."""
    commit = following(await place.begin(), rows=(add(5),))
    place.meet(LoseAnswer())
    assert isinstance(await place.store.commit(commit, 1), Unknown)
    await place.clock.sleep(539)
    place.meet(Drop())
    assert isinstance(await place.store.commit(commit, 1), Unknown)
    await place.clock.sleep(2)
    sent = len(place.arrived)
    outcome = await place.store.commit(commit, 1)
    assert isinstance(outcome, Unknown)
    assert "first sent 541 s ago" in outcome.detail
    assert len(place.arrived) == sent
    taken = await place.store.take(SCOPE, "me again", Checkpoint())
    assert taken.epoch == commit.checkpoint.epoch + 1
    assert taken.position == commit.checkpoint.position
    assert isinstance(await place.store.commit(commit, 2), Fenced)
    assert await place.row() == {"value": 5}


async def test_commit_of_a_token_long_forgotten_is_recognised_by_its_id(place: Place) -> None:
    """A commit applied long ago and sent as a new attempt meets its own id at the checkpoint."""
    commit = following(await place.begin(), rows=(add(5),))
    assert isinstance(await place.store.commit(commit, 1), Committed)
    await place.clock.sleep(3600)
    assert isinstance(await place.store.commit(commit, 7), Committed)
    assert await place.row() == {"value": 5}


async def test_cancelled_call_leaves_the_same_request_behind(place: Place) -> None:
    """A task cancelled while its request is under way can send the identical request later and learn the outcome."""
    commit = following(await place.begin(), rows=(add(5),))
    place.gate = anyio.Event()
    place.clock.manual = True  # no deadline comes to the call's help
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place.store.commit, commit, 1)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    outcome = await place.store.commit(commit, 1)
    assert isinstance(outcome, Unknown)
    assert "TransactionInProgress" in outcome.detail
    place.gate.set()
    while place.server.running:
        await anyio.lowlevel.checkpoint()
    assert isinstance(await place.store.commit(commit, 1), Committed)
    assert place.arrived[0] == place.arrived[1] == place.arrived[2]
    assert await place.row() == {"value": 5}


async def test_foreign_use_of_a_token_is_unknown(place: Place) -> None:
    """A token that another request used is no outcome of this commit: Unknown, with a reason to report."""
    commit = following(await place.begin(), rows=(add(5),))
    place.meet(AnswerWith("IdempotentParameterMismatchException"))
    outcome = await place.store.commit(commit, 1)
    assert isinstance(outcome, Unknown)
    assert "report this" in outcome.detail


# Fences


async def test_lost_request_of_the_old_owner_is_harmless(place: Place) -> None:
    """A commit delivered after another owner took the shard writes nothing, and shows who stands there."""
    held = await place.begin()
    old = following(held, rows=(add(5),), markers=(MarkerWrite("e", b"1" * 16),), markers_expire_at=2_000_000_000)
    place.meet(Drop())
    assert isinstance(await place.store.commit(old, 1), Unknown)
    second = place.another()
    await second.open()
    taken = await second.take(SCOPE, "you", Checkpoint())
    assert await place.store.commit(old, 1) == Fenced(taken)
    assert await place.row() is None
    assert await place.store.find_markers(SCOPE.of, ["e"]) == {}
    await second.aclose()


async def test_what_waited_to_be_sent_again_is_forgotten_with_the_epoch(place: Place) -> None:
    """A commit without an answer is kept to be resent; once the shard is taken again it can be applied no more."""
    held = await place.begin()
    place.meet(Drop())
    assert isinstance(await place.store.commit(following(held, rows=(add(5),)), 1), Unknown)
    assert place.store._sending
    await place.store.take(SCOPE, "again", Checkpoint())
    assert not place.store._sending


async def test_checkpoint_is_read_back_where_the_answer_does_not_show_it(place: Place) -> None:
    """A cancellation that shows no item at the checkpoint leads to a consistent read of it."""
    held = await place.begin()
    place.meet(CancelWith({0: "ConditionalCheckFailed"}))
    assert await place.store.commit(following(held), 1) == Fenced(held)


# Codes


def whole(held: Checkpoint) -> Commit:
    """A commit with every kind of action: 0 checkpoint, 1-2 markers, 3 put, 4 add, 5 check, 6 segment, 7 effect."""
    return following(
        held,
        markers=(MarkerWrite("e1", b"1" * 16), MarkerWrite("e2", b"2" * 16)),
        markers_expire_at=2_000_000_000,
        rows=(put(1), add(2, RowKey("main", "k2"))),
        checks=(RowCheck(RowKey("main", "k3"), ABSENT),),
        segment=SegmentWrite(0, bytes(ENTRY_BYTES), 0),
        effects=(Effect("x", "mail", {"to": "a"}, "e1", "k1"),),
    )


CODES = ("ConditionalCheckFailed", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded",
         "ValidationError", "ItemCollectionSizeLimitExceeded")  # fmt: skip


def expected(code: str, index: int, held: Checkpoint) -> Outcome | type[Outcome]:
    """What one code at one index of `whole` comes to."""
    if code == "ConditionalCheckFailed":
        moved = {3: ROW, 4: RowKey("main", "k2"), 5: RowKey("main", "k3")}
        if index == 0:
            return Fenced(held)
        return RowMoved(frozenset({moved[index]})) if index in moved else Busy
    if code == "ValidationError":
        return Rejected
    return TooLarge if code.startswith("ItemCollection") else Busy


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("code", CODES)
async def test_each_code_at_each_index(place: Place, code: str, index: int) -> None:
    """Every cancellation applies nothing, means what it says, and the commit can be sent again."""
    held = await place.begin()
    commit = whole(held)
    place.meet(CancelWith({index: code}))
    outcome = await place.store.commit(commit, 1)
    meant = expected(code, index, held)
    assert isinstance(outcome, meant) if isinstance(meant, type) else outcome == meant
    assert await place.store.read_checkpoint(SCOPE) == held
    assert isinstance(await place.store.commit(commit, 2), Committed)


async def test_markers_without_digests_are_read(place: Place) -> None:
    """A duplicate whose digest the answer leaves out is looked up: without it, it would pass for a conflict."""
    held = await place.begin()
    first = following(held, markers=(MarkerWrite("e1", b"1" * 16),), markers_expire_at=2_000_000_000)
    assert isinstance(await place.store.commit(first, 1), Committed)
    again = following(first.checkpoint, "c2", markers=(MarkerWrite("e1", b"9" * 16),), markers_expire_at=2_000_000_000)
    place.meet(CancelWith({1: "ConditionalCheckFailed"}))
    assert await place.store.commit(again, 1) == Duplicate({"e1": b"1" * 16})


async def test_throttles_pass(place: Place) -> None:
    """Throttled requests are Busy until the burst is over, then the commit holds."""
    commit = following(await place.begin(), rows=(put(1),))
    place.meet(Throttle(30.0))
    for attempt in range(1, 4):
        assert isinstance(await place.store.commit(commit, attempt), Busy)
        await place.clock.sleep(9.0)
    await place.clock.sleep(5.0)
    assert isinstance(await place.store.commit(commit, 4), Committed)


async def test_missing_table_is_a_settings_error(place: Place) -> None:
    """A rows table removed by hand is refused with its remedy; no event is accused."""
    commit = following(await place.begin(), rows=(put(1),))
    await place.server.client().call("DeleteTable", b'{"TableName":"strict-orders-g1"}', 1.0)
    with pytest.raises(StoreRefused, match="projectiond init"):
        await place.store.commit(commit, 1)


async def test_never_sent_is_busy(place: Place) -> None:
    """A refused connection applied nothing: it is tried again as a new attempt."""
    commit = following(await place.begin(), rows=(put(1),))
    place.meet(Refuse())
    assert isinstance(await place.store.commit(commit, 1), Busy)
    assert isinstance(await place.store.commit(commit, 2), Committed)


async def test_value_that_cannot_be_written_is_rejected_unsent(place: Place) -> None:
    """A lone surrogate or a foreign type is the event's fault, found before anything is sent."""
    held = await place.begin()
    for value in ("\ud800", object(), [1, {2}]):
        assert isinstance(await place.store.commit(following(held, rows=(put(value),)), 1), Rejected)
    assert isinstance(
        await place.store.commit(following(held, markers=(MarkerWrite("\ud800", bytes(16)),)), 1), Rejected
    )
    assert place.arrived == []


# Adding to what holds None, and to what is no number


async def test_none_counts_as_zero(place: Place) -> None:
    """Amounts onto an attribute that holds None start from 0, as in every store; other attributes and versions stay."""
    held = await place.begin()
    first = following(held, rows=(RowWrite(ROW, WriteKind.PUT, {"value": None, "n": 1, "s": "x"}, ABSENT, "src"),))
    assert isinstance(await place.store.commit(first, 1), Committed)
    second = following(first.checkpoint, "c2", rows=(RowWrite(ROW, WriteKind.ADD, {"value": 2, "n": 3}, None, "src2"),))
    assert isinstance(await place.store.commit(second, 1), Committed)
    stands = (await place.store.load_rows(SCOPE.of, [ROW]))[ROW]
    assert stands is not None
    assert (stands.attributes, stands.version, stands.source) == ({"value": 2, "n": 4, "s": "x"}, 2, "src2")
    assert len(place.tokens) == len(set(place.tokens)) == 3


async def test_adding_to_text_is_rejected(place: Place) -> None:
    """Amounts onto text are the event's fault, and name the row."""
    first = following(await place.begin(), rows=(put("text"),))
    assert isinstance(await place.store.commit(first, 1), Committed)
    outcome = await place.store.commit(following(first.checkpoint, "c2", rows=(add(1),)), 1)
    assert isinstance(outcome, Rejected)
    assert "row main/k1" in outcome.detail


# Capacity


async def test_commit_says_what_it_consumed(place: Place) -> None:
    """Write units are counted by kind: two for each item of up to 1 KB."""
    held = await place.begin()
    outcome = await place.store.commit(whole(held), 1)
    assert outcome == Committed({"wcu:state": 4.0, "wcu:markers": 4.0, "wcu:rows": 6.0, "wcu:effects": 2.0})


async def test_reads_report_what_they_consumed() -> None:
    """Read units of rows, markers and state go to the callback as they are spent, with whose they are."""
    told: dict[str, float] = {}
    whose: set[Generation | None] = set()

    def note(generation: Generation | None, units: Any) -> None:
        whose.add(generation)
        for name, count in units.items():
            told[name] = told.get(name, 0) + count

    place = Place()
    store = place.another(consumed=note)
    await store.open()
    await store.create_generation(SCOPE.of, 1, live=True)
    await store.take(SCOPE, "me", Checkpoint())
    told.clear()
    whose.clear()
    await store.load_rows(SCOPE.of, [RowKey("main", f"k{n}") for n in range(150)])
    await store.find_markers(SCOPE.of, ["a", "b"])
    await store.read_checkpoint(SCOPE)
    assert told == {"rcu:rows": 150.0, "rcu:markers": 2.0, "rcu:state": 1.0}
    assert whose == {SCOPE.of}
    await store.aclose()
