"""AWS JSON over HTTP: one signed request, one answer, and an exact word on whether it may have been applied.

Owns the connections to one endpoint and what each of their failures means. Must not know tables, streams or queues, nor
when to try again: it never repeats a request, except one that the service refused because of its keys.

Invariants:
- `NotSent` exactly while the first byte of the body has not been written: no service acts on a request without its
body.
- A connection that ends a call in any other way than by a whole answer is closed, never used again.
- An answer that was there before its request is not taken for its answer.
- Cancellation passes through, and leaves no connection behind.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from zlib import crc32

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from multidict import istr

import daemon
from daemon.wire.aws_credentials import Credentials, NoCredentials
from daemon.wire.aws_json import Answer, Failure, NotSent, Service, Silence, Success, error_answer, shortened
from daemon.wire.aws_signing import CallSigner, FrozenCredentials

_REFUSED_KEYS = frozenset({
    "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId",
})  # fmt: skip
"""What services answer, before they look at a request, when they don't take its keys (any more)."""
_NETWORK_ERRORS = (aiohttp.ClientError, OSError, ValueError, RuntimeError, EOFError)
_CONTENT_ENCODING = istr("Content-Encoding")
_CRC32 = istr("X-Amz-Crc32")
_ERROR_TYPE = istr("X-Amzn-ErrorType")
_REQUEST_ID = istr("X-Amzn-RequestId")
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"projectiond/{daemon.__version__}"}


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


class _Body(aiohttp.Payload):
    """The bytes of one request, which know whether their writing has begun."""

    _autoclose = True

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)
        self.begun = False

    async def write(self, writer: AbstractStreamWriter) -> None:
        if self.begun:
            raise RuntimeError("a request is never sent twice")
        # aiohttp keeps the headers back until the first byte of the body, so the connection can still be turned down.
        if cast("Any", writer).protocol.should_close:
            raise RuntimeError("the connection held data that nobody had asked for")
        self.begun = True
        await writer.write(self._value)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)


class _Call:
    """How far one call has come, for when its deadline passes."""

    __slots__ = ("body", "operation", "refusal")

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.body: _Body | None = None
        self.refusal: Failure | None = None

    def unanswered(self, reason: str) -> Silence | NotSent:
        """Return what it means that there is no answer to the body sent last."""
        begun = self.body is not None and self.body.begun
        return Silence(f"{self.operation}: {reason}") if begun else NotSent(f"{self.operation}: {reason}")


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
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=limits.connections, keepalive_timeout=limits.keepalive_seconds, ssl=True if tls is None else tls
            ),
            headers=_HEADERS,
            skip_auto_headers=("Accept",),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_seconds, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
            proxy=proxy,
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
        await self._session.close()

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
        call.body = None
        return await self._sent(call, renewed, body)

    async def _sent(self, call: _Call, keys: FrozenCredentials, body: bytes) -> Answer:
        try:
            headers = self._signer_for(keys).headers(call.operation, body, self._now())
            call.body = payload = _Body(body)
            async with self._session.post(
                self._endpoint.url, data=payload, headers=headers, allow_redirects=False
            ) as response:
                if not payload.begun:
                    response.close()
                    return call.unanswered("the connection held an answer that nobody had asked for; it was closed")
                return await self._read(call, response)
        except aiohttp.ConnectionTimeoutError:
            limits = self._limits
            return call.unanswered(
                f"no connection to {self._endpoint.url} within {limits.connect_seconds:g} s: the endpoint does not "
                f"answer, or all {limits.connections} connections are in use"
            )
        except asyncio.CancelledError:
            # Closing a connector cancels what its callers wait for, though nobody cancelled the callers.
            task = asyncio.current_task()
            if self._session.closed and task is not None and not task.cancelling():
                return call.unanswered("the connections to AWS were closed before there was one for this call")
            raise
        except _NETWORK_ERRORS as error:
            return call.unanswered(f"{type(error).__name__}: {error}")

    def _signer_for(self, keys: FrozenCredentials) -> CallSigner:
        signer = self._signer
        if signer is None or signer.credentials is not keys:
            endpoint = self._endpoint
            self._signer = signer = CallSigner(keys, endpoint.service, endpoint.region, endpoint.url)
        return signer

    async def _read(self, call: _Call, response: aiohttp.ClientResponse) -> Answer:
        raw = await self._whole(response)
        if raw is None:
            response.close()
            limit = self._limits.max_answer_bytes
            return self._unusable(
                call, response, f"the answer exceeds {limit:,} bytes, the limit; ask for less at once"
            )
        headers = response.headers
        encoding = headers.get(_CONTENT_ENCODING)
        if encoding is not None and encoding != "identity":
            return self._unusable(call, response, f"the answer is encoded as {encoding!r}, which was not asked for")
        checksum = headers.get(_CRC32)
        if checksum is not None and checksum != str(crc32(raw)):
            return self._unusable(call, response, f"the answer's CRC32 is {crc32(raw)}, its header says {checksum!r}")
        if not 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's own range
            answer = error_answer(response.status, raw, headers.get(_ERROR_TYPE))
            return answer if isinstance(answer, Failure) else self._unusable(call, response, answer.detail)
        if not raw and response.content_length == 0:
            return Success({}, 0)
        try:
            return Success(orjson.loads(raw), len(raw))
        except orjson.JSONDecodeError as error:
            return self._unusable(call, response, f"the answer is no JSON ({error}): {shortened(raw)}")

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Read the body to its end, None as soon as it is known to exceed the limit."""
        limit = self._limits.max_answer_bytes
        if (response.content_length or 0) > limit:
            return None
        chunks: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    @staticmethod
    def _unusable(call: _Call, response: aiohttp.ClientResponse, reason: str) -> Silence:
        """Name the request as AWS does, so that its support can find it."""
        named = response.headers.get(_REQUEST_ID)
        return Silence(f"{call.operation}: {reason}" + (f" (request {named})" if named else ""))
