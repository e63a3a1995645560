"""How late the event loop comes back: a clock that ticks, and notes by how much it was late.

Owns the measurement. Must not know who wants it.
"""

from daemon.ports.clock import Clock
from daemon.telemetry.catalog import BY_NAME
from daemon.telemetry.recorder import observe

TICK_SECONDS = 0.25
_BOUNDS = BY_NAME["event_loop_delay_seconds"].bounds


class LoopDelay:
    """Ticks while it runs. `numbers` are a histogram's: a count for each bucket, then the sum in seconds."""

    def __init__(self, clock: Clock) -> None:
        """Not ticking yet."""
        self._clock = clock
        self._due: float | None = None
        self._newest = 0.0
        self.numbers: list[float] = [0] * (len(_BOUNDS) + 2)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._due = self._clock.monotonic() + TICK_SECONDS
            await self._clock.sleep(TICK_SECONDS)
            self._newest = max(0.0, self._clock.monotonic() - self._due)
            observe(self.numbers, 0, _BOUNDS, self._newest)

    def now(self) -> float:
        """Return the newest delay in seconds, or how late the next tick is by now, if that is more."""
        overdue = 0.0 if self._due is None else self._clock.monotonic() - self._due
        return max(self._newest, overdue, 0.0)
