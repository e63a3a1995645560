"""The Clock port: the only way the engine learns the time or waits, so that tests and simulation own both."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time and chance."""

    def now(self) -> datetime:
        """Return the wall-clock time (aware, UTC). Never compared across machines."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def draw(self) -> float:
        """Return a random number in [0, 1), for jitter."""
        ...

    def unique(self) -> str:
        """Return a new unique id of at most 36 characters, its last 12 as unique as chance allows: commits, owners."""
        ...
