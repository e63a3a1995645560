"""The telemetry site: the listener with what it shows, as one thing that the composition root runs.

`attend` is run from the start, so that a daemon whose store is away can be asked; `run` once shards are run.

Owns what is wired to what. Must not know settings, adapters or actors: it is told what to look at.

Invariants: a port that cannot be had stops nothing; it is said once, and tried again. Nothing that goes wrong here ends
the daemon.
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import anyio

from daemon import __version__
from daemon.ports.clock import Clock
from daemon.ports.observer import Observer
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
        self._told = self._closed = False

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who is to be told facts."""
        return self.recorder, self.health

    async def open(self) -> None:
        """Listen, if the port can be had; say it once if not."""
        listener = self.listener
        if self._closed:
            return
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

    async def attend(self) -> None:
        """Measure the loop, and listen as soon as that can be, until cancelled: from before anything is run."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.delay.run)
                while not (self.listener.listening or self._closed):
                    await self._clock.sleep(_AGAIN_SECONDS)
                    await self.open()
        except Exception as error:  # noqa: BLE001 - a bug in looking ends no daemon
            self._fail(error)

    async def run(self, sights: Sights, sources: Mapping[str, Source], checks: Mapping[str, Check]) -> None:
        """Look and ask until cancelled. `checks`: how the store and each source are asked for an answer."""
        thresholds = self.health.thresholds
        watch = BacklogWatch(
            sources,
            sights.shards,
            self._clock,
            look_seconds=self._place.backlog_seconds,
            answer_seconds=thresholds.answer,
            untold=self._untold,
        )
        self.exposition.sights = replace(sights, lag=watch.lag, behind_since=watch.behind_since)
        self.health.vitals, self.health.behind_since = sights.shards, watch.behind_since
        self.health.phase = Phase.RUNNING
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch.run)
                tasks.start_soon(self.health.watch, checks)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _untold(self, source: str, why: str) -> None:
        self._logger.warning(
            "nobody can tell when the log drops what waits: projectiond_time_to_data_loss_seconds is absent",
            source=source,
            reason=why,
        )

    def _fail(self, error: Exception) -> None:
        self._logger.error("metrics and health are not kept up any more, please report it", error=error)

    def draining(self) -> None:
        """Tell that the daemon was asked to stop."""
        self.health.phase = Phase.DRAINING

    async def aclose(self) -> None:
        """End the listener."""
        self._closed = True
        await self.listener.aclose()


def _loop_name() -> str:
    return "uvloop" if "uvloop" in sys.modules else "asyncio"
