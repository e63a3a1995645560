"""What operations consume, and what happens when a provisioned table has no more."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

KB = 1024


def sized(pk: str, size: int) -> dict[str, Any]:
    """An item of exactly `size` bytes."""
    return {"pk": {"S": pk}, "b": {"S": "x" * (size - len("pk") - len(pk) - len("b"))}}


async def units(db: Any, operation: str, **request: Any) -> float:
    """Send an operation on "hashed" and return what it consumed."""
    answer = await db.ok(operation, TableName="hashed", ReturnConsumedCapacity="TOTAL", **request)
    assert answer["ConsumedCapacity"].keys() == {"TableName", "CapacityUnits"}
    return answer["ConsumedCapacity"]["CapacityUnits"]


@pytest.mark.parametrize(("size", "expected"), [(10, 1.0), (KB, 1.0), (KB + 1, 2.0), (10 * KB, 10.0)])
async def test_a_write_costs_a_unit_per_kb(db: Any, size: int, expected: float) -> None:
    """Item sizes are rounded up to the next 1 KB (capacity unit consumption, writes)."""
    assert await units(db, "PutItem", Item=sized("a", size)) == expected


async def test_a_write_costs_the_larger_of_before_and_after(db: Any) -> None:
    """Put and update cost the larger image, a delete what it deletes, and nothing deleted costs one unit."""
    await db.ok("PutItem", TableName="hashed", Item=sized("a", 3 * KB))
    key = {"Key": {"pk": {"S": "a"}}}
    assert await units(db, "UpdateItem", **key, UpdateExpression="REMOVE b") == 3.0
    assert await units(db, "UpdateItem", **key, UpdateExpression="REMOVE b") == 1.0
    await db.ok("PutItem", TableName="hashed", Item=sized("a", 2 * KB))
    assert await units(db, "PutItem", Item=sized("a", 20)) == 2.0
    assert await units(db, "DeleteItem", **key) == 1.0
    assert await units(db, "DeleteItem", **key) == 1.0


@pytest.mark.parametrize(("size", "expected"), [(10, 1.0), (4 * KB, 1.0), (4 * KB + 1, 2.0), (10 * KB, 3.0)])
async def test_a_read_costs_a_unit_per_4_kb_and_half_when_eventual(db: Any, size: int, expected: float) -> None:
    """Rounded up to the next 4 KB; an eventually consistent read costs half (capacity unit consumption, reads)."""
    await db.ok("PutItem", TableName="hashed", Item=sized("a", size))
    key = {"Key": {"pk": {"S": "a"}}}
    assert await units(db, "GetItem", **key, ConsistentRead=True) == expected
    assert await units(db, "GetItem", **key) == expected / 2


async def test_reading_nothing_costs_too(db: Any) -> None:
    """A read of a missing item costs one unit, or half of one."""
    key = {"Key": {"pk": {"S": "gone"}}}
    assert await units(db, "GetItem", **key, ConsistentRead=True) == 1.0
    assert await units(db, "GetItem", **key) == 0.5


async def test_a_failed_condition_consumes(db: Any) -> None:
    """A conditional write that fails consumes by the stored item's size, or one unit without an item."""
    await db.ok("PutItem", TableName="hashed", Item=sized("a", 2 * KB))
    before = db.server.spent("hashed").writes
    for pk, text in (("a", "attribute_not_exists(pk)"), ("gone", "attribute_exists(pk)")):
        await db.refused("PutItem", TableName="hashed", Item=sized(pk, 10), ConditionExpression=text)
    assert db.server.spent("hashed").writes - before == 3.0


async def test_a_transaction_costs_twice_by_table(db: Any) -> None:
    """Two underlying writes an item: three 500-byte items cost 6; a check costs like a write (how it works)."""
    three = [{"Put": {"TableName": "hashed", "Item": sized(pk, 500)}} for pk in "abc"]
    other = {"Put": {"TableName": "ranged", "Item": {**sized("a", 1500), "sk": {"S": "1"}}}}
    check = {
        "ConditionCheck": {
            "TableName": "hashed", "Key": {"pk": {"S": "d"}}, "ConditionExpression": "attribute_not_exists(pk)",
        }
    }  # fmt: skip
    answer = await db.ok("TransactWriteItems", TransactItems=[*three, other, check], ReturnConsumedCapacity="INDEXES")
    assert answer["ConsumedCapacity"] == [
        {
            "TableName": name,
            "CapacityUnits": spent,
            "WriteCapacityUnits": spent,
            "Table": {"CapacityUnits": spent, "WriteCapacityUnits": spent},
        }
        for name, spent in (("hashed", 8.0), ("ranged", 4.0))
    ]


async def test_batches_round_each_item(db: Any) -> None:
    """BatchWriteItem and BatchGetItem round item by item: 500 bytes and 3.5 KB are 5 units, 1.5 and 6.5 KB are 3."""
    writes = [{"PutRequest": {"Item": sized("a", 500)}}, {"PutRequest": {"Item": sized("b", 3584)}}]
    answer = await db.ok("BatchWriteItem", RequestItems={"hashed": writes}, ReturnConsumedCapacity="TOTAL")
    assert answer["ConsumedCapacity"] == [{"TableName": "hashed", "CapacityUnits": 5.0}]
    for pk, size in (("a", 1536), ("b", 6656)):
        await db.ok("PutItem", TableName="hashed", Item=sized(pk, size))
    keys = [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}]
    for consistent, expected in ((True, 3.0), (False, 1.5)):
        request = {"hashed": {"Keys": keys, "ConsistentRead": consistent}}
        answer = await db.ok("BatchGetItem", RequestItems=request, ReturnConsumedCapacity="TOTAL")
        assert answer["ConsumedCapacity"][0]["CapacityUnits"] == expected


async def test_a_query_rounds_its_sum(db: Any) -> None:
    """A query sums the sizes first, filtered or not: 10 items of 1 KB are 3 units, 1.5 when eventual."""
    for number in range(10):
        size = KB - len("sk0")
        await db.ok("PutItem", TableName="ranged", Item={**sized("a", size), "sk": {"S": str(number)}})
    request = {
        "TableName": "ranged",
        "KeyConditionExpression": "pk = :p",
        "FilterExpression": "attribute_exists(gone)",
        "ExpressionAttributeValues": {":p": {"S": "a"}},
        "ReturnConsumedCapacity": "TOTAL",
    }
    assert (await db.ok("Query", **request, ConsistentRead=True))["ConsumedCapacity"]["CapacityUnits"] == 3.0
    assert (await db.ok("Query", **request))["ConsumedCapacity"]["CapacityUnits"] == 1.5


async def test_an_index_costs_what_its_entry_changes(db: Any) -> None:
    """An index entry made, changed or removed costs a write; a changed index key two; an untouched one nothing."""
    await db.create(
        "indexed",
        "pk",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "g")],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-g",
                "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    spent: list[float] = []
    for item in ({"x": "1"}, {"x": "1", "g": "1"}, {"x": "2", "g": "1"}, {"x": "2", "g": "2"}, {"x": "2"}):
        answer = await db.ok(
            "PutItem",
            TableName="indexed",
            Item={"pk": {"S": "a"}} | {name: {"S": value} for name, value in item.items()},
            ReturnConsumedCapacity="INDEXES",
        )
        capacity = answer["ConsumedCapacity"]
        spent.append(capacity.get("GlobalSecondaryIndexes", {}).get("by-g", {}).get("CapacityUnits", 0.0))
        assert capacity["CapacityUnits"] == 1.0 + spent[-1]
    assert spent == [0.0, 1.0, 0.0, 2.0, 1.0]


async def test_an_unknown_mode_is_refused(db: Any) -> None:
    """ReturnConsumedCapacity is INDEXES, TOTAL or NONE."""
    answer = await db.refused("GetItem", TableName="hashed", Key={"pk": {"S": "a"}}, ReturnConsumedCapacity="ALL")
    assert "[INDEXES, TOTAL, NONE]" in answer.message


async def provisioned(db: Any) -> Any:
    """A server with a table of one read and two write units, without burst."""
    other = await db.started(burst_seconds=0.0)
    await other.create(
        "small",
        "pk",
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 2},
    )
    return other


async def test_a_provisioned_table_throttles_and_recovers(db: Any) -> None:
    """Beyond its units a table answers ProvisionedThroughputExceededException; a second later it goes on."""
    small = await provisioned(db)
    request = {"TableName": "small", "Item": {"pk": {"S": "a"}}}
    await small.ok("PutItem", **request)
    await small.ok("PutItem", **request)
    assert (await small.refused("PutItem", **request)).code == "ProvisionedThroughputExceededException"
    await small.clock.advance(0.5)
    await small.ok("PutItem", **request)
    assert (await small.refused("PutItem", **request)).code == "ProvisionedThroughputExceededException"


async def test_a_throttled_action_cancels_by_index(db: Any) -> None:
    """In a transaction the table without units is a ProvisionedThroughputExceeded reason at its index."""
    small = await provisioned(db)
    actions = [{"Put": {"TableName": name, "Item": {"pk": {"S": pk}}}} for name, pk in
               (("hashed", "a"), ("small", "a"), ("small", "b"))]  # fmt: skip
    answer = await small.refused("TransactWriteItems", TransactItems=actions)
    codes = [reason["Code"] for reason in answer.body["CancellationReasons"]]
    assert codes == ["None", "None", "ProvisionedThroughputExceeded"]
    assert small.server.table("hashed").items() == []


async def test_a_throttled_batch_is_partial(db: Any) -> None:
    """Keys beyond the read units come back unprocessed."""
    small = await provisioned(db)
    keys = [{"pk": {"S": pk}} for pk in "abc"]
    answer = await small.ok("BatchGetItem", RequestItems={"small": {"Keys": keys}})
    assert answer["UnprocessedKeys"]["small"]["Keys"] == keys[2:]
