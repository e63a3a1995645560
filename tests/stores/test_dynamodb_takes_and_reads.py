"""Taking shards, reading and making tables on a strict server with scripted faults."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anyio
import orjson
import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed, Fenced, MarkerWrite, ParkedEvent, Rejected
from daemon.core.errors import SettingsProblem, StoreDamaged, StoreRefused, StoreUnavailable
from daemon.core.events import Event
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.leases import Presence
from daemon.core.lifecycle import ShardState
from daemon.core.projection import Handler, Index
from daemon.core.rows import ABSENT, RowWrite, WriteKind
from daemon.core.view import View
from daemon.core.window import ENTRY_BYTES, SegmentWrite
from daemon.stores.dynamodb import DynamoDbStore, Tuning
from daemon.stores.dynamodb.tables import Tables
from daemon.testing.clock import EPOCH, VirtualClock
from daemon.testing.dynamodb import (
    AnswerWith,
    Call,
    Delay,
    Drop,
    Fault,
    LoseAnswer,
    PartialBatch,
    Refuse,
    StrictDynamoDb,
    Throttle,
)
from daemon.testing.memory_source import MemorySource
from daemon.wire.aws_json import Success
from tests.support.dynamodb import inside, store_on
from tests.support.engine import counting, engine, event

pytestmark = pytest.mark.anyio

GENERATION = Generation("orders", 1)
SCOPE = Scope("orders", 1, "log", "a")


class Place:
    """A strict server under virtual time, and a store on it."""

    def __init__(self, **server: Any) -> None:
        self.clock = VirtualClock()
        self.server = StrictDynamoDb(clock=self.clock, **server)
        self.store = self.another()

    def another(self, **settings: Any) -> DynamoDbStore:
        return store_on(inside(self.server), "pre", self.clock, **settings)

    def meet(self, operation: str, *actions: Any, times: int | None = 1) -> None:
        self.server.faults.add(*(Fault(action, operation, times=times) for action in actions))

    def count(self, operation: str) -> list[Any]:
        """Note down the requests of one operation from now on."""
        noted: list[Any] = []

        def note(call: Call) -> bool:
            noted.append(call.body)
            return False

        self.server.faults.add(Fault(Refuse(), operation, note, times=None))
        return noted

    async def begin(self, owner: str = "me") -> Checkpoint:
        await self.store.create_generation(GENERATION, 1, live=True)
        return await self.store.take(SCOPE, owner, Checkpoint())


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A server with an open store on it."""
    made = Place()
    await made.store.open()
    yield made
    await made.store.aclose()
    await made.server.aclose()


# Taking


@pytest.mark.parametrize(
    "fault",
    [
        LoseAnswer(), LoseAnswer("hang"), Drop(), Refuse(), Throttle(3.0), AnswerWith("TransactionConflictException"),
        AnswerWith("InternalServerError", status=500), AnswerWith("InternalServerError", status=500, applied=True),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("operation", ["TransactWriteItems", "UpdateItem", "GetItem"])
async def test_take_finds_out_what_became_of_a_lost_call(place: Place, operation: str, fault: Any) -> None:
    """Whatever happens to the first take's calls, or to those of a later owner's, each epoch is raised exactly once."""
    await place.store.create_generation(GENERATION, 1, live=True)
    place.meet(operation, fault)
    first = await place.store.take(SCOPE, "me", Checkpoint(position=(3,)))
    assert (first.epoch, first.owner, first.position) == (1, "me", (3,))
    second = await place.store.take(SCOPE, "you", Checkpoint())
    assert (second.epoch, second.owner, second.position) == (2, "you", (3,))
    assert await place.store.read_checkpoint(SCOPE) == second
    assert list(await place.store.checkpoints(GENERATION)) == [SCOPE]


async def test_two_first_takes_at_once(place: Place) -> None:
    """Two owners that take a new shard at once get an epoch each, and the later one stands."""
    await place.store.create_generation(GENERATION, 1, live=True)
    other = place.another()
    await other.open()
    taken: list[Checkpoint] = []

    async def take(store: DynamoDbStore, owner: str) -> None:
        taken.append(await store.take(SCOPE, owner, Checkpoint()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, place.store, "me")
        tasks.start_soon(take, other, "you")
    assert sorted(checkpoint.epoch for checkpoint in taken) == [1, 2]
    assert await place.store.read_checkpoint(SCOPE) == max(taken, key=lambda checkpoint: checkpoint.epoch)
    await other.aclose()


async def test_take_keeps_what_a_newer_version_wrote(place: Place) -> None:
    """Attributes that this version does not know stay in the checkpoint's item when its owner changes."""
    await place.begin()
    await place.server.client().call("UpdateItem", orjson.dumps({
        "TableName": "pre-state", "Key": {"pk": {"S": "orders-g1:log/a"}, "sk": {"S": "checkpoint"}},
        "UpdateExpression": "SET cursor2 = :c", "ExpressionAttributeValues": {":c": {"S": "later"}},
    }), 1.0)  # fmt: skip
    await place.store.take(SCOPE, "you", Checkpoint())
    (item,) = [item for item in place.server.table("pre-state").plain() if item["sk"] == "checkpoint"]
    assert item["cursor2"] == "later"


async def test_take_gives_up_in_the_end(place: Place) -> None:
    """A server that is away for longer than the store is patient is StoreUnavailable, with what was tried."""
    await place.begin()
    place.meet("GetItem", Drop(), times=None)
    with pytest.raises(StoreUnavailable, match=r"given up after 2\d\.\d s and \d+ tries"):
        await place.store.take(SCOPE, "you", Checkpoint())


async def test_take_waits_for_what_the_last_commit_parked(place: Place) -> None:
    """A new owner gets the shard once every event that the last commit parked can be read."""
    held = await place.begin()
    events = tuple(ParkedEvent("k", (n,), f"e{n}", b"raw", "", "", EPOCH) for n in range(3))
    commit = Commit(SCOPE, held.fence, replace(held.next("c1"), parked_seq=held.commit_seq + 1), parked=events)
    assert isinstance(await place.store.commit(commit, 1), Committed)
    reads = place.count("BatchGetItem")
    place.meet("BatchGetItem", PartialBatch(1), PartialBatch(1))
    assert (await place.store.take(SCOPE, "you", Checkpoint())).epoch == 2
    assert len(reads) == 3
    assert list(await place.store.parked_keys(SCOPE)) == ["k"]


async def test_take_does_not_trust_a_torn_read(place: Place) -> None:
    """While a parked event of the last commit does not show, the shard is not given out."""
    held = await place.begin()
    event = ParkedEvent("k", (1,), "e1", b"raw", "", "", EPOCH)
    commit = Commit(SCOPE, held.fence, replace(held.next("c1"), parked_seq=held.commit_seq + 1), parked=(event,))
    assert isinstance(await place.store.commit(commit, 1), Committed)
    (sk,) = [item["sk"] for item in place.server.table("pre-state").plain() if item["sk"].startswith("parked#")]
    gone = {"TableName": "pre-state", "Key": {"pk": {"S": "orders-g1:log/a"}, "sk": {"S": sk}}}
    await place.server.client().call("DeleteItem", orjson.dumps(gone), 1.0)
    with pytest.raises(StoreUnavailable, match="1 events parked"):
        await place.store.take(SCOPE, "you", Checkpoint())


# Reading


async def test_unprocessed_keys_are_asked_for_again(place: Place) -> None:
    """Batches that come back in part are completed, whatever is throttled or lost in between; no key is read twice."""
    held = await place.begin()
    keys = [RowKey("main", f"k{n}") for n in range(250)]
    for start in range(0, 250, 50):
        rows = tuple(RowWrite(key, WriteKind.PUT, {"n": 1}, ABSENT, "s") for key in keys[start : start + 50])
        commit = Commit(SCOPE, held.fence, held.next(f"c{start}"), rows=rows)
        assert isinstance(await place.store.commit(commit, 1), Committed)
        held = commit.checkpoint
    place.meet("BatchGetItem", PartialBatch(30), PartialBatch(0), Drop(), PartialBatch(7), Throttle(2.0))
    asked = place.count("BatchGetItem")
    found = await place.store.load_rows(GENERATION, [*keys, *keys, RowKey("main", "none")])
    assert [row is not None for row in found.values()] == [True] * 250 + [False]
    assert all(len(body["RequestItems"]["pre-orders-g1"]["Keys"]) <= 100 for body in asked)


async def test_every_read_is_consistent(place: Place) -> None:
    """Every GetItem, BatchGetItem and Query asks for a consistent read."""
    held = await place.begin()
    noted = [*map(place.count, ("GetItem", "Query", "BatchGetItem"))]
    store = place.store
    await store.read_checkpoint(SCOPE)
    await store.checkpoints(GENERATION)
    await store.generations("orders")
    await store.load_rows(GENERATION, [RowKey("main", "k")])
    await store.find_markers(GENERATION, ["e"])
    await store.load_segments(SCOPE, 10)
    await store.parked_keys(SCOPE)
    await store.parked_events(SCOPE, "k", 10)
    await store.dead_letters(SCOPE, 10)
    await store.effects(GENERATION, 10)
    await store.presences()
    gets, queries, batches = noted
    assert held.epoch == 1
    assert (len(gets), len(queries), len(batches)) == (1, 8, 3)
    assert all(body["ConsistentRead"] is True for body in (*gets, *queries))
    assert all(table["ConsistentRead"] is True for body in batches for table in body["RequestItems"].values())


async def test_rows_cached_by_the_owner_cost_no_read(place: Place) -> None:
    """A commit is one request: nothing is read for it."""
    held = await place.begin()
    reads = [*map(place.count, ("GetItem", "Query", "BatchGetItem"))]
    writes = place.count("TransactWriteItems")
    row = RowWrite(RowKey("main", "k"), WriteKind.PUT, {"n": 1}, ABSENT, "s")
    commit = Commit(SCOPE, held.fence, held.next("c"), rows=(row,), markers=(MarkerWrite("e", bytes(16)),))
    assert isinstance(await place.store.commit(commit, 1), Committed)
    assert (reads, len(writes)) == ([[], [], []], 1)


async def test_deep_queues_are_passed_over(place: Place) -> None:
    """Parked keys are found without reading whole queues, and whole queues are read in order."""
    held = await place.begin()
    many = [ParkedEvent("deep", (n,), f"e{n}", b"x", "", "", EPOCH) for n in range(400)]
    few = [ParkedEvent(f"k{n}", (n,), f"e{n}", b"x", "", "", EPOCH) for n in range(90)]
    events = [*many, *few]
    for start in range(0, len(events), 95):
        commit = Commit(SCOPE, held.fence, held.next(f"c{start}"), parked=tuple(events[start : start + 95]))
        assert isinstance(await place.store.commit(commit, 1), Committed)
        held = commit.checkpoint
    asked = place.count("Query")
    assert set(await place.store.parked_keys(SCOPE)) == {"deep", *(f"k{n}" for n in range(90))}
    assert len(asked) <= 4
    assert list(await place.store.parked_events(SCOPE, "deep", 1000)) == many


async def test_segments_outside_the_window_do_not_count(place: Place) -> None:
    """Segments below the oldest that the newest one names are not loaded, and are removed in passing, once."""
    held = await place.begin()
    for number in range(6):
        segment = SegmentWrite(number, bytes([number]) * ENTRY_BYTES, max(0, number - 2))
        commit = Commit(SCOPE, held.fence, held.next(f"c{number}"), segment=segment)
        assert isinstance(await place.store.commit(commit, 1), Committed)
        held = commit.checkpoint
    assert [segment.number for segment in await place.store.load_segments(SCOPE, 100)] == [3, 4, 5]
    place.meet("BatchWriteItem", PartialBatch(1))
    writes = place.count("BatchWriteItem")
    assert await place.store.expire(0) == 0
    held_now = [item["sk"][-1] for item in place.server.table("pre-state").plain() if item["sk"].startswith("segment#")]
    assert sorted(held_now) == ["3", "4", "5"]
    assert await place.store.expire(0) == 0
    assert len(writes) == 1


async def test_slow_answers_are_cut_off_at_their_deadline(place: Place) -> None:
    """A read that hangs is cut off at its deadline and made again."""
    await place.begin()
    place.meet("GetItem", Delay(after=3600.0))
    assert (await place.store.read_checkpoint(SCOPE)) is not None


# Tables


async def test_tables_are_made_as_they_are_defined(place: Place) -> None:
    """Opening makes the daemon's own tables, creating a generation its rows table, with expiry and indexes."""
    indexes = (Index("by-status", "status"), Index("by-day", "day", "at"))
    await place.store.create_generation(GENERATION, 1, live=True, indexes=indexes)
    assert sorted(place.server.snapshot()) == ["pre-effects", "pre-markers", "pre-orders-g1", "pre-state"]
    answer: Any = await place.server.client().call("DescribeTable", b'{"TableName":"pre-orders-g1"}', 1.0)
    table = answer.body["Table"]
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["key", "view"]
    assert sorted(index["IndexName"] for index in table["GlobalSecondaryIndexes"]) == ["by-day", "by-status"]
    for name, attribute in (("pre-orders-g1", "_expires"), ("pre-markers", "expires")):
        answer = await place.server.client().call("DescribeTimeToLive", orjson.dumps({"TableName": name}), 1.0)
        assert answer.body["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": attribute}


def test_definition_of_a_rows_table() -> None:
    """A generation's table as `CreateTable` takes it: this is what `init` prints, too."""
    table = Tables("pre").of_generation(GENERATION, (Index("by-status", "status", "key"),))
    assert table.create_request() == {
        "TableName": "pre-orders-g1",
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}, {"AttributeName": "view", "KeyType": "RANGE"}],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("key", "view", "status")
        ],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-status",
            "KeySchema": [{"AttributeName": "status", "KeyType": "HASH"}, {"AttributeName": "key", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "ALL"},
        }],
    }  # fmt: skip
    assert table.expiry_request() == {
        "TableName": "pre-orders-g1",
        "TimeToLiveSpecification": {"Enabled": True, "AttributeName": "_expires"},
    }


async def test_slow_tables_are_waited_for() -> None:
    """A table that takes its time to become active is used only then."""
    place = Place(table_seconds=30.0)
    await place.store.open()
    assert await place.begin()
    assert place.clock.monotonic() >= 60.0
    await place.store.aclose()


async def test_a_start_waits_out_what_its_look_at_expiry_meets() -> None:
    """Silence and throttling while expiry is looked at, or switched on, are waited out like anywhere else."""
    place = Place()
    place.meet("DescribeTimeToLive", Drop(), Throttle(5.0))
    place.meet("UpdateTimeToLive", Drop("hang"), Throttle(3.0))
    await place.store.open()
    answer: Any = await place.server.client().call("DescribeTimeToLive", b'{"TableName":"pre-markers"}', 1.0)
    assert answer.body["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"
    await place.store.aclose()


async def test_missing_tables_are_refused_where_they_may_not_be_made() -> None:
    """Without the right to make tables, a missing one is named with its remedy."""
    place = Place()
    with pytest.raises(StoreRefused, match="pre-state is missing; run `projectiond init`"):
        await place.another(create_tables=False).open()
    place.meet("CreateTable", AnswerWith("AccessDeniedException"))
    with pytest.raises(StoreRefused, match="pre-state is missing and cannot be made here"):
        await place.store.open()


async def test_foreign_table_is_refused() -> None:
    """A table of another shape under our name is not touched."""
    place = Place()
    request = Tables("pre").own()[1].create_request() | {"TableName": "pre-state"}
    await place.server.client().call("CreateTable", orjson.dumps(request), 1.0)
    with pytest.raises(StoreRefused, match="not projectiond's"):
        await place.store.open()


async def test_expiry_by_another_attribute_is_refused() -> None:
    """A table that expires by a foreign attribute would lose the wrong items."""
    place = Place()
    client = place.server.client()
    await client.call("CreateTable", orjson.dumps(Tables("pre").own()[1].create_request()), 1.0)
    expiry = {"TableName": "pre-markers", "TimeToLiveSpecification": {"Enabled": True, "AttributeName": "other"}}
    await client.call("UpdateTimeToLive", orjson.dumps(expiry), 1.0)
    with pytest.raises(StoreRefused, match="expires by attribute 'other'"):
        await place.store.open()


async def test_generation_made_by_a_faster_replica_stands(place: Place) -> None:
    """Two replicas that create a generation at once agree on one version."""
    other = place.another()
    await other.open()
    made: list[int] = []

    async def create(store: DynamoDbStore, version: int) -> None:
        made.append((await store.create_generation(GENERATION, version, live=True)).version)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create, place.store, 1)
        tasks.start_soon(create, other, 2)
    assert len(set(made)) == 1
    assert [record.version for record in await place.store.generations("orders")] == made[:1]
    await other.aclose()


@pytest.mark.parametrize("prefix", ["", "-a", "a b", "é", "a/b", "x" * 200])
def test_prefix_that_no_table_can_carry(prefix: str) -> None:
    """A prefix that makes no table's name is a settings error."""
    with pytest.raises(SettingsProblem, match="prefix"):
        Tables(prefix)


async def test_store_that_is_not_open_says_so() -> None:
    """Using a store before it is opened, or after it was closed, is refused with the remedy."""
    place = Place()
    with pytest.raises(StoreUnavailable, match="open it first"):
        await place.store.read_checkpoint(SCOPE)
    await place.store.open()
    await place.store.open()
    await place.store.aclose()
    with pytest.raises(StoreUnavailable, match="open it first"):
        await place.store.commit(Commit(SCOPE, Checkpoint().fence, Checkpoint()), 1)


async def test_stale_owner_learns_who_stands_there(place: Place) -> None:
    """The old owner's commit after a take shows the new owner's checkpoint, without a read of its own."""
    held = await place.begin()
    taken = await place.store.take(SCOPE, "you", Checkpoint())
    reads = place.count("GetItem")
    assert await place.store.commit(Commit(SCOPE, held.fence, held.next("c")), 1) == Fenced(taken)
    assert reads == []


def test_tuning_is_consistent() -> None:
    """The window in which a token is used ends before DynamoDB forgets it."""
    tuning = Tuning()
    assert tuning.token_window + tuning.commit_deadline < 600


# Rows amid a takeover


async def test_rows_are_read_behind_the_last_owners_commit() -> None:
    """After a take, rows are read by transactions: a commit under way that touches them is waited for, then seen."""
    gate: list[anyio.Event] = []

    async def held_back() -> None:
        if gate:
            await gate[0].wait()

    place = Place(gate=held_back)
    await place.store.open()
    await place.begin()
    other = SCOPE._replace(shard="b")
    theirs = await place.store.take(other, "them", Checkpoint())
    await place.store.take(SCOPE, "you", Checkpoint())
    key = RowKey("main", "k")
    commit = Commit(other, theirs.fence, theirs.next("c"), rows=(RowWrite(key, WriteKind.PUT, {"n": 1}, ABSENT, "s"),))
    asked = place.count("TransactGetItems")
    gate.append(anyio.Event())
    place.clock.manual = True
    found: dict[RowKey, Any] = {}

    async def load() -> None:
        found.update(await place.store.load_rows(GENERATION, [key, RowKey("main", "none")]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place.store.commit, commit, 1)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(load)
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            await place.clock.advance(0.5)
        assert found == {}
        gate[0].set()
        await anyio.wait_all_tasks_blocked()
        await place.clock.advance(2.0)
    assert found[key].attributes == {"n": 1}
    assert found[RowKey("main", "none")] is None
    assert len(asked) >= 3
    await place.store.aclose()


async def test_contended_rows_are_read_all_the_same(place: Place) -> None:
    """Rows that stay in other transactions' hands are read as they stand; later takes cost no transactions for ever."""
    await place.begin()
    await place.store.take(SCOPE, "you", Checkpoint())
    place.meet("TransactGetItems", AnswerWith("TransactionCanceledException"), times=None)
    key = RowKey("main", "k")
    assert await place.store.load_rows(GENERATION, [key]) == {key: None}
    await place.clock.sleep(10.0)
    asked = place.count("TransactGetItems")
    assert await place.store.load_rows(GENERATION, [key]) == {key: None}
    assert asked == []


def beside(view: View, event: Event) -> None:
    """Write a row of a view that the event names."""
    view.at(event.data["view"], "x").put(n=1)


@pytest.mark.parametrize("view", ["v" * 1_025, "\N{SNOWMAN}" * 342, "half \ud800"])
async def test_an_event_whose_row_no_table_can_hold_is_dead_lettered_and_parks_nothing(view: str):
    """A row that cannot be is absent when it is read, so that the planner finds the event at fault."""
    place, source = Place(), MemorySource("memory")
    await place.store.open()
    source.add_shard("s0")
    bad = event(2, view="b")
    bad.data["view"] = view
    source.append("s0", event(1, view="a"), bad, event(3, view="c"))
    spec = counting(handlers={"Added": (Handler("beside", beside),)})
    async with engine(spec, place.store, source) as running:
        await running.until(lambda: bool(running.supervisor.actors))
        await running.caught_up()
        assert running.supervisor.parked() == []
        counters = (await running.checkpoint()).counters
    assert (counters["applied"], counters["dead_lettered"]) == (2, 1)


# Damage


async def damage(place: Place, pk: str, sk: str, **attributes: Any) -> None:
    """Write an item as no projectiond does."""
    item = {"pk": {"S": pk}, "sk": {"S": sk}, **attributes}
    answer = await place.server.client().call("PutItem", orjson.dumps({"TableName": "pre-state", "Item": item}), 1.0)
    assert isinstance(answer, Success)


async def test_a_damaged_checkpoint_is_its_own_shards_trouble(place: Place) -> None:
    """A checkpoint that cannot be read is refused by name, and left out where all are listed."""
    other = SCOPE._replace(shard="b")
    await place.begin()
    held = await place.store.take(other, "me", Checkpoint())
    await damage(place, "orders-g1:log/a", "checkpoint", epoch={"S": "one"})
    assert await place.store.checkpoints(GENERATION) == {other: held}
    for attempt in (place.store.read_checkpoint(SCOPE), place.store.take(SCOPE, "you", Checkpoint())):
        with pytest.raises(StoreDamaged, match=r"'orders-g1:log/a'/'checkpoint' .* restore the item from a backup"):
            await attempt


async def test_a_damaged_presence_and_listing_harm_nobody_else(place: Place) -> None:
    """A presence or a shard's listing that cannot be read counts as absent; every other one is read."""
    held = await place.begin()
    await place.store.announce(Presence("you", 3, ("orders-g1:log",)))
    await damage(place, "/replicas", "replica#me", beat={"S": "soon"})
    await damage(place, "orders-g1", "shard#0000", source={"N": "1"})
    assert await place.store.presences() == {"you": Presence("you", 3, ("orders-g1:log",))}
    assert await place.store.checkpoints(GENERATION) == {SCOPE: held}


async def test_a_shard_with_a_damaged_checkpoint_parks_alone(place: Place) -> None:
    """A shard whose checkpoint cannot be read parks with the words that say so; the others are folded."""
    source, spec = MemorySource("memory"), counting()
    for shard in ("s0", "s1"):
        source.add_shard(shard)
        source.append(shard, *[event(number + 1) for number in range(3)])
    await place.store.create_generation(Generation(spec.name, 1), 1, live=True)
    await damage(place, f"{spec.name}-g1:memory/s0", "checkpoint", epoch={"N": "1"})
    async with engine(spec, place.store, source) as running:
        await running.caught_up()
        assert running.state("s0") is ShardState.PARKED
        assert "is damaged" in running.parked_reason("s0")
        assert (await running.checkpoint("s1")).counters["applied"] == 3


# Deletes


async def test_deletes_left_undone_are_asked_for_again(place: Place) -> None:
    """Segments that a batch of deletes leaves unprocessed go with the next; none stays, and none is asked for twice."""
    held = await place.begin()
    for number in range(4):
        segment = SegmentWrite(number, bytes(ENTRY_BYTES), 3 if number == 3 else 0)
        after = replace(held.next(f"c{number}"), segment=number, segment_seq=held.commit_seq + 1)
        assert isinstance(await place.store.commit(Commit(SCOPE, held.fence, after, segment=segment), 1), Committed)
        held = after
    asked = place.count("BatchWriteItem")
    place.meet("BatchWriteItem", PartialBatch(1), times=2)
    await place.store.expire(0)
    assert [len(body["RequestItems"]["pre-state"]) for body in asked] == [3, 2, 1]
    assert [segment.number for segment in await place.store.load_segments(SCOPE, 100)] == [3]


# Names


@pytest.mark.parametrize(("first", "then"), [(("pre", "a-b"), ("pre-a", "b")), (("pre-a", "b"), ("pre", "a-b"))])
async def test_two_prefixes_that_name_one_table(
    place: Place, first: tuple[str, str], then: tuple[str, str]
) -> None:  # fmt: skip
    """A rows table that another prefix's projection has under the same name is refused, whoever came first."""
    stores = [store_on(inside(place.server), prefix, place.clock) for prefix, _ in (first, then)]
    for store in stores:
        await store.open()
    await stores[0].create_generation(Generation(first[1], 1), 1, live=True)
    with pytest.raises(StoreRefused, match=rf"pre-a-b-g1 is that of projection {first[1]} under .* '{first[0]}'"):
        await stores[1].create_generation(Generation(then[1], 1), 1, live=True)
    assert list(await stores[1].generations(then[1])) == []
    await stores[1].create_generation(Generation("c", 1), 1, live=True)
    for store in stores:
        await store.aclose()


# Indexes on numbers


async def test_an_index_on_a_number_takes_numbers(place: Place) -> None:
    """Rows with a number in an index declared so are written and found by it; text there is the event's fault."""
    by_total = Index("by-total", "status", "total", numbers=("total",))
    await place.store.create_generation(GENERATION, 1, live=True, indexes=(by_total,))
    held = await place.store.take(SCOPE, "me", Checkpoint())

    def row(key: str, total: Any) -> RowWrite:
        return RowWrite(RowKey("main", key), WriteKind.PUT, {"status": "open", "total": total}, ABSENT, "s")

    first = Commit(SCOPE, held.fence, held.next("c1"), rows=(row("a", 9), row("b", Decimal("10.5"))))
    assert isinstance(await place.store.commit(first, 1), Committed)
    held = first.checkpoint
    second = Commit(SCOPE, held.fence, held.next("c2"), rows=(row("c", "much"),))
    assert isinstance(await place.store.commit(second, 1), Rejected)
    request = {
        "TableName": "pre-orders-g1",
        "IndexName": "by-total",
        "KeyConditionExpression": "#s=:s AND #t>:t",
        "ExpressionAttributeNames": {"#s": "status", "#t": "total"},
        "ExpressionAttributeValues": {":s": {"S": "open"}, ":t": {"N": "9"}},
    }
    answer: Any = await place.server.client().call("Query", orjson.dumps(request), 1.0)
    assert [item["key"]["S"] for item in answer.body["Items"]] == ["b"]
