"""An event loop whose time is virtual: whoever sleeps is woken at once, at the time he asked for.

Timers fire in their order, real sockets are still looked at, and half an hour of back-off takes milliseconds. A test
asks for it with `anyio_backend` returning `VIRTUAL`.
"""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

_STUCK_SECONDS = 5.0


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: what it was to wait is added to the time."""

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now, or let the time pass."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # no timer at all: only a thread or a socket could wake the loop
            ready = super().select(_STUCK_SECONDS)
            if not ready:
                raise RuntimeError("every task waits for something that nothing will bring about")
            return ready
        self.elapsed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on virtual time."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.elapsed


VIRTUAL: tuple[str, Mapping[str, Any]] = ("asyncio", {"loop_factory": VirtualLoop})
"""The backend that runs a test on a loop of its own with virtual time."""
