"""Scripted faults: each does what it says, to the call it names, and to no other."""

import asyncio
from typing import Any

import orjson
import pytest

from daemon.testing.dynamodb import (
    AnswerWith,
    CancelWith,
    Delay,
    Drop,
    DuplicateLater,
    Fault,
    LoopClock,
    LoseAnswer,
    PartialBatch,
    Refuse,
    StaleRead,
    StrictDynamoDb,
    Throttle,
)
from daemon.wire.aws_json import Failure, NotSent, Silence, Success

pytestmark = pytest.mark.anyio

PUT = {"TableName": "hashed", "Item": {"pk": {"S": "a"}}}
ADD = {
    "TransactItems": [
        {
            "Update": {
                "TableName": "hashed",
                "Key": {"pk": {"S": "n"}},
                "UpdateExpression": "ADD n :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }
    ]
}


def script(db: Any, action: Any, **matching: Any) -> None:
    """Add one fault."""
    db.server.faults.add(Fault(action, **matching))


async def settle() -> None:
    """Let other tasks run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_refused_connection_is_not_sent(db: Any) -> None:
    """Refuse: the call knows that nothing happened."""
    script(db, Refuse())
    assert isinstance(await db.send("PutItem", **PUT), NotSent)
    assert await db.item("a") is None


@pytest.mark.parametrize(
    ("action", "applied"),
    [(Drop(), False), (LoseAnswer(), True), (LoseAnswer("cut"), True), (LoseAnswer("crc"), True)],
)
async def test_a_lost_answer_is_silence_whether_applied_or_not(db: Any, action: Any, applied: bool) -> None:
    """Drop and LoseAnswer look the same to the caller; the table knows."""
    script(db, action)
    assert isinstance(await db.send("PutItem", **PUT), Silence)
    assert (await db.item("a") is not None) is applied


@pytest.mark.parametrize(("action", "applied"), [(Drop("hang"), False), (LoseAnswer("hang"), True)])
async def test_a_half_open_connection_is_silent_until_the_deadline(db: Any, action: Any, applied: bool) -> None:
    """With "hang" the call waits for its whole deadline on the server's clock."""
    script(db, action)
    call = asyncio.ensure_future(db.send("PutItem", **PUT))
    await settle()
    await db.clock.advance(4.9)
    assert not call.done()
    await db.clock.advance(0.2)
    await settle()
    assert isinstance(await call, Silence)
    assert (await db.item("a") is not None) is applied


async def test_a_delayed_request_takes_effect_after_its_sender_gave_up(db: Any) -> None:
    """Delay before: the call ends at its deadline, and the request is carried out when it arrives."""
    script(db, Delay(before=8.0))
    call = asyncio.ensure_future(db.send("PutItem", **PUT))
    await settle()
    await db.clock.advance(5)
    await settle()
    assert isinstance(await call, Silence)
    assert await db.item("a") is None
    await db.clock.advance(3)
    assert await db.item("a") is not None


async def test_a_delayed_answer_leaves_the_effect_at_once(db: Any) -> None:
    """Delay after: the table has it while the caller still waits."""
    script(db, Delay(after=2.0))
    call = asyncio.ensure_future(db.send("PutItem", **PUT))
    await settle()
    assert await db.item("a") is not None
    await db.clock.advance(2)
    assert isinstance(await call, Success)


@pytest.mark.parametrize(("token", "count"), [({}, "2"), ({"ClientRequestToken": "t"}, "1")])
async def test_a_duplicate_arrives_later(db: Any, token: dict[str, str], count: str) -> None:
    """DuplicateLater delivers the same bytes again: twice the effect without a token, once with one."""
    script(db, DuplicateLater(30.0), operation="TransactWriteItems")
    await db.ok("TransactWriteItems", **ADD, **token)
    assert (await db.item("n"))["n"] == {"N": "1"}
    assert db.server.running == 1
    await db.clock.advance(30)
    await settle()
    assert (await db.item("n"))["n"] == {"N": count}
    assert db.server.running == 0


@pytest.mark.parametrize("applied", [False, True])
async def test_an_error_may_hide_that_it_was_applied(db: Any, applied: bool) -> None:
    """AnswerWith gives the code and status; `applied` says whether the request took effect."""
    script(db, AnswerWith("InternalServerError", status=500, applied=applied))
    answer = await db.refused("PutItem", **PUT)
    assert (answer.code, answer.status) == ("InternalServerError", 500)
    assert (await db.item("a") is not None) is applied


@pytest.mark.parametrize(
    "code",
    [
        "ConditionalCheckFailed",
        "ItemCollectionSizeLimitExceeded",
        "TransactionConflict",
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
        "ValidationError",
    ],
)
@pytest.mark.parametrize("index", [0, 2])
async def test_every_cancellation_code_at_any_index(db: Any, code: str, index: int) -> None:
    """CancelWith cancels with a code at an index, "None" elsewhere; nothing is written."""
    script(db, CancelWith({index: code}))
    actions = [{"Put": {"TableName": "hashed", "Item": {"pk": {"S": pk}}}} for pk in "abc"]
    answer = await db.refused("TransactWriteItems", TransactItems=actions)
    assert answer.code == "TransactionCanceledException"
    found = [reason["Code"] for reason in answer.body["CancellationReasons"]]
    assert found == [code if place == index else "None" for place in range(3)]
    assert db.server.table("hashed").items() == []


async def test_a_throttle_lasts_its_time(db: Any) -> None:
    """From its first call on, Throttle refuses every matching call until its seconds are over."""
    script(db, Throttle(30.0), operation="PutItem")
    assert (await db.refused("PutItem", **PUT)).code == "ThrottlingException"
    await db.clock.advance(29)
    assert (await db.refused("PutItem", **PUT)).code == "ThrottlingException"
    assert await db.item("a") is None
    await db.clock.advance(1)
    await db.ok("PutItem", **PUT)


async def test_a_batch_is_cut_where_the_script_says(db: Any) -> None:
    """PartialBatch gets through so many keys, once."""
    for pk in "abc":
        await db.put(pk)
    keys = [{"pk": {"S": pk}} for pk in "abc"]
    script(db, PartialBatch(1), operation="BatchGetItem")
    first = await db.ok("BatchGetItem", RequestItems={"hashed": {"Keys": keys}})
    assert len(first["Responses"]["hashed"]) == 1
    assert first["UnprocessedKeys"]["hashed"]["Keys"] == keys[1:]
    second = await db.ok("BatchGetItem", RequestItems=first["UnprocessedKeys"])
    assert len(second["Responses"]["hashed"]) == 2


async def test_a_scripted_stale_read_goes_back_so_far(db: Any) -> None:
    """StaleRead shows an eventually consistent read the past, a consistent one the present."""
    keeping = await db.started(history_seconds=60.0)
    await keeping.clock.advance(10)
    await keeping.put("a")
    keeping.server.faults.add(Fault(StaleRead(5.0), times=None))
    assert "Item" not in await keeping.ok("GetItem", TableName="hashed", Key={"pk": {"S": "a"}})
    assert await keeping.item("a") is not None


async def test_a_fault_meets_the_call_that_it_names(db: Any) -> None:
    """`operation`, `when`, `nth` and `times` choose the call; every other passes."""
    fault = Fault(Drop(), operation="PutItem", when=lambda call: call.body["TableName"] == "hashed", nth=2)
    db.server.faults.add(fault)
    other = {"TableName": "ranged", "Item": {"pk": {"S": "a"}, "sk": {"S": "a"}}}
    kinds: list[type[Any]] = [
        type(await db.send(call[0], **call[1]))
        for call in (("PutItem", PUT), ("PutItem", other), ("DeleteItem", {"TableName": "hashed", "Key": PUT["Item"]}),
                     ("PutItem", PUT), ("PutItem", PUT))
    ]  # fmt: skip
    assert kinds == [Success, Success, Success, Silence, Success]
    assert (fault.seen, fault.fired) == (3, 1)


async def test_faults_know_their_client(db: Any) -> None:
    """One client can be cut off while another goes on."""
    db.server.faults.add(Fault(Refuse(), when=lambda call: call.client == "one", times=None))
    raw = orjson.dumps(PUT)
    assert isinstance(await db.server.client("one").call("PutItem", raw, 1.0), NotSent)
    assert isinstance(await db.server.client("two").call("PutItem", raw, 1.0), Success)


async def test_a_closed_client_sends_nothing(db: Any) -> None:
    """After aclose a call is NotSent."""
    client = db.server.client()
    await client.aclose()
    assert isinstance(await client.call("PutItem", orjson.dumps(PUT), 1.0), NotSent)


@pytest.mark.parametrize(
    ("operation", "raw", "code"),
    [
        ("PutItem", b"{", "SerializationException"),
        ("PutItem", b"[]", "SerializationException"),
        ("PutItem", b'{"TableName": 1}', "SerializationException"),
        ("PutItem", b'{"TableName": "hashed"}', "ValidationException"),
        ("PutItem", b'{"TableName": "hashed", "Expected": {}}', "ValidationException"),
        ("Nonsense", b"{}", "UnknownOperationException"),
        (
            "PutItem",
            b'{"TableName": "hashed", "Item": {"pk": {"S": "a"}}, "ConditionExpression": "' + b"(" * 4000 + b'"}',
            "ValidationException",
        ),
    ],
)
async def test_malformed_requests_are_refused(db: Any, operation: str, raw: bytes, code: str) -> None:
    """What is no JSON, of the wrong shape, legacy or unknown is refused with the service's codes."""
    answer = await db.server.client().call(operation, raw, 1.0)
    assert isinstance(answer, Failure)
    assert answer.code == code


async def test_the_same_seed_gives_the_same_course() -> None:
    """Holds, latencies and lags are drawn from the seed: two runs of one seed answer alike, another seed does not."""

    async def course(seed: int) -> list[str]:
        server = StrictDynamoDb(
            clock=LoopClock(),
            seed=seed,
            hold_seconds=lambda chance: chance.choice((0.0, 0.001)),
            latency_seconds=lambda chance: chance.choice((0.0, 0.0005)),
        )
        drawn = [(server.random.random(), server.random.random()) for _ in range(3)]
        await server.aclose()
        return [str(pair) for pair in drawn]

    assert await course(1) == await course(1)
    assert await course(1) != await course(2)
