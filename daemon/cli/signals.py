"""Signals before the event loop reads them: while modules are imported and settings and projections are loaded.

Owns the handlers of that time. Must not know what is loaded, or how a running daemon drains (`daemon.app`).

Invariants: a first signal ends what is being loaded, or is remembered for `daemon.app` to find; a second one exits at
once; nothing is raised outside `at_once`.
"""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

from daemon.cli.exit_codes import ExitCode


class Stopped(BaseException):
    """A first signal came while nothing ran yet. A BaseException: what a user's module catches must not keep it."""


class EarlySignals:
    """Handlers of SIGTERM and SIGINT, until an event loop puts its own in their place."""

    def __init__(self) -> None:
        """Obey from now on."""
        self.asked = False
        """Whether a first signal came."""
        self._raises = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._obey)

    @contextmanager
    def at_once(self) -> Generator[None]:
        """Have a first signal, even one that came before, end the block by `Stopped`: nothing in it needs draining."""
        self._raises = True
        try:
            self._look()
            yield
            self._look()  # a module's own handling may have kept what was raised
        finally:
            self._raises = False

    def _obey(self, _number: int, _frame: object) -> None:
        if self.asked:
            os._exit(ExitCode.SIGNALLED)
        self.asked = True
        if self._raises:
            raise Stopped

    def _look(self) -> None:
        if self.asked:
            raise Stopped
