"""What waits to be sent to one client, and never grows beyond its limits.

Owns the order of a connection's answers and what is left out for a client that does not read. Must not know sockets.

Invariants: a final answer is never left out while the connection stands; progress and rows are, and the next frame
counts them; nobody who offers a frame waits.
"""

from collections import deque
from collections.abc import Sequence

import anyio

from daemon.control.frames import Answer, encode_answer
from daemon.control.limits import DROPPABLE_FRAMES, HELD_FRAMES


class Outbox:
    """Frames on their way to one client."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._frames: deque[bytes] = deque()
        self._finals = 0
        self._missed: dict[str | None, int] = {}
        self._wake = anyio.Event()
        self.closed = False

    def offer(self, answer: Answer) -> None:
        """Take a frame: a final one always, another while there is room."""
        if self.closed:
            return
        if answer.kind.final:
            self._finals += 1
        elif len(self._frames) - self._finals >= DROPPABLE_FRAMES:
            self._missed[answer.id] = self._missed.get(answer.id, 0) + 1
            return
        missed = self._missed.pop(answer.id, 0)
        if missed:
            answer = Answer(answer.id, answer.kind, answer.content, missed)
        self._frames.append(encode_answer(answer))
        self._wake.set()

    async def take(self) -> Sequence[bytes]:
        """Wait for frames and return all there are, in order; none once the outbox is closed."""
        while not self._frames and not self.closed:
            self._wake = anyio.Event()
            await self._wake.wait()
        frames = [*self._frames]
        self._frames.clear()
        self._finals = 0
        return frames

    @property
    def full(self) -> bool:
        """Whether so many answers wait that no more requests should be read."""
        return self._finals >= HELD_FRAMES

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._frames

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        self.closed = True
        self._wake.set()
