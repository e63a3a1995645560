"""Calls that may simply be made again: reads, takes and table calls, with back-off and a limit to patience.

Owns retries of whatever is safe to repeat. Must not know commits: those are never repeated here.

Invariants: a call ends in its answer's body or in one error of our tree; unprocessed keys are asked for again; capacity
read is reported for each call.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import anyio
import orjson

from daemon.core.errors import StoreProblem, StoreUnavailable
from daemon.core.identity import Generation
from daemon.core.recovery import RetryPolicy, backoff
from daemon.ports.clock import Clock
from daemon.stores.dynamodb.outcomes import consumed_of, problem_of
from daemon.stores.dynamodb.tuning import Tuning
from daemon.stores.dynamodb.values import Typed
from daemon.wire.aws_json import Answer, AwsJson, Failure, Success

type Consumed = Callable[[Generation | None, Mapping[str, float]], None]
"""Told what a call consumed, and for which generation, if for one: `rcu:TABLE` or `wcu:TABLE` to units."""

BATCH_KEYS = 100
"""Keys that one BatchGetItem takes, and one TransactGetItems."""
BATCH_DELETES = 25
"""Items that one BatchWriteItem takes."""
_SETTLED_TRIES = 8


@dataclass(slots=True)
class Caller:
    """One client, and how patient to be with it. `generation`: whose calls these are."""

    client: AwsJson
    clock: Clock
    tuning: Tuning
    consumed: Consumed
    generation: Generation | None = None

    def of(self, generation: Generation) -> "Caller":
        """Return the same caller for one generation's calls."""
        return replace(self, generation=generation)

    @property
    def _policy(self) -> RetryPolicy:
        return RetryPolicy(self.tuning.initial_backoff, self.tuning.max_backoff)

    async def once(self, operation: str, request: Mapping[str, Any]) -> Answer:
        """Make one call and give whatever came."""
        answer = await self.client.call(operation, orjson.dumps(request), self.tuning.read_deadline)
        if isinstance(answer, Success) and "ConsumedCapacity" in answer.body:
            self.consumed(self.generation, consumed_of(answer.body, "wcu" if operation in _WRITES else "rcu"))
        return answer

    async def body(self, operation: str, request: Mapping[str, Any]) -> Any:
        """Make a call until it succeeds, and return the answer's body.

        Raises StoreUnavailable when patience ends, StoreRefused where patience is no help.
        """

        async def attempt() -> Any:
            answer = await self.once(operation, request)
            if isinstance(answer, Success):
                return answer.body
            raise problem_of(answer)

        return await self.patiently(attempt)

    async def patiently[T](self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat what raises StoreUnavailable, with full jitter, until patience ends."""
        since, tries = self.clock.monotonic(), 0
        while True:
            try:
                return await attempt()
            except StoreUnavailable as problem:
                tries += 1
                waited = self.clock.monotonic() - since
                if waited >= self.tuning.patience:
                    raise StoreUnavailable(f"{problem}; given up after {waited:.1f} s and {tries} tries") from problem
            await self.clock.sleep(backoff(tries, self._policy, self.clock.draw()))

    # Reading many

    async def get(self, table: str, key: Mapping[str, Typed]) -> dict[str, Typed] | None:
        """Read one item, consistently."""
        request = {"TableName": table, "Key": key, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
        return (await self.body("GetItem", request)).get("Item")

    async def get_many(
        self, table: str, keys: Iterable[Mapping[str, Typed]], projection: str | None = None
    ) -> list[dict[str, Typed]]:
        """Read items by their keys, consistently and in no order; absent ones are missing. `keys` holds none twice."""
        wanted = list(keys)
        found: list[dict[str, Typed]] = []
        chunks = [wanted[start : start + BATCH_KEYS] for start in range(0, len(wanted), BATCH_KEYS)]
        if len(chunks) == 1:
            await self._get_chunk(table, chunks[0], projection, found)
            return found
        waiting = iter(chunks)

        async def work() -> None:
            for chunk in waiting:
                await self._get_chunk(table, chunk, projection, found)

        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(min(len(chunks), self.tuning.parallel_reads)):
                    tasks.start_soon(work)
        except* StoreProblem as group:
            problems = group
            while isinstance(problems.exceptions[0], BaseExceptionGroup):
                problems = problems.exceptions[0]
            raise problems.exceptions[0] from group
        return found

    async def _get_chunk(
        self, table: str, keys: Sequence[Mapping[str, Typed]], projection: str | None, found: list[dict[str, Typed]]
    ) -> None:
        left = list(keys)

        async def attempt() -> None:
            nonlocal left
            while left:
                asked = len(left)
                wanted: dict[str, Any] = {"Keys": left, "ConsistentRead": True}
                if projection is not None:
                    wanted["ProjectionExpression"] = projection
                request = {"RequestItems": {table: wanted}, "ReturnConsumedCapacity": "TOTAL"}
                answer = await self.once("BatchGetItem", request)
                if not isinstance(answer, Success):
                    raise problem_of(answer)
                found.extend(answer.body.get("Responses", {}).get(table, ()))
                left = answer.body.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
                if left and len(left) == asked:
                    raise StoreUnavailable(f"DynamoDB left all of {asked} keys of table {table} unread")

        await self.patiently(attempt)

    async def get_settled(self, table: str, keys: Sequence[Mapping[str, Typed]]) -> list[dict[str, Typed]]:
        """Read items as no transaction under way can hide them: one that touches them is waited for.

        What stays contended, or is too large to be read so, is read as `get_many` does.
        """
        found: list[dict[str, Typed]] = []
        for start in range(0, len(keys), BATCH_KEYS):
            chunk = keys[start : start + BATCH_KEYS]
            gets = [{"Get": {"TableName": table, "Key": key}} for key in chunk]
            request = {"TransactItems": gets, "ReturnConsumedCapacity": "TOTAL"}
            for tries in range(1, _SETTLED_TRIES + 1):
                answer = await self.once("TransactGetItems", request)
                if isinstance(answer, Success):
                    found += [read["Item"] for read in answer.body["Responses"] if read.get("Item")]
                    break
                if is_code(answer, "ValidationException"):
                    found += await self.get_many(table, chunk)
                    break
                await self.clock.sleep(backoff(tries, self._policy, self.clock.draw()))
            else:
                found += await self.get_many(table, chunk)
        return found

    async def delete_many(self, table: str, keys: Sequence[Mapping[str, Typed]]) -> None:
        """Remove items by their keys; what DynamoDB leaves undone is asked for again, after a pause."""
        for start in range(0, len(keys), BATCH_DELETES):
            left: list[Any] = [{"DeleteRequest": {"Key": key}} for key in keys[start : start + BATCH_DELETES]]

            async def attempt(left: list[Any] = left) -> None:
                request = {"RequestItems": {table: left}, "ReturnConsumedCapacity": "TOTAL"}
                answer = await self.once("BatchWriteItem", request)
                if not isinstance(answer, Success):
                    raise problem_of(answer)
                left[:] = answer.body.get("UnprocessedItems", {}).get(table, ())
                if left:
                    raise StoreUnavailable(f"DynamoDB left {len(left)} deletes of table {table} undone")

            await self.patiently(attempt)

    async def pages(
        self,
        table: str,
        pk: str,
        between: tuple[str, str],
        *,
        limit: int | None = None,
        forward: bool = True,
        attributes: Sequence[str] = (),
    ) -> AsyncGenerator[list[dict[str, Typed]]]:
        """Iterate pages of the items whose sort keys lie between two, consistently.

        `limit`: items of a page. `attributes`: those that are wanted; none: all.
        """
        low, high = between
        request: dict[str, Any] = {
            "TableName": table,
            "KeyConditionExpression": "pk=:p AND sk BETWEEN :l AND :h",
            "ExpressionAttributeValues": {":p": {"S": pk}, ":l": {"S": low}, ":h": {"S": high}},
            "ConsistentRead": True,
            "ScanIndexForward": forward,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if limit is not None:
            request["Limit"] = limit
        if attributes:
            request["ProjectionExpression"] = ",".join(f"#{name}" for name in attributes)
            request["ExpressionAttributeNames"] = {f"#{name}": name for name in attributes}
        while True:
            body = await self.body("Query", request)
            if body["Items"]:
                yield body["Items"]
            last = body.get("LastEvaluatedKey")
            if not last:
                return
            request["ExclusiveStartKey"] = last

    async def some(
        self, table: str, pk: str, between: tuple[str, str], limit: int | None = None
    ) -> list[dict[str, Typed]]:
        """Read the first `limit` items (None: all) whose sort keys lie between two, in order."""
        found: list[dict[str, Typed]] = []
        if limit is not None and limit <= 0:
            return found
        async with aclosing(self.pages(table, pk, between, limit=limit)) as pages:
            async for page in pages:
                found.extend(page)
                if limit is not None and len(found) >= limit:
                    break
        return found if limit is None else found[:limit]


_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"})


def is_code(answer: Answer, *codes: str) -> bool:
    """Tell whether an answer is a failure of one of these codes."""
    return isinstance(answer, Failure) and answer.code in codes
