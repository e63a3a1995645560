"""`python -m tests.benchmarks.answering BODY`: answers every AWS JSON call at once with `BODY`, until its input ends.

Prints its port. It runs in a process of its own, so that what it costs is not counted.
"""

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from subprocess import PIPE, Popen
from typing import cast, override
from zlib import crc32

import uvloop

from tests.benchmarks.figures import ROOT

_FORM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amz-crc32: %d\r\n"
    b"x-amzn-RequestId: 4KBNVRGD25RG1KEO9UT4V3FQDJVV4KQNSO5AEMVJF66Q9ASUAAJG\r\nContent-Length: %d\r\n\r\n%s"
)


class _Answering(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
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
                self._transport.write(self._answer)


@contextmanager
def answering(body: str = "{}") -> Generator[str]:
    """Run the server beside, and give its URL."""
    with Popen([sys.executable, "-m", __name__, body], stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()


async def _serve(body: bytes) -> None:
    answer = _FORM % (crc32(body), len(body), body)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(partial(_Answering, answer), "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1].encode()))
