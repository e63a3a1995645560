"""The bare loop: orjson, own signing, uvloop, aiohttp; no framework.

Sends what the daemon sends (the same rows, markers, checkpoint, under the same conditions, with the same bookkeeping),
with rows kept in memory. It trusts its input and its server: no validation, no dead letters, no second try, no restart.
"""

import hmac
import time
from base64 import b64encode
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import orjson

from tests.benchmarks.dynamodb.engine import KEYS, REGION, Lap
from tests.benchmarks.dynamodb.moves import LOG, MARKER_SECONDS, SOURCE

MARKERS_EACH, ROWS_AT_MOST = 49, 98
"""Events of a transaction with a marker each, one of each key; rows of one with packed markers."""


class BareLoop:
    """One run over one log. `packed`: markers in segments, `per_key` events of a key in a row; else one an event."""

    def __init__(self, url: str, prefix: str, projection: str, *, packed: bool, per_key: int) -> None:
        self._url = url + "/"
        self._host = urlsplit(url).netloc
        self._packed = packed
        self._batch = ROWS_AT_MOST * per_key if packed else MARKERS_EACH
        self._label = f"{projection}-g1"
        self._state, self._markers, self._table = f"{prefix}-state", f"{prefix}-markers", f"{prefix}-{self._label}"
        self._pk = f"{self._label}:{SOURCE}/{LOG}"
        self._rows: dict[str, dict[str, Any]] = {}
        self._versions: dict[str, tuple[int, str]] = {}
        self._known: dict[bytes, bytes] = {}
        self._sequence = 0
        self._segment = -1
        self._events = 0
        self._written = 0
        self._consumed: dict[str, float] = {}
        self._day, self._key = "", b""

    async def run(self, log: Path, lap: Lap) -> None:
        """Fold the whole log."""
        loads, dumps, digest_of, sort = orjson.loads, orjson.dumps, blake2b, orjson.OPT_SORT_KEYS
        rows, known, packed, batch = self._rows, self._known, self._packed, self._batch
        changed: dict[str, str] = {}
        marks: list[Any] = []
        position = number = 0
        watermark = ""
        async with aiohttp.ClientSession() as session:
            with log.open("rb") as lines:
                for line in lines:
                    number += 1
                    position += len(line)
                    fields = loads(line)
                    data = fields["data"]
                    event_id = fields["id"]
                    payload = digest_of(dumps(data, option=sort), digest_size=16).digest()
                    watermark = max(watermark, fields["time"])
                    if packed:
                        mark = digest_of(event_id.encode(), digest_size=16).digest()
                        if mark in known:
                            assert known[mark] == payload[:4]
                            continue
                        known[mark] = payload[:4]
                        marks.append(mark + payload[:4])
                    else:
                        marks.append((event_id, payload))
                    if fields["type"] == "OrderMoved":
                        key = data["order_id"]
                        row = rows.get(key)
                        if row is None:
                            row = rows[key] = {}
                        row["status"] = data["status"]
                        row["place"] = data["place"]
                        row["speed"] = data["speed"]
                        row["at"] = data["at"]
                        row["moves"] = data["number"]
                        changed[key] = f"{SOURCE}/{LOG}@0.{position}#{event_id}"
                    if number % batch == 0:
                        await self._commit(session, changed, marks, position, watermark)
                        lap.at(number)
                        changed.clear()
                        marks.clear()
            await self._commit(session, changed, marks, position, watermark)
            lap.at(number)

    async def _commit(
        self, session: aiohttp.ClientSession, changed: dict[str, str], marks: list[Any], position: int, watermark: str
    ) -> None:
        self._events += len(marks)
        self._written += len(changed)
        self._sequence += 1
        actions: list[Any] = []
        if self._packed:
            self._segment += 1
        else:
            expires = str(int(time.time()) + MARKER_SECONDS)
            for event_id, digest in marks:
                actions.append(
                    {
                        "Put": {
                            "TableName": self._markers,
                            "Item": {
                                "pk": {"S": f"{self._label}/{event_id}"},
                                "digest": {"B": b64encode(digest).decode()},
                                "expires": {"N": expires},
                            },
                            "ConditionExpression": "attribute_not_exists(pk)",
                            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                        }
                    }
                )
        for key, source in changed.items():
            actions.append({"Put": self._row(key, source)})
        if self._packed:
            segment = {
                "pk": {"S": self._pk},
                "sk": {"S": f"segment#{self._segment:012d}"},
                "entries": {"B": b64encode(b"".join(marks)).decode()},
                "seq": {"N": str(self._sequence)},
                "first": {"N": "0"},
            }
            actions.append({"Put": {"TableName": self._state, "Item": segment}})
        actions.insert(0, {"Put": self._checkpoint(position, watermark)})
        body = orjson.dumps({
            "TransactItems": actions, "ReturnConsumedCapacity": "TOTAL", "ClientRequestToken": uuid4().hex
        })  # fmt: skip
        async with session.post(self._url, data=body, headers=self._signed(body)) as answer:
            said = orjson.loads(await answer.read())
            assert answer.status == 200, said
        for used in said["ConsumedCapacity"]:
            self._consumed[used["TableName"]] = self._consumed.get(used["TableName"], 0.0) + used["CapacityUnits"]

    def _row(self, key: str, source: str) -> dict[str, Any]:
        row = self._rows[key]
        version, before = self._versions.get(key, (0, ""))
        self._versions[key] = version + 1, source
        put: dict[str, Any] = {
            "TableName": self._table,
            "Item": {
                "key": {"S": key},
                "view": {"S": "main"},
                "_v": {"N": str(version + 1)},
                "_src": {"S": source},
                "status": {"S": row["status"]},
                "place": {"S": row["place"]},
                "speed": {"N": str(row["speed"])},
                "at": {"S": row["at"]},
                "moves": {"N": str(row["moves"])},
            },
        }
        if version:
            put["ConditionExpression"] = "#v=:v AND #s=:s"
            put["ExpressionAttributeNames"] = {"#v": "_v", "#s": "_src"}
            put["ExpressionAttributeValues"] = {":v": {"N": str(version)}, ":s": {"S": before}}
        else:
            put["ConditionExpression"] = "attribute_not_exists(#k)"
            put["ExpressionAttributeNames"] = {"#k": "key"}
        return put

    def _checkpoint(self, position: int, watermark: str) -> dict[str, Any]:
        sequence = self._sequence
        put: dict[str, Any] = {
            "TableName": self._state,
            "Item": {
                "pk": {"S": self._pk},
                "sk": {"S": "checkpoint"},
                "position": {"S": f"0.{position}"},
                "origin": {"S": "start"},
                "epoch": {"N": "1"},
                "commit_seq": {"N": str(sequence)},
                "commit_id": {"S": str(uuid4())},
                "state": {"S": "running"},
                "caught_up": {"BOOL": False},
                "segment": {"N": str(self._segment)},
                "segment_seq": {"N": str(sequence if self._packed else 0)},
                "parked_seq": {"N": "0"},
                "dead_run": {"N": "0"},
                "operation_seq": {"N": "0"},
                "code_digest": {"S": "5d41402abc4b2a76b9719d911017c592"},
                "counters": {
                    "M": {
                        "read": {"N": str(self._events)},
                        "applied": {"N": str(self._events)},
                        "commits": {"N": str(sequence)},
                        "rows": {"N": str(self._written)},
                    }
                },
                "owner": {"S": "loop/1"},
                "watermark": {"S": watermark},
            },
        }
        if sequence == 1:
            return put | {"ConditionExpression": "attribute_not_exists(pk)"}
        fence = {":e": {"N": "1"}, ":n": {"N": str(sequence - 1)}}
        return put | {
            "ConditionExpression": "epoch=:e AND commit_seq=:n",
            "ExpressionAttributeValues": fence,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _signed(self, body: bytes) -> dict[str, str]:
        """Signature Version 4, for this one form of request."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        day = stamp[:8]
        target, kind = "DynamoDB_20120810.TransactWriteItems", "application/x-amz-json-1.0"
        names = "content-type;host;x-amz-date;x-amz-target"
        canonical = (
            f"POST\n/\n\ncontent-type:{kind}\nhost:{self._host}\nx-amz-date:{stamp}\nx-amz-target:{target}\n\n"
            f"{names}\n{sha256(body).hexdigest()}"
        )
        scope = f"{day}/{REGION}/dynamodb/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        if day != self._day:
            self._day, self._key = day, f"AWS4{KEYS[1]}".encode()
            for part in (day, REGION, "dynamodb", "aws4_request"):
                self._key = hmac.digest(self._key, part.encode(), "sha256")
        signature = hmac.digest(self._key, to_sign.encode(), "sha256").hex()
        return {
            "Content-Type": kind,
            "X-Amz-Date": stamp,
            "X-Amz-Target": target,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={KEYS[0]}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}",
        }
