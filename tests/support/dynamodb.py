"""DynamoDB servers as tests see them: how to reach one, and stores on tables of their own.

A server that was not started here is a guest's: its tables are removed after each test, and what the tests consumed
there is told with its price.
"""

import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from daemon.app import SystemClock
from daemon.ports.clock import Clock
from daemon.stores.dynamodb import Connections, DynamoDbStore
from daemon.stores.dynamodb.outcomes import consumed_of
from daemon.testing.dynamodb import StrictDynamoDb
from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB, Answer, AwsJson, Success

type Connecting = Callable[[], Awaitable[Connections]]

SERVERS = tuple(os.environ.get("DYNAMODB_SERVERS", "strict dynoxide").split())
"""The servers that the contract suite runs on: `strict` (in this process), `dynoxide`, `ministack`, any URL (such as
that of a DynamoDB Local), or `aws`: the account of the environment's credentials and region, at its price.
"""
AWS = "aws"
USD_PER_MILLION = {"wcu": 0.625, "rcu": 0.125}
"""On demand, in us-east-1."""
BILL = Counter[str]()
"""What was consumed on servers that were not started here, `wcu` and `rcu`."""
_DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class LocalPools:
    """The three clients of a strict server in this process; fault scripts know them by these names."""

    commits: AwsJson
    reads: AwsJson
    leases: AwsJson

    async def aclose(self) -> None:
        for client in (self.commits, self.reads, self.leases):
            await client.aclose()


def inside(server: StrictDynamoDb) -> Connecting:
    """What a store connects with, to a strict server in this process."""

    async def connect() -> Connections:
        return LocalPools(server.client("commits"), server.client("reads"), server.client("leases"))

    return connect


def over_http(endpoint_url: str) -> Connecting:
    """What a store connects with, to a server that takes any credentials."""

    async def connect() -> Connections:
        access = AwsAccess(aws_session(region="us-east-1", keys=("AKIDTEST", "secret", None)))
        return access.pools(await access.endpoint(DYNAMODB, endpoint_url))

    return connect


def on_aws() -> Connecting:
    """What a store connects with, to DynamoDB itself, as the SDK's environment says."""

    async def connect() -> Connections:
        access = AwsAccess(aws_session())
        return access.pools(await access.endpoint(DYNAMODB))

    return connect


@dataclass(frozen=True, slots=True)
class Billed:
    """A client whose consumption is written on the bill."""

    client: AwsJson

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        answer = await self.client.call(operation, body, deadline_seconds)
        if isinstance(answer, Success) and "ConsumedCapacity" in answer.body:
            reads = operation.startswith(("Get", "BatchGet", "TransactGet", "Query", "Scan"))
            for name, units in consumed_of(answer.body, "rcu" if reads else "wcu").items():
                BILL[name.partition(":")[0]] += units  # pyright: ignore[reportArgumentType] - units come in halves
        return answer

    async def aclose(self) -> None:
        await self.client.aclose()


@asynccontextmanager
async def visiting(name: str, reach: Connecting, prefix: str) -> AsyncGenerator[Connecting]:
    """Reach one of `SERVERS` for one test; as a guest, be billed and leave no table behind."""
    if name != AWS and "://" not in name:
        yield reach
        return

    async def billed() -> Connections:
        pools = await reach()
        return LocalPools(Billed(pools.commits), Billed(pools.reads), Billed(pools.leases))

    yield billed
    pools = await reach()
    try:
        for table in await _tables(pools.leases, prefix):
            answer = await pools.leases.call("DeleteTable", orjson.dumps({"TableName": table}), _DEADLINE)
            assert isinstance(answer, Success), answer
    finally:
        await pools.aclose()


async def _tables(client: AwsJson, prefix: str) -> list[str]:
    found: list[str] = []
    request: dict[str, Any] = {"ExclusiveStartTableName": f"{prefix}-"}
    while True:
        answer = await client.call("ListTables", orjson.dumps(request), _DEADLINE)
        assert isinstance(answer, Success), answer
        names = [name for name in answer.body["TableNames"] if name.startswith(f"{prefix}-")]
        found += names
        last = answer.body.get("LastEvaluatedTableName")
        if not last or not names:
            return found
        request["ExclusiveStartTableName"] = last


def bill() -> str:
    """Say what was consumed on servers that were not started here, and its price."""
    price = sum(BILL[unit] * usd / 1e6 for unit, usd in USD_PER_MILLION.items())
    return f"guests of DynamoDB: {BILL['wcu']:,.0f} write and {BILL['rcu']:,.0f} read units, ${price:.4f} on demand"


def connecting(name: str, request: pytest.FixtureRequest) -> Connecting:
    """How to reach one of `SERVERS`; it is started if it has to be."""
    if name == "strict":
        return inside(StrictDynamoDb())
    if name == AWS:
        return on_aws()
    if "://" in name:
        return over_http(name)
    return over_http(request.getfixturevalue(name).endpoint)


def store_on(connect: Connecting, prefix: str, clock: Clock | None = None, **settings: Any) -> DynamoDbStore:
    """A store on one server's tables of one prefix."""
    return DynamoDbStore(connect, clock or SystemClock(), prefix=prefix, **settings)
