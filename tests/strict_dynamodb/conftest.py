"""A strict server on a clock that stands still until a test moves it, with two tables."""

from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from daemon.testing.clock import VirtualClock
from daemon.testing.dynamodb import StrictDynamoDb
from daemon.wire.aws_json import Answer, Failure, Success


@dataclass
class Caller:
    """Sends requests as a client in this process does."""

    server: StrictDynamoDb
    clock: VirtualClock

    async def send(self, operation: str, **body: Any) -> Answer:
        return await self.server.client().call(operation, orjson.dumps(body), 5.0)

    async def ok(self, operation: str, **body: Any) -> dict[str, Any]:
        answer = await self.send(operation, **body)
        assert isinstance(answer, Success), answer
        return answer.body

    async def refused(self, operation: str, **body: Any) -> Failure:
        answer = await self.send(operation, **body)
        assert isinstance(answer, Failure), answer
        return answer

    async def put(self, pk: str, **attributes: Any) -> None:
        await self.ok("PutItem", TableName="hashed", Item={"pk": {"S": pk}, **attributes})

    async def item(self, pk: str) -> dict[str, Any] | None:
        body = await self.ok("GetItem", TableName="hashed", Key={"pk": {"S": pk}}, ConsistentRead=True)
        return body.get("Item")

    async def create(self, name: str, *keys: str, **more: Any) -> None:
        types = {key.partition(":")[0]: key.partition(":")[2] or "S" for key in keys}
        await self.ok(
            "CreateTable",
            **{
                "TableName": name,
                "KeySchema": [
                    {"AttributeName": key, "KeyType": kind} for key, kind in zip(types, ("HASH", "RANGE"), strict=False)
                ],
                "AttributeDefinitions": [{"AttributeName": key, "AttributeType": kind} for key, kind in types.items()],
                "BillingMode": "PAY_PER_REQUEST",
                **more,
            },
        )

    async def started(self, **settings: Any) -> "Caller":
        """Another server with other settings, on the same clock, with the same tables."""
        other = Caller(StrictDynamoDb(clock=self.clock, **settings), self.clock)
        await other.create("hashed", "pk")
        await other.create("ranged", "pk", "sk")
        return other


@pytest.fixture
async def db() -> Caller:
    """Tables "hashed" (pk) and "ranged" (pk, sk)."""
    clock = VirtualClock(manual=True)
    return await Caller(StrictDynamoDb(clock=clock), clock).started()
