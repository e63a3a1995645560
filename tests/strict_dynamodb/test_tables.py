"""The control plane: tables, indexes, TTL, backups."""

from decimal import Decimal
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

KEY = {"KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}]}
DEFINED = {"AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]}
UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
ON_DEMAND = {"BillingMode": "PAY_PER_REQUEST"}
INDEX = {
    "IndexName": "by-g",
    "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "ALL"},
}
WITH_G = {"AttributeDefinitions": [*DEFINED["AttributeDefinitions"], {"AttributeName": "g", "AttributeType": "S"}]}


async def test_a_table_is_described_as_it_was_created(db: Any) -> None:
    """CreateTable answers CREATING, DescribeTable then ACTIVE with keys, billing, protection and indexes."""
    created = await db.ok(
        "CreateTable", TableName="made", **KEY, **WITH_G, **ON_DEMAND, DeletionProtectionEnabled=True,
        GlobalSecondaryIndexes=[INDEX],
    )  # fmt: skip
    assert created["TableDescription"]["TableStatus"] == "CREATING"
    table = (await db.ok("DescribeTable", TableName="made"))["Table"]
    assert (table["TableStatus"], table["KeySchema"], table["DeletionProtectionEnabled"]) == (
        "ACTIVE", KEY["KeySchema"], True,
    )  # fmt: skip
    assert table["BillingModeSummary"] == ON_DEMAND
    (index,) = table["GlobalSecondaryIndexes"]
    assert (index["IndexName"], index["IndexStatus"], index["Projection"]) == (
        "by-g", "ACTIVE", {"ProjectionType": "ALL"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"TableName": "ab", **KEY, **DEFINED, **ON_DEMAND}, "between 3 and 255"),
        ({"TableName": "a b c", **KEY, **DEFINED, **ON_DEMAND}, "regular expression pattern"),
        ({"TableName": "made", **KEY, **WITH_G, **ON_DEMAND}, "Some AttributeDefinitions are not used"),
        ({"TableName": "made", **KEY, "AttributeDefinitions": [], **ON_DEMAND}, "not defined in AttributeDefinitions"),
        ({"TableName": "made", "KeySchema": [], **DEFINED, **ON_DEMAND}, "Invalid KeySchema"),
        ({"TableName": "made", **KEY, **DEFINED}, "must both be specified when BillingMode is PROVISIONED"),
        (
            {"TableName": "made", **KEY, **DEFINED, **ON_DEMAND, "ProvisionedThroughput": UNITS},
            "when BillingMode is PAY_PER_REQUEST",
        ),
        (
            {"TableName": "made", **KEY, **WITH_G, "ProvisionedThroughput": UNITS, "GlobalSecondaryIndexes": [INDEX]},
            "ProvisionedThroughput must be specified for index: by-g",
        ),
        ({"TableName": "made", **KEY, **DEFINED, "BillingMode": "FREE"}, "enum value set"),
    ],
)
async def test_tables_against_the_rules_are_refused(db: Any, request_: Any, words: str) -> None:
    """Names, keys, definitions and billing fit together (API reference, CreateTable)."""
    answer = await db.refused("CreateTable", **request_)
    assert (answer.code, words in answer.message) == ("ValidationException", True)


async def test_a_table_is_created_once(db: Any) -> None:
    """A second table of a name is a ResourceInUseException."""
    answer = await db.refused("CreateTable", TableName="hashed", **KEY, **DEFINED, **ON_DEMAND)
    assert answer.code == "ResourceInUseException"


async def test_a_table_is_usable_when_it_is_active(db: Any) -> None:
    """While it is CREATING data operations do not find it, and DescribeTable does."""
    slow = await db.started(table_seconds=10.0)
    await slow.clock.advance(10)
    await slow.create("late", "pk")
    assert (await slow.refused("Scan", TableName="late")).code == "ResourceNotFoundException"
    assert (await slow.ok("DescribeTable", TableName="late"))["Table"]["TableStatus"] == "CREATING"
    await slow.clock.advance(10)
    assert (await slow.ok("Scan", TableName="late"))["Count"] == 0


async def test_a_protected_table_is_not_deleted(db: Any) -> None:
    """Deletion protection is taken off before a table can be deleted."""
    await db.create("kept", "pk", DeletionProtectionEnabled=True)
    assert "protected against deletion" in (await db.refused("DeleteTable", TableName="kept")).message
    await db.ok("UpdateTable", TableName="kept", DeletionProtectionEnabled=False)
    await db.ok("DeleteTable", TableName="kept")
    assert (await db.refused("DescribeTable", TableName="kept")).code == "ResourceNotFoundException"
    assert (await db.refused("DeleteTable", TableName="kept")).code == "ResourceNotFoundException"


async def test_tables_are_listed_in_pages(db: Any) -> None:
    """ListTables is sorted and paged."""
    await db.create("another", "pk")
    first = await db.ok("ListTables", Limit=2)
    assert first == {"TableNames": ["another", "hashed"], "LastEvaluatedTableName": "hashed"}
    assert await db.ok("ListTables", ExclusiveStartTableName="hashed") == {"TableNames": ["ranged"]}


async def test_an_index_is_made_and_dropped_later(db: Any) -> None:
    """UpdateTable makes an index over what is there, one at a time, and drops it."""
    await db.put("a", g={"S": "x"})
    created = {"GlobalSecondaryIndexUpdates": [{"Create": INDEX}], **WITH_G}
    await db.ok("UpdateTable", TableName="hashed", **created)
    found = await db.ok("Scan", TableName="hashed", IndexName="by-g")
    assert found["Items"] == [{"pk": {"S": "a"}, "g": {"S": "x"}}]
    both = {"GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "by-g"}}] * 2}
    assert (await db.refused("UpdateTable", TableName="hashed", **both)).code == "LimitExceededException"
    await db.ok("UpdateTable", TableName="hashed", GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-g"}}])
    assert "specified index: by-g" in (await db.refused("Scan", TableName="hashed", IndexName="by-g")).message


async def test_billing_changes_both_ways(db: Any) -> None:
    """UpdateTable goes from on-demand to provisioned and back."""
    await db.ok("UpdateTable", TableName="hashed", BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
    table = (await db.ok("DescribeTable", TableName="hashed"))["Table"]
    assert (table["ProvisionedThroughput"]["WriteCapacityUnits"], "BillingModeSummary" in table) == (5, False)
    await db.ok("UpdateTable", TableName="hashed", **ON_DEMAND)
    assert (await db.ok("DescribeTable", TableName="hashed"))["Table"]["BillingModeSummary"] == ON_DEMAND


async def test_ttl_is_changed_once_an_hour(db: Any) -> None:
    """UpdateTimeToLive takes one change an hour and no change that changes nothing (quotas)."""
    enable = {"TableName": "hashed", "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True}}
    disable = {"TableName": "hashed", "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": False}}
    await db.ok("UpdateTimeToLive", **enable)
    assert await db.ok("DescribeTimeToLive", TableName="hashed") == {
        "TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
    }
    assert "already enabled" in (await db.refused("UpdateTimeToLive", **enable)).message
    assert "multiple times" in (await db.refused("UpdateTimeToLive", **disable)).message
    await db.clock.advance(3600)
    await db.ok("UpdateTimeToLive", **disable)


async def test_expired_items_stay_until_ttl_removes_them(db: Any) -> None:
    """Expired items are readable until removed; numbers in the past go, the future, other types and what is older than
    five years stay.
    """
    enable = {"AttributeName": "ttl", "Enabled": True}
    await db.ok("UpdateTimeToLive", TableName="hashed", TimeToLiveSpecification=enable)
    now = int(db.clock.now().timestamp())
    await db.put("past", ttl={"N": str(now - 1)})
    await db.put("future", ttl={"N": str(now + 100)})
    await db.put("text", ttl={"S": str(now - 1)})
    await db.put("ancient", ttl={"N": "1000"})
    await db.put("none")
    assert await db.item("past") is not None
    assert db.server.expire() == 1
    assert await db.item("past") is None
    assert len(db.server.table("hashed").items()) == 4


async def test_backups_are_switched_and_described(db: Any) -> None:
    """Point-in-time recovery is off until it is switched on."""
    status: list[str] = []
    for enabled in (None, True):
        if enabled:
            wanted = {"PointInTimeRecoveryEnabled": True}
            await db.ok("UpdateContinuousBackups", TableName="hashed", PointInTimeRecoverySpecification=wanted)
        shown = (await db.ok("DescribeContinuousBackups", TableName="hashed"))["ContinuousBackupsDescription"]
        status.append(shown["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"])
    assert status == ["DISABLED", "ENABLED"]
    assert (await db.refused("DescribeContinuousBackups", TableName="nowhere")).code == "TableNotFoundException"


async def test_a_snapshot_is_plain_python(db: Any) -> None:
    """`snapshot` gives every table's items as plain values for a test to compare."""
    await db.put("a", l={"L": [{"N": "1.5"}, {"NULL": True}]}, s={"SS": ["x"]}, b={"B": "AQ=="})
    expected = {"pk": "a", "l": [Decimal("1.5"), None], "s": {"x"}, "b": b"\x01"}
    assert db.server.snapshot() == {"hashed": [expected], "ranged": []}
