"""A clock whose time moves only when a test says so, or when somebody sleeps in it and nobody else drives it.

Invariants: the same seed and the same calls give the same times, draws and ids; sleepers wake in order of their due
time, then of their arrival.
"""

import heapq
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

import anyio
import anyio.lowlevel

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""Where virtual time begins."""


class VirtualClock:
    """A Clock for tests. `manual`: time stands still until `advance`; otherwise a sleep itself moves time on."""

    def __init__(self, seed: int = 0, *, start: datetime = EPOCH, manual: bool = False) -> None:
        """Begin at `start`, with draws from `seed`."""
        self._random = Random(seed)
        self._start = start
        self._elapsed = 0.0
        self._ids = count(1)
        self._order = count()
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self.manual = manual

    def now(self) -> datetime:
        """Return the virtual wall-clock time (aware, UTC)."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the virtual seconds since the start."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait for virtual time; other tasks run meanwhile."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        due = self._elapsed + seconds
        if not self.manual:
            await anyio.lowlevel.checkpoint()
            self._elapsed = max(self._elapsed, due)
            return
        event = anyio.Event()
        heapq.heappush(self._sleepers, (due, next(self._order), event))
        await event.wait()

    async def advance(self, seconds: float) -> None:
        """Move time on, waking sleepers one by one at their own time."""
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, event = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            event.set()
            await anyio.lowlevel.checkpoint()
        self._elapsed = end
        await anyio.lowlevel.checkpoint()

    def draw(self) -> float:
        """Return the next seeded draw in [0, 1)."""
        return self._random.random()

    def unique(self) -> str:
        """Return the next id of a counter."""
        return f"id-{next(self._ids):08d}"
