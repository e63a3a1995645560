"""The wire: a commit of 100 actions through daemon.wire, against the stock async client sending the same.

Both sides run on uvloop, over one kept connection to a server in another process that answers at once, and begin with
the request as Python dicts: ours is written by orjson within the time measured.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from uuid import uuid4

import orjson
import uvloop
from aiobotocore.config import AioConfig  # pyright: ignore[reportMissingTypeStubs]

from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB, Success
from tests.benchmarks.answering import answering
from tests.benchmarks.figures import Figure, Prepare, Sizes, figure, seconds_of

_ROWS = 33
_ACTIONS = 100
_REGION = "eu-central-1"
_KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", None)
_DEADLINE_SECONDS = 30.0
_MILLI = 1e3

type Call = Callable[[], Awaitable[object]]


def wire(sizes: Sizes) -> Iterator[Figure]:
    """Measure all three in turns."""
    with answering() as url, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        actions = _actions()
        size = len(orjson.dumps(actions)) / 1_000
        callers = [_ours(url, actions), _stock(url, actions), _stock(url, actions, parameter_validation=False)]
        calls = [runner.run(caller.__aenter__()) for caller in callers]
        try:
            prepares = [_repeated(runner, call, sizes.wire_calls) for call in calls]
            for prepare in prepares:
                prepare()()
            rounds = [[seconds_of(prepare) for prepare in prepares] for _ in range(sizes.wire_rounds)]
        finally:
            for caller in callers:
                runner.run(caller.__aexit__(None, None, None))
    ours, stock, unvalidated = (min(side) / sizes.wire_calls * _MILLI for side in zip(*rounds, strict=True))
    name = f"commit of {_ACTIONS} actions, {size:.0f} KB, on the wire; baseline aioboto3"
    yield figure(f"{name} (CPU)", ours, "ms/commit", baseline=stock, goal="ratio <= 0.1")
    yield figure(
        "  the same; baseline without validation", ours, "ms/commit", baseline=unvalidated, goal="ratio <= 0.2"
    )


def _repeated(runner: asyncio.Runner, call: Call, times: int) -> Prepare:
    async def run() -> None:
        for _ in range(times):
            await call()

    return lambda: lambda: runner.run(run())


@asynccontextmanager
async def _ours(url: str, actions: list[dict[str, Any]]) -> AsyncGenerator[Call]:
    access = AwsAccess(aws_session(region=_REGION, keys=_KEYS))
    client = access.client(await access.endpoint(DYNAMODB, url))

    async def call() -> None:
        request = {"TransactItems": actions, "ClientRequestToken": str(uuid4()), "ReturnConsumedCapacity": "INDEXES"}
        answer = await client.call("TransactWriteItems", orjson.dumps(request), _DEADLINE_SECONDS)
        assert isinstance(answer, Success), answer

    yield call
    await access.aclose()


@asynccontextmanager
async def _stock(url: str, actions: list[dict[str, Any]], **options: object) -> AsyncGenerator[Call]:
    config = AioConfig(**cast("Any", options))
    session = cast("Any", aws_session(region=_REGION, keys=_KEYS))
    async with session.client("dynamodb", endpoint_url=url, config=config) as client:
        yield partial(client.transact_write_items, TransactItems=actions, ReturnConsumedCapacity="INDEXES")


def _actions() -> list[dict[str, Any]]:
    """Return a checkpoint, rows under the condition of their versions, and markers of twice as many events."""
    rows = [{"Update": _row(number)} for number in range(_ROWS)]
    markers = [{"Put": _marker(number)} for number in range(_ACTIONS - 1 - _ROWS)]
    return [{"Update": _checkpoint()}, *rows, *markers]


def _checkpoint() -> dict[str, Any]:
    return {
        "TableName": "checkpoints",
        "Key": {"pk": {"S": "order-summary/1/0|orders/17"}},
        "UpdateExpression": "SET commit_seq = :next, commit_id = :id, #position = :position, applied = :applied",
        "ConditionExpression": "epoch = :epoch AND commit_seq = :seq",
        "ExpressionAttributeNames": {"#position": "position"},
        "ExpressionAttributeValues": {
            ":next": {"N": "4712"},
            ":seq": {"N": "4711"},
            ":epoch": {"N": "3"},
            ":id": {"S": "0198c0de-7a11-7000-8000-000000000001"},
            ":position": {"S": "812340099"},
            ":applied": {"N": "1234567"},
        },
    }


def _row(number: int) -> dict[str, Any]:
    return {
        "TableName": "order-summary",
        "Key": {"pk": {"S": f"order-{number:08}"}},
        "UpdateExpression": "SET #s = :s, items = :i, total = :t, #v = :v, #src = :src",
        "ConditionExpression": "#v = :was AND #src = :src",
        "ExpressionAttributeNames": {"#s": "status", "#v": "_v", "#src": "_src"},
        "ExpressionAttributeValues": {
            ":s": {"S": "shipped"},
            ":i": {"N": "3"},
            ":t": {"N": "129.95"},
            ":v": {"N": "8"},
            ":was": {"N": "7"},
            ":src": {"S": "orders/17"},
        },
    }


def _marker(number: int) -> dict[str, Any]:
    return {
        "TableName": "markers",
        "Item": {
            "pk": {"S": f"orders/17|order-{number:08}/3"},
            "digest": {"S": "q83vEjRWeJCrze8SNFZ4kA=="},
            "position": {"S": f"81234{number:04}"},
            "expires": {"N": "1772971200"},
        },
        "ConditionExpression": "attribute_not_exists(pk)",
    }
