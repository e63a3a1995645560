"""Settings into the control socket: its place, its limits, and who may speak there.

Owns what becomes of a socket that cannot be had: a path that the settings name is refused, one that they leave to the
daemon is done without, and told. Must not know actors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from daemon import __version__
from daemon.control.limits import ControlLimits
from daemon.control.models import MODELS
from daemon.control.peers import AccessList
from daemon.control.place import Place, settle
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

    @property
    def replica(self) -> str:
        """This process among its peers."""
        ...


def server_of(
    settings: Settings, place: Place, engine: Engine, world: World, observer: Observer, haste: Haste
) -> ControlServer:
    """Build the server of a socket that was bound, around the engine that carries commands out."""
    control = settings.control
    routes = routes_of(
        MODELS,
        engine,
        Waiting(world.store, world.specs, world.clock),
        Tailing(world.taps),
        daemon=settings.daemon.name,
        release=__version__,
        replica=world.replica,
    )
    access = AccessList(readers=control.read_uids, changers=control.change_uids)
    return ControlServer(place, routes, access, limits_of(control), observer, haste)


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
