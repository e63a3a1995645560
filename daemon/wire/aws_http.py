"""AWS JSON over HTTP: one signed request, one answer, and an exact word on whether it may have been applied.

Owns the connections to one endpoint and what each of their failures means. Must not know tables, streams or queues, nor
when to try again: it never repeats a request, except one that the service refused because of its keys.

Invariants:
- `NotSent` exactly while the first byte of the body has not been written: no service acts on a request without its
body.
- A connection that ends a call in any other way than by a whole answer is closed, never used again.
- An answer that was there before its request is not taken for its answer.
- Cancellation passes through, and leaves no connection behind.

Of aiohttp this uses the connector (pool, names, encryption, proxies) and the parser behind it, not the session: a
session spends four times as much on one call as connector, parser and sockets together, on what no call here has
(cookies, redirects, charsets, streams of payload). A request is one write of a head made here and its body.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from multidict import istr
from yarl import URL

import daemon
from daemon.wire.aws_credentials import Credentials, NoCredentials
from daemon.wire.aws_json import Answer, Failure, NotSent, Service, Silence, Success, error_answer, shortened
from daemon.wire.aws_signing import CallSigner, FrozenCredentials

_REFUSED_KEYS = frozenset({
    "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId",
})  # fmt: skip
"""What services answer, before they look at a request, when they don't take its keys (any more)."""
_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError, RuntimeError, EOFError)
_CONTENT_LENGTH = istr("Content-Length")
_CONTENT_ENCODING = istr("Content-Encoding")
_CRC32 = istr("X-Amz-Crc32")
_ERROR_TYPE = istr("X-Amzn-ErrorType")
_REQUEST_ID = istr("X-Amzn-RequestId")
_OWN_HEADERS = f"Accept-Encoding: identity\r\nUser-Agent: projectiond/{daemon.__version__}\r\n"
_BUFFER_BYTES = 256 * 1024
"""What is parsed of an answer before its reader has to take it."""
_INFORMATIONAL = range(100, 200)
_SUCCESSFUL = range(200, 300)
_SWITCHING_PROTOCOLS = 101


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The bounds of one client. `keepalive_seconds` is how long an idle connection is kept for the next call."""

    connections: int = 16
    connect_seconds: float = 3.0
    """For a free connection, the name, the connection and its encryption together."""
    keepalive_seconds: float = 12.0
    max_answer_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one service's calls go.

    `url` ends in a slash, `region` is what signatures name, `test` marks a stand-in.
    """

    service: Service
    url: str
    region: str
    test: bool


class _Call:
    """How far one call has come, for when its deadline passes."""

    __slots__ = ("begun", "operation", "refusal")

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.begun = False
        """The writing of the body sent last has begun."""
        self.refusal: Failure | None = None

    def unanswered(self, reason: str) -> Silence | NotSent:
        """Return what it means that there is no answer to the body sent last."""
        return Silence(f"{self.operation}: {reason}") if self.begun else NotSent(f"{self.operation}: {reason}")


class AwsJsonClient:
    """One service's calls, over its own connections. Make it inside a running event loop.

    `tls` is for https endpoints, `proxy` the URL of a forward proxy, `now` gives seconds since 1970.
    """

    def __init__(
        self,
        credentials: Credentials,
        endpoint: Endpoint,
        limits: HttpLimits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._credentials = credentials
        self._endpoint = endpoint
        self._limits = limits = limits or HttpLimits()
        self._now = now
        self._signer: CallSigner | None = None
        self._connector = aiohttp.TCPConnector(
            limit=limits.connections, keepalive_timeout=limits.keepalive_seconds, ssl=True if tls is None else tls
        )
        self._timeouts = aiohttp.ClientTimeout(total=None, connect=limits.connect_seconds, sock_connect=None)
        # What a connection is asked for with: where it goes, how it is encrypted, which proxy is on the way.
        self._asking = aiohttp.ClientRequest(
            "POST",
            URL(endpoint.url),
            loop=asyncio.get_running_loop(),
            ssl=True if tls is None else tls,
            proxy=None if proxy is None else URL(proxy),
        )

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        """Send `body` as `operation`, signed; answers within `deadline_seconds`. See `daemon.wire.aws_json.AwsJson`."""
        if deadline_seconds <= 0:
            return NotSent(f"{operation}: the deadline had passed before the call")
        call = _Call(operation)
        try:
            async with asyncio.timeout(deadline_seconds):
                return await self._answered(call, body)
        except TimeoutError:
            if call.refusal is not None:
                return call.refusal
            return call.unanswered(f"no answer within the deadline of {deadline_seconds:g} s")
        except NoCredentials as error:
            return NotSent(f"{operation}: no credentials: {error}")

    async def aclose(self) -> None:
        """Close the connections: calls in flight end without an answer, later ones are `NotSent`."""
        await self._connector.close()

    async def _answered(self, call: _Call, body: bytes) -> Answer:
        keys = self._credentials.at_hand() or await self._credentials.fetched()
        answer = await self._sent(call, keys, body)
        if type(answer) is not Failure or answer.code not in _REFUSED_KEYS:
            return answer
        call.refusal = answer
        try:
            renewed = await self._credentials.renewed(keys)
        except NoCredentials as error:
            message = f"{answer.message}; renewing the credentials failed: {error}"
            return Failure(answer.status, answer.code, message, answer.body)
        if renewed is None:
            return answer
        call.refusal = None
        call.begun = False
        return await self._sent(call, renewed, body)

    async def _sent(self, call: _Call, keys: FrozenCredentials, body: bytes) -> Answer:
        try:
            signed = self._signer_for(keys).headers(call.operation, body, self._now())
            connection = await self._connected(call)
            if not isinstance(connection, Connection):
                return connection
            whole = False
            try:
                answer, whole = await self._exchanged(call, connection, self._head(signed, len(body)) + body)
            finally:
                if whole:
                    connection.release()
                else:
                    connection.close()
        except _NETWORK_ERRORS as error:
            return call.unanswered(f"{type(error).__name__}: {error}")
        return answer

    async def _connected(self, call: _Call) -> Connection | NotSent | Silence:
        """Return a connection for one call."""
        limits, connector = self._limits, self._connector
        if connector.closed:
            return call.unanswered("the connections to AWS are closed")
        try:
            return await connector.connect(self._asking, [], self._timeouts)
        except TimeoutError:
            return call.unanswered(
                f"no connection to {self._endpoint.url} within {limits.connect_seconds:g} s: the endpoint does not "
                f"answer, or all {limits.connections} connections are in use"
            )
        except asyncio.CancelledError:
            # Closing a connector cancels what its callers wait for, though nobody cancelled the callers.
            task = asyncio.current_task()
            if connector.closed and task is not None and not task.cancelling():
                return call.unanswered("the connections to AWS were closed before there was one for this call")
            raise

    def _head(self, signed: dict[str, str], length: int) -> bytes:
        """Return everything of a request but its body."""
        asking = self._asking
        url = asking.url
        # A proxy on the way to an unencrypted endpoint is told the whole URL, and who asks.
        proxied = asking.proxy is not None and not asking.is_ssl()
        known = asking.headers.get("Proxy-Authorization") if proxied else None
        names = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        who = "" if known is None else f"Proxy-Authorization: {known}\r\n"
        return (
            f"POST {url if proxied else url.raw_path_qs} HTTP/1.1\r\n{names}{who}{_OWN_HEADERS}"
            f"Content-Length: {length}\r\n\r\n"
        ).encode("ascii")

    async def _exchanged(self, call: _Call, connection: Connection, request: bytes) -> tuple[Answer, bool]:
        """Send a request and read its answer; also tell whether the connection is fit for another."""
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():
            return call.unanswered("the connection was closed as soon as it was there"), False
        protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=_BUFFER_BYTES)
        if protocol.should_close:
            return call.unanswered("the connection held an answer that nobody had asked for; it was closed"), False
        call.begun = True
        transport.write(request)
        message, payload = await _first_answer(protocol)
        raw = await self._whole(message, payload)
        # An answer may come before the request is out; what is left of that must not be taken for the next one.
        return self._read(call, message, raw), raw is not None and not transport.get_write_buffer_size()

    def _signer_for(self, keys: FrozenCredentials) -> CallSigner:
        signer = self._signer
        if signer is None or signer.credentials is not keys:
            endpoint = self._endpoint
            self._signer = signer = CallSigner(keys, endpoint.service, endpoint.region, endpoint.url)
        return signer

    def _read(self, call: _Call, message: RawResponseMessage, raw: bytes | None) -> Answer:
        if raw is None:
            limit = self._limits.max_answer_bytes
            return _unusable(call, message, f"the answer exceeds {limit:,} bytes, the limit; ask for less at once")
        headers, status = message.headers, message.code
        encoding = headers.get(_CONTENT_ENCODING)
        if encoding is not None and encoding != "identity":
            return _unusable(call, message, f"the answer is encoded as {encoding!r}, which was not asked for")
        checksum = headers.get(_CRC32)
        if checksum is not None and checksum != str(crc32(raw)):
            return _unusable(call, message, f"the answer's CRC32 is {crc32(raw)}, its header says {checksum!r}")
        if status not in _SUCCESSFUL:
            answer = error_answer(status, raw, headers.get(_ERROR_TYPE))
            return answer if isinstance(answer, Failure) else _unusable(call, message, answer.detail)
        if not raw and _length_of(message) == 0:
            return Success({}, 0)
        try:
            return Success(orjson.loads(raw), len(raw))
        except orjson.JSONDecodeError as error:
            return _unusable(call, message, f"the answer is no JSON ({error}): {shortened(raw)}")

    async def _whole(self, message: RawResponseMessage, payload: aiohttp.StreamReader) -> bytes | None:
        """Read the body to its end, None as soon as it is known to exceed the limit."""
        limit = self._limits.max_answer_bytes
        if payload.is_eof():  # most answers came with their head
            raw = payload.read_nowait()
            return raw if len(raw) <= limit else None
        if _length_of(message) > limit:
            return None
        chunks: list[bytes] = []
        size = 0
        while chunk := await payload.readany():
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
        return b"".join(chunks)


async def _first_answer(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """Return the answer's head and the reader of its body, past what only tells that one will come."""
    while True:
        message, payload = await protocol.read()
        if message.code not in _INFORMATIONAL or message.code == _SWITCHING_PROTOCOLS:
            return message, payload


def _length_of(message: RawResponseMessage) -> int:
    """Return the length that an answer's head claims, -1 where it claims none."""
    claimed = message.headers.get(_CONTENT_LENGTH)
    return int(claimed) if claimed is not None and claimed.isdecimal() else -1


def _unusable(call: _Call, message: RawResponseMessage, reason: str) -> Silence:
    """Name the request as AWS does, so that its support can find it."""
    named = message.headers.get(_REQUEST_ID)
    return Silence(f"{call.operation}: {reason}" + (f" (request {named})" if named else ""))
