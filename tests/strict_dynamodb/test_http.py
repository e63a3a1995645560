"""The strict server over HTTP, through the daemon's own signed client, and in a process of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from zlib import crc32

import aiohttp
import orjson
import pytest

from daemon.testing.dynamodb import AnswerWith, Drop, Fault, LoseAnswer, StrictDynamoDb
from daemon.testing.dynamodb.http import HttpServer
from daemon.testing.dynamodb.signatures import Credentials
from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB, Answer, AwsJson, Failure, Silence, Success

pytestmark = pytest.mark.anyio

TABLE: dict[str, Any] = {
    "TableName": "made",
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}
PUT: dict[str, Any] = {"TransactItems": [{"Put": {"TableName": "made", "Item": {"pk": {"S": "a"}}}}]}
SECRETS = Credentials({"AKIDTEST": "right"})


@asynccontextmanager
async def wired(url: str, secret: str = "right") -> AsyncGenerator[AwsJson]:
    """The daemon's own client of a server."""
    access = AwsAccess(aws_session(region="us-east-1", keys=("AKIDTEST", secret, None)))
    try:
        yield access.client(await access.endpoint(DYNAMODB, url))
    finally:
        await access.aclose()


async def call(client: AwsJson, operation: str, deadline: float = 5.0, **body: Any) -> Answer:
    """Send a request."""
    return await client.call(operation, orjson.dumps(body), deadline)


async def test_the_daemons_own_client_is_understood_and_its_signature_is_right() -> None:
    """A signed request of the wire module passes the server's own check of Signature Version 4, and gets its answer."""
    strict = StrictDynamoDb()
    async with HttpServer(strict, credentials=SECRETS) as server, wired(server.url) as client:
        assert isinstance(await call(client, "CreateTable", **TABLE), Success)
        assert isinstance(await call(client, "TransactWriteItems", **PUT), Success)
        empty = orjson.dumps({"TransactItems": []})
        refused = await client.call("TransactWriteItems", empty, 5.0)
        assert isinstance(refused, Failure)
        assert refused == await strict.client().call("TransactWriteItems", empty, 5.0)
    assert strict.snapshot() == {"made": [{"pk": "a"}]}


async def test_a_wrong_or_expired_key_is_refused() -> None:
    """Another secret is an InvalidSignatureException, an expired key an ExpiredTokenException: nothing is done."""
    strict, credentials = StrictDynamoDb(), Credentials({"AKIDTEST": "right"})
    async with HttpServer(strict, credentials=credentials) as server:
        async with wired(server.url, "wrong") as client:
            answer = await call(client, "CreateTable", **TABLE)
            assert isinstance(answer, Failure)
            assert answer.code == "InvalidSignatureException"
        async with wired(server.url) as client:
            assert isinstance(await call(client, "ListTables"), Success)
            credentials.expired.add("AKIDTEST")
            answer = await call(client, "CreateTable", **TABLE)
            assert isinstance(answer, Failure)
            assert answer.code == "ExpiredTokenException"
    assert strict.snapshot() == {}


@pytest.mark.parametrize("how", ["reset", "cut", "crc"])
async def test_a_lost_answer_is_silence_on_a_real_connection(how: Any) -> None:
    """A reset, half a body and a wrong checksum are all Silence; the request took effect."""
    strict = StrictDynamoDb()
    async with HttpServer(strict) as server, wired(server.url) as client:
        await call(client, "CreateTable", **TABLE)
        strict.faults.add(Fault(LoseAnswer(how)))
        assert isinstance(await call(client, "TransactWriteItems", **PUT), Silence)
        assert strict.snapshot() == {"made": [{"pk": "a"}]}
        assert isinstance(await call(client, "TransactWriteItems", **PUT), Success)


async def test_a_half_open_connection_is_silent_and_does_not_hinder_others() -> None:
    """A dropped request hangs until its deadline; the next call goes through."""
    strict = StrictDynamoDb()
    async with HttpServer(strict) as server, wired(server.url) as client:
        await call(client, "CreateTable", **TABLE)
        strict.faults.add(Fault(Drop("hang")))
        assert isinstance(await call(client, "TransactWriteItems", 0.2, **PUT), Silence)
        assert strict.snapshot() == {"made": []}
        assert isinstance(await call(client, "TransactWriteItems", **PUT), Success)


async def test_a_500_with_a_code_is_a_failure() -> None:
    """InternalServerError comes as a Failure of status 500, as AWS sends it."""
    strict = StrictDynamoDb()
    async with HttpServer(strict) as server, wired(server.url) as client:
        strict.faults.add(Fault(AnswerWith("InternalServerError", status=500)))
        answer = await call(client, "ListTables")
        assert isinstance(answer, Failure)
        assert (answer.status, answer.code) == (500, "InternalServerError")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-Amz-Target": "DynamoDB_20120810.ListTables"}, "MissingAuthenticationTokenException"),
        ({"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "text/plain"}, "SerializationException"),
        ({"X-Amz-Target": "Kinesis_20131202.ListTables"}, "UnknownOperationException"),
        ({}, "UnknownOperationException"),
    ],
)
async def test_requests_of_another_form_are_refused_with_a_checksum(headers: dict[str, str], code: str) -> None:
    """Unsigned, wrongly typed and foreign requests are refused; every answer carries its X-Amz-Crc32."""
    async with HttpServer(StrictDynamoDb()) as server, aiohttp.ClientSession() as session:
        sent = {"Content-Type": "application/x-amz-json-1.0", **headers}
        async with session.post(server.url, data=b"{}", headers=sent) as answer:
            raw = await answer.read()
            assert (answer.status, orjson.loads(raw)["__type"].rpartition("#")[2]) == (400, code)
            assert answer.headers["X-Amz-Crc32"] == str(crc32(raw))


async def test_the_server_runs_in_a_process_of_its_own() -> None:
    """`python -m daemon.testing.dynamodb` prints its port when it listens, on the loopback interface, and ends on
    SIGTERM.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon.testing.dynamodb", "--port", "0", "--seed", "1", "--hold-ms", "1",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        async with wired(f"http://127.0.0.1:{port}") as client:
            assert isinstance(await call(client, "CreateTable", **TABLE), Success)
            assert isinstance(await call(client, "TransactWriteItems", **PUT), Success)
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
