"""Turns on the event loop: folding is what takes long there, and it lets others through in between.

Theory of operation. A fold runs for milliseconds without giving way. With many busy shards all would fold in one turn
of the event loop, and whoever asks the daemon something, which takes several turns, would wait for each of them each
time. So once `SLICE` seconds have passed since the last fold began, whoever folds next waits for a turn of the loop,
one at a time. While a command is under way folding rests, so that the command's turns cost next to nothing; it rests on
credit, which grows with the time that it did not, so that commands that come without end slow it down and never stop
it. Taking commits' answers in rests too: hundreds are answered at once, and each is work that a command would wait for.
It never waits for folds: a shard whose answer is not taken in sends nothing.

Owns when a fold, or the taking in of an answer, may begin. Must not know what is folded, or who is in haste.

Invariants: folding goes on whatever is asked, however often; where little is folded nobody waits.
"""

from collections.abc import Generator
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from daemon.ports.clock import Clock

SLICE = 0.004
"""Seconds of folding after which others are let through."""
MOST_REST = 0.1
"""Seconds that folding rests at most at once: a command that takes longer waits for something else than the loop."""
SHARE = 0.5
"""Seconds of rest for each second without."""
_TAKEN_IN_AT_ONCE = 8
"""Answers that are taken in in one turn of the loop after a rest."""


class Turns:
    """Who folds next. One for all shards of a process."""

    def __init__(self) -> None:
        """Begin with nobody in haste, and all credit."""
        self._lock = anyio.Lock()
        self._began = 0.0
        self._few = anyio.Semaphore(_TAKEN_IN_AT_ONCE)
        self._credit = MOST_REST
        self._credited = 0.0
        """Until when credit was reckoned: rests side by side are one rest."""
        self._hasty: dict[object, float] = {}
        """Commands under way, and until when they are in haste."""
        self._calm = anyio.Event()

    async def between(self, clock: Clock) -> None:
        """Wait, before a fold, until others have had their turn."""
        if not self._hasty and clock.monotonic() - self._began < SLICE:
            return
        async with self._lock:
            await anyio.lowlevel.checkpoint()
            await self._rest(clock)
            self._began = clock.monotonic()

    async def calm(self, clock: Clock) -> None:
        """Wait, before an answer is taken in, while anybody is in haste."""
        if self._hasty:
            async with self._few:
                await self._rest(clock)

    async def _rest(self, clock: Clock) -> None:
        """Wait while anybody is in haste, as long as there is credit."""
        now = clock.monotonic()
        self._credit = min(MOST_REST, self._credit + max(0.0, now - self._credited) * SHARE)
        self._credited = max(now, self._credited)
        haste = self._haste_at(now)
        if haste > 0.0:
            with anyio.move_on_after(min(haste, self._credit)):
                await self._calm.wait()
            rested = clock.monotonic()
            self._credit = max(0.0, self._credit - max(0.0, rested - self._credited))
            self._credited = max(rested, self._credited)

    def _haste_at(self, now: float) -> float:
        """Return for how many seconds anybody is still in haste."""
        for token in [token for token, until in self._hasty.items() if until <= now]:
            del self._hasty[token]
        return max(self._hasty.values(), default=now) - now

    def relent(self) -> None:
        """Have nobody rest any longer for the commands under way: what they wait for is done by those who rest."""
        self._hasty.clear()
        self._calm.set()

    @contextmanager
    def hasten(self, clock: Clock) -> Generator[None]:
        """Have folding rest for the time of the block: for its first `MOST_REST` seconds, while there is credit."""
        if not self._hasty:
            self._calm = anyio.Event()
        token = object()
        self._hasty[token] = clock.monotonic() + MOST_REST
        try:
            yield
        finally:
            self._hasty.pop(token, None)
            if not self._hasty:
                self._calm.set()
