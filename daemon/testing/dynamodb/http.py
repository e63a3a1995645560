"""The strict server behind a socket: AWS JSON 1.0 over HTTP, on the loopback interface only.

Owns headers, the checksum of answers, and losing answers on a real connection. Must not know operations.

Invariants: it listens on 127.0.0.1 and nothing else; a request that arrived is carried out although its connection
broke.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from zlib import crc32

import orjson
from aiohttp import web

from daemon.testing.dynamodb.errors import ServiceError
from daemon.testing.dynamodb.server import Delivery, Lost, Refused, Reply, StrictDynamoDb
from daemon.testing.dynamodb.signatures import Credentials

HOST = "127.0.0.1"
TARGET = "DynamoDB_20120810."
MAX_BODY_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class HttpServer:
    """An HTTP form of a strict server; `async with` it, then `port` says where it listens."""

    server: StrictDynamoDb
    port: int = 0
    credentials: Credentials = field(default_factory=Credentials)
    _runner: web.AppRunner | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection and end what is still being carried out."""
        self._ended.set()
        await self.server.aclose()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        target = request.headers.get("X-Amz-Target", "")
        try:
            if request.method != "POST" or not target.startswith(TARGET):
                raise ServiceError("UnknownOperationException", f"No operation {request.method} {target!r} here")
            if request.content_type != "application/x-amz-json-1.0":
                raise ServiceError("SerializationException", f"Content-Type is {request.content_type!r}")
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.credentials.check(request.method, request.path, headers, body)
        except ServiceError as refused:
            return _response(Reply(refused.status, orjson.dumps(refused.body())))
        task = self.server.start(self.server.deliver(target.removeprefix(TARGET), body, headers.get("user-agent", "")))
        # The request goes on if this connection's handler is cancelled.
        return await self._answered(request, task.result() if task.done() else await asyncio.shield(task))

    async def _answered(self, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        if isinstance(delivery, Reply):
            return _response(delivery)
        how = "reset" if isinstance(delivery, Refused) else delivery.how
        reply = delivery.reply if isinstance(delivery, Lost) else None
        if how == "hang":
            await self._until_gone(request)
        elif reply is not None and how == "crc":
            return _response(reply, wrong=True)
        elif reply is not None and how == "cut":
            response = web.StreamResponse(headers=_headers(reply, wrong=False))
            response.content_length = len(reply.body)
            await response.prepare(request)
            await response.write(reply.body[: len(reply.body) // 2])
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _until_gone(self, request: web.Request) -> None:
        """Wait until the client gives up (or the server ends)."""
        while request.transport is not None and not request.transport.is_closing() and not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), 0.05)
            except TimeoutError:
                continue


def _headers(reply: Reply, *, wrong: bool) -> dict[str, str]:
    checksum = crc32(reply.body)
    return {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Crc32": str(checksum ^ 1 if wrong else checksum),
        "X-Amzn-RequestId": hashlib.blake2b(reply.body, digest_size=16).hexdigest().upper(),
    }


def _response(reply: Reply, *, wrong: bool = False) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers=_headers(reply, wrong=wrong))
