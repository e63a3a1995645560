"""The servers of the DynamoDB figures, each in a process of its own, and what stands in the strict one's tables."""

import asyncio
from collections.abc import Sequence
from typing import Any, override
from uuid import uuid4

import orjson

from daemon.app import SystemClock
from daemon.core.identity import Generation
from daemon.demo.services.strict import StrictDynamoDB
from daemon.stores.dynamodb import DynamoDbStore
from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB, Success
from tests.benchmarks.dynamodb.engine import KEYS, REGION, Wrap, connecting

_SECONDS = 30.0

type Item = dict[str, Any]


class HoldingDynamoDB(StrictDynamoDB):
    """A strict server whose transactions hold their items for a while, so that they conflict as AWS's do."""

    hold_ms = 5.0

    @override
    def command(self) -> Sequence[str]:
        """Return how to start it."""
        return [*super().command(), "--hold-ms", str(self.hold_ms), "--seed", "1"]


def consumed_body(prefix: str) -> str:
    """Return a commit's answer as DynamoDB gives it: what it consumed, by table."""
    units = [
        {"TableName": f"{prefix}-{name}", "CapacityUnits": 98.0, "WriteCapacityUnits": 98.0}
        for name in ("state", "markers", "rows-g1")
    ]
    return orjson.dumps({"ConsumedCapacity": units}).decode()


def new_prefix() -> str:
    """Return a prefix that no table has."""
    return f"bench{uuid4().hex[:10]}"


def store_on(commits: str, rest: str, prefix: str, wrap: Wrap | None = None) -> DynamoDbStore:
    """Return a store whose commits go to one server and whose other calls go to another."""
    return DynamoDbStore(connecting(commits, rest, wrap), SystemClock(), prefix=prefix)


async def make_tables(url: str, prefix: str, projection: str) -> None:
    """Make the tables of one projection, for loops that make none."""
    store = store_on(url, url, prefix)
    await store.open()
    try:
        await store.create_generation(Generation(projection, 1), 1, live=True)
    finally:
        await store.aclose()


def read_table(url: str, table: str) -> list[Item]:
    """Read a whole table of the strict server."""

    async def main() -> list[Item]:
        access = AwsAccess(aws_session(region=REGION, keys=KEYS))
        client = access.client(await access.endpoint(DYNAMODB, url))
        found: list[Item] = []
        request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
        try:
            while True:
                answer = await client.call("Scan", orjson.dumps(request), _SECONDS)
                assert isinstance(answer, Success), answer
                found += answer.body["Items"]
                last = answer.body.get("LastEvaluatedKey")
                if not last:
                    return found
                request["ExclusiveStartKey"] = last
        finally:
            await access.aclose()

    return asyncio.run(main())
