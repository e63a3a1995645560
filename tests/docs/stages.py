"""What a page's directory holds before its first command: for a page about a stuck shard, a shard stuck so.

Owns a small shop, and one way to get it stuck for each state that the runbook has an entry for. What the daemon said
when it got stuck is in `daemon.log`, which pages show. Invariant: nothing runs when a stage's block is entered, but for
what the stage names.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from tests.support.daemons import ROOT, RealDaemon, fork_daemon

SECONDS = 60.0

SETTINGS = """\
[daemon]
projections = ["readmodels.orders"]

[store]
path = "shop.db"

[sources.orders]
paths = ["orders-*.jsonl"]
poll_interval_ms = 20

[control]
path = "run/control.sock"

[metrics]
port = 0

[logging]
format = "json"
"""

PROJECTION = '''\
from daemon.api import Event, View, on, projection


@projection(name="order-summary", version=1, source="orders", key="data.order_id"{options})
class OrderSummary:
    """One row per order."""

    @on("OrderPlaced")
    def placed(self, view: View, event: Event) -> None:
        view.put(status="placed", total=event.data["total"])

    @on("OrderShipped")
    def shipped(self, view: View, event: Event) -> None:
        view.patch(status="shipped")
'''

type Data = Mapping[str, object]
type Stage = Callable[[Path], AbstractContextManager[None]]


def event(number: int, kind: str, data: Data, at: str = "2026-01-01T12:00:00Z", name: str = "") -> str:
    """One line of a log."""
    identity = name or f"e{number}"
    return json.dumps({"specversion": "1.0", "id": identity, "type": kind, "source": "/shop", "time": at, "data": data})


def placed(number: int, **more: object) -> str:
    """An order placed."""
    return event(number, "OrderPlaced", {"order_id": f"o{number}", "total": 10 * number} | more)


def old(number: int) -> str:
    """An order placed as an older producer wrote it: the sum has another name."""
    return event(number, "OrderPlaced", {"order_id": f"o{number}", "amount": 10 * number})


def shop(place: Path, lines: Sequence[str], *, options: str = "", settings: str = "") -> None:
    """Lay out settings, projection and one log."""
    (place / "projectiond.toml").write_text(SETTINGS + settings, encoding="utf-8")
    (place / "readmodels").mkdir(exist_ok=True)
    (place / "readmodels" / "orders.py").write_text(PROJECTION.replace("{options}", options), encoding="utf-8")
    (place / "orders-0.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def empty_log(place: Path) -> Path:
    """Lay out the demonstration's settings over logs that hold nothing yet; return where its database will be."""
    (place / "projectiond.toml").write_bytes((ROOT / "config" / "demo.toml").read_bytes())
    logs = place / "var" / "demo"
    logs.mkdir(parents=True)
    for source in ("flights", "movements"):
        (logs / f"{source}-0.jsonl").touch()
    return logs / "projectiond.db"


def fold(place: Path, *words: str, code: int = 0) -> None:
    """Run the daemon to its end; its log is appended to daemon.log."""
    with _started(place, "--once", *words) as daemon:
        ended = daemon.wait()
    assert ended.code == code, ended.log


@contextmanager
def following(place: Path, until: str, **settings: str) -> Generator[RealDaemon]:
    """Have a daemon run for the time of the block, once its log says `until`; then it is told to stop."""
    with _started(place, **settings) as daemon:
        daemon.until(lambda: until in daemon.log())
        yield daemon
        daemon.terminate()
        daemon.wait()


@contextmanager
def _started(place: Path, *words: str, **settings: str) -> Generator[RealDaemon]:
    """Start a daemon; it is ended, and its log kept, when the block is left."""
    daemon = fork_daemon(("run", *words), settings, place, len(list(place.glob("daemon-*.log"))))
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.process.close()
        with (place / "daemon.log").open("a", encoding="utf-8") as log:
            log.write(daemon.log())


def change_code(place: Path, old: str, new: str) -> None:
    """Change the projection, visibly for Python's cache too, which looks at whole seconds and sizes."""
    module = place / "readmodels" / "orders.py"
    module.write_text(module.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    later = module.stat().st_mtime + 10
    os.utime(module, (later, later))


def append(place: Path, line: str) -> None:
    """Add a line to the log."""
    with (place / "orders-0.jsonl").open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


@contextmanager
def nothing(_place: Path) -> Generator[None]:
    """No file."""
    yield


@contextmanager
def a_shop(place: Path) -> Generator[None]:
    """A shop whose log is folded."""
    shop(place, [placed(number) for number in range(1, 4)])
    fold(place)
    yield


@contextmanager
def failures(place: Path) -> Generator[None]:
    """A shard parked because events failed in a row: the producer renamed a field."""
    shop(place, [placed(1), *(old(number) for number in range(2, 20))])
    fold(place, code=1)
    yield


@contextmanager
def stuck(place: Path) -> Generator[None]:
    """The same, and the daemon runs on: its other shard goes on."""
    shop(place, [placed(1), *(old(number) for number in range(2, 20))])
    (place / "orders-1.jsonl").write_text(placed(30) + "\n", encoding="utf-8")
    with following(place, '"parked"'):
        (place / "daemon.log").symlink_to("daemon-0.log")
        yield


@contextmanager
def failed_event(place: Path) -> Generator[None]:
    """A shard parked by the first event that its projection cannot take."""
    shop(place, [placed(1), old(2), placed(3)], options=', on_error="park-shard"')
    fold(place, code=1)
    yield


@contextmanager
def parked_key(place: Path) -> Generator[None]:
    """A key that waits behind an event that failed."""
    shipped = event(9, "OrderShipped", {"order_id": "o2"})
    shop(place, [placed(1), old(2), shipped, placed(3)], options=', on_error="park-key"')
    fold(place)
    yield


@contextmanager
def dead_letters(place: Path) -> Generator[None]:
    """Three dead letters: a failed handler, an id with another payload, and an event that comes too late."""
    new = event(5, "OrderPlaced", {"order_id": "o5", "total": 1}, at="2026-03-01T12:00:00Z")
    shop(place, [placed(1), old(2), placed(1, total=99), placed(3), new])
    fold(place)
    append(place, placed(7))  # two months behind the newest event
    fold(place)
    yield


@contextmanager
def log_lost(place: Path) -> Generator[None]:
    """A log that was cut and begun anew under its name, and a copy from before."""
    shop(place, [placed(number) for number in range(1, 5)])
    fold(place)
    (place / "backup.jsonl").write_bytes((place / "orders-0.jsonl").read_bytes())
    (place / "orders-0.jsonl").write_text(placed(8) + "\n", encoding="utf-8")
    fold(place, code=1)
    yield


@contextmanager
def code_changed(place: Path) -> Generator[None]:
    """A handler changed under the same version, where that is refused."""
    shop(place, [placed(1)])
    fold(place)
    settings = SETTINGS.replace("[store]", "require_version_bump = true\n\n[store]")
    (place / "projectiond.toml").write_text(settings, encoding="utf-8")
    change_code(place, '"shipped")', '"sent")')
    fold(place, code=1)
    yield


@contextmanager
def gap(place: Path) -> Generator[None]:
    """A key whose next number is missing."""
    numbered = [event(n, "OrderPlaced", {"order_id": "o1", "total": n, "n": n}) for n in (1, 2, 4)]
    shop(place, numbered, options=', dedup="sequence", sequence="data.n"')
    fold(place)
    yield


@contextmanager
def waiting_version(place: Path) -> Generator[None]:
    """A second version beside the first, and then the first one gone."""
    shop(place, [placed(1)])
    fold(place)
    change_code(place, "version=1", "version=2")
    fold(place)
    yield


@contextmanager
def locked(place: Path) -> Generator[None]:
    """A store whose lock another program held while the daemon had something to commit."""
    shop(place, [placed(1)], settings="\n[engine.retry]\nmax_backoff_ms = 200\n")
    settings = place / "projectiond.toml"
    short = 'path = "shop.db"\nbusy_timeout_ms = 50'
    settings.write_text(settings.read_text(encoding="utf-8").replace('path = "shop.db"', short), encoding="utf-8")
    store = place / "shop.db"
    with (
        following(place, '"running"') as daemon,
        closing(sqlite3.connect(store, isolation_level=None, timeout=SECONDS)) as connection,
    ):
        connection.execute("BEGIN IMMEDIATE")
        append(place, placed(2))
        daemon.until(lambda: "commit not settled yet" in daemon.log())
        connection.execute("ROLLBACK")
    yield


@contextmanager
def away_at_start(place: Path) -> Generator[None]:
    """A daemon that was started while another program held the store's lock, and waits for it."""
    shop(place, [placed(1)])
    settings = place / "projectiond.toml"
    short = 'path = "shop.db"\nbusy_timeout_ms = 50'
    settings.write_text(settings.read_text(encoding="utf-8").replace('path = "shop.db"', short), encoding="utf-8")
    with closing(sqlite3.connect(place / "shop.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with following(place, "the store is away; waiting for it"):
            (place / "daemon.log").symlink_to("daemon-0.log")
            yield


@contextmanager
def damaged(place: Path) -> Generator[None]:
    """A database file with a hole in it, and a copy from before."""
    shop(place, [placed(number) for number in range(1, 4)])
    fold(place)
    (place / "backup.db").write_bytes((place / "shop.db").read_bytes())
    with (place / "shop.db").open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 16_384)
    append(place, placed(4))
    fold(place, code=1)
    yield


@contextmanager
def too_new(place: Path) -> Generator[None]:
    """A store that a newer release has written."""
    shop(place, [placed(1)])
    fold(place)
    with closing(sqlite3.connect(place / "shop.db", isolation_level=None)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute(f"PRAGMA user_version = {version + 1}")
    fold(place, code=3)
    yield


@contextmanager
def wrong_settings(place: Path) -> Generator[None]:
    """Settings with two mistakes."""
    shop(place, [placed(1)])
    text = SETTINGS.replace("poll_interval_ms = 20", 'poll_interval_ms = "fast"').replace("[store]", "[stroe]")
    (place / "projectiond.toml").write_text(text, encoding="utf-8")
    yield


@contextmanager
def two_owners(place: Path) -> Generator[None]:
    """A second daemon started on the first one's store, which then was fenced. Both have ended."""
    shop(place, [placed(1)])
    alone = {"CONTROL__ENABLED": "false"}
    with following(place, '"running"') as first, following(place, '"running"', **alone):
        append(place, placed(2))
        first.until(lambda: '"fenced"' in first.log())
    yield


STAGES: dict[str, Stage] = {
    "empty": nothing,
    "shop": a_shop,
    "failures": failures,
    "stuck": stuck,
    "failed-event": failed_event,
    "parked-key": parked_key,
    "dead-letters": dead_letters,
    "log-lost": log_lost,
    "code-changed": code_changed,
    "gap": gap,
    "waiting-version": waiting_version,
    "locked": locked,
    "store-away-at-start": away_at_start,
    "damaged": damaged,
    "too-new": too_new,
    "wrong-settings": wrong_settings,
    "two-owners": two_owners,
}
"""Every stage, by the name that a page calls it."""
