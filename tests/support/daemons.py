"""Real daemons over the demonstration's slice: started, killed and stopped by pid, in a directory of their own.

Each daemon is a process of its own that runs `projectiond run`. It is forked from a process that has imported the
daemon before, so that fifty starts do not cost fifty imports. Whatever a test starts is ended when its block is left.
"""

import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from daemon.demo.check import Report, check
from daemon.demo.flights import read_flights
from daemon.demo.log import write_logs
from daemon.demo.manifest import Manifest
from daemon.demo.report import FOLLOWED, counts_of, events_to_read
from daemon.demo.watch import Look, Watcher

ROOT = Path(__file__).parents[2]
SLICE = ROOT / "tests" / "data" / "flights.csv"
PATIENCE_SECONDS = 90
"""How long anything awaited may take; its test fails after that."""

_LOOK_SECONDS = 0.001
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "daemon.cli.main", "daemon.cli.run", "daemon.app", "daemon.assembly.dynamodb", "tests.support.daemons",
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ended:
    """How a daemon ended."""

    code: int
    document: Any
    log: str


class RealDaemon:
    """One started daemon."""

    def __init__(self, process: ForkServerProcess, out: Path, log: Path) -> None:
        """Follow a process that writes its result to `out` and its log to `log`."""
        self.process = process
        self._out, self._log = out, log

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.is_alive()

    def records(self, **fields: object) -> list[dict[str, Any]]:
        """List the log's records that have these fields."""
        found: list[dict[str, Any]] = []
        for line in self.log().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a traceback, or a line that is being written
            if fields.items() <= record.items():
                found.append(record)
        return found

    def log(self) -> str:
        """Read its log so far."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; fails when the daemon ends before it does."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.alive, f"it ended with {self.process.exitcode} first:\n{self.log()[-3000:]}"
            assert time.monotonic() < deadline, f"in vain:\n{self.log()[-3000:]}"
            time.sleep(_LOOK_SECONDS)

    def metrics_address(self) -> str:
        """Return where it can be asked for metrics, `host:port`, once it says so."""
        event = "metrics and health can be asked for"
        self.until(lambda: bool(self.records(event=event)))
        return self.records(event=event)[0]["address"]

    def kill(self) -> bool:
        """Send SIGKILL; False when it had ended before."""
        self.process.kill()
        self.process.join(PATIENCE_SECONDS)
        return self.process.exitcode == -signal.SIGKILL

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    def wait(self) -> Ended:
        """Wait for its end."""
        self.process.join(PATIENCE_SECONDS)
        code = self.process.exitcode
        assert code is not None, f"it does not end:\n{self.log()[-3000:]}"
        try:
            document = json.loads(self._out.read_bytes())
        except ValueError:
            document = None
        return Ended(code, document, self.log())


@dataclass
class Site:
    """A directory with logs, a database and the daemons that a test starts over them."""

    path: Path
    manifest: Manifest
    settings: Path = ROOT / "config" / "demo.toml"
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Settings for every daemon: `ENGINE__LINGER_MS` and the like."""
    daemons: list[RealDaemon] = field(default_factory=list[RealDaemon])

    @property
    def logs(self) -> Path:
        """Where the event logs are."""
        return self.path / "logs"

    @property
    def database(self) -> Path:
        """The store."""
        return self.path / "rows.db"

    @property
    def total(self) -> int:
        """Events to settle, each counted once per projection that follows it."""
        return events_to_read(self.manifest)

    def start(self, *words: str, **variables: str) -> RealDaemon:
        """Start a daemon: `projectiond run --json` with more words, and settings as `ENGINE__LINGER_MS="0"`."""
        paths = {
            f"SOURCES__{source.upper()}__PATHS": json.dumps([str(self.logs / f"{source}-*.jsonl")])
            for source in ("flights", "movements")
        }
        settings = paths | {"STORE__PATH": str(self.database)} | self.variables | variables
        command = ("run", "--config", str(self.settings), "--json", *words)
        daemon = fork_daemon(command, settings, self.path, len(self.daemons))
        self.daemons.append(daemon)
        return daemon

    def once(self, **variables: str) -> Ended:
        """Run a daemon until it has settled what the logs hold."""
        return self.start("--once", **variables).wait()

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read the database; nothing while it is being made."""
        try:
            with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as connection:
                return connection.execute(statement, parameters).fetchall()
        except sqlite3.OperationalError:
            return []

    def commits(self) -> int:
        """Count the changes of all checkpoints: takes, commits and releases."""
        rows = self.query('SELECT sum(commit_seq) FROM "projectiond-checkpoints"')
        return (rows[0][0] or 0) if rows else 0

    def look(self) -> Look:
        """Read the checkpoints."""
        with Watcher(self.database) as watcher:
            return watcher.look()

    def locked(self) -> AbstractContextManager[None]:
        """Hold the store's write lock, as another process would."""
        return write_lock(self.database)

    def checked(self) -> Report:
        """Check every row."""
        return check(SLICE, self.database)

    def story(self) -> str:
        """Tell what became of the shards at last, by the logs of all daemons."""
        changes = [record for daemon in self.daemons for record in daemon.records(event="shard changed state")]
        return "\n".join(json.dumps(change) for change in changes[-60:])

    def assert_right(self) -> None:
        """Every row is right, and every counter is what the manifest says."""
        report = self.checked()
        assert report.right, f"{report.text()}\n{self.story()}"
        look = self.look()
        for followed in FOLLOWED:
            counts = counts_of(self.manifest, followed, look)
            assert counts.agree, counts.differences()


@contextmanager
def write_lock(database: Path) -> Generator[None]:
    """Hold a database's write lock, taken between two commits of a daemon that makes them back to back.

    SQLite's own wait sleeps for longer and longer, so a busy daemon may end before it looks at the right moment.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as connection:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
        yield
        connection.execute("ROLLBACK")


@contextmanager
def site(path: Path, *, seed: int = 1, batch: int = 20) -> Generator[Site]:
    """Lay out the slice's logs in `path`; end every daemon that was started over them when the block is left."""
    manifest = write_logs(path / "logs", read_flights(SLICE), seed=seed)
    place = Site(path, manifest, variables={"ENGINE__BATCH_MAX_EVENTS": str(batch), "ENGINE__LINGER_MS": "0"})
    try:
        yield place
    finally:
        for daemon in place.daemons:
            daemon.kill()
            daemon.process.close()


def fork_daemon(
    command: tuple[str, ...],
    variables: Mapping[str, str],
    here: Path,
    number: int,
    environment: Mapping[str, str] | None = None,
) -> RealDaemon:
    """Start `projectiond` with these words and settings in `here`; `number` tells its files from other daemons'.

    `environment`: variables that are no settings of ours.
    """
    out, log = here / f"daemon-{number}.out", here / f"daemon-{number}.log"
    settings = {"METRICS__ENABLED": "false"} | dict(variables)  # no daemon takes a port unasked
    everything = {f"PROJECTIOND__{name}": value for name, value in settings.items()} | dict(environment or {})
    process = _CONTEXT.Process(target=_run, args=(command, everything, here, out, log))
    process.start()
    return RealDaemon(process, out, log)


def _run(command: tuple[str, ...], variables: dict[str, str], here: Path, out: Path, log: Path) -> None:
    """Be a daemon: the body of a started process."""
    from daemon.cli.main import app

    for name in [name for name in os.environ if name.startswith("PROJECTIOND")]:
        del os.environ[name]
    os.environ |= variables
    os.chdir(here)
    for file, stream in ((out, 1), (log, 2)):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    sys.argv = ["projectiond", *command]
    app(list(command), prog_name="projectiond")
