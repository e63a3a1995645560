"""What people write on the stock async client: one transaction an event, and the careful one, batched by hand.

Both write the same three kinds of items as the daemon: row, marker, checkpoint. Neither tries again or fences.
"""

import json
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import orjson
from aiobotocore.config import AioConfig  # pyright: ignore[reportMissingTypeStubs]

from daemon.wire.aws_access import aws_session
from tests.benchmarks.dynamodb.engine import KEYS, REGION, Lap
from tests.benchmarks.dynamodb.moves import LOG, MARKER_SECONDS, SOURCE

BATCH = 49
_PK = f"{SOURCE}/{LOG}"
_UPDATE_ROW = "SET #status = :status, #place = :place, #speed = :speed, #at = :at, #moves = :moves"
_ROW_NAMES = {"#status": "status", "#place": "place", "#speed": "speed", "#at": "at", "#moves": "moves"}
_MOVE = "SET #position = :position"


class SdkLoop:
    """Where a loop writes, and the capacity that its writes took."""

    def __init__(self, url: str, prefix: str, projection: str) -> None:
        self._url = url
        self._state, self._markers = f"{prefix}-state", f"{prefix}-markers"
        self._rows = f"{prefix}-{projection}-g1"
        self.units = 0.0

    async def one_by_one(self, log: Path, lap: Lap) -> None:
        """One transaction an event."""
        async with self._client() as client:
            position = number = 0
            with log.open("rb") as lines:
                for line in lines:
                    number += 1
                    position += len(line)
                    event = json.loads(line)
                    data = event["data"]
                    digest = blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=16).digest()
                    if event["type"] == "OrderMoved":
                        await self._send(
                            client,
                            [self._marker(event["id"], digest), self._row(data), self._checkpoint(position)],
                        )
                    lap.at(number)

    async def batched(self, log: Path, lap: Lap, **options: object) -> None:
        """One transaction for as many events as it takes, each row written once."""
        async with self._client(**options) as client:
            rows: dict[str, dict[str, Any]] = {}
            markers: list[dict[str, Any]] = []
            position = number = 0
            with log.open("rb") as lines:
                for line in lines:
                    number += 1
                    position += len(line)
                    event = orjson.loads(line)
                    data = event["data"]
                    payload = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
                    markers.append(self._marker(event["id"], blake2b(payload, digest_size=16).digest()))
                    if event["type"] == "OrderMoved":
                        rows[data["order_id"]] = data
                    if number % BATCH == 0:
                        await self._send_batch(client, rows, markers, position)
                        lap.at(number)
            if markers:
                await self._send_batch(client, rows, markers, position)
                lap.at(number)

    def _client(self, **options: object) -> Any:
        session = cast("Any", aws_session(region=REGION, keys=KEYS))
        config = AioConfig(**cast("Any", options))
        return session.client("dynamodb", endpoint_url=self._url, config=config)

    async def _send_batch(
        self, client: Any, rows: dict[str, dict[str, Any]], markers: list[dict[str, Any]], position: int
    ) -> None:
        updates = [self._row(data) for data in rows.values()]
        await self._send(client, [self._checkpoint(position), *markers, *updates])
        rows.clear()
        markers.clear()

    async def _send(self, client: Any, actions: list[dict[str, Any]]) -> None:
        answer = await client.transact_write_items(TransactItems=actions, ReturnConsumedCapacity="TOTAL")
        self.units += sum(used["CapacityUnits"] for used in answer["ConsumedCapacity"])

    def _marker(self, event_id: str, digest: bytes) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._markers,
                "Item": {
                    "pk": {"S": event_id},
                    "digest": {"B": digest},
                    "expires": {"N": str(int(time.time()) + MARKER_SECONDS)},
                },
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }

    def _row(self, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._rows,
                "Key": {"key": {"S": data["order_id"]}, "view": {"S": "main"}},
                "UpdateExpression": _UPDATE_ROW,
                "ExpressionAttributeNames": _ROW_NAMES,
                "ExpressionAttributeValues": {
                    ":status": {"S": data["status"]},
                    ":place": {"S": data["place"]},
                    ":speed": {"N": str(data["speed"])},
                    ":at": {"S": data["at"]},
                    ":moves": {"N": str(data["number"])},
                },
            }
        }

    def _checkpoint(self, position: int) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._state,
                "Key": {"pk": {"S": _PK}, "sk": {"S": "checkpoint"}},
                "UpdateExpression": _MOVE,
                "ExpressionAttributeNames": {"#position": "position"},
                "ExpressionAttributeValues": {":position": {"N": str(position)}},
            }
        }
