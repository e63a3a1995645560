"""Several daemons on one store: they divide the shards, and take over from one that dies, freezes or leaves.

Logs grow while they run, so that there is always something to take over. How soon a shard is taken over is printed, not
asserted: a busy machine takes its time.
"""

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import RealDaemon, Site

pytestmark = pytest.mark.timeout(240)  # several daemons are started one after the other, and leases must expire

LEASE_SECONDS = 1.5
SHARDS = 12
"""Four shard files of `flights` for each of two projections, four of `movements` for the third."""


@pytest.fixture
def shared_site(demo_site: Site) -> Site:
    """The slice's logs, for daemons that divide them by leases, in small batches."""
    demo_site.variables |= {
        "COORDINATION__KIND": "lease",
        "COORDINATION__LEASE_SECONDS": str(LEASE_SECONDS),
        "COORDINATION__POLL_MS": "100",
        "ENGINE__BATCH_MAX_EVENTS": "10",
        "ENGINE__LATE": "apply",  # what is held back lies months behind what was read
        "SOURCES__FLIGHTS__POLL_INTERVAL_MS": "20",
        "SOURCES__MOVEMENTS__POLL_INTERVAL_MS": "20",
    }
    return demo_site


class HeldBack:
    """The second half of every log, which is let out bit by bit."""

    def __init__(self, logs: Path) -> None:
        """Cut the logs in half."""
        self._rest: dict[Path, list[bytes]] = {}
        for path in sorted(logs.glob("*.jsonl")):
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: len(lines) // 2]))
            self._rest[path] = lines[len(lines) // 2 :]

    def let_out(self, lines: int | None = None) -> None:
        """Append so many lines to each log; all that are left without a number."""
        for path, rest in self._rest.items():
            count = len(rest) if lines is None else lines
            with path.open("ab") as log:
                log.writelines(rest[:count])
            del rest[:count]


def owners(site: Site) -> Counter[str]:
    """Count the shards that each replica owns now; those that nobody does under the empty name."""
    rows = site.query("SELECT coalesce(owner, '') FROM \"projectiond-checkpoints\"")
    return Counter(owner.rpartition("/")[0] for (owner,) in rows)


def divided(site: Site, replicas: int) -> Callable[[], bool]:
    """Tell whether every shard is owned, by so many replicas, as evenly as can be."""

    def look() -> bool:
        counts = owners(site)
        even = max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
        return even and "" not in counts and len(counts) == replicas and counts.total() == SHARDS

    return look


def until_divided(site: Site, watched: RealDaemon, replicas: int, what: str) -> None:
    """Wait until the shards are divided; print how long that took."""
    began = time.monotonic()
    watched.until(divided(site, replicas))
    print(f"{what}: {time.monotonic() - began:.2f} s (lease {LEASE_SECONDS} s, poll 0.1 s)")  # noqa: T201 - a figure for people


@contextmanager
def frozen(daemon: RealDaemon, site: Site) -> Generator[None]:
    """Stop a daemon with SIGSTOP for the time of the block, not while it holds the database's one lock."""
    pid = daemon.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        while not is_unlocked(site):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_unlocked(site: Site) -> bool:
    """Tell whether the database can be written within two seconds: whoever runs lets go of its lock sooner."""
    with closing(sqlite3.connect(site.database, isolation_level=None, timeout=2.0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def settled(site: Site) -> Callable[[], bool]:
    """Tell whether everything that the whole logs hold was read."""
    return lambda: site.look().read == site.total


def rows_of(site: Site) -> list[tuple[Any, ...]]:
    """Read every row with its version and the event that last touched it."""
    tables = ("flight-g1", "punctuality-g1", "board-g1")
    return [
        row for table in tables for row in site.query(f'SELECT key, view, v, src FROM "{table}" ORDER BY key, view')
    ]


def test_a_killed_replica_s_shards_are_taken_over(shared_site: Site) -> None:
    """Three replicas divide the shards; two are killed, one after the other, and the last ends with every row right."""
    rest = HeldBack(shared_site.logs)
    daemons = [shared_site.start() for _ in range(3)]
    until_divided(shared_site, daemons[0], 3, "three replicas have divided the shards")
    rest.let_out(100)
    for left in (2, 1):
        assert daemons.pop().kill()
        until_divided(shared_site, daemons[0], left, "taken over after SIGKILL")
        rest.let_out(100)
    rest.let_out()
    daemons[0].until(settled(shared_site))
    daemons[0].terminate()
    assert daemons[0].wait().code == 0
    shared_site.assert_right()


def test_a_replica_that_leaves_hands_its_shards_over(shared_site: Site) -> None:
    """One joins and gets its share, one leaves and its peer has all again, without a lease having to expire."""
    rest = HeldBack(shared_site.logs)
    first = shared_site.start(COORDINATION__LEASE_SECONDS="10")
    until_divided(shared_site, first, 1, "the first has all")
    second = shared_site.start(COORDINATION__LEASE_SECONDS="60")
    second.until(lambda: bool(shared_site.query('SELECT * FROM "projectiond-replicas"')))
    rest.let_out(100)
    until_divided(shared_site, first, 2, "the second has its share (a third of the first's lease of 10 s later)")
    first.terminate()
    until_divided(shared_site, second, 1, "handed over after SIGTERM")
    assert first.wait().code == 0
    rest.let_out()
    second.until(settled(shared_site))
    second.terminate()
    assert second.wait().code == 0
    assert shared_site.query('SELECT * FROM "projectiond-replicas"') == []
    assert owners(shared_site) == {"": SHARDS}
    shared_site.assert_right()


def test_a_replica_frozen_beyond_its_lease_writes_nothing_more(shared_site: Site) -> None:
    """Stopped amid its work and woken when its peer has settled everything, a replica is fenced: the rows stay as its
    peer left them, whatever it still held, and it gets its share anew.
    """
    rest = HeldBack(shared_site.logs)
    first, second = shared_site.start(), shared_site.start()
    until_divided(shared_site, first, 2, "two replicas have divided the shards")
    before = shared_site.look().read
    rest.let_out()
    first.until(lambda: shared_site.look().read > before)
    with frozen(first, shared_site):
        assert shared_site.look().read < shared_site.total
        until_divided(shared_site, second, 1, "taken over from a frozen replica")
        second.until(settled(shared_site))
        rows = rows_of(shared_site)
    first.until(lambda: bool(first.records(state="fenced")))
    until_divided(shared_site, first, 2, "woken, it has its share again")
    assert rows_of(shared_site) == rows
    for daemon in (first, second):
        daemon.terminate()
        assert daemon.wait().code == 0
    shared_site.assert_right()


def test_once_ends_when_all_is_settled_by_whoever_owns_it(shared_site: Site) -> None:
    """Two replicas that run `--once` both end with everything settled, and so does one that finds nothing to do."""
    first, second = shared_site.start("--once"), shared_site.start("--once")
    ends = [first.wait(), second.wait()]
    assert [ended.code for ended in ends] == [0, 0]
    assert sum(ended.document["counts"]["read"] for ended in ends) == shared_site.total
    again = shared_site.once()
    assert (again.code, again.document["counts"]["read"]) == (0, 0)
    shared_site.assert_right()


def test_a_replica_waits_with_once_for_what_its_peer_settles(shared_site: Site) -> None:
    """A replica that runs `--once` and owns nothing ends, and not before its peer has settled everything."""
    rest = HeldBack(shared_site.logs)
    peer = shared_site.start(COORDINATION__LEASE_SECONDS="60")
    until_divided(shared_site, peer, 1, "the first has all")
    rest.let_out()
    waiting = shared_site.start("--once", COORDINATION__LEASE_SECONDS="60")
    waiting.until(lambda: len(shared_site.query('SELECT * FROM "projectiond-replicas"')) == 2)
    ended = waiting.wait()
    assert ended.code == 0
    assert shared_site.look().read == shared_site.total
    assert ended.document["counts"]["read"] == 0
    peer.terminate()
    assert peer.wait().code == 0
    shared_site.assert_right()
