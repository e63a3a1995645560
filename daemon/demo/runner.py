"""The demonstration, phase by phase: write the logs, fold them while killing the daemon, check every row.

Owns the order of things and when the daemon is killed. Must not know how the figures are shown.

Invariants: the daemon runs as a child process and shares nothing with this one but files. It is killed by what it has
committed, never by the clock: the same seed kills at the same points, as closely as commits allow. When the block of
`demonstration` is left, nothing that it started runs.
"""

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from daemon.core.errors import SettingsProblem
from daemon.demo.check import MODELS
from daemon.demo.check import Report as Checked
from daemon.demo.checking import check_side_by_side
from daemon.demo.child import Daemon, environment_of, running
from daemon.demo.flights import find_csv, read_flights
from daemon.demo.interrupts import Interrupts
from daemon.demo.log import write_logs
from daemon.demo.manifest import Manifest, load_manifest
from daemon.demo.place import CsvIdentity, DemoDirectory, opened
from daemon.demo.progress import Display
from daemon.demo.replicas import Replicas, victims
from daemon.demo.report import DemoReport, Kill, Phases, events_to_read
from daemon.demo.stores import DemoStore, StoreKind, store_of
from daemon.demo.tail import follow
from daemon.demo.watch import Look, Watching
from daemon.demo.workers import cores

DIRECTORY = Path("var/demo")
KILLS = 3
SEED = 1
EARLIEST_KILL, LATEST_KILL = 0.1, 0.9
"""Shares of the events between which the daemon is killed."""

_MANY_EVENTS = 200_000
"""Events to settle that are worth a second daemon: sharing costs a short log more than it gains."""
_FULL_BATCH = 2_000
_SMALL_BATCH = 20
_BATCHES = 50
"""Batches a shard is to have at least, so that there is something to kill in a short log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What is asked of the demonstration."""

    directory: Path = DIRECTORY
    csv: Path | None = None
    """The flights' CSV; None for the one of the installed data package."""
    months: Sequence[str] = ()
    limit: int | None = None
    kills: int = KILLS
    replicas: int | None = None
    """Daemons that fold together; None for two where there are cores and events enough for them."""
    seed: int = SEED
    fresh: bool = False
    """Write the logs anew although complete ones are there."""
    store: StoreKind = "sqlite"
    endpoint: str | None = None
    """Where DynamoDB answers; None for a server that the demonstration starts."""


@contextmanager
def demonstration(options: DemoOptions, display: Display) -> Generator["Demonstration"]:
    """Take the directory for the time of the block. SIGTERM and SIGHUP end it as Ctrl-C does, by KeyboardInterrupt.

    Raises SettingsProblem when CSV, directory or store cannot be used, StoreUnavailable while another demonstration
    uses the directory, or where no store answers.
    """
    csv = options.csv or find_csv()
    interrupts = Interrupts()
    with (
        opened(options.directory) as directory,
        interrupts.caught(),
        store_of(options.store, options.endpoint, directory, display.say) as store,
    ):
        yield Demonstration(options, directory, csv, display, interrupts, store)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One run in one directory."""

    options: DemoOptions
    directory: DemoDirectory
    csv: Path
    display: Display
    interrupts: Interrupts
    store: DemoStore

    def run(self) -> DemoReport:
        """Do it all and return what was found.

        Raises SettingsProblem for a selection without flights, DaemonEnded when the daemon fails.
        """
        began = time.monotonic()
        manifest, reused = self._logs()
        written = time.monotonic()
        self.store.forget()
        kills, look, ended = self._fold(manifest)
        folded = time.monotonic()
        checked = self._check()
        self.store.settle()
        phases = Phases(written - began, folded - written, time.monotonic() - folded)
        return DemoReport(
            manifest=manifest,
            logs_reused=reused,
            replicas=self._replicas(manifest),
            kills_asked=self.options.kills,
            kills=kills,
            look=look,
            checked=checked,
            phases=phases,
            ended=ended,
        )

    def keep(self) -> None:
        """Run the daemon on and tell what it commits, until interrupted."""
        manifest = load_manifest(self.directory.logs)
        with self.store.watcher(manifest) as watcher, self._running((), manifest) as daemon:
            follow(daemon, watcher, self.display.say, self.store.show_row())
        self.store.settle()

    def _logs(self) -> tuple[Manifest, bool]:
        options, directory = self.options, self.directory
        try:
            identity = CsvIdentity.of(self.csv)
        except OSError as error:
            raise SettingsProblem(f"{self.csv} cannot be read ({error}); name the flights' CSV") from error
        if not options.fresh and directory.made_from() == identity:
            manifest = load_manifest(directory.logs)
            if manifest is not None and _made_for(manifest, options):
                self.display.say(f"Event logs: {manifest.lines():,} lines in {directory.logs}, complete already")
                return manifest, True
        directory.remember(None)
        self.display.begin("Reading the flights", 1)
        flights = read_flights(self.csv)
        begun = False

        def progress(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                begun = True
                self.display.begin("Writing event logs", total)
            self.display.advance(done)

        manifest = write_logs(
            directory.logs, flights, seed=options.seed, months=options.months, limit=options.limit, progress=progress
        )
        directory.remember(identity)
        self.display.finish()
        return manifest, False

    def _fold(self, manifest: Manifest) -> tuple[list[Kill], Look, Sequence[Mapping[str, Any]]]:
        total = events_to_read(manifest)
        points = kill_points(self.options.kills, total, self.options.seed)
        self.display.begin("Folding", total)
        kills: list[Kill] = []
        replicas = self._replicas(manifest)
        together = Replicas(lambda: self._running(("--once", "--json"), manifest, replicas), replicas, self.interrupts)
        with self.store.watcher(manifest) as watcher, together:
            while True:
                point = points[len(kills)] if len(kills) < len(points) else total
                together.complete()
                hit = victims(len(kills) + 1, replicas)
                settled = self._watch(together, hit, watcher, point, total)
                look = watcher.look()
                if settled is None:
                    break
                kills.append(Kill(len(kills) + 1, settled, round(settled / total, 4), len(hit)))
                watcher.close()  # so that, when all were killed, the next start is the one that recovers the file
                self.display.say(
                    f"  killed {_named(hit, replicas)} with SIGKILL, {len(kills)} of {len(points)}: {settled:,} of "
                    f"{total:,} events were settled ({settled / total:.0%}); starting again"
                )
            self.display.fold(look)
        self.display.finish()
        return kills, look, together.results

    def _replicas(self, manifest: Manifest) -> int:
        if self.options.replicas is not None:
            return self.options.replicas
        return 2 if cores() > 1 and events_to_read(manifest) >= _MANY_EVENTS else 1

    def _watch(self, together: Replicas, hit: Sequence[int], watcher: Watching, point: int, total: int) -> int | None:
        """Follow the daemons; kill those to be hit at `point`.

        Returns what was settled when they were killed, None when all ended by themselves.
        """
        before = watcher.look().read
        while not together.ended():
            look = watcher.look()
            self.display.fold(look)
            if max(point, before + 1) <= look.read < total and together.kill(hit):
                return watcher.look().read
            time.sleep(watcher.every)
        return None

    def _check(self) -> Checked:
        self.display.begin("Checking every row against the CSV", len(MODELS))
        options = self.options
        checked = check_side_by_side(
            self.csv,
            self.directory,
            self.interrupts,
            command=self.store.check_command(),
            environment=self.store.environment(os.environ),
            months=options.months,
            limit=options.limit,
            progress=self.display.advance,
        )
        self.display.finish()
        return checked

    def _running(
        self, words: Sequence[str], manifest: Manifest | None, replicas: int = 1
    ) -> AbstractContextManager[Daemon]:
        batch = batch_for(min(shard.lines for shard in manifest.shards)) if manifest else None
        inherited = self.store.environment(os.environ)
        environment = environment_of(self.directory, batch, inherited, self.store.settings(), replicas=replicas)
        return running(self.directory, words, environment, self.interrupts)


def kill_points(kills: int, total: int, seed: int) -> list[int]:
    """Return after how many settled events to kill: one random point in each of `kills` equal parts."""
    chance = Random(f"{seed}/kills")
    width = (LATEST_KILL - EARLIEST_KILL) / max(1, kills)
    return [round(total * (EARLIEST_KILL + width * (part + chance.random()))) for part in range(kills)]


def _named(hit: Sequence[int], replicas: int) -> str:
    if replicas == 1:
        return "it"
    return f"all {replicas} replicas" if len(hit) == replicas else f"replica {hit[0] + 1}"


def batch_for(lines: int) -> int | None:
    """Return the batch size that cuts a short shard of so many lines into enough commits; None for the default."""
    batch = max(_SMALL_BATCH, lines // _BATCHES)
    return batch if batch < _FULL_BATCH else None


def _made_for(manifest: Manifest, options: DemoOptions) -> bool:
    asked = (options.seed, tuple(sorted(set(options.months))), options.limit)
    return asked == (manifest.seed, manifest.months, manifest.limit)
