"""Lines read off a connection, within limits of length and time.

Owns the cutting of bytes into lines. Must not know what a line means.

Invariants: no more than one line and one read are kept; a line's time runs from its first byte, so that a client that
sends a byte a second is cut off as one that sends nothing more.
"""

import anyio

from daemon.control.channel import Channel
from daemon.control.frames import BadRequest, Failure
from daemon.control.limits import ControlLimits
from daemon.core.errors import RefusalCode

_READ_BYTES = 4_096


class LineReader:
    """Reads the lines of one connection."""

    def __init__(self, channel: Channel, limits: ControlLimits) -> None:
        """Read from `channel`."""
        self._channel = channel
        self._limits = limits
        self._kept = bytearray()
        self.ended = False
        """Whether the other side has sent its last byte."""

    async def next(self) -> bytes | None:
        """Return the next line without its end; None when none began in time, or none will (`ended`).

        Raises BadRequest for a line that is too long, too slow or cut off; nothing can be read after that.
        """
        if not self._kept:
            with anyio.move_on_after(self._limits.idle):
                await self._more()
            if not self._kept:
                return None
        try:
            with anyio.fail_after(self._limits.line):
                return await self._line()
        except TimeoutError:
            raise BadRequest(
                Failure(
                    RefusalCode.USAGE,
                    f"a line was not complete {self._limits.line:g} seconds after its first byte",
                    "send each request at once, and a line end after it",
                )
            ) from None

    async def _line(self) -> bytes:
        searched = 0
        while (end := self._kept.find(b"\n", searched)) < 0:
            searched = len(self._kept)
            self._within_limit(searched + 1)
            if not await self._more():
                raise BadRequest(
                    Failure(
                        RefusalCode.USAGE,
                        "the connection ended in the middle of a line",
                        "end each request with a newline",
                    )
                )
        self._within_limit(end + 1)
        line = bytes(self._kept[:end])
        del self._kept[: end + 1]
        return line

    def _within_limit(self, length: int) -> None:
        limit = self._limits.max_line_bytes
        if length > limit:
            raise BadRequest(
                Failure(
                    RefusalCode.USAGE,
                    f"a line of more than {limit} bytes",
                    "send shorter requests, or raise control.max_line_bytes",
                )
            )

    async def _more(self) -> bool:
        read = await self._channel.receive(_READ_BYTES)
        self._kept += read
        self.ended = not read
        return not self.ended
