"""`projectionctl` and a real daemon, as somebody on call meets them."""

import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.conftest import run_here
from tests.support.commands import Ended, Running, Workplace

MIB = 1024 * 1024
PATIENCE_SECONDS = 30.0
SHARD = "order-summary-g1:orders/orders-0.jsonl"


class Site:
    """A working directory with a shop, and `projectionctl` at hand in it, without any option or variable."""

    def __init__(self, place: Workplace, path: Path) -> None:
        self.place = place
        self.path = path
        place.replace("projectiond.toml", "[logging]", f'[control]\npath = "{path}"\n[logging]')

    def ctl(self, *words: str) -> Ended:
        """Run a command as `kubectl exec` would: in the daemon's directory, with nothing set up."""
        return run_here(self.place.path, words, {})

    def json(self, *words: str) -> Any:
        """Run a command and return its document."""
        return self.ctl(*words, "--json").document

    @contextmanager
    def running(self, *words: str) -> Generator[Running]:
        """Run a daemon until it is asked to stop; it has opened its socket and its shard."""
        with self.place.running("run", *words) as daemon:
            daemon.wait_for_log(event="shard changed state", shard="orders-0.jsonl")
            drain_log(daemon)
            yield daemon

    def place_orders(self, first: int, count: int) -> None:
        """Append orders to the log."""
        orders = range(first, first + count)
        self.place.append(*[(f"e{n}", "OrderPlaced", {"order_id": f"o{n}", "total": n}) for n in orders])

    def has_row(self, key: str) -> bool:
        """Tell whether a row is there, as another process sees it."""
        with self.place.store() as connection:
            return bool(connection.execute('SELECT 1 FROM "order-summary-g1" WHERE key = ?', (key,)).fetchall())

    def shard(self) -> Any:
        """Return the one shard's status."""
        (shard,) = self.json("shards")["shards"]
        return shard


def drain_log(daemon: Running) -> None:
    """Keep reading the log, so that its pipe never fills."""
    stream = daemon.process.stderr
    assert stream is not None
    threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()


@pytest.fixture
def site(tmp_path: Path) -> Generator[Site]:
    """A shop whose daemon has a socket of its own."""
    with tempfile.TemporaryDirectory(prefix="pd-", dir="/tmp") as directory:
        yield Site(Workplace(tmp_path), Path(directory) / "c" / "control.sock")


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_projection_is_steered_with_nothing_set_up(site: Site):
    """Paused, it stands still over a kill and a restart; resumed, it goes on; the audit tells who did what."""
    site.place_orders(0, 5)
    with site.running() as daemon:
        assert site.ctl("wait", "order-summary", "--event", "e4").code == 0
        paused = site.json("pause", "order-summary", "--reason", "INC-7", "--wait")
        assert (paused["done"], paused["pending"], paused["shards"][0]["status"]) == (1, 0, "done")
        site.place_orders(5, 5)
        daemon.process.kill()
        daemon.process.wait()
        assert site.ctl("status").code == 5
    with site.running():
        until(lambda: site.shard()["state"] == "paused")
        (projection,) = site.json("status")["projections"]
        (stuck,) = projection["stuck"]
        assert "INC-7" in stuck["why"]
        assert stuck["since"]
        leave = stuck["leave"].split()
        assert leave[0] == "projectionctl"
        assert site.ctl(*leave[1:], "--wait").code == 0
        assert site.ctl("wait", "order-summary", "--event", "e9").code == 0
        assert site.shard()["counters"]["applied"] == 10
        newest, oldest = site.json("audit")["entries"]
        assert [newest["command"], oldest["command"]] == ["resume", "pause"]
        assert oldest["by"]["uid"] == os.getuid()
        assert oldest["by"]["host"] == socket.gethostname()
        assert oldest["arguments"]["reason"] == "INC-7"


def test_what_was_written_can_be_read_after_waiting(site: Site):
    """`wait` ends with 0 once the row is there, with 4 for what never comes; `explain` names the event behind a row."""
    with site.running():
        for number in range(3):
            site.place_orders(number, 1)
            assert site.ctl("wait", "order-summary", "--event", f"e{number}", "--timeout", "20").code == 0
            assert f"o{number}" in site.place.rows()
        assert site.ctl("wait", "order-summary", "--event", "never", "--timeout", "0.1").code == 4
        end = (site.place.path / "orders-0.jsonl").stat().st_size
        place = f"orders/orders-0.jsonl:{site.shard()['position'].partition('.')[0]}.{end}"
        assert site.ctl("wait", "order-summary", "--position", place, "--timeout", "20").code == 0
        (row,) = site.json("explain", "order-summary", "o1")["rows"]
        assert (row["event_id"], row["source"], row["shard"]) == ("e1", "orders", "orders-0.jsonl")


def test_events_are_told_with_what_became_of_them(site: Site):
    """`tail` tells each event as it is committed, duplicates as such, and no payload."""
    with site.running(), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(site.path))
        connection.sendall(b'{"v":1,"id":"t","command":"tail"}\n{"v":1,"id":"h","command":"hello"}\n')
        lines = connection.makefile("rb")
        assert json.loads(lines.readline())["id"] == "h"
        site.place_orders(0, 2)
        site.place_orders(1, 1)
        told: list[tuple[str, str]] = []
        while len(told) < 3:
            row = json.loads(lines.readline())["row"]
            told += [(event["id"], event["verdict"]) for event in row["events"]]
            assert "total" not in json.dumps(row)
        assert told == [("e0", "applied"), ("e1", "applied"), ("e1", "duplicate-marker")]


def test_a_second_daemon_on_the_path_is_refused(site: Site):
    """A daemon whose configured path is served ends with 2, naming the other's process; the first goes on."""
    with site.running() as daemon:
        refused = site.place.run("run", "--json")
        assert refused.code == 2
        assert f"(pid {daemon.process.pid})" in refused.err
        assert "control.path of its own" in refused.err
        assert site.ctl("status").code == 0
        assert daemon.end(signal.SIGTERM).code == 0
    assert not site.path.exists()
    assert site.ctl("status").code == 5


def test_a_daemon_without_a_socket_runs(site: Site):
    """control.enabled = false runs a daemon that nobody can ask."""
    site.place.replace("projectiond.toml", "[control]", "[control]\nenabled = false")
    site.place_orders(0, 1)
    assert site.place.run("run", "--once", "--json").document["counts"]["applied"] == 1
    assert not site.path.exists()


def abuse(path: Path, stop: threading.Event) -> None:
    """Do all that a client should not, again and again."""
    junk = [
        b"\x00\xff" * 30_000,
        b"[" * 10_000 + b"\n",
        b'{"v":9,"id":"x","command":"status"}\n' * 50,
        b'{"v":1,"id":"x","command":"pau',
        b"x" * (2 * MIB),
        b'{"v":1,"id":"x","command":"shards"}\n' * 200,
    ]
    kept: list[socket.socket] = []
    while not stop.is_set():
        for raw in junk:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(0.5)
                connection.connect(str(path))
                connection.sendall(raw)
            except OSError:
                pass
            kept.append(connection)
            if len(kept) > 40:
                kept.pop(0).close()
    for connection in kept:
        connection.close()


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process has in use."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_abuse_of_the_socket_delays_no_commit_and_keeps_no_memory(site: Site):
    """While clients abuse the socket every event is still committed, memory stays flat, and a good client is heard."""
    site.place_orders(0, 2_000)
    with site.running() as daemon:
        assert site.ctl("wait", "order-summary", "--event", "e1999").code == 0
        stop = threading.Event()
        abusers = [threading.Thread(target=abuse, args=(site.path, stop)) for _ in range(2)]
        for abuser in abusers:
            abuser.start()
        try:
            commits = 0
            first = 2_000
            before = 0
            for turn in range(10):
                site.place_orders(first, 100)
                first += 100
                until(lambda end=first: site.has_row(f"o{end - 1}"))
                commits += 1
                if turn == 4:
                    before = memory_of(daemon.process.pid)
            grown = memory_of(daemon.process.pid) - before
        finally:
            stop.set()
            for abuser in abusers:
                abuser.join()
        assert commits == 10
        assert grown < 16 * MIB
        until(lambda: site.ctl("status").code == 0)
        assert site.shard()["counters"]["applied"] == first
        assert daemon.end(signal.SIGTERM).code == 0
