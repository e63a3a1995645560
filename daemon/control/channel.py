"""Bytes over one connected socket, without blocking.

Owns reading, writing and accepting on raw sockets. Must not know lines or frames. (The library's own streams let an
error escape into the event loop when data arrives in the very moment in which reading is cancelled.)

Invariant: a read or write that is cancelled has taken or given nothing that is lost: what was read is returned.
"""

import select
import socket

import anyio


class Gone(Exception):
    """The other side takes nothing any more."""


class Channel:
    """One connection. Not for two readers, or two writers, at once."""

    def __init__(self, raw: socket.socket) -> None:
        """Take a connected socket over."""
        raw.setblocking(False)
        self.raw = raw

    async def receive(self, most: int) -> bytes:
        """Return what there is, at most so many bytes; nothing at the end."""
        while True:
            try:
                return self.raw.recv(most)
            except BlockingIOError:
                await anyio.wait_readable(self.raw)
            except OSError:
                return b""

    async def send(self, frame: bytes) -> None:
        """Send all of `frame`. Raises Gone."""
        left = memoryview(frame)
        while left:
            try:
                left = left[self.raw.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self.raw)
            except OSError:
                raise Gone from None

    @property
    def hung_up(self) -> bool:
        """Whether the other side has closed its socket, rather than only stopped sending."""
        poll = select.poll()
        poll.register(self.raw, 0)
        return any(flags & (select.POLLHUP | select.POLLERR) for _, flags in poll.poll(0))

    def close(self) -> None:
        """Hang up."""
        self.raw.close()


async def accepted(listening: socket.socket) -> Channel:
    """Wait for a connection. Raises OSError where the process has no room for one."""
    while True:
        try:
            return Channel(listening.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            await anyio.wait_readable(listening)
