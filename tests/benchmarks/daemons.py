"""The daemon itself, put together by `daemon.app`, in this process: over files, until all they hold is settled."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from daemon.app import Daemon, SystemClock, build, serve, store_of
from daemon.ports.observer import Observer
from daemon.settings import Settings
from daemon.testing.observer import RecordingObserver


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds, and those of CPU that all threads of the process used in them."""

    wall: float
    cpu: float


class Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        """Start."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Spent:
        """Return what was spent so far."""
        return Spent(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def settings_for(database: Path, module: str, source: str, paths: str) -> Settings:
    """Return default settings for one projection's module over one source of CloudEvents files."""
    return Settings.model_validate({
        "daemon": {"projections": [module]},
        "store": {"path": str(database)},
        "sources": {source: {"kind": "file", "paths": [paths]}},
    })  # fmt: skip


@asynccontextmanager
async def built(settings: Settings, observer: Observer | None = None) -> AsyncGenerator[Daemon]:
    """Put a daemon together over an open store."""
    store = store_of(settings)
    await store.open()
    try:
        yield await build(settings, store, SystemClock(), observer or RecordingObserver())
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


def fold_all(settings: Settings, observer: Observer | None = None) -> Spent:
    """Fold everything the files hold and end; spent is what the running daemon used, not its making or its imports."""

    async def main() -> Spent:
        async with built(settings, observer) as daemon:
            watch = Stopwatch()
            result = await serve(daemon, once=True)
            spent = watch.read()
            assert result.drained
            assert not result.parked, result.parked
            return spent

    return anyio.run(main)


def while_idle[T](settings: Settings, seconds: float, look: Callable[[], T]) -> T:
    """Return what `look` finds once a daemon has caught up with every file and waited for more for so many seconds."""
    found: list[T] = []

    async def main() -> None:
        async with built(settings) as daemon, anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.supervisor.run)
            await daemon.supervisor.caught_up()
            await anyio.sleep(seconds)
            found.append(look())
            await daemon.supervisor.drain(daemon.grace_period)
            tasks.cancel_scope.cancel()
        for source in daemon.runtime.sources.values():
            await source.aclose()

    anyio.run(main)
    return found[0]
