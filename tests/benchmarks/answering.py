"""`python -m tests.benchmarks.answering`: answers every AWS JSON call at once with `{}`, until its input ends.

Prints its port. It runs in a process of its own, so that what it costs is not counted.
"""

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import cast, override
from zlib import crc32

import uvloop

from tests.benchmarks.figures import ROOT

_BODY = b"{}"
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amz-crc32: %d\r\n"
    b"x-amzn-RequestId: 4KBNVRGD25RG1KEO9UT4V3FQDJVV4KQNSO5AEMVJF66Q9ASUAAJG\r\nContent-Length: %d\r\n\r\n%s"
) % (crc32(_BODY), len(_BODY), _BODY)


class _Answering(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._held = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own is of no such class

    @override
    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if found and self._transport is not None:
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(body) >= length:
                self._held = body[length:]
                self._transport.write(_ANSWER)


@contextmanager
def answering() -> Generator[str]:
    """Run the server beside, and give its URL."""
    with Popen([sys.executable, "-m", __name__], stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(_Answering, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
