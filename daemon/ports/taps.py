"""Taps: whoever wants to see events as they are committed listens here, and costs nothing while nobody does.

Owns the list of listeners. Must not know who commits, nor who listens.

Invariants: listening never delays or fails a shard: a listener that raises is dropped; what is told was committed.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime

from daemon.core.dedup import Verdict
from daemon.core.events import Record
from daemon.core.identity import Scope
from daemon.core.positions import Position

type Listener = Callable[[Scope, Position, datetime, Sequence[Record], Sequence[Verdict | None]], None]
"""Takes a commit that settled: scope, new position, time, records, and their verdicts (None: new) in order."""


class Taps:
    """Who listens to commits, in this process."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        """Begin with nobody."""
        self._listeners: list[Listener] = []

    def __bool__(self) -> bool:
        """Tell whether anybody listens."""
        return bool(self._listeners)

    def __len__(self) -> int:
        """Count the listeners."""
        return len(self._listeners)

    @contextmanager
    def listening(self, listener: Listener) -> Generator[None]:
        """Tell `listener` of every commit for the time of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def tell(
        self,
        scope: Scope,
        position: Position,
        at: datetime,
        records: Sequence[Record],
        verdicts: Sequence[Verdict | None],
    ) -> None:
        """Pass a commit on."""
        for listener in list(self._listeners):
            try:
                listener(scope, position, at, records, verdicts)
            except Exception:  # noqa: BLE001 - watching never fails a shard
                self._listeners.remove(listener)
