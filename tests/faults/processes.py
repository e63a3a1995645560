"""Faults of real processes: daemons by `projectiond run`, a durable Dynoxide, signals."""

import os
import random
import signal
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.demo.services.dynoxide import Dynoxide
from tests.support.daemons import RealDaemon
from tests.support.ledger import Line
from tests.support.ledger_site import LedgerSite, ledger_site

LEASE_SECONDS = 1.5
_LINES_A_KILL = 110
"""Lines of each shard for each kill, let out bit by bit."""
_LINES_A_TROUBLE = 250
_MOST_COMMITS = 50
_ENOUGH = 600
"""Lines, counted for each projection, that have to be left before each kill: more than a daemon settles until then."""
_REPLICAS = 2


@dataclass(frozen=True, slots=True)
class Ordeal:
    """What became of the events after a fault was injected so often."""

    times: int
    lost: int
    doubled: int
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    settled: int = 0

    @property
    def right(self) -> bool:
        """Whether nothing is lost, doubled or otherwise wrong."""
        return not (self.lost or self.doubled or self.problems)


def ordeal(site: LedgerSite, times: int, began: float) -> Ordeal:
    """Look at what a site's daemons left behind."""
    found = site.tallies().values()
    return Ordeal(
        times,
        sum(one.lost for one in found),
        sum(one.doubled for one in found),
        tuple(problem for one in found for problem in one.problems[:3]),
        time.monotonic() - began,
        site.settled(),
    )


@contextmanager
def durable(path: Path) -> Generator[Dynoxide]:
    """Give a server that keeps its items in files."""
    with Dynoxide(path / "dynoxide.db", path / "server") as server:
        yield server


def daemon_killed(path: Path, seed: int, times: int) -> Ordeal:
    """Kill the daemon, each time after a random number of commits; let the last one end by itself."""
    chance, began = random.Random(seed), time.monotonic()
    lines = _LINES_A_KILL * times
    with durable(path) as server, ledger_site(path, server.address, lines, seed=seed, held_back=1 - 1 / times) as site:
        rest, site.held_back = site.held_back, dict[str, list[Line]]()
        let_out = 0
        for _ in range(times):
            while site.total - site.settled() < _ENOUGH and let_out < times:
                site.held_back = part(rest, let_out, times)
                site.let_out()
                let_out += 1
            before, wanted = site.commits(), chance.randrange(1, _MOST_COMMITS)
            daemon = site.start("--once")
            daemon.until(lambda before=before, wanted=wanted: site.commits() >= before + wanted)
            assert site.settled() < site.total, "the log is too short for so many kills"
            assert daemon.kill()
        last = site.once()
        assert last.code == 0, last.log
        return ordeal(site, times, began)


def server_killed(path: Path, seed: int, times: int) -> Ordeal:
    """Kill the server under a working daemon and start it again on its files."""
    chance, began = random.Random(seed), time.monotonic()
    with (
        durable(path) as server,
        ledger_site(path, server.address, _LINES_A_TROUBLE * times, seed=seed, held_back=0.95) as site,
    ):
        daemon = site.start()
        rest, site.held_back = site.held_back, dict[str, list[Line]]()
        for number in range(times):
            daemon.until(lambda: site.settled() == site.total)
            site.held_back = part(rest, number, times)
            site.let_out()
            before, wanted = site.commits(), chance.randrange(1, 20)
            daemon.until(lambda before=before, wanted=wanted: site.commits() >= before + wanted)
            server.restart()
        daemon.until(lambda: site.settled() == site.total)
        daemon.terminate()
        ended = daemon.wait()
        assert ended.code == 0, ended.log
        return ordeal(site, times, began)


def replica_frozen(path: Path, seed: int, times: int) -> Ordeal:
    """Stop a replica beyond its lease amid its work, and wake it when its peer has settled everything."""
    began = time.monotonic()
    with (
        durable(path) as server,
        ledger_site(path, server.address, 3 * _LINES_A_TROUBLE * times, seed=seed, held_back=0.95) as site,
    ):
        site.variables |= {
            "COORDINATION__KIND": "lease",
            "COORDINATION__LEASE_SECONDS": str(LEASE_SECONDS),
            "COORDINATION__POLL_MS": "100",
        }
        first, second = site.start(), site.start()
        rest, site.held_back = site.held_back, dict[str, list[Line]]()
        for number in range(times):
            first.until(divided(site, _REPLICAS))
            before = site.settled()
            site.held_back = part(rest, number, times)
            site.let_out()
            first.until(lambda before=before: site.settled() > before)
            fenced = len(first.records(state="fenced"))
            with frozen(first):
                assert site.settled() < site.total
                second.until(divided(site, 1))
                second.until(lambda: site.settled() == site.total)
                rows = site.rows()
            first.until(lambda fenced=fenced: len(first.records(state="fenced")) > fenced)
            first.until(divided(site, _REPLICAS))
            assert site.rows() == rows, "the woken replica wrote rows"
        for daemon in (first, second):
            daemon.terminate()
            ended = daemon.wait()
            assert ended.code == 0, ended.log
        return ordeal(site, times, began)


def part(lines: Mapping[str, list[Line]], number: int, of: int) -> dict[str, list[Line]]:
    """Return one of so many equal parts of each log."""
    return {shard: whole[len(whole) * number // of : len(whole) * (number + 1) // of] for shard, whole in lines.items()}


def divided(site: LedgerSite, replicas: int) -> Callable[[], bool]:
    """Tell whether every shard is owned, by so many replicas, as evenly as can be."""

    def look() -> bool:
        counts = site.owners()
        even = max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
        return even and "" not in counts and len(counts) == replicas and counts.total() == 6

    return look


@contextmanager
def frozen(daemon: RealDaemon) -> Generator[None]:
    """Stop a daemon with SIGSTOP for the time of the block."""
    pid = daemon.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault of real processes. `share`: injected once for so many kills of a campaign."""

    number: int | None
    fault: str
    run: Callable[[Path, int, int], Ordeal]
    share: int

    @property
    def how(self) -> str:
        """How it is injected."""
        return " ".join((self.run.__doc__ or "").split()).removesuffix(".")


TROUBLES = (
    Trouble(1, "SIGKILL of the daemon", daemon_killed, 1),
    Trouble(3, "SIGSTOP beyond the lease", replica_frozen, 10),
    Trouble(None, "SIGKILL of the database", server_killed, 5),
)
