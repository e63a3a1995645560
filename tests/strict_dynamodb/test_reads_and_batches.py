"""Query, Scan, GetItem and the batches: order, pages, consistency, what is left unprocessed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.testing.dynamodb.tables import Key, Record, Schema, Table

pytestmark = pytest.mark.anyio

EMPTY: dict[str, Any] = {}


async def fill(db: Any, pk: str, *ranges: str, **attributes: Any) -> None:
    """Put items of one partition."""
    for sk in ranges:
        await db.ok("PutItem", TableName="ranged", Item={"pk": {"S": pk}, "sk": {"S": sk}, **attributes})


async def query(db: Any, text: str = "pk = :p", **more: Any) -> dict[str, Any]:
    """Query the partition "a"."""
    values = {":p": {"S": "a"}, **more.pop("values", {})}
    return await db.ok(
        "Query", TableName="ranged", KeyConditionExpression=text, ExpressionAttributeValues=values, **more
    )


def ranges(answer: dict[str, Any]) -> list[str]:
    """The sort keys of an answer."""
    return [item["sk"]["S"] for item in answer["Items"]]


@pytest.mark.parametrize(
    ("text", "values", "found"),
    [
        ("pk = :p", {}, ["a1", "a2", "b1", "c1"]),
        ("pk = :p AND sk = :x", {":x": {"S": "b1"}}, ["b1"]),
        ("pk = :p and sk < :x", {":x": {"S": "b1"}}, ["a1", "a2"]),
        ("pk = :p AND sk <= :x", {":x": {"S": "b1"}}, ["a1", "a2", "b1"]),
        ("pk = :p AND sk > :x", {":x": {"S": "b1"}}, ["c1"]),
        ("sk >= :x AND pk = :p", {":x": {"S": "b1"}}, ["b1", "c1"]),
        ("pk = :p AND begins_with(sk, :x)", {":x": {"S": "a"}}, ["a1", "a2"]),
        ("(pk = :p) AND (sk BETWEEN :x AND :y)", {":x": {"S": "a2"}, ":y": {"S": "b9"}}, ["a2", "b1"]),
    ],
)
async def test_a_query_gives_one_partition_in_order(db: Any, text: str, values: Any, found: list[str]) -> None:
    """A query returns the items of one partition key that meet its sort-key condition, by the sort key."""
    await fill(db, "a", "c1", "a2", "b1", "a1")
    await fill(db, "other", "a1")
    assert ranges(await query(db, text, values=values)) == found
    assert ranges(await query(db, text, values=values, ScanIndexForward=False)) == found[::-1]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"KeyConditionExpression": "sk = :p"}, "Query condition missed key schema element: pk"),
        ({"KeyConditionExpression": "pk > :p"}, "Query key condition not supported"),
        ({"KeyConditionExpression": "pk = :p OR sk = :p"}, "Invalid operator used in KeyConditionExpression: OR"),
        ({"KeyConditionExpression": "pk = :p AND sk <> :p"}, "Invalid operator used in KeyConditionExpression: <>"),
        ({"KeyConditionExpression": "pk = :p AND pk = :p"}, "only contain one condition per key"),
        ({"KeyConditionExpression": "pk = :p AND x = :p"}, "missed key schema element: sk"),
        ({"KeyConditionExpression": "pk.x = :p"}, "cannot have conditions on nested attributes"),
        (
            {"KeyConditionExpression": "pk = :p", "FilterExpression": "sk = :p"},
            "only contain non-primary key attributes",
        ),
        ({"KeyConditionExpression": "pk = :p", "Limit": 0}, "greater than or equal to 1"),
        ({"KeyConditionExpression": "pk = :p", "IndexName": "nowhere"}, "does not have the specified index: nowhere"),
        ({"KeyConditionExpression": "pk = :p", "Select": "SPECIFIC_ATTRIBUTES"}, "Must specify"),
        ({"KeyConditionExpression": "pk = :p", "ExclusiveStartKey": {"pk": {"S": "a"}}}, "starting key is invalid"),
        (
            {
                "KeyConditionExpression": "pk = :p",
                "ExclusiveStartKey": {"pk": {"S": "other"}, "sk": {"S": "1"}},
            },
            "outside query boundaries",
        ),
        ({}, "KeyConditionExpression parameter must be specified"),
    ],
)
async def test_queries_against_the_rules_are_refused(db: Any, request_: Any, words: str) -> None:
    """A partition key by equality, at most one sort-key condition, and no key in the filter."""
    answer = await db.refused("Query", TableName="ranged", ExpressionAttributeValues={":p": {"S": "a"}}, **request_)
    assert answer.code == "ValidationException"
    assert words in answer.message


async def test_key_conditions_have_the_keys_type(db: Any) -> None:
    """A key compared with a value of another type is refused."""
    answer = await db.refused(
        "Query",
        TableName="ranged",
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": {"N": "1"}},
    )
    assert "Condition parameter type does not match schema type" in answer.message


async def test_number_keys_are_ordered_by_value(db: Any) -> None:
    """A sort key of type N is ordered as numbers, whatever their length."""
    await db.create("numbered", "pk", "at:N")
    for at in ("10", "9", "-1", "9.5"):
        await db.ok("PutItem", TableName="numbered", Item={"pk": {"S": "a"}, "at": {"N": at}})
    answer = await db.ok(
        "Query",
        TableName="numbered",
        KeyConditionExpression="pk = :p AND #at > :n",
        ExpressionAttributeNames={"#at": "at"},
        ExpressionAttributeValues={":p": {"S": "a"}, ":n": {"N": "-1.0"}},
    )
    assert [item["at"]["N"] for item in answer["Items"]] == ["9", "9.5", "10"]


@pytest.mark.parametrize("forward", [True, False])
async def test_pages_join_without_gap_or_overlap(db: Any, forward: bool) -> None:
    """Following LastEvaluatedKey gives every item once, also when the item it names has gone meanwhile."""
    names = [f"{number:02}" for number in range(10)]
    await fill(db, "a", *names)
    found: list[str] = []
    start: dict[str, Any] = {}
    while True:
        answer = await query(db, Limit=3, ScanIndexForward=forward, **start)
        found += ranges(answer)
        if "LastEvaluatedKey" not in answer:
            break
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        await db.ok("DeleteItem", TableName="ranged", Key=answer["LastEvaluatedKey"])
    assert found == (names if forward else names[::-1])


async def test_a_limit_counts_before_the_filter(db: Any) -> None:
    """`Limit` is what is evaluated: a filter may leave a page empty, and still there is a LastEvaluatedKey."""
    await fill(db, "a", "1", "2", "3")
    await fill(db, "a", "4", n={"N": "1"})
    filtered = await query(db, Limit=2, FilterExpression="attribute_exists(n)")
    assert (filtered["Count"], filtered["ScannedCount"], filtered["Items"]) == (0, 2, [])
    assert "LastEvaluatedKey" in filtered
    exact = await query(db, Limit=4)
    assert exact["LastEvaluatedKey"] == {"pk": {"S": "a"}, "sk": {"S": "4"}}


async def test_a_page_is_1_mb(db: Any) -> None:
    """A page ends before it passes 1 MB."""
    await fill(db, "a", *(str(number) for number in range(4)), b={"S": "x" * 300_000})
    first = await query(db)
    assert (first["Count"], first["LastEvaluatedKey"]["sk"]) == (3, {"S": "2"})


async def test_counting_returns_no_items(db: Any) -> None:
    """Select COUNT gives the counts alone."""
    await fill(db, "a", "1", "2")
    answer = await query(db, Select="COUNT")
    assert answer == {"Count": 2, "ScannedCount": 2}


async def test_a_scan_gives_every_item_once_in_pages_and_segments(db: Any) -> None:
    """Pages of a scan, and its parallel segments, together give each item exactly once."""
    for number in range(20):
        await fill(db, f"p{number}", "1", "2")
    seen: list[Any] = []
    for segment in range(3):
        start: dict[str, Any] = {}
        while True:
            answer = await db.ok(
                "Scan", TableName="ranged", Limit=3, Segment=segment, TotalSegments=3, ProjectionExpression="pk, sk",
                **start,
            )  # fmt: skip
            seen += [(item["pk"]["S"], item["sk"]["S"]) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                break
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
    assert sorted(seen) == sorted((f"p{number}", sk) for number in range(20) for sk in "12")


GSI = {
    "IndexName": "by-owner",
    "KeySchema": [{"AttributeName": "owned", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["kept"]},
}


async def indexed(db: Any) -> None:
    """Create a table with a secondary index."""
    await db.create(
        "indexed",
        "pk",
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "owned", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexes=[GSI],
    )


async def test_an_index_is_sparse_ordered_and_projected(db: Any) -> None:
    """An index holds the items that have its keys, by its own sort key, with what it projects and the table's key."""
    await indexed(db)
    for pk, at in (("x", "10"), ("y", "9")):
        await db.ok(
            "PutItem",
            TableName="indexed",
            Item={"pk": {"S": pk}, "owned": {"S": "me"}, "at": {"N": at}, "kept": {"S": "k"}, "left": {"S": "l"}},
        )
    await db.ok("PutItem", TableName="indexed", Item={"pk": {"S": "z"}, "owned": {"S": "me"}})
    request = {
        "TableName": "indexed",
        "IndexName": "by-owner",
        "KeyConditionExpression": "owned = :o",
        "ExpressionAttributeValues": {":o": {"S": "me"}},
    }
    first = await db.ok("Query", **request, Limit=1)
    assert first["Items"] == [{"pk": {"S": "y"}, "owned": {"S": "me"}, "at": {"N": "9"}, "kept": {"S": "k"}}]
    assert first["LastEvaluatedKey"] == {"pk": {"S": "y"}, "owned": {"S": "me"}, "at": {"N": "9"}}
    second = await db.ok("Query", **request, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert [item["pk"]["S"] for item in second["Items"]] == ["x"]
    refused = await db.refused("Query", **request, ConsistentRead=True)
    assert refused.message == "Consistent reads are not supported on global secondary indexes"


async def test_a_wrong_index_key_refuses_the_write(db: Any) -> None:
    """An index key of another type, or empty, refuses the item."""
    await indexed(db)
    answer = await db.refused("PutItem", TableName="indexed", Item={"pk": {"S": "x"}, "at": {"S": "9"}})
    assert "Type mismatch for Index Key at Expected: N Actual: S IndexName: by-owner" in answer.message
    answer = await db.refused("PutItem", TableName="indexed", Item={"pk": {"S": "x"}, "owned": {"S": ""}})
    assert "cannot contain an empty string value. IndexName: by-owner, IndexKey: owned" in answer.message


def keys_of(*names: str) -> list[Any]:
    """Keys as a request names them."""
    return [{"pk": {"S": name}} for name in names]


async def test_a_batch_gets_what_is_there(db: Any) -> None:
    """BatchGetItem returns the items found, by table, and leaves the missing out."""
    await db.put("a", n={"N": "1"})
    answer = await db.ok("BatchGetItem", RequestItems={"hashed": {"Keys": keys_of("a", "gone")}})
    assert answer == {"Responses": {"hashed": [{"pk": {"S": "a"}, "n": {"N": "1"}}]}, "UnprocessedKeys": {}}


@pytest.mark.parametrize(
    ("operation", "items", "words"),
    [
        ("BatchGetItem", EMPTY, "requestItems"),
        ("BatchGetItem", {"hashed": {"Keys": []}}, "greater than or equal to 1"),
        ("BatchGetItem", {"hashed": {"Keys": keys_of(*map(str, range(101)))}}, "Too many items requested"),
        ("BatchGetItem", {"hashed": {"Keys": keys_of("a", "a")}}, "contains duplicates"),
        ("BatchWriteItem", EMPTY, "requestItems"),
        (
            "BatchWriteItem",
            {"hashed": [{"DeleteRequest": {"Key": key}} for key in keys_of(*map(str, range(26)))]},
            "Too many items requested",
        ),
        (
            "BatchWriteItem",
            {"hashed": [{"PutRequest": {"Item": key}} for key in keys_of("a", "a")]},
            "contains duplicates",
        ),
        ("BatchWriteItem", {"hashed": [EMPTY]}, "exactly one"),
    ],
)
async def test_batches_against_the_rules_are_refused(db: Any, operation: str, items: Any, words: str) -> None:
    """100 keys, 25 writes, none of them twice."""
    answer = await db.refused(operation, RequestItems=items)
    assert (answer.code, words in answer.message) == ("ValidationException", True)


async def test_a_batch_returns_16_mb_and_names_the_rest(db: Any) -> None:
    """Beyond 16 MB the keys come back unprocessed, with their table's other members; asked again they are answered."""
    names = [f"{number:02}" for number in range(42)]
    for name in names:
        await db.put(name, b={"S": "x" * 400_000})
    request = {"hashed": {"Keys": keys_of(*names), "ConsistentRead": True}}
    first = await db.ok("BatchGetItem", RequestItems=request)
    assert len(first["Responses"]["hashed"]) == 41
    assert first["UnprocessedKeys"] == {"hashed": {"Keys": keys_of("41"), "ConsistentRead": True}}
    second = await db.ok("BatchGetItem", RequestItems=first["UnprocessedKeys"])
    assert [item["pk"]["S"] for item in second["Responses"]["hashed"]] == ["41"]


async def test_a_batch_writes_and_deletes(db: Any) -> None:
    """BatchWriteItem puts and deletes, each for itself."""
    await db.put("old")
    writes = [{"PutRequest": {"Item": {"pk": {"S": "new"}}}}, {"DeleteRequest": {"Key": {"pk": {"S": "old"}}}}]
    assert await db.ok("BatchWriteItem", RequestItems={"hashed": writes}) == {"UnprocessedItems": {}}
    assert [item["pk"]["S"] for item in db.server.table("hashed").items()] == ["new"]


async def test_only_a_consistent_read_is_sure_to_see_the_newest(db: Any) -> None:
    """With a lag, eventually consistent reads see the table as it was, item by item; consistent ones as it is."""
    lagging = await db.started(read_lag_seconds=10.0)
    await lagging.put("a", n={"N": "1"})
    await lagging.clock.advance(20)
    await lagging.put("a", n={"N": "2"})
    await lagging.put("b")
    key = {"TableName": "hashed", "Key": {"pk": {"S": "a"}}}
    batch = {"hashed": {"Keys": keys_of("a", "b")}}
    assert (await lagging.ok("GetItem", **key))["Item"]["n"] == {"N": "1"}
    assert (await lagging.ok("GetItem", **key, ConsistentRead=True))["Item"]["n"] == {"N": "2"}
    assert (await lagging.ok("BatchGetItem", RequestItems=batch))["Responses"] == {
        "hashed": [{"pk": {"S": "a"}, "n": {"N": "1"}}]
    }
    assert (await lagging.ok("Scan", TableName="hashed"))["Count"] == 1
    assert (await lagging.ok("Scan", TableName="hashed", ConsistentRead=True))["Count"] == 2
    await lagging.clock.advance(10)
    assert (await lagging.ok("GetItem", **key))["Item"]["n"] == {"N": "2"}


async def test_a_deleted_item_may_still_be_read_stale(db: Any) -> None:
    """With a lag, a query returns an item deleted a moment ago, in its place."""
    lagging = await db.started(read_lag_seconds=10.0)
    await fill(lagging, "a", "1", "2", "3")
    await lagging.clock.advance(20)
    await lagging.ok("DeleteItem", TableName="ranged", Key={"pk": {"S": "a"}, "sk": {"S": "2"}})
    assert ranges(await query(lagging)) == ["1", "2", "3"]
    assert ranges(await query(lagging, ConsistentRead=True)) == ["1", "3"]


STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("123"), st.booleans()), max_size=30)


@given(STEPS)
def test_a_partition_is_always_its_items_in_order(steps: list[tuple[str, str, bool]]) -> None:
    """After any puts and deletes a partition gives exactly the items of a plain dict, sorted."""
    table = Table("t", Schema("pk", "sk", {"pk": "S", "sk": "S"}))
    expected: dict[tuple[str, str], int] = {}
    for now, (pk, sk, keep) in enumerate(steps):
        record = Record({"pk": {"S": pk}, "sk": {"S": sk}, "at": {"N": str(now)}}, 1)
        table.store(Key(pk, sk), record if keep else None, float(now))
        if keep:
            expected[pk, sk] = now
        else:
            expected.pop((pk, sk), None)
    for pk in "ab":
        found = [(record.item["sk"]["S"], int(record.item["at"]["N"])) for _, record in table.partition(pk, None)]
        assert found == sorted((sk, now) for (one, sk), now in expected.items() if one == pk)
    assert len(table.items()) == len(expected)
