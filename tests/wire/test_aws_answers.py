import asyncio
import gzip
import socket
from zlib import crc32

import orjson
import pytest

from daemon.wire.aws_http import HttpLimits
from daemon.wire.aws_json import Answer, Failure, NotSent, Silence, Success, error_answer
from tests.wire.raw_server import SECONDS, Reply, Request, calling, fixed_keys, http, never, saying, serving

pytestmark = pytest.mark.anyio
BODY = b'{"TransactItems":[]}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CANCELED = orjson.dumps({
    "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
    "Message": "Transaction cancelled",
    "CancellationReasons": [{"Code": "None"}, {"Code": "TransactionConflict", "Message": "in conflict"}],
})  # fmt: skip


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that the daemon may run on."""
    return "asyncio", {"use_uvloop": request.param}


async def answer_to(reply: Reply, limits: HttpLimits | None = None) -> Answer:
    """What one call comes back as."""
    async with serving(reply) as server, calling(server.url, limits) as client:
        answer = await client.call("TransactWriteItems", BODY, SECONDS)
        assert [request.body for request in server.requests] == [BODY]
        return answer


def silent(answer: Answer, *words: str) -> None:
    """Assert that the answer is Silence that says so."""
    assert isinstance(answer, Silence), answer
    assert answer.detail.startswith("TransactWriteItems: ")
    assert [word for word in words if word not in answer.detail] == [], answer.detail


async def test_every_byte_of_a_request_is_as_aws_wants_it():
    """A request has these headers in this order and no other, and the body as given."""
    async with serving(saying(http())) as server, calling(server.url, credentials=fixed_keys("token==")) as client:
        await client.call("TransactWriteItems", BODY, SECONDS)
        (request,) = server.requests
    assert request.first_line == "POST / HTTP/1.1"
    assert request.body == BODY
    scope = "AKIDEXAMPLE/20260301/eu-central-1/dynamodb/aws4_request"
    names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
    authorization = request.headers["authorization"].partition(", Signature=")[0]
    assert authorization == f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}"
    assert [line for line in request.header_lines if not line.startswith("Authorization: ")] == [
        f"Host: {server.url.split('/')[2]}",
        "Content-Type: application/x-amz-json-1.0",
        "X-Amz-Security-Token: token==",
        "X-Amz-Date: 20260301T120000Z",
        "X-Amz-Target: DynamoDB_20120810.TransactWriteItems",
        "Accept-Encoding: identity",
        "User-Agent: projectiond/0.1.0",
        f"Content-Length: {len(BODY)}",
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (http(b'{"N":"0.1"}'), Success({"N": "0.1"}, 11)),
        (http(b"{}", 200, "Content-Encoding: identity"), Success({}, 2)),
        (http(b"", 200), Success({}, 0)),
        (http(b'{"a":1}', 200, f"X-Amz-Crc32: {crc32(b'{"a":1}')}"), Success({"a": 1}, 7)),
        (CHUNKED + b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n', Success({"a": 1}, 7)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"{}"), Success({}, 2)),
    ],
    ids=["plain", "identity", "empty", "checksum", "chunked", "after 100"],
)  # fmt: skip
async def test_a_whole_answer_is_a_success(said: bytes, expected: Success):
    """A 2xx answer that is all there comes back parsed, with its length in bytes."""
    assert await answer_to(saying(said)) == expected


async def test_a_slow_body_is_waited_for():
    """A body that comes in pieces within the deadline is whole."""

    async def in_pieces(_: Request, writer: asyncio.StreamWriter) -> None:
        for piece in (http(b"", length=7), b'{"a', b'":1', b"}"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    assert await answer_to(in_pieces) == Success({"a": 1}, 7)


async def test_an_error_of_the_service_is_a_failure_with_its_code():
    """A 4xx comes back with the bare code, the message and the whole body, its reasons included."""
    said = http(CANCELED, 400, f"X-Amz-Crc32: {crc32(CANCELED)}")
    expected = Failure(400, "TransactionCanceledException", "Transaction cancelled", orjson.loads(CANCELED))
    assert await answer_to(saying(said)) == expected


async def test_a_code_may_come_in_a_header():
    """Without a type in the body, the header's code counts."""
    answer = await answer_to(saying(http(b"{}", 400, "x-amzn-ErrorType: LimitExceededException:http://internal/")))
    assert isinstance(answer, Failure)
    assert answer.code == "LimitExceededException"


def closing_after(*said: bytes) -> Reply:
    """Say this and close."""

    async def reply(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(said))
        writer.close()

    return reply


async def reset(_: Request, writer: asyncio.StreamWriter) -> None:
    """Reset the connection."""
    linger = b"\x01\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (closing_after(), "ServerDisconnectedError"),
        (reset, "Error"),
        (closing_after(b"HTTP/1.1 200 OK\r\nConte"), "Error"),
        (closing_after(http(b'{"a":', length=100)), "ClientPayloadError"),
        (closing_after(CHUNKED, b'3\r\n{"a\r\n'), "ClientPayloadError"),
        (closing_after(b'HTTP/1.0 200 OK\r\n\r\n{"a":'), "no JSON"),
        (closing_after(b"HTTP/1.0 200 OK\r\n\r\n"), "no JSON"),
        (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "Bad status line"),
        (saying(http(b"<html>fine</html>")), "no JSON"),
        (saying(http(b"{}", 200, "X-Amz-Crc32: 1")), "CRC32 is 2745614147, its header says '1'"),
        (saying(http(b"{}", 200, "X-Amz-Crc32: what")), "CRC32"),
        (saying(http(CANCELED, 400, "X-Amz-Crc32: 1")), "CRC32"),
        (saying(http(gzip.compress(b"{}"), 200, "Content-Encoding: gzip")), "encoded as 'gzip'"),
        (saying(http(b"<html>Bad Gateway</html>", 502)), "status 502 without an error of the service: '<html>Bad"),
        (saying(http(b"{}", 503, "X-Amzn-RequestId: ABC123")), "(request ABC123)"),
        (saying(http(b"", 307, "Location: /elsewhere")), "status 307"),
        (saying(http(b"", 408)), "status 408"),
    ],
    ids=[
        "closed", "reset", "headers cut", "body cut", "chunk cut", "unframed body cut", "unframed body missing",
        "no http", "html", "checksum wrong", "checksum odd", "checksum of an error wrong", "gzip", "gateway",
        "5xx without code", "redirect", "idle 408",
    ],
)  # fmt: skip
async def test_without_a_usable_answer_there_is_silence(reply: Reply, word: str):
    """Whatever goes wrong once the request is out is Silence, says how, and sends nothing a second time."""
    silent(await answer_to(reply), word)


@pytest.mark.parametrize("began", [b"", http(b'{"a":', length=100)], ids=["nothing", "half a body"])
async def test_a_deadline_bounds_a_server_that_goes_mute(began: bytes):
    """A half-open connection, or a body that never ends, is Silence at the call's own deadline."""

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.body != BODY:
            writer.write(began)
            await never(request, writer)
        writer.write(http())

    async with serving(reply) as server, calling(server.url) as client:
        await client.call("TransactWriteItems", BODY, SECONDS)  # so that the next one has a connection at once
        answer = await client.call("TransactWriteItems", b"mute", 0.05)
        silent(answer, "no answer within the deadline of 0.05 s")
        await server.until(lambda it: it.open == 0)


async def test_an_answer_beyond_the_limit_is_not_read():
    """A claimed length beyond the limit ends the call before the body comes; so does an endless body of no length."""

    async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    limits = HttpLimits(max_answer_bytes=10_000)
    silent(await answer_to(saying(http(b"", length=10_001)), limits), "exceeds 10,000 bytes", "ask for less")
    silent(await answer_to(endless, limits), "exceeds 10,000 bytes")
    most = b'"' + b"x" * 9_998 + b'"'
    assert await answer_to(saying(http(most)), limits) == Success("x" * 9_998, 10_000)


async def test_an_early_answer_to_a_half_sent_request_is_taken():
    """A refusal that comes while the body is still being sent is the answer, and the connection is closed."""
    read_on = asyncio.Event()
    async with serving(saying(http(b"too big", 413)), read_on=read_on) as server, calling(server.url) as client:
        answer = await client.call("TransactWriteItems", b"x" * 30_000_000, SECONDS)
        assert answer == Failure(413, "Http4xx", "'too big'", None)
        read_on.set()
        await server.until(lambda it: it.open == 0)


async def test_nobody_listens_is_not_sent():
    """A refused connection is NotSent and names the endpoint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, so that nobody else gets it, but not listening
        async with calling(f"http://127.0.0.1:{taken.getsockname()[1]}/") as client:
            answer = await client.call("TransactWriteItems", BODY, SECONDS)
    assert isinstance(answer, NotSent)
    assert "127.0.0.1" in answer.detail


async def test_a_name_that_does_not_resolve_is_not_sent():
    """A host without an address is NotSent."""
    async with calling("http://nowhere.invalid/") as client:
        assert isinstance(await client.call("TransactWriteItems", BODY, SECONDS), NotSent)


async def test_a_failed_handshake_is_not_sent():
    """A server that does not speak TLS, or whose certificate nobody trusts, gets no request: NotSent."""
    async with serving(saying(http())) as plain, calling(plain.url.replace("http:", "https:")) as client:
        listening = asyncio.create_task(client.call("TransactWriteItems", BODY, SECONDS))
        await plain.until(lambda it: it.accepted == 1)
        await plain.stop()
        assert isinstance(await listening, NotSent)
    async with serving(saying(http()), tls=True) as untrusted, calling(untrusted.url) as client:
        answer = await client.call("TransactWriteItems", BODY, SECONDS)
        assert isinstance(answer, NotSent)
        assert "CERTIFICATE_VERIFY_FAILED" in answer.detail
        assert untrusted.requests == []


async def test_a_connection_that_never_comes_is_not_sent():
    """A handshake that hangs is NotSent: at the connect part of the deadline, and at a shorter deadline itself."""
    async with serving(never) as server:
        url = server.url.replace("http:", "https:")
        async with calling(url, HttpLimits(connect_seconds=0.05)) as client:
            answer = await client.call("TransactWriteItems", BODY, SECONDS)
            assert isinstance(answer, NotSent)
            assert "within 0.05 s" in answer.detail
        async with calling(url) as client:
            assert isinstance(await client.call("TransactWriteItems", BODY, 0.05), NotSent)


async def test_a_deadline_that_has_passed_sends_nothing():
    """A call without time left is NotSent, even if a connection waits for it."""
    async with serving(saying(http())) as server, calling(server.url) as client:
        assert await client.call("TransactWriteItems", BODY, SECONDS) == Success({}, 2)
        assert isinstance(await client.call("TransactWriteItems", BODY, 0), NotSent)
        assert isinstance(await client.call("TransactWriteItems", BODY, -1), NotSent)
        assert len(server.requests) == 1


CASES: list[tuple[int, bytes, str | None, Failure | Silence]] = [
    (400, b'{"__type":"a#B","message":"m"}', None, Failure(400, "B", "m", {"__type": "a#B", "message": "m"})),
    (400, b'{"__type":"B","Message":"M"}', "C", Failure(400, "B", "M", {"__type": "B", "Message": "M"})),
    (400, b'{"__type":"a#"}', "C:http://x", Failure(400, "C", "'{\"__type\":\"a#\"}'", {"__type": "a#"})),
    (400, b'{"code":"B"}', None, Failure(400, "B", "'{\"code\":\"B\"}'", {"code": "B"})),
    (413, b'{"__type":7}', None, Failure(413, "Http4xx", "'{\"__type\":7}'", {"__type": 7})),
    (403, b"", None, Failure(403, "Http4xx", "''", None)),
    (404, b"[]", None, Failure(404, "Http4xx", "'[]'", [])),
    (403, b"x" * 201, None, Failure(403, "Http4xx", f"'{'x' * 200}'… (201 bytes)", None)),
    (400, b"\xff\n", None, Failure(400, "Http4xx", "'\\ufffd\\n'", None)),
    (500, b'{"__type":"a#InternalServerError"}', None,
     Failure(500, "InternalServerError", "'{\"__type\":\"a#InternalServerError\"}'",
             {"__type": "a#InternalServerError"})),
    (503, b"", "ServiceUnavailable", Failure(503, "ServiceUnavailable", "''", None)),
    (500, b'{"message":"m"}', None, Silence("status 500 without an error of the service: '{\"message\":\"m\"}'")),
    (408, b"", None, Silence("status 408 without an error of the service: ''")),
    (408, b'{"__type":"B"}', None, Failure(408, "B", "'{\"__type\":\"B\"}'", {"__type": "B"})),
    (301, b'{"__type":"B"}', None, Silence("status 301 without an error of the service: '{\"__type\":\"B\"}'")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "raw", "header", "expected"), CASES)
async def test_each_error_body_is_read(status: int, raw: bytes, header: str | None, expected: Answer):
    """Each form of an error gives its code, the body's before the header's; without one, a 5xx is Silence."""
    assert error_answer(status, raw, header) == expected


async def test_nothing_of_an_answer_is_kept_for_the_next_call():
    """A cookie is not sent back, and no redirect is remembered."""
    replies = saying(
        http(b"{}", 200, "Set-Cookie: lb=1; Path=/"), http(b"", 301, "Location: http://127.0.0.1:1/"), http()
    )
    async with serving(replies) as server, calling(server.url) as client:
        for _ in range(3):
            last = await client.call("TransactWriteItems", BODY, SECONDS)
        assert last == Success({}, 2)  # pyright: ignore[reportPossiblyUnboundVariable]
        assert all("cookie" not in request.headers for request in server.requests)


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch):
    """A proxy in the environment changes nothing."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await answer_to(saying(http())) == Success({}, 2)
