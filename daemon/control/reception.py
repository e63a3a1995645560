"""The reception: what commands meet from the moment the socket is there, until there is somebody to carry them out.

Owns what a command is told while the daemon starts. Must not know sockets, nor what a command does.

Invariants: a command that comes while the daemon starts is carried out as soon as there is an engine; while the store
is known to be away it is refused at once, with `unavailable`, what is the matter and since when: nobody waits for an
outage without knowing it.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio

from daemon.control.requests import WaitFor
from daemon.control.routes import Engine, Tailer, Waiter
from daemon.control.serving import Haste, Tell
from daemon.core.commands import Actor, Tail
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.ports.clock import Clock
from daemon.ports.observer import Fact, StoreAwaited, StoreReached


@dataclass(frozen=True, slots=True)
class Staff:
    """Who carries commands out, and how the daemon's other work makes way for them."""

    engine: Engine
    waiter: Waiter
    tailer: Tailer
    haste: Haste = nullcontext


class Reception:
    """Stands before the staff: engine, waiter and tailer at once. An observer too: of the store that is awaited."""

    def __init__(self, clock: Clock) -> None:
        """Nobody is there yet."""
        self._clock = clock
        self._staff: Staff | None = None
        self._away: StoreAwaited | None = None
        self._since = clock.now()
        self._news = anyio.Event()

    def open(self, staff: Staff) -> None:
        """Hand commands over from now on, those that wait first."""
        self._staff, self._away = staff, None
        self._tell()

    def see(self, fact: Fact) -> None:
        """Take note of a store that is away, and of its return."""
        if isinstance(fact, StoreAwaited):
            self._away, self._since = fact, self._clock.now() - timedelta(seconds=fact.seconds)
            self._tell()
        elif isinstance(fact, StoreReached):
            self._away = None

    def haste(self) -> AbstractContextManager[None]:
        """Have other work make way, once there is any."""
        return nullcontext() if self._staff is None else self._staff.haste()

    async def run(self, command: Any, by: Actor, request: str, tell: Tell, wait: float | None = None) -> object:
        """Have the engine carry a command out. Raises CommandRefused while the store is away."""
        return await (await self._ready()).engine.run(command, by, request, tell, wait)

    async def wait_for(self, wanted: WaitFor, tell: Tell) -> object:
        """Have the waiter wait. Raises CommandRefused while the store is away."""
        return await (await self._ready()).waiter.wait_for(wanted, tell)

    async def tail(self, command: Tail, tell: Tell) -> object:
        """Have the tailer tell. Raises CommandRefused while the store is away."""
        return await (await self._ready()).tailer.tail(command, tell)

    async def _ready(self) -> Staff:
        while self._staff is None:
            if self._away is not None:
                raise self._refusal(self._away)
            await self._news.wait()
        return self._staff

    def _refusal(self, away: StoreAwaited) -> CommandRefused:
        since = self._since.isoformat(timespec="seconds").replace("+00:00", "Z")
        return CommandRefused(
            RefusalCode.UNAVAILABLE,
            f"the daemon is starting and no shard runs: its store ({away.where or 'see its log'}) has not answered "
            f"since {since}, in {away.tries} tries: {away.detail}",
            f"mend what it names; the store is tried again within {away.wait:.0f} s and the daemon goes on by itself, "
            "a restart is no help",
        )

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()
