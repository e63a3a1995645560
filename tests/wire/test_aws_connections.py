import asyncio
from typing import Any

import pytest

from daemon.wire.aws_access import AwsAccess, Pools, PoolSizes, aws_session
from daemon.wire.aws_http import AwsJsonClient, HttpLimits
from daemon.wire.aws_json import DYNAMODB, Failure, NotSent, Silence, Success
from tests.wire.raw_server import REGION, SECONDS, RawServer, Request, calling, http, never, saying, serving, turning

pytestmark = pytest.mark.anyio
BODY = b'{"TransactItems":[]}'


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that the daemon may run on."""
    return "asyncio", {"use_uvloop": request.param}


def started(client: AwsJsonClient, body: bytes = BODY) -> asyncio.Task[Any]:
    """A call under way."""
    return asyncio.create_task(client.call("TransactWriteItems", body, SECONDS))


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and wait until it has ended as cancelled."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def idle(client: AwsJsonClient) -> list[Any]:
    """The protocols of a client's idle connections."""
    connector: Any = client._connector
    return [protocol for kept in connector._conns.values() for protocol, _ in kept]


def in_use(client: AwsJsonClient) -> int:
    """How many of a client's places are taken."""
    connector: Any = client._connector
    return len(connector._acquired)


def held_back(release: asyncio.Event):
    """Reply once `release` is set."""

    async def reply(_: Request, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(http())

    return reply


async def test_calls_share_a_connection():
    """Calls one after another, errors of the service included, go over one connection."""
    async with serving(saying(http(), http(b'{"__type":"E"}', 400), http())) as server, calling(server.url) as client:
        for _ in range(5):
            await client.call("TransactWriteItems", BODY, SECONDS)
        assert [request.connection for request in server.requests] == [1] * 5


async def test_an_idle_connection_is_given_up_in_time():
    """A connection idle for longer than its time is not used again."""
    limits = HttpLimits(keepalive_seconds=0.01)
    async with serving(saying(http())) as server, calling(server.url, limits) as client:
        await client.call("TransactWriteItems", BODY, SECONDS)
        await asyncio.sleep(0.03)
        await client.call("TransactWriteItems", BODY, SECONDS)
        assert [request.connection for request in server.requests] == [1, 2]


async def test_a_connection_closed_while_idle_is_replaced_unseen():
    """A server's close that was noticed in time costs nothing: the next call takes a new connection."""

    async def once(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http())
        writer.close()

    async with serving(once) as server, calling(server.url) as client:
        for number in (1, 2):
            assert await client.call("TransactWriteItems", BODY, SECONDS) == Success({}, 2)
            await server.until(lambda it: it.open == 0)
            await turning(lambda: all(not kept.is_connected() for kept in idle(client)))
            assert server.accepted == number


async def test_a_connection_closed_as_the_request_goes_out_is_silence():
    """A kept connection that the server closes on getting the next request: Silence, and nobody sends it again."""

    async def first_only(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.body == BODY:
            writer.write(http())
        else:
            writer.close()

    async with serving(first_only) as server, calling(server.url) as client:
        assert await client.call("TransactWriteItems", BODY, SECONDS) == Success({}, 2)
        assert isinstance(await client.call("TransactWriteItems", b'{"n":2}', SECONDS), Silence)
        assert [request.body for request in server.requests] == [BODY, b'{"n":2}']
        assert server.accepted == 1
        assert await client.call("TransactWriteItems", BODY, SECONDS) == Success({}, 2)


async def test_an_answer_that_nobody_asked_for_is_nobodys():
    """A second answer to one request, come late, is not taken for the next call's, which is NotSent instead."""
    writers: list[asyncio.StreamWriter] = []

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(http(b'"to ' + request.body + b'"'))

    async with serving(reply) as server, calling(server.url) as client:
        assert await client.call("TransactWriteItems", b"1", SECONDS) == Success("to 1", 6)
        writers[0].write(http(b'"late"'))
        await turning(lambda: idle(client)[0].should_close)
        answer = await client.call("TransactWriteItems", b"2", SECONDS)
        assert isinstance(answer, NotSent)
        assert [request.body for request in server.requests] == [b"1"]
        assert await client.call("TransactWriteItems", b"3", SECONDS) == Success("to 3", 6)
        assert server.accepted == 2
        await server.until(lambda it: it.open == 1)


async def test_two_answers_at_once_end_the_connection():
    """An answer with another one right behind it is taken, its connection is not used again."""
    async with serving(saying(http(b"1") + http(b"2"), http(b"3"))) as server, calling(server.url) as client:
        assert await client.call("TransactWriteItems", BODY, SECONDS) == Success(1, 1)
        assert await client.call("TransactWriteItems", BODY, SECONDS) == Success(3, 1)
        assert server.accepted == 2


@pytest.mark.parametrize("tells", [b"", http(b'{"a"', length=50)], ids=["waiting", "reading"])
async def test_a_cancelled_call_leaves_no_connection(tells: bytes):
    """A caller that is cancelled while it waits for or reads its answer: its connection closes, its place is free."""

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.body == b"1":
            writer.write(tells)
            await never(request, writer)
        writer.write(http())

    async with serving(reply) as server, calling(server.url, HttpLimits(connections=1)) as client:
        task = started(client, b"1")
        await server.until(lambda it: len(it.requests) == 1)
        for _ in range(20 if tells else 0):  # until it has come to the body
            await asyncio.sleep(0)
        await cancelled(task)
        assert await client.call("TransactWriteItems", b"2", SECONDS) == Success({}, 2)
        assert server.accepted == 2
        assert idle(client) != []
        assert in_use(client) == 0


async def test_a_cancelled_connect_leaves_no_connection():
    """A caller that is cancelled during the handshake frees its place; the server sees the connection end."""
    async with serving(never) as server, calling(server.url.replace("http:", "https:")) as client:
        task = started(client)
        await server.until(lambda it: it.accepted == 1)
        await cancelled(task)
        await server.until(lambda it: it.open == 0)
        assert in_use(client) == 0


async def test_a_cancelled_wait_for_a_connection_passes_its_turn():
    """A caller cancelled while all connections are in use takes none; the next one in line does."""
    release = asyncio.Event()
    async with serving(held_back(release)) as server, calling(server.url, HttpLimits(connections=1)) as client:
        first = started(client)
        await server.until(lambda it: len(it.requests) == 1)
        second, third = started(client), started(client, b"3")
        await asyncio.sleep(0)
        await cancelled(second)
        release.set()
        assert await first == await third == Success({}, 2)
        assert [request.body for request in server.requests] == [BODY, b"3"]
        assert server.accepted == 1


async def test_no_free_connection_in_time_is_not_sent():
    """While every connection is in use, a call is NotSent at the connect part of its deadline, or at its deadline."""
    release = asyncio.Event()
    limits = HttpLimits(connections=1, connect_seconds=0.5)
    async with serving(held_back(release)) as server, calling(server.url, limits) as client:
        first = started(client)
        await server.until(lambda it: len(it.requests) == 1)
        waited = await client.call("TransactWriteItems", BODY, SECONDS)
        assert isinstance(waited, NotSent)
        assert "all 1 connections are in use" in waited.detail
        assert isinstance(await client.call("TransactWriteItems", BODY, 0.02), NotSent)
        release.set()
        assert await first == Success({}, 2)
        assert len(server.requests) == 1


async def test_closing_ends_calls_without_an_answer_and_refuses_later_ones():
    """A call in flight when its client closes is Silence; one made afterwards is NotSent; closing twice is fine."""
    async with serving(never) as server, calling(server.url) as client:
        task = started(client)
        await server.until(lambda it: len(it.requests) == 1)
        await client.aclose()
        assert isinstance(await task, Silence)
        answer = await client.call("TransactWriteItems", BODY, SECONDS)
        assert isinstance(answer, NotSent)
        assert "closed" in answer.detail
        await server.until(lambda it: it.open == 0)


async def pools_at(server: RawServer, sizes: PoolSizes) -> tuple[AwsAccess, Pools]:
    """Three clients of a test's server."""
    access = AwsAccess(aws_session(region=REGION, keys=("AKIDEXAMPLE", "secret", None)))
    return access, access.pools(await access.endpoint(DYNAMODB, server.url), sizes)


async def test_pools_do_not_wait_for_each_other():
    """With every connection for commits in use, reads and leases go through at once, over connections of their own."""

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        if b"commit" in request.body:
            await never(request, writer)
        writer.write(http())

    async with serving(reply) as server:
        access, pools = await pools_at(server, PoolSizes(commits=2, reads=1, leases=1))
        commits = [asyncio.create_task(pools.commits.call("TransactWriteItems", b"commit", SECONDS)) for _ in range(4)]
        await server.until(lambda it: len(it.requests) == 2)
        assert await pools.reads.call("BatchGetItem", BODY, SECONDS) == Success({}, 2)
        assert await pools.leases.call("UpdateItem", BODY, SECONDS) == Success({}, 2)
        assert len({request.connection for request in server.requests}) == server.accepted == 4
        await pools.aclose()
        answers = [await commit for commit in commits]
        assert sorted(type(answer).__name__ for answer in answers) == ["NotSent", "NotSent", "Silence", "Silence"]
        await server.until(lambda it: it.open == 0)
        await access.aclose()


async def test_closing_the_access_closes_every_pool():
    """All clients made of one session are closed with it."""
    async with serving(saying(http())) as server:
        access, pools = await pools_at(server, PoolSizes())
        for client in (pools.commits, pools.reads, pools.leases):
            assert await client.call("GetItem", BODY, SECONDS) == Success({}, 2)
        await access.aclose()
        await server.until(lambda it: it.open == 0)
        for client in (pools.commits, pools.reads, pools.leases):
            assert isinstance(await client.call("GetItem", BODY, SECONDS), NotSent)


async def test_a_request_of_four_megabytes_goes_out_whole():
    """The largest transaction's body is sent, and signed, without a warning."""
    body = b'"' + b"x" * (4 << 20) + b'"'
    async with serving(saying(http())) as server, calling(server.url) as client:
        assert await client.call("TransactWriteItems", body, SECONDS) == Success({}, 2)
        assert server.requests[0].body == body


async def test_a_failure_keeps_its_connection_and_a_deadline_does_not():
    """What ends by a whole answer keeps its connection; what ends by its deadline loses it."""

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.body == b"late":
            await never(request, writer)
        writer.write(http(b'{"__type":"E"}', 400))

    async with serving(reply) as server, calling(server.url) as client:
        assert isinstance(await client.call("GetItem", b"1", SECONDS), Failure)
        assert isinstance(await client.call("GetItem", b"late", 0.05), Silence)
        assert isinstance(await client.call("GetItem", b"2", SECONDS), Failure)
        assert [request.connection for request in server.requests] == [1, 1, 2]
