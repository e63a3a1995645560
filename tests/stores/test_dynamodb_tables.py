"""Tables looked at, made and guarded: on the strict server, and through the SDK's own client."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.core.identity import Generation
from daemon.core.inventory import PartState
from daemon.core.projection import Index
from daemon.stores.dynamodb import Care, DynamoDbStore
from daemon.stores.dynamodb.tables import Table, Tables
from daemon.stores.dynamodb.template import cloudformation
from daemon.testing.clock import VirtualClock
from daemon.testing.dynamodb import AnswerWith, Fault, Refuse, StrictDynamoDb
from daemon.testing.dynamodb.http import HttpServer
from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB, AwsJson, Failure, NotSent, Silence, Success
from daemon.wire.aws_sdk import SdkJson
from tests.support.dynamodb import inside, store_on

pytestmark = pytest.mark.anyio

ORDERS = Generation("orders", 1)
BY_STATUS = Index("by-status", "status")
BY_TOTAL = Index("by-total", "status", "total", numbers=("total",))
BY_DAY = Index("by-day", "day", "status")
GUARDED = Care(None, recovery=True, protection=True)


@pytest.fixture
def server() -> StrictDynamoDb:
    """A server on a clock that moves by sleeping."""
    return StrictDynamoDb(clock=VirtualClock())


def store_with(server: StrictDynamoDb, care: Care | None = None, **settings: Any) -> DynamoDbStore:
    """A store on the server, unopened."""
    return store_on(inside(server), "pre", VirtualClock(), care=care, **settings)


async def call(server: StrictDynamoDb, operation: str, **request: Any) -> dict[str, Any]:
    """Make a call that must succeed."""
    answer = await server.client("person").call(operation, orjson.dumps(request), 5.0)
    assert isinstance(answer, Success), answer
    return answer.body


async def states(store: DynamoDbStore, *indexes: Index) -> set[tuple[str, str, PartState]]:
    """What a survey says of the rows' table."""
    parts = await store.survey({ORDERS: indexes})
    return {(part.what, part.name, part.state) for part in parts if part.name.startswith("pre-orders-g1")}


async def test_a_missing_table_is_one_step_that_says_all(server: StrictDynamoDb) -> None:
    """A table that is not there is one step, with billing, expiry, indexes and guards in its words."""
    parts = await store_with(server, Care((5, 7), recovery=True, protection=True)).survey({ORDERS: (BY_DAY,)})
    assert [(part.name, part.state) for part in parts] == [
        (f"pre-{name}", PartState.MAKE) for name in ("state", "markers", "effects", "orders-g1")
    ]
    assert parts[-1].detail == (
        "provisioned, 5 read, 7 write; items expire by '_expires'; index by-day by day, status; "
        "point-in-time recovery; deletion protection"
    )


async def test_what_is_off_is_switched_on_and_stays_on(server: StrictDynamoDb) -> None:
    """Expiry, indexes, recovery and protection are added where they lack, and no later settings remove them."""
    bare = Table("pre-orders-g1", ("key", "view"))
    await call(server, "CreateTable", **bare.create_request())
    on = {
        ("expiry", "pre-orders-g1"),
        ("index", "pre-orders-g1/by-day"),
        ("index", "pre-orders-g1/by-status"),
        ("point-in-time recovery", "pre-orders-g1"),
        ("deletion protection", "pre-orders-g1"),
    }
    guarded, careless = store_with(server, GUARDED), store_with(server)
    exists = ("table", "pre-orders-g1", PartState.EXISTS)
    assert await states(guarded, BY_DAY, BY_STATUS) == {exists, *((*part, PartState.CHANGE) for part in on)}
    await guarded.establish({ORDERS: (BY_DAY, BY_STATUS)})
    there = {exists, *((*part, PartState.EXISTS) for part in on)}
    assert await states(guarded, BY_DAY, BY_STATUS) == there
    await careless.establish({ORDERS: ()})
    assert await states(guarded, BY_DAY, BY_STATUS) == there
    held = (await call(server, "DescribeTable", TableName="pre-orders-g1"))["Table"]
    assert held["DeletionProtectionEnabled"]
    assert len(held["GlobalSecondaryIndexes"]) == 2


async def test_what_only_a_person_can_tell_is_left_and_told(server: StrictDynamoDb) -> None:
    """Other billing, another expiry attribute and an index by other keys are told as differing, and left so."""
    theirs = Table("pre-orders-g1", ("key", "view"), "gone_at", (Index("by-day", "month"),), Care((3, 4)))
    await call(server, "CreateTable", **theirs.create_request())
    await call(server, "UpdateTimeToLive", **(theirs.expiry_request() or {}))
    state = Table("pre-state", ("pk", "sk"), "expires")
    await call(server, "CreateTable", **state.create_request())
    await call(server, "UpdateTimeToLive", **(state.expiry_request() or {}))
    store = store_with(server)
    await store.establish({ORDERS: (BY_DAY,)})
    parts = {(part.what, part.name): part for part in await store.survey({ORDERS: (BY_DAY,)})}
    differing = {key: part.detail for key, part in parts.items() if part.state is PartState.DIFFERS}
    assert differing == {
        ("billing", "pre-orders-g1"): (
            "is provisioned, 3 read, 4 write, the settings say on demand; left as it is"
        ),
        ("expiry", "pre-orders-g1"): (
            "items expire by 'gone_at', not '_expires': switch that off, then run `projectiond init`"
        ),
        ("index", "pre-orders-g1/by-day"): "is by month, not by day, status: remove it, or rename the new one",
        ("expiry", "pre-state"): (
            "items expire by 'expires', which projectiond does not use here; look who switched it on"
        ),
    }  # fmt: skip
    assert not [part for part in parts.values() if part.to_do]


async def test_an_index_on_numbers_is_made_and_told_so(server: StrictDynamoDb) -> None:
    """Numbers of an index are defined as such, survive another index, and differ from text of the same name."""
    store = store_with(server)
    await store.establish({ORDERS: (BY_TOTAL,)})
    await store.establish({ORDERS: (BY_TOTAL, BY_STATUS)})
    held = (await call(server, "DescribeTable", TableName="pre-orders-g1"))["Table"]
    kinds = {one["AttributeName"]: one["AttributeType"] for one in held["AttributeDefinitions"]}
    assert kinds == {"key": "S", "view": "S", "status": "S", "total": "N"}
    parts = {part.name: part for part in await store.survey({ORDERS: (BY_TOTAL, BY_STATUS)})}
    assert parts["pre-orders-g1/by-total"].detail == "by status, total (a number)"
    as_text = (Index("by-total", "status", "total"), Index("by-amount", "total"))
    parts = {part.name: part for part in await store.survey({ORDERS: as_text})}
    assert not [part for part in parts.values() if part.to_do]
    assert parts["pre-orders-g1/by-total"].detail.startswith("is by status, total (a number), not by status, total")
    assert "total is a number there" in parts["pre-orders-g1/by-amount"].detail


async def test_an_index_of_a_provisioned_table_gets_the_table_s_units(server: StrictDynamoDb) -> None:
    """An index added to a table with provisioned billing has the table's own throughput."""
    await call(server, "CreateTable", **Table("pre-orders-g1", ("key", "view"), care=Care((3, 4))).create_request())
    await store_with(server).establish({ORDERS: (BY_DAY,)})
    (index,) = (await call(server, "DescribeTable", TableName="pre-orders-g1"))["Table"]["GlobalSecondaryIndexes"]
    throughput = index["ProvisionedThroughput"]
    assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (3, 4)


@pytest.mark.parametrize("care", [Care(), GUARDED, Care((5, 6))], ids=["on demand", "guarded", "provisioned"])
async def test_a_start_and_init_make_the_same_tables(care: Care) -> None:
    """Tables that a start makes need nothing more by `init`'s own look, whatever the settings ask for."""
    server = StrictDynamoDb(clock=VirtualClock())
    store = store_with(server, care)
    await store.open()
    await store.create_generation(ORDERS, 1, live=True, indexes=(BY_DAY,))
    parts = await store.survey({ORDERS: (BY_DAY,)})
    await store.aclose()
    assert {part.state for part in parts} == {PartState.EXISTS}
    assert sum(part.what == "point-in-time recovery" for part in parts) == (4 if care.recovery else 0)


async def test_somebody_else_s_table_ends_the_look(server: StrictDynamoDb) -> None:
    """A table of other keys under our name is refused, with the remedy, and nothing is made beside it."""
    await call(server, "CreateTable", **Table("pre-markers", ("id",)).create_request())
    store = store_with(server)
    with pytest.raises(StoreRefused, match=r"choose another store\.prefix"):
        await store.survey({})
    with pytest.raises(StoreRefused, match="it is not projectiond's"):
        await store.establish({})


async def test_slow_tables_are_waited_for() -> None:
    """A table that takes its time is switched on only once it is active."""
    clock = VirtualClock()
    server = StrictDynamoDb(clock=clock, table_seconds=30.0)
    store = store_on(inside(server), "pre", clock, care=GUARDED)
    await store.establish({ORDERS: ()})
    assert {part.state for part in await store.survey({ORDERS: ()})} == {PartState.EXISTS}
    assert clock.monotonic() >= 30.0


async def test_changes_under_way_are_waited_for(server: StrictDynamoDb) -> None:
    """A change that DynamoDB does not take yet, since another is under way, is tried again."""
    for code in ("ResourceInUseException", "LimitExceededException"):
        server.faults.add(Fault(AnswerWith(code), operation="UpdateTimeToLive", times=2))
    server.faults.add(Fault(AnswerWith("ContinuousBackupsUnavailableException"), "UpdateContinuousBackups", times=2))
    store = store_with(server, GUARDED)
    await store.establish({ORDERS: ()})
    assert not [part for part in await store.survey({ORDERS: ()}) if part.to_do]


async def test_missing_rights_end_it_with_the_call_s_own_words(server: StrictDynamoDb) -> None:
    """A role that may not change a table is told so; nothing is tried again for ever."""
    server.faults.add(Fault(AnswerWith("AccessDeniedException", "not dynamodb:CreateTable"), "CreateTable", times=None))
    with pytest.raises(StoreRefused, match="not dynamodb:CreateTable"):
        await store_with(server).establish({})


async def test_a_server_without_guards_says_so(server: StrictDynamoDb) -> None:
    """Where continuous backups are unknown, wanting them is told as differing, and ends nothing."""
    unknown = AnswerWith("UnknownOperationException")
    server.faults.add(Fault(unknown, operation="DescribeContinuousBackups", times=None))
    store = store_with(server, Care(None, recovery=True))
    await store.establish({})
    found = [(part.state, part.detail) for part in await store.survey({}) if part.what == "point-in-time recovery"]
    assert found == [(PartState.DIFFERS, "this server knows none")] * 3


async def test_no_answer_is_store_unavailable(server: StrictDynamoDb) -> None:
    """A server that cannot be reached ends the look after the store's patience."""
    server.faults.add(Fault(Refuse(), times=None))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store_with(server).survey({})


# Through the SDK


@pytest.fixture
async def http() -> AsyncIterator[HttpServer]:
    """A server behind a socket."""
    async with HttpServer(StrictDynamoDb()) as served:
        yield served


async def sdk(endpoint_url: str) -> AwsJson:
    """The SDK's own client of a server."""
    access = AwsAccess(aws_session(region="us-east-1", keys=("AKIDTEST", "secret", None)))
    return await SdkJson.opened(access.sdk_client(await access.endpoint(DYNAMODB, endpoint_url)))


async def test_the_sdk_s_client_makes_the_same_tables(http: HttpServer) -> None:
    """Everything a plan may ask for goes through the SDK's own client too, whose checks it passes."""
    store = store_on(inside(http.server), "pre", care=GUARDED, administer=lambda: sdk(http.url))
    await call(http.server, "CreateTable", **Table("pre-orders-g1", ("key", "view")).create_request())
    await store.establish({ORDERS: (BY_DAY,)})
    assert {part.state for part in await store.survey({ORDERS: (BY_DAY,)})} == {PartState.EXISTS}
    assert await store.recorded(["orders"]) == {}


async def test_the_sdk_s_errors_are_the_wire_s_answers(http: HttpServer) -> None:
    """What the SDK raises is one of the four answers, and never an exception."""
    client = await sdk(http.url)
    missing = await client.call("DescribeTable", b'{"TableName":"none"}', 5.0)
    assert isinstance(missing, Failure)
    assert (missing.status, missing.code) == (400, "ResourceNotFoundException")
    invalid = await client.call("DescribeTable", b'{"Tabel":"none"}', 5.0)
    assert isinstance(invalid, Silence | NotSent)
    assert "Tabel" in invalid.detail
    http.server.faults.add(Fault(AnswerWith("InternalServerError", status=500), times=None))
    failing = await client.call("DescribeTable", b'{"TableName":"none"}', 0.2)
    assert isinstance(failing, Silence | Failure)
    await client.aclose()


# As a template


def test_the_template_is_valid_cloudformation(tmp_path: Path) -> None:
    """cfn-lint finds nothing wrong with the template, in every form that tables may have."""
    for name, care in (("plain", Care()), ("guarded", GUARDED), ("provisioned", Care((5, 6), recovery=True))):
        tables = Tables("shop.live", care)
        rows = tables.of_generation(Generation("order_summary", 2), (BY_DAY, BY_STATUS))
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(cloudformation([*tables.own(), rows])), encoding="utf-8")
    command = [
        str(Path(sys.executable).with_name("cfn-lint")),
        "--regions",
        "us-east-1",
        "--",
        *map(str, sorted(tmp_path.iterdir())),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_template_keeps_tables_and_tells_them_apart() -> None:
    """Every table is retained, and names that differ in signs alone get ids of their own."""
    made = cloudformation([Table("a-b", ("pk",)), Table("a.b", ("pk",))])["Resources"]
    assert {name: resource["Properties"]["TableName"] for name, resource in made.items()} == {
        "ABTable": "a-b",
        "ABTableX": "a.b",
    }
    assert {resource["DeletionPolicy"] for resource in made.values()} == {"Retain"}
    assert {resource["UpdateReplacePolicy"] for resource in made.values()} == {"Retain"}
