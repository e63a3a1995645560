"""A server as a child process: started until it answers, killed hard, frozen, started again on the same files, ended.

Owns the child's life and its log file. What a server is started with and how it answers is its own (`Service` is
subclassed once for each). Must not know the daemon.

Invariants: a server is in a process group of its own, so Ctrl-C never reaches it by chance; it ends with the process
that started it, however that ends (`guard`), and is ended by its own process id only. It keeps its port and files from
one start to the next. All calls block; run the slow ones (`start`, `restart`) in a thread where a loop must go on.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from daemon.core.errors import ProjectiondError, Remedy
from daemon.demo.services import guard
from daemon.demo.services.ports import LOOPBACK, Port

START_SECONDS = 120.0
"""How long a server may take until it answers; it is killed after that."""
STOP_SECONDS = 20.0
"""How long a server that was told to stop may take; it is killed after that."""
_LOOK_SECONDS = 0.005
_TAIL_BYTES = 2_000
_STARTS = 5


class ServiceFailed(ProjectiondError):
    """A server did not start, or ended by itself."""

    remedy = Remedy.WAIT


class _Child:
    """A server under its guard."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, log: Path, environment: Mapping[str, str], remove: Path | None
    ) -> None:
        """Start it. `remove` goes when the starter dies without ending the server."""
        self._control, theirs = socket.socketpair()
        with theirs, log.open("ab") as out:
            arguments = [str(theirs.fileno()), str(remove or ""), *command]
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *arguments],
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        self._said = b""
        self.pid = self._number(START_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal on; nothing happens once it ended."""
        try:
            self._control.send(bytes([number]))
        except OSError:
            return

    def ended(self, seconds: float = 0.0) -> bool:
        """Tell whether it is gone, waiting so long for it."""
        try:
            self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def status(self) -> int | None:
        """Return its exit status once it ended: negative for a signal; None if the guard could not tell."""
        return self._number(0.0)

    def kill(self) -> None:
        """End it and its guard, whatever state they are in."""
        self.signal(signal.SIGKILL)
        if not self.ended(STOP_SECONDS):
            self._guard.kill()
            self._guard.wait()

    def close(self) -> None:
        """Give back what it took here."""
        self._control.close()

    def _number(self, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        poller = select.poll()  # unlike select, for a process with thousands of open files too
        poller.register(self._control, select.POLLIN)
        while b"\n" not in self._said:
            left = max(0.0, deadline - time.monotonic())
            if not poller.poll(left * 1_000):
                return None
            block = self._control.recv(64)
            if not block:
                return None
            self._said += block
        line, _, self._said = self._said.partition(b"\n")
        return int(line)


class Startable(ABC):
    """What a `with` block starts, and closes whatever happens."""

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    @abstractmethod
    def start(self) -> Self:
        """Start it and wait until it answers."""

    @abstractmethod
    def close(self) -> None:
        """End it and remove what was temporary."""


class Service(Startable):
    """One server. Use it as a context manager, which starts it, or call `start` and `close`."""

    name = "server"

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` keeps its files and its log; without one they go to a temporary one, and with the server.

        Nothing is started yet.
        """
        self._temporary = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix=f"projectiond-{self.name}-")) if directory is None else directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory / f"{self.name}.log"
        self.port = Port()
        self._child: _Child | None = None
        self._log_start = 0
        self._answered_once = False

    @property
    def address(self) -> str:
        """Where it listens: `host:port`."""
        return f"{LOOPBACK}:{self.port.number}"

    @property
    def endpoint(self) -> str:
        """Its URL, for one that speaks HTTP."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """The running server's own process id. Raises ServiceFailed when it does not run."""
        if self._child is None or self._child.pid is None:
            raise ServiceFailed(f"{self.name} does not run; start it first")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether its process is there; a frozen one is."""
        return self._child is not None and not self._child.ended()

    def start(self) -> Self:
        """Start it and wait until it answers.

        A port lost to a stranger at the first start is replaced; later it is the one that clients know. Raises
        ServiceFailed when it ends or stays silent, ServiceMissing when something has to be installed first.
        """
        for _ in range(_STARTS):
            self.launch()
            try:
                self.wait_until_answering()
            except ServiceFailed:
                if self._answered_once or not self._port_was_lost():
                    raise
                self._take_other_ports()
            else:
                return self
        raise ServiceFailed(f"{self.name} lost its port {_STARTS} times; end what takes ports on {LOOPBACK}")

    def launch(self) -> None:
        """Start its process and do not wait for an answer; nothing happens when it runs."""
        if self.running:
            return
        self._forget_child()
        command = self.command()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._child = _Child(
            command,
            cwd=self.directory,
            log=self.log,
            environment=self.environment(),
            remove=self.directory if self._temporary else None,
        )

    def wait_until_answering(self) -> None:
        """Wait for an answer of the launched process. Raises ServiceFailed, and leaves nothing running then."""
        deadline = time.monotonic() + START_SECONDS
        child = self._child
        if child is None:
            raise ServiceFailed(f"{self.name} was not launched")
        while not self.answers():
            if child.ended(_LOOK_SECONDS):
                status = child.status()
                self._forget_child()
                raise ServiceFailed(f"{self.name} ended with {status} as it started: {self._last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServiceFailed(
                    f"{self.name} did not answer on {self.address} within {START_SECONDS:g} s: {self._last_words()}"
                )
        self._answered_once = True

    def kill(self) -> None:
        """Kill it as the power would; its files stay. Nothing happens when it does not run."""
        if self._child is not None:
            self._child.kill()
            self._forget_child()

    def stop(self) -> None:
        """Let it end in order; kill it if that takes too long."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)
            self._child.signal(signal.SIGTERM)
            self._child.ended(STOP_SECONDS)
            self.kill()

    def restart(self) -> Self:
        """Kill it if it runs, and start it again on the same files and port."""
        self.kill()
        return self.start()

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): connections stay open and nothing is answered."""
        if self._child is not None:
            self._child.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        if self._child is not None:
            self._child.signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and give everything back; a second time does nothing."""
        self.kill()
        self.port.release()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the program's full path and its arguments, having made what it needs before it starts."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether it answers by now, waiting for little or nothing."""

    def environment(self) -> Mapping[str, str]:
        """Return the environment that it runs in: little more than the path, so that a shell's settings stay out."""
        return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ") if name in os.environ}

    def said(self) -> str:
        """Read what it logged since it was started last."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_start)
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _port_was_lost(self) -> bool:
        return "already in use" in self.said().lower()

    def _take_other_ports(self) -> None:
        self.port.release()
        self.port = Port()

    def _last_words(self) -> str:
        words = self.said()[-_TAIL_BYTES:].strip() or "it said nothing"
        if not self._temporary:
            return f"{words} (its log: {self.log})"
        return words

    def _forget_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def answers_http(port: int, server: str = "") -> bool:
    """Tell whether an HTTP server answers on a loopback port, one whose Server header begins with `server`."""
    connection = HTTPConnection(LOOPBACK, port, timeout=1.0)
    try:
        connection.request("GET", "/")
        return (connection.getresponse().getheader("Server") or "").startswith(server)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
