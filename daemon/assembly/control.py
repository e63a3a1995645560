"""Settings into the control socket: its place, its limits, and who may speak there.

Owns what becomes of a socket that cannot be had: a path that the settings name is refused, one that they leave to the
daemon is done without, and told; and from when to when it is served: from before the store is opened until nothing
runs any more. Must not know actors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from daemon import __version__
from daemon.control.limits import ControlLimits
from daemon.control.models import MODELS
from daemon.control.peers import AccessList
from daemon.control.place import Place, settle
from daemon.control.reception import Reception, Staff
from daemon.control.routes import Engine, routes_of
from daemon.control.server import ControlServer
from daemon.control.serving import Haste
from daemon.control.tailing import Tailing
from daemon.control.waiting import Waiting
from daemon.core.errors import SettingsProblem
from daemon.core.identity import Generation
from daemon.core.projection import ProjectionSpec
from daemon.ports.clock import Clock
from daemon.ports.observer import ControlTrouble, Observer
from daemon.ports.store import Store
from daemon.ports.taps import Taps
from daemon.settings import Settings
from daemon.settings.control import ControlSettings


def place_of(settings: Settings, observer: Observer) -> Place | None:
    """Bind the control socket; None where it is switched off, or cannot be had where nobody asked for it.

    Raises SettingsProblem where `control.path` cannot be served: another daemon does, or its directory is no good.
    """
    control = settings.control
    if not control.enabled:
        return None
    try:
        return settle(None if control.path is None else Path(control.path), settings.daemon.name)
    except SettingsProblem as problem:
        if control.path is not None:
            raise
        observer.see(ControlTrouble(f"no control socket, the daemon runs without: {problem}"))
        return None


class World(Protocol):
    """What the socket's own commands look at; an actor's runtime has it all."""

    @property
    def store(self) -> Store:
        """Where checkpoints and markers are."""
        ...

    @property
    def specs(self) -> Mapping[Generation, ProjectionSpec]:
        """The generations that run here, with their code."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock."""
        ...

    @property
    def taps(self) -> Taps:
        """Where commits are told."""
        ...


@dataclass(slots=True)
class Doors:
    """The control socket of one run: commands are taken in from the start, and carried out once there is an engine."""

    place: Place
    reception: Reception
    server: ControlServer
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _ended: anyio.Event | None = None

    def serve(self, tasks: TaskGroup) -> None:
        """Take commands in."""
        self._ended = anyio.Event()
        tasks.start_soon(self._serve, self._ended)

    def staff(self, engine: Engine, world: World, haste: Haste) -> None:
        """Have commands carried out, from now on."""
        waiter, tailer = Waiting(world.store, world.specs, world.clock), Tailing(world.taps)
        self.reception.open(Staff(engine, waiter, tailer, haste))

    async def aclose(self) -> None:
        """Tell requests under way that the daemon stops, and remove the socket; a second time does nothing."""
        self._scope.cancel()
        if self._ended is not None:
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
        self.place.close()

    async def _serve(self, ended: anyio.Event) -> None:
        try:
            with self._scope:
                await self.server.run()
        finally:
            ended.set()


def doors_of(settings: Settings, observer: Observer, clock: Clock, replica: str) -> Doors | None:
    """Bind the control socket, to be served; None and raises as `place_of`."""
    place = place_of(settings, observer)
    if place is None:
        return None
    control, reception = settings.control, Reception(clock)
    routes = routes_of(
        MODELS,
        reception,
        reception,
        reception,
        daemon=settings.daemon.name,
        release=__version__,
        replica=replica,
    )
    access = AccessList(readers=control.read_uids, changers=control.change_uids)
    server = ControlServer(place, routes, access, limits_of(control), observer, reception.haste)
    return Doors(place, reception, server)


def limits_of(control: ControlSettings) -> ControlLimits:
    """Turn settings into the socket's limits."""
    return ControlLimits(
        max_connections=control.max_connections,
        max_requests=control.max_requests,
        max_line_bytes=control.max_line_bytes,
        line=control.line_seconds,
        idle=control.idle_seconds,
        write=control.write_seconds,
    )
