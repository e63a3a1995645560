"""Every command with whoever carries it out.

Owns the way from checked arguments to the engine, and `hello`, which needs none. Must not know sockets.

Invariant: a command that `daemon.control.requests` knows has exactly one route.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from daemon.control.frames import VERSION
from daemon.control.peers import Access
from daemon.control.requests import Arguments, Change, Greeting, Hello, Tail, Wait, WaitFor, read_arguments
from daemon.control.serving import Order, Route, Tell
from daemon.core import commands
from daemon.core.commands import Actor

type CarryOut = Callable[[Order, Tell], Awaitable[object]]


class Engine(Protocol):
    """Carries commands out: `daemon.control.engine.Control`."""

    async def run(self, command: Any, by: Actor, request: str, tell: Tell, wait: float | None = None) -> object:
        """Carry a command out for `by` under a request id, telling progress; return the result's value."""
        ...


class Waiter(Protocol):
    """Waits for positions and events: `daemon.control.waiting.Waiting`."""

    async def wait_for(self, wanted: WaitFor, tell: Tell) -> object:
        """Return what was reached; raise CommandRefused (`pending`) once the time is over."""
        ...


class Tailer(Protocol):
    """Tells of commits as they happen: `daemon.control.tailing.Tailing`."""

    async def tail(self, command: commands.Tail, tell: Tell) -> object:
        """Tell a row for each commit, until cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class CommandRoute:
    """One command's model, and the function that carries it out."""

    model: type[Arguments]
    function: CarryOut

    @property
    def access(self) -> Access:
        """The right it needs."""
        return self.model.access

    @property
    def streams(self) -> bool:
        """Whether what it tells are rows."""
        return self.model.streams

    @property
    def lasting(self) -> bool:
        """Whether it goes on without its client."""
        return self.model.lasting

    def read(self, args: Mapping[str, Any], request: str) -> Arguments:
        """Check the arguments. Raises BadRequest."""
        return read_arguments(self.model, args, request)

    async def carry_out(self, order: Order, tell: Tell) -> object:
        """Do it."""
        return await self.function(order, tell)


def routes_of(
    models: Iterable[type[Arguments]],
    engine: Engine,
    waiter: Waiter,
    tailer: Tailer,
    *,
    daemon: str,
    release: str,
    replica: str,
) -> dict[str, Route]:
    """Return the route of each command, by its name."""
    host = socket.gethostname()

    async def through_engine(order: Order, tell: Tell) -> object:
        arguments = order.arguments
        by = Actor(order.by.uid, order.by.user, host, order.by.pid)
        wait = arguments.wait_seconds if isinstance(arguments, Change) else None
        return await engine.run(arguments.command(), by, order.request, tell, wait)

    async def wait(order: Order, tell: Tell) -> object:
        return await waiter.wait_for(order.arguments.command(), tell)

    async def tail(order: Order, tell: Tell) -> object:
        return await tailer.tail(order.arguments.command(), tell)

    async def hello(_order: Order, _tell: Tell) -> object:
        return Greeting(daemon, release, replica, os.getpid(), VERSION, tuple(routes))

    special: dict[type[Arguments], CarryOut] = {Hello: hello, Wait: wait, Tail: tail}
    routes: dict[str, Route] = {
        model.command_name: CommandRoute(model, special.get(model, through_engine)) for model in models
    }
    return routes
