"""The daemons that fold together: several replicas on one store, of which some are killed on the way.

Owns which of them run, and whose turn it is to be killed. Must not know what they fold, nor when to kill.

Invariant: what was started is known here until it has ended, and has ended when the block is left.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self

from daemon.demo.child import Daemon
from daemon.demo.interrupts import Interrupts

type Start = Callable[[], AbstractContextManager[Daemon]]
"""Starts a daemon for the time of a block."""


def victims(kill: int, replicas: int) -> Sequence[int]:
    """Return which replicas (from 0) the kill of this number (from 1) hits: each alone in turn, then all at once."""
    turn = (kill - 1) % (replicas + 1)
    return range(replicas) if turn == replicas else (turn,)


class Replicas:
    """So many daemons. Use it as a context manager."""

    def __init__(self, start: Start, replicas: int, interrupts: Interrupts) -> None:
        """Start nothing yet."""
        self._start = start
        self._replicas = replicas
        self._interrupts = interrupts
        self.results: Sequence[Mapping[str, Any]] = ()
        """What those that ended by themselves have printed."""
        self._running: dict[int, tuple[Daemon, ExitStack]] = {}

    def __enter__(self) -> Self:
        """Begin; the daemons are started by `complete`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let every daemon drain and end."""
        with ExitStack() as ending:
            for daemon, started in self._running.values():
                ending.callback(started.close)
                daemon.tell_to_stop()  # all at once; closing waits for each

    def complete(self) -> None:
        """Start those that do not run."""
        for number in range(self._replicas):
            if number not in self._running:
                with self._interrupts.held():
                    started = ExitStack()
                    self._running[number] = started.enter_context(self._start()), started

    def kill(self, numbers: Sequence[int]) -> int:
        """Kill these as the power would, at once; return how many had not ended by themselves before."""
        for number in numbers:
            self._running[number][0].process.kill()
        killed = [number for number in numbers if self._running[number][0].kill()]
        for number in killed:
            with self._interrupts.held():
                self._running.pop(number)[1].close()
        return len(killed)

    def ended(self) -> bool:
        """Tell whether all have ended by themselves. Raises DaemonEnded when one failed."""
        ended = [daemon for daemon, _ in self._running.values() if daemon.ended()]
        self.results = [daemon.result() for daemon in ended]
        return len(ended) == self._replicas
