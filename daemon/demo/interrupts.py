"""Ctrl-C and its like, at moments where they do no harm.

Owns the handlers of SIGINT, SIGTERM and SIGHUP while the demonstration runs: each raises KeyboardInterrupt, but not
while it is held, so that a process just started is always known to whoever must end it.
"""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """What has come so far. `pending`: something came while it was held."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.pending = False
        self._held = 0

    @contextmanager
    def held(self) -> Generator[None]:
        """Raise nothing within the block. What came is raised at its end: of the outermost, where blocks are nested."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self.pending and not self._held:
            self.pending = False
            raise KeyboardInterrupt

    def _come(self, _number: int, _frame: FrameType | None) -> None:
        if not self._held:
            raise KeyboardInterrupt
        self.pending = True

    @contextmanager
    def caught(self) -> Generator[None]:
        """Handle the signals for the time of the block."""
        before = {number: signal.signal(number, self._come) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
