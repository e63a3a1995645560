"""The listener: metrics and health over HTTP.

Owns the port, the pages and what a client may cost. Must not know what the pages say.

Theory of operation. Anybody in reach may ask, so every client is held to a share: a connection answers one request and
lives for `CONNECTION_SECONDS` at most, whatever its client does (sends nothing, reads nothing); there are so many at
most, and those beyond are closed unheard; the text of metrics is made once for all that ask at the same time, in short
pieces between which shards go on, and so many answers at most are on their way at once. Others wait their turn for a
while, then are refused.

Invariants: nothing a client does reaches the work of a shard, nor ends this task; health is answered whatever is asked
for metrics.
"""

import asyncio
import logging
import re
import resource
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, override

import anyio
import anyio.lowlevel
import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from daemon.telemetry.exposition import CONTENT_TYPE, Exposition
from daemon.telemetry.health import Health
from daemon.telemetry.logs import Logger

CONNECTION_SECONDS = 15.0
WAIT_SECONDS = 5.0
"""How long a request for metrics waits for its turn."""
ANSWERS = 16
"""Metrics that are on their way at once; each holds the whole text in memory if its client does not take it."""
CONNECTIONS = 1_000
_FRESH_SECONDS = 0.2
"""How long a text answers others that ask too."""
_SERVER = "projectiond"
_NOTHING = re.compile(r"0(\.0*)?")
"""A weight that says: not this."""
_SILENT = logging.getLogger("projectiond.http")
"""What the HTTP library says of requests that are none: nothing, or any client could fill the log."""
_SILENT.setLevel(logging.CRITICAL + 1)


@dataclass(slots=True)
class Text:
    """The metrics at one moment, and the same compressed once somebody wanted that."""

    made_at: float
    plain: bytes
    packed: bytes | None = None


class Metrics:
    """Makes the text, once for all who ask at the same time."""

    def __init__(self, exposition: Exposition, monotonic: Callable[[], float]) -> None:
        """Make nothing yet."""
        self._exposition, self._monotonic = exposition, monotonic
        self._making = anyio.Lock()
        self._text: Text | None = None

    async def text(self, *, packed: bool) -> bytes:
        """Return the text, for the client library's readers; `packed`: as gzip."""
        async with self._making:
            text = self._text
            if text is None or self._monotonic() - text.made_at > _FRESH_SECONDS:
                text = self._text = Text(self._monotonic(), await self._made())
            if packed and text.packed is None:
                text.packed = await anyio.to_thread.run_sync(_packed, text.plain)
            return text.packed if packed and text.packed is not None else text.plain

    async def _made(self) -> bytes:
        pieces: list[bytes] = []
        for piece in self._exposition.chunks():
            pieces.append(piece.encode())
            await anyio.lowlevel.checkpoint()
        return b"".join(pieces)


def _packed(plain: bytes) -> bytes:
    gzip = zlib.compressobj(level=1, wbits=31)
    return gzip.compress(plain) + gzip.flush()


@dataclass(slots=True)
class Pages:
    """What each path answers. `scrapes` counts requests for metrics by what became of them, the keys of `SCRAPES`."""

    metrics: Metrics
    health: Health
    scrapes: dict[str, int]
    logger: Logger
    _turns: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(ANSWERS))

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; its connection is closed then."""
        page = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/startupz": self._startupz,
        }.get(request.path)
        try:
            if page is None:
                return _plain(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz, /readyz and /startupz")
            if request.method not in {"GET", "HEAD"}:
                return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "ask with GET or HEAD", {"Allow": "GET, HEAD"})
            return await page(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, no shard may end by it
            self.logger.error("a page of the listener failed, please report it", page=request.path, error=error)  # noqa: TRY400 - the field holds it
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug; the daemon's log says more")

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer while having a turn: it ends when the client has taken all, or its connection was ended."""
        turn = object()
        has_turn = False
        with anyio.move_on_after(WAIT_SECONDS):
            await self._turns.acquire_on_behalf_of(turn)
            has_turn = True
        if not has_turn:
            self.scrapes["refused"] += 1
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many ask for metrics; ask again", {"Retry-After": "5"})
        try:
            packed = accepts(request.headers.getall("Accept-Encoding", ()), "gzip", "x-gzip")
            response = _response(HTTPStatus.OK, await self.metrics.text(packed=packed), CONTENT_TYPE)
            response.headers["Vary"] = "Accept-Encoding"
            if packed:
                response.headers["Content-Encoding"] = "gzip"
            await response.prepare(request)
            with suppress(OSError):
                await response.write_eof()
            self.scrapes["dropped" if request.transport is None else "answered"] += 1
            return response
        finally:
            self._turns.release_on_behalf_of(turn)

    async def _healthz(self, request: web.BaseRequest) -> web.StreamResponse:
        return self._told(request, self.health.not_alive())

    async def _readyz(self, request: web.BaseRequest) -> web.StreamResponse:
        return self._told(request, self.health.not_ready())

    async def _startupz(self, request: web.BaseRequest) -> web.StreamResponse:
        return self._told(request, self.health.not_started())

    def _told(self, request: web.BaseRequest, reasons: list[str]) -> web.Response:
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        if "detail" in request.query or accepts(request.headers.getall("Accept", ()), "application/json"):
            document = {"ok": not reasons, "reasons": reasons, **self.health.detail()}
            return _response(status, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n", "application/json")
        return _plain(status, "\n".join(reasons) or "ok")


def accepts(values: Iterable[str], *names: str) -> bool:
    """Tell whether a request's header asks for one of these names, by that name, and does not refuse it with `q=0`.

    A wildcard asks for nothing: what is given then is what anybody can read. A weight that is none counts as 1.
    """
    for entry in ",".join(values).split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        if name in names:
            weights = [
                value.strip() for key, _, value in (one.partition("=") for one in parameters) if key.strip() == "q"
            ]
            return not (weights and _NOTHING.fullmatch(weights[0]))
    return False


def _plain(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    response = _response(status, f"{text}\n".encode(), "text/plain; charset=utf-8")
    response.headers.update(headers or {})
    return response


def _response(status: HTTPStatus, body: bytes, kind: str) -> web.Response:
    headers = {"Content-Type": kind, "Cache-Control": "no-store", "Server": _SERVER}
    response = web.Response(status=status, body=body, headers=headers)
    response.force_close()
    return response


class _Turned(asyncio.Protocol):
    """A client too many: closed before it is heard."""

    @override
    def connection_made(self, transport: Any) -> None:
        transport.abort()


class Listener:
    """Listens on one port. `port` is the real one once it does."""

    def __init__(
        self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], host: str, port: int
    ) -> None:
        """Listen to nothing yet."""
        self._answer, self.host, self.port = answer, host, port
        self._server: asyncio.Server | None = None
        self._http: web.Server | None = None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = CONNECTIONS if soft < 0 else max(8, min(CONNECTIONS, soft // 2))

    @property
    def listening(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    async def start(self) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        http = web.Server(self._answer, access_log=None, logger=_SILENT, tcp_keepalive=False)
        self._server = await loop.create_server(lambda: self._connection(http), self.host, self.port, backlog=512)
        self._http = http
        self.port = self._server.sockets[0].getsockname()[1]

    def _connection(self, http: web.Server) -> asyncio.Protocol:
        if len(http.connections) >= self._most:
            return _Turned()
        handler = http()
        asyncio.get_running_loop().call_later(CONNECTION_SECONDS, _end, handler)
        return handler

    async def aclose(self) -> None:
        """Stop listening, and end every connection."""
        server, self._server = self._server, None
        if server is not None and self._http is not None:
            server.close()
            for handler in self._http.connections:
                _end(handler)
            await self._http.shutdown(0)


def _end(handler: RequestHandler) -> None:
    """End a connection whatever it waits for: closing would wait for a client that reads nothing."""
    if handler.transport is not None:
        handler.transport.abort()
