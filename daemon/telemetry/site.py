"""The telemetry site: the listener with what it shows, as one thing that the composition root runs.

Owns what is wired to what. Must not know settings, adapters or actors: it is told what to look at.

Invariants: a port that cannot be had stops nothing; it is said once, and tried again. Nothing that goes wrong here ends
the daemon.
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from daemon import __version__
from daemon.ports.clock import Clock
from daemon.ports.source import Source
from daemon.telemetry.backlog import BacklogWatch
from daemon.telemetry.catalog import SCRAPES
from daemon.telemetry.exposition import Exposition, Process, Sights
from daemon.telemetry.health import Check, Health, Phase, Thresholds
from daemon.telemetry.listener import Listener, Metrics, Pages
from daemon.telemetry.logs import Logger
from daemon.telemetry.loop_delay import LoopDelay
from daemon.telemetry.recorder import Recorder

_AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, and how often logs are asked how far their shards are behind."""

    host: str = "127.0.0.1"
    port: int = 9464
    backlog_seconds: float = 15.0


class TelemetrySite:
    """See the module. `recorder` is the observer to tell facts."""

    def __init__(self, place: Place, thresholds: Thresholds, clock: Clock, logger: Logger) -> None:
        """Wire everything; nothing runs or listens yet."""
        self._place, self._clock, self._logger = place, clock, logger
        self.recorder = Recorder()
        self.delay = LoopDelay(clock)
        self.health = Health(clock, thresholds, self.delay.now)
        scrapes: dict[str, int] = dict.fromkeys(SCRAPES, 0)
        process = Process(
            now=clock.now,
            loop_delay=self.delay.numbers,
            reachable=self.health.reachable,
            ready=lambda: not self.health.not_ready(),
            scrapes=scrapes,
            build=(__version__, platform.python_version(), _loop_name()),
        )
        self.exposition = Exposition(self.recorder, process)
        pages = Pages(Metrics(self.exposition, clock.monotonic), self.health, scrapes, logger)
        self.listener = Listener(pages.answer, place.host, place.port)
        self._told = False

    async def open(self) -> None:
        """Listen, if the port can be had; say it once if not."""
        listener = self.listener
        try:
            await listener.start()
        except OSError as error:
            if not self._told:
                self._logger.warning(
                    "metrics and health cannot be asked for; set another metrics.port, or metrics.enabled = false",
                    address=f"{listener.host}:{listener.port}",
                    error=error,
                )
            self._told = True
        else:
            self._logger.info("metrics and health can be asked for", address=f"{listener.host}:{listener.port}")

    async def run(self, sights: Sights, sources: Mapping[str, Source], checks: Mapping[str, Check]) -> None:
        """Measure, ask and listen until cancelled. `checks`: how the store and each source are asked for an answer."""
        thresholds = self.health.thresholds
        watch = BacklogWatch(
            sources,
            sights.shards,
            self._clock,
            look_seconds=self._place.backlog_seconds,
            answer_seconds=thresholds.answer,
        )
        self.exposition.sights = Sights(
            sights.shards, watch.lag, sights.budgets, sights.sources, sights.generations
        )  # fmt: skip
        self.health.vitals, self.health.phase = sights.shards, Phase.RUNNING
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.delay.run)
                tasks.start_soon(watch.run)
                tasks.start_soon(self.health.watch, checks)
                while not self.listener.listening:
                    await self._clock.sleep(_AGAIN_SECONDS)
                    await self.open()
        except Exception as error:  # noqa: BLE001 - a bug in looking ends no daemon
            self._logger.error("metrics and health are not kept up any more, please report it", error=error)  # noqa: TRY400 - the field holds it

    def draining(self) -> None:
        """Tell that the daemon was asked to stop."""
        self.health.phase = Phase.DRAINING

    async def aclose(self) -> None:
        """End the listener."""
        await self.listener.aclose()


def _loop_name() -> str:
    return "uvloop" if "uvloop" in sys.modules else "asyncio"
