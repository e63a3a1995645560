"""A server of raw bytes on a loopback port, so that a test says exactly what comes over the wire, and when.

Owns reading requests and counting connections. Must not know HTTP beyond a request's end, nor the client under test.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from daemon.wire.aws_access import aws_session
from daemon.wire.aws_credentials import Credentials
from daemon.wire.aws_http import AwsJsonClient, Endpoint, HttpLimits
from daemon.wire.aws_json import DYNAMODB

REGION = "eu-central-1"
LOOPBACK_PEM = Path(__file__).with_name("loopback.pem")
"""A certificate for 127.0.0.1 and its key, trusted by nobody but the tests."""
SECONDS = 20.0
"""A deadline that no test reaches."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; header names in lower case."""

    connection: int
    first_line: str
    headers: dict[str, str]
    header_lines: list[str]
    body: bytes
    reader: asyncio.StreamReader


type Reply = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """What a test sees of the server: where it is, what came, and how many connections there are."""

    reply: Reply
    read_on: asyncio.Event | None = None
    """If given: reply as soon as the headers are there, and leave the body unread until it is set."""
    url: str = ""
    requests: list[Request] = field(default_factory=list[Request])
    accepted: int = 0
    open: int = 0
    _moved: asyncio.Condition = field(default_factory=asyncio.Condition)
    _handlers: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def until(self, condition: Callable[["RawServer"], bool]) -> None:
        """Wait until something about the server is so."""
        async with self._moved:
            await self._moved.wait_for(lambda: condition(self))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self._handlers.add(task := asyncio.current_task())  # pyright: ignore[reportArgumentType]
        self.accepted += 1
        self.open += 1
        try:
            await self._serve(self.accepted, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.open -= 1
            self._handlers.discard(task)  # pyright: ignore[reportArgumentType]
            await self._tell()

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._tell()
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"])) if self.read_on is None else b""
            request = Request(number, first, headers, lines, body, reader)
            self.requests.append(request)
            await self._tell()
            await self.reply(request, writer)
            if self.read_on is not None:
                await self.read_on.wait()
                while await reader.read(1 << 20):
                    pass
                return

    async def stop(self) -> None:
        """End every connection."""
        handlers = list(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()


@asynccontextmanager
async def serving(
    reply: Reply, *, tls: bool = False, read_on: asyncio.Event | None = None
) -> AsyncGenerator[RawServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(LOOPBACK_PEM)
    server = RawServer(reply, read_on)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listener.close()
        await server.stop()


def http(body: bytes = b"{}", status: int = 200, *lines: str, length: int | None = None) -> bytes:
    """The bytes of one answer; `length` is what it claims."""
    claimed = len(body) if length is None else length
    head = "\r\n".join((f"HTTP/1.1 {status} Said", f"Content-Length: {claimed}", *lines))
    return f"{head}\r\n\r\n".encode() + body


def saying(*answers: bytes) -> Reply:
    """Reply with these, one a request, the last one for ever."""
    left = list(answers)

    async def reply(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return reply


async def never(request: Request, _: asyncio.StreamWriter) -> None:
    """Reply nothing, and keep the connection for as long as the client does."""
    await request.reader.read()


async def turning(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so that nothing tells of."""
    for _ in iter(condition, True):
        await asyncio.sleep(0)


def fixed_keys(token: str | None = None) -> Credentials:
    """Credentials of a session that was given its keys."""
    return Credentials(aws_session(keys=("AKIDEXAMPLE", "wJalrXUtnFEMI", token)))


@asynccontextmanager
async def calling(
    url: str, limits: HttpLimits | None = None, credentials: Credentials | None = None, now: float = 1_772_366_400.0
) -> AsyncGenerator[AwsJsonClient]:
    """A client of DynamoDB's calls at `url` until the block ends; its clock stands at 2026-03-01T12:00:00Z."""
    credentials = credentials or fixed_keys()
    client = AwsJsonClient(credentials, Endpoint(DYNAMODB, url, REGION, test=True), limits, now=lambda: now)
    try:
        yield client
    finally:
        await client.aclose()
        await credentials.aclose()
