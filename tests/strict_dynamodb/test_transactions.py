"""Transactions: limits, cancellation by index, client tokens, conflicts under concurrency."""

import asyncio
from typing import Any

import pytest

from daemon.wire.aws_json import Failure, Success

pytestmark = pytest.mark.anyio


def put(pk: str, table: str = "hashed", **more: Any) -> dict[str, Any]:
    """A Put; capitals are members of the action, the rest attributes."""
    attributes = {name: value for name, value in more.items() if name[0].islower()}
    others = {name: value for name, value in more.items() if name[0].isupper()}
    return {"Put": {"TableName": table, "Item": {"pk": {"S": pk}, **attributes}, **others}}


def update(pk: str, text: str, values: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An Update."""
    bound = {"ExpressionAttributeValues": values} if values else {}
    return {"Update": {"TableName": "hashed", "Key": {"pk": {"S": pk}}, "UpdateExpression": text, **bound, **more}}


def check(pk: str, text: str = "attribute_exists(pk)", **more: Any) -> dict[str, Any]:
    """A ConditionCheck."""
    return {"ConditionCheck": {"TableName": "hashed", "Key": {"pk": {"S": pk}}, "ConditionExpression": text, **more}}


def delete(pk: str, **more: Any) -> dict[str, Any]:
    """A Delete."""
    return {"Delete": {"TableName": "hashed", "Key": {"pk": {"S": pk}}, **more}}


def codes(answer: Any) -> list[str]:
    """The codes of a cancellation, by index."""
    assert isinstance(answer, Failure), answer
    assert answer.code == "TransactionCanceledException", answer
    return [reason["Code"] for reason in answer.body["CancellationReasons"]]


async def test_all_actions_take_effect_together(db: Any) -> None:
    """A put, an update, a delete and a check in one transaction: all of them."""
    await db.put("old")
    await db.put("there")
    await db.ok(
        "TransactWriteItems",
        TransactItems=[
            put("new", n={"N": "1"}),
            update("counted", "ADD n :one", {":one": {"N": "1"}}),
            delete("old"),
            check("there"),
        ],
    )
    assert await db.item("new") == {"pk": {"S": "new"}, "n": {"N": "1"}}
    assert await db.item("counted") == {"pk": {"S": "counted"}, "n": {"N": "1"}}
    assert await db.item("old") is None


async def test_one_failed_condition_cancels_all_with_reasons_in_order(db: Any) -> None:
    """CancellationReasons follow the request's order; "None" without a message where nothing failed; the old image
    where it was asked for and exists; the message lists the codes.
    """
    await db.put("there", n={"N": "7"})
    answer = await db.refused(
        "TransactWriteItems",
        TransactItems=[
            put("one"),
            put("there", ConditionExpression="attribute_not_exists(pk)", ReturnValuesOnConditionCheckFailure="ALL_OLD"),
            check("nowhere", ReturnValuesOnConditionCheckFailure="ALL_OLD"),
            delete("there2", ConditionExpression="attribute_exists(pk)"),
        ],
    )
    failed = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
    assert answer.body["CancellationReasons"] == [
        {"Code": "None"},
        {**failed, "Item": {"pk": {"S": "there"}, "n": {"N": "7"}}},
        failed,
        failed,
    ]
    assert answer.message == (
        "Transaction cancelled, please refer cancellation reasons for specific reasons "
        "[None, ConditionalCheckFailed, ConditionalCheckFailed, ConditionalCheckFailed]"
    )
    assert answer.body["__type"] == "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
    assert "ConsumedCapacity" not in answer.body
    assert await db.item("one") is None


def nested(levels: int) -> dict[str, Any]:
    """A text under so many maps."""
    return {"M": {"n": nested(levels - 1)}} if levels else {"S": "leaf"}


EMPTY: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ([], "greater than or equal to 1"),
        ([put(str(number)) for number in range(101)], "less than or equal to 100"),
        ([put("a"), delete("a")], "cannot include multiple operations on one item"),
        ([check("a"), update("a", "REMOVE x")], "cannot include multiple operations on one item"),
        ([put("a") | delete("b")], "can only contain one of Check, Put, Update or Delete"),
        ([EMPTY], "can only contain one of Check, Put, Update or Delete"),
        ([{"Get": EMPTY}], "can only contain one of Check, Put, Update or Delete"),
        ([put(str(number), b={"S": "x" * 400_000}) for number in range(11)], "exceeding the 4MB limit"),
        ([put("a", b={"S": "x" * 410_000})], "Item size has exceeded the maximum allowed size"),
        ([put("a", b=nested(32))], "Nesting Levels have exceeded supported limits"),
        ([put("")], "cannot contain an empty string value. Key: pk"),
        ([delete("")], "cannot contain an empty string value. Key: pk"),
        ([put("a", n={"N": "x"})], "cannot be converted to a numeric value"),
        ([put("a"), check("b", "attribute_exists(")], 'Syntax error; token: "<EOF>", near: "("'),
        ([put("a", "nowhere"), check("b", "attribute_exists(")], "Syntax error"),
        ([update("a", "SET name = :v", {":v": {"S": "x"}})], "reserved keyword: name"),
        ([update("a", "SET n = :v", {":v": {"S": "x"}, ":w": {"S": "x"}})], "unused in expressions: keys: {:w}"),
        ([update("a", "ADD n :v", {":v": {"S": "x"}})], "operand type: STRING"),
        ([{"ConditionCheck": {"TableName": "hashed", "Key": {"pk": {"S": "a"}}}}], "'conditionExpression'"),
        (
            [{"Put": {"TableName": "hashed", "Item": {"pk": {"S": "a"}}, "ConditionExpresion": "x"}}],
            "Unknown parameter",
        ),
    ],
)
async def test_what_the_request_gives_away_refuses_it_as_a_whole(db: Any, actions: Any, words: str) -> None:
    """Limits, duplicates, two operations in an action, syntax, placeholders, values and empty keys are a top-level
    ValidationException (captures on AWS, conformance suite); nothing is written.
    """
    answer = await db.refused("TransactWriteItems", TransactItems=actions)
    assert (answer.code, answer.status) == ("ValidationException", 400)
    assert words in answer.message
    assert db.server.table("hashed").items() == []


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (
            {"Put": {"TableName": "hashed", "Item": {"pk": {"N": "5"}}}},
            "Type mismatch for key pk expected: S actual: N",
        ),
        ({"Put": {"TableName": "hashed", "Item": {"x": {"N": "5"}}}}, "Missing the key pk in the item"),
        ({"Delete": {"TableName": "hashed", "Key": {"pk": {"N": "5"}}}}, "does not match the schema"),
        (update("text", "SET s = s + :one", {":one": {"N": "1"}}), "incorrect data type"),
        (update("text", "SET s = gone"), "does not exist in the item"),
        (update("text", "SET gone.x = :one", {":one": {"N": "1"}}), "invalid for update"),
        (update("text", "SET b = :b", {":b": {"S": "x" * 409_600}}), "Item size to update has exceeded"),
        (update("text", "SET pk = :one", {":one": {"S": "1"}}), "Cannot update attribute pk"),
    ],
)
async def test_what_the_item_gives_away_cancels_by_index(db: Any, action: Any, words: str) -> None:
    """Key types, operand types, paths and the size after an update are a ValidationError at the action's index (API
    model of TransactionCanceledException; captures on AWS).
    """
    await db.put("text", s={"S": "x"})
    answer = await db.refused("TransactWriteItems", TransactItems=[put("a"), action])
    assert codes(answer) == ["None", "ValidationError"]
    assert words in answer.body["CancellationReasons"][1]["Message"]
    assert await db.item("a") is None


async def test_a_missing_table_is_no_cancellation(db: Any) -> None:
    """A table that is not there is a ResourceNotFoundException of the whole request."""
    answer = await db.refused("TransactWriteItems", TransactItems=[put("a"), put("b", "nowhere")])
    assert (answer.code, answer.message) == ("ResourceNotFoundException", "Requested resource not found")


# -- client tokens

ADD = update("counted", "ADD n :one", {":one": {"N": "1"}})


async def count(db: Any) -> str | None:
    """The counter that ADD raises."""
    item = await db.item("counted")
    return item["n"]["N"] if item else None


async def test_a_token_makes_a_repeat_harmless_and_bills_it_as_reads(db: Any) -> None:
    """The same token and body again succeeds, changes nothing, and consumes reads (how it works, idempotency)."""
    request = {"TransactItems": [ADD], "ClientRequestToken": "t" * 36, "ReturnConsumedCapacity": "TOTAL"}
    first = await db.ok("TransactWriteItems", **request)
    again = await db.ok("TransactWriteItems", **request)
    assert first["ConsumedCapacity"] == [{"TableName": "hashed", "CapacityUnits": 2.0, "WriteCapacityUnits": 2.0}]
    assert again["ConsumedCapacity"] == [{"TableName": "hashed", "CapacityUnits": 2.0, "ReadCapacityUnits": 2.0}]
    assert await count(db) == "1"


async def test_a_replay_is_billed_by_the_items_size(db: Any) -> None:
    """An item of 1.5 KB costs 4 write units, and 2 read units when its transaction is replayed (capture on AWS)."""
    request = {
        "TransactItems": [put("a", b={"S": "x" * 1500})], "ClientRequestToken": "t", "ReturnConsumedCapacity": "TOTAL",
    }  # fmt: skip
    units = [(await db.ok("TransactWriteItems", **request))["ConsumedCapacity"][0]["CapacityUnits"] for _ in "12"]
    assert units == [4.0, 2.0]


async def test_the_order_of_a_bodys_members_does_not_matter(db: Any) -> None:
    """The same parameters in another order are the same request."""
    await db.ok("TransactWriteItems", TransactItems=[put("a", x={"N": "1"}, y={"N": "2"})], ClientRequestToken="t")
    await db.ok("TransactWriteItems", ClientRequestToken="t", TransactItems=[put("a", y={"N": "2"}, x={"N": "1"})])


async def test_another_body_under_a_token_is_a_mismatch(db: Any) -> None:
    """The same token with other parameters is an IdempotentParameterMismatchException."""
    await db.ok("TransactWriteItems", TransactItems=[ADD], ClientRequestToken="t")
    answer = await db.refused("TransactWriteItems", TransactItems=[put("b")], ClientRequestToken="t")
    assert answer.code == "IdempotentParameterMismatchException"


async def test_a_token_holds_ten_minutes_after_its_request_finished(db: Any) -> None:
    """Within ten minutes a repeat is a replay; after them it is a new request (how it works, idempotency)."""
    await db.ok("TransactWriteItems", TransactItems=[ADD], ClientRequestToken="t")
    await db.clock.advance(599)
    await db.ok("TransactWriteItems", TransactItems=[ADD], ClientRequestToken="t")
    assert await count(db) == "1"
    await db.clock.advance(1)
    await db.ok("TransactWriteItems", TransactItems=[ADD], ClientRequestToken="t")
    assert await count(db) == "2"


async def test_a_cancelled_transaction_frees_its_token(db: Any) -> None:
    """After a cancellation the same token runs the request anew, another body included."""
    failing = [put("a", ConditionExpression="attribute_exists(pk)")]
    for _ in "12":
        assert codes(await db.refused("TransactWriteItems", TransactItems=failing, ClientRequestToken="t")) == [
            "ConditionalCheckFailed"
        ]
    await db.ok("TransactWriteItems", TransactItems=[put("b")], ClientRequestToken="t")


@pytest.mark.parametrize("token", ["", "t" * 37])
async def test_a_token_has_1_to_36_characters(db: Any, token: str) -> None:
    """A token of another length is refused."""
    answer = await db.refused("TransactWriteItems", TransactItems=[ADD], ClientRequestToken=token)
    assert (answer.code, "clientRequestToken" in answer.message) == ("ValidationException", True)


# -- concurrency


@pytest.fixture
async def slow(db: Any) -> Any:
    """A server whose transactions hold their items for a second."""
    return await db.started(hold_seconds=1.0)


async def started(slow: Any, **request: Any) -> asyncio.Task[Any]:
    """A transaction that holds its items."""
    task = asyncio.ensure_future(slow.send("TransactWriteItems", **request))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_two_transactions_on_one_item_conflict_by_index(slow: Any) -> None:
    """While one holds an item another is cancelled with TransactionConflict at that item's index."""
    first = await started(slow, TransactItems=[put("a"), put("b")])
    second = await slow.send("TransactWriteItems", TransactItems=[put("c"), put("b"), put("d")])
    assert codes(second) == ["None", "TransactionConflict", "None"]
    assert second.body["CancellationReasons"][1]["Message"] == "Transaction is ongoing for the item"
    await slow.clock.advance(1)
    assert isinstance(await first, Success)
    assert {item["pk"]["S"] for item in slow.server.table("hashed").items()} == {"a", "b"}


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("PutItem", {"Item": {"pk": {"S": "a"}}}),
        ("DeleteItem", {"Key": {"pk": {"S": "a"}}}),
        ("UpdateItem", {"Key": {"pk": {"S": "a"}}, "UpdateExpression": "REMOVE x"}),
    ],
)
async def test_a_single_write_on_a_held_item_conflicts(slow: Any, operation: str, request_: Any) -> None:
    """A write of an item in an ongoing transaction is a TransactionConflictException; reads pass and see the old."""
    await slow.put("a", n={"N": "1"})
    first = await started(slow, TransactItems=[put("a", n={"N": "2"})])
    assert (await slow.refused(operation, TableName="hashed", **request_)).code == "TransactionConflictException"
    assert (await slow.item("a"))["n"] == {"N": "1"}
    await slow.clock.advance(1)
    assert isinstance(await first, Success)
    assert (await slow.item("a"))["n"] == {"N": "2"}


async def test_a_read_transaction_conflicts_with_an_ongoing_write(slow: Any) -> None:
    """TransactGetItems on a held item is cancelled by index."""
    first = await started(slow, TransactItems=[put("a")])
    gets = [{"Get": {"TableName": "hashed", "Key": {"pk": {"S": pk}}}} for pk in ("b", "a")]
    assert codes(await slow.send("TransactGetItems", TransactItems=gets)) == ["None", "TransactionConflict"]
    await slow.clock.advance(1)
    await first


async def test_a_batch_leaves_a_held_item_unprocessed(slow: Any) -> None:
    """BatchWriteItem writes what is free and names the held item as unprocessed."""
    first = await started(slow, TransactItems=[put("a")])
    writes = [{"PutRequest": {"Item": {"pk": {"S": pk}}}} for pk in ("a", "b")]
    answer = await slow.ok("BatchWriteItem", RequestItems={"hashed": writes})
    assert answer["UnprocessedItems"] == {"hashed": writes[:1]}
    await slow.clock.advance(1)
    await first


async def test_the_same_token_while_it_runs_is_in_progress(slow: Any) -> None:
    """A repeat before the first has finished is a TransactionInProgressException; afterwards it is a replay."""
    request = {"TransactItems": [ADD], "ClientRequestToken": "t"}
    first = await started(slow, **request)
    assert (await slow.refused("TransactWriteItems", **request)).code == "TransactionInProgressException"
    await slow.clock.advance(1)
    assert isinstance(await first, Success)
    await slow.ok("TransactWriteItems", **request)
    assert await count(slow) == "1"


async def test_a_window_begins_when_its_request_finished(slow: Any) -> None:
    """Ten minutes after the first request came, but not after it finished, a repeat is still a replay."""
    first = await started(slow, TransactItems=[ADD], ClientRequestToken="t")
    await slow.clock.advance(1)
    await first
    await slow.clock.advance(599.5)
    await slow.ok("TransactWriteItems", TransactItems=[ADD], ClientRequestToken="t")
    assert await count(slow) == "1"


async def test_held_items_are_free_after_a_cancellation(slow: Any) -> None:
    """A transaction that fails its condition holds its items too, and then lets them go."""
    failing = [put("a", ConditionExpression="attribute_exists(pk)"), put("b")]
    first = await started(slow, TransactItems=failing)
    assert codes(await slow.send("TransactWriteItems", TransactItems=[put("b")])) == ["TransactionConflict"]
    await slow.clock.advance(1)
    assert codes(await first) == ["ConditionalCheckFailed", "None"]
    await slow.put("b")


async def test_a_sender_that_gives_up_does_not_stop_its_transaction(slow: Any) -> None:
    """A cancelled call leaves a request that the server already has: it is carried out."""
    first = await started(slow, TransactItems=[put("a")])
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await slow.clock.advance(1)
    assert await slow.item("a") is not None
    assert slow.server.running == 0


async def test_a_gate_holds_a_transaction_as_long_as_a_test_wants(db: Any) -> None:
    """With a gate the moment between prepare and commit lasts until the gate opens."""
    opened = asyncio.Event()

    async def gate() -> None:
        await opened.wait()

    gated = await db.started(gate=gate)
    first = await started(gated, TransactItems=[put("a")])
    assert (await gated.refused("PutItem", TableName="hashed", Item={"pk": {"S": "a"}})).code == (
        "TransactionConflictException"
    )
    opened.set()
    assert isinstance(await first, Success)


async def test_reading_transactions_return_items_in_order(db: Any) -> None:
    """TransactGetItems answers in the request's order, an empty object for what is missing, twice the read units."""
    await db.put("a", n={"N": "1"}, m={"N": "2"})
    gets = [
        {"Get": {"TableName": "hashed", "Key": {"pk": {"S": "gone"}}}},
        {"Get": {"TableName": "hashed", "Key": {"pk": {"S": "a"}}, "ProjectionExpression": "n"}},
    ]
    answer = await db.ok("TransactGetItems", TransactItems=gets, ReturnConsumedCapacity="TOTAL")
    assert answer["Responses"] == [{}, {"Item": {"n": {"N": "1"}}}]
    assert answer["ConsumedCapacity"] == [{"TableName": "hashed", "CapacityUnits": 4.0, "ReadCapacityUnits": 4.0}]
    refused = await db.refused("TransactGetItems", TransactItems=[gets[0], gets[0]])
    assert "multiple operations on one item" in refused.message
