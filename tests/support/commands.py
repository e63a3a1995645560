"""A directory to run `projectiond` in, as a user would: settings, projections beside them, event files.

Runs the installed command as a child process, so that exit codes, streams and signals are the real ones.
"""

import fcntl
import json
import os
import pty
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("projectiond"))
CTL = str(Path(sys.executable).with_name("projectionctl"))
PATIENCE_SECONDS = 60
"""How long a command may take; it is killed after that, and its test fails."""

SETTINGS = """\
[daemon]
name = "shop"
projections = ["readmodels.orders"]

[store]
path = "var/shop.db"

[sources.orders]
paths = ["orders-*.jsonl"]
poll_interval_ms = 10

[engine]
linger_ms = 0

[logging]
format = "json"
"""

PROJECTIONS = '''\
from daemon.api import Event, Index, View, on, projection


@projection(name="order-summary", version=1, source="orders", key="data.order_id", dedup="shard",
            indexes=(Index("by-status", "status"),))
class OrderSummary:
    """One row per order."""

    @on("OrderPlaced")
    def placed(self, view: View, event: Event) -> None:
        view.put(status="placed", total=event.data["total"])

    @on("OrderShipped")
    def shipped(self, view: View, event: Event) -> None:
        view.patch(status="shipped")
'''


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout, which must hold nothing else."""
        return json.loads(self.out)


class Workplace:
    """A working directory with one small shop in it."""

    def __init__(self, path: Path) -> None:
        """Lay out settings, projections and an empty log in `path`."""
        self.path = path
        self.write("projectiond.toml", SETTINGS)
        self.write("readmodels/orders.py", PROJECTIONS)
        self.write("orders-0.jsonl", "")

    def write(self, name: str, text: str) -> Path:
        """Write a file, making its directory."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a file that holds `old`."""
        text = (self.path / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def append(self, *events: tuple[str, str, Mapping[str, object]], log: str = "orders-0.jsonl") -> None:
        """Append events to a log: id, type and payload of each."""
        with (self.path / log).open("a", encoding="utf-8") as file:
            file.writelines(map(_line, events))

    def run(self, *words: str, **environment: str) -> Ended:
        """Run a command to its end."""
        return self._run(COMMAND, words, environment)

    def ctl(self, *words: str, **environment: str) -> Ended:
        """Run `projectionctl` to its end."""
        return self._run(CTL, words, environment)

    def _run(self, command: str, words: Sequence[str], environment: Mapping[str, str]) -> Ended:
        done = subprocess.run(
            [command, *words],
            cwd=self.path,
            env=_environment(words, environment),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def ctl_on_a_terminal(self, *words: str, columns: int, **environment: str) -> str:
        """Run `projectionctl` on a terminal of so many columns; give what it showed there."""
        return self._run_on_a_terminal(CTL, words, columns, environment)

    def run_on_a_terminal(self, *words: str, columns: int, **environment: str) -> str:
        """Run a command on a terminal of so many columns; give what it showed there."""
        return self._run_on_a_terminal(COMMAND, words, columns, environment)

    def _run_on_a_terminal(
        self, command: str, words: Sequence[str], columns: int, environment: Mapping[str, str]
    ) -> str:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
        terminal = _environment(words, environment) | {"TERM": "xterm-256color"}
        shown = bytearray()
        with subprocess.Popen([command, *words], cwd=self.path, env=terminal, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            try:
                while block := _read(ours):
                    shown += block
                process.wait(PATIENCE_SECONDS)
            finally:
                process.kill()
                os.close(ours)
        return shown.decode().replace("\r\n", "\n")

    @contextmanager
    def running(self, *words: str, **environment: str) -> Generator["Running"]:
        """Start a command and hand it out; it is killed at the end if it still runs."""
        process = subprocess.Popen(
            [COMMAND, *words],
            cwd=self.path,
            env=_environment(words, environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield Running(process)
            finally:
                process.kill()

    @contextmanager
    def store(self) -> Generator[sqlite3.Connection]:
        """Open the database as another process would."""
        connection = sqlite3.connect(self.path / "var/shop.db", isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def rows(self, table: str = "order-summary-g1") -> dict[str, Any]:
        """Read a generation's rows: attributes by key."""
        with self.store() as connection:
            rows: Iterable[tuple[str, str]] = connection.execute(f'SELECT key, attributes FROM "{table}"')
            return {key: json.loads(attributes) for key, attributes in rows}

    def files(self) -> set[str]:
        """Name everything there is, without what Python caches."""
        return {
            str(file.relative_to(self.path)) for file in self.path.rglob("*") if "__pycache__" not in file.parts
        }  # fmt: skip


class Running:
    """A command that runs. Its log is JSON lines on stderr."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Follow a process."""
        self.process = process

    def wait_for_log(self, **fields: object) -> dict[str, Any]:
        """Read the log until a record has these fields; fails when the process ends before."""
        assert self.process.stderr is not None
        seen: list[str] = []
        for line in self.process.stderr:
            seen.append(line)
            if line.startswith("{"):
                record = json.loads(line)
                if fields.items() <= record.items():
                    return record
        raise AssertionError(f"no record with {fields} among:\n{''.join(seen)}")

    def end(self, signal: int) -> Ended:
        """Send a signal and wait for the end."""
        self.process.send_signal(signal)
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return Ended(self.process.returncode, out, err)


def _read(terminal: int) -> bytes:
    """Read what there is; nothing once the other side is closed, which Linux tells as an input/output error."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def _line(event: tuple[str, str, Mapping[str, object]]) -> str:
    identity, kind, data = event
    envelope = {"specversion": "1.0", "id": identity, "type": kind, "source": "shop", "data": data}
    return json.dumps(envelope | {"time": "2026-01-01T00:00:00Z"}) + "\n"


def _environment(words: Sequence[str], extra: Mapping[str, str]) -> dict[str, str]:
    """What the child sees: ours without what would change its words or its settings. No daemon takes a port unasked."""
    dropped = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONSAFEPATH", "GITHUB_ACTIONS", "PY_COLORS"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    quiet = {"PROJECTIOND__METRICS__ENABLED": "false"} if words and words[0] == "run" else {}
    return {name: value for name, value in kept.items() if not name.startswith("PROJECTIOND")} | quiet | dict(extra)
