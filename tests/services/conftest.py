"""A small server of the tests' own, for what does not depend on which server it is, and looking at processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from daemon.demo.services.service import Service, answers_http

PATIENCE_SECONDS = 30.0

ANSWERING = """
import http.server, sys
port = int(sys.argv[1])
print("about to listen", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler).serve_forever()
"""
ENDING = "print('no such setting: colour', flush=True); raise SystemExit(3)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


class Small(Service):
    """A server out of a line of Python."""

    name = "small"

    def __init__(self, program: str = ANSWERING, directory: Path | None = None) -> None:
        super().__init__(directory)
        self.program = program

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", self.program, str(self.port.number)]

    def answers(self) -> bool:
        return answers_http(self.port.number)


def state_of(pid: int) -> str:
    """A process's state in the letters of `ps`; nothing when it is not there."""
    asked = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def alive(pid: int) -> bool:
    """Whether a process is there that is not just waiting to be counted as dead."""
    return state_of(pid)[:1] not in {"", "Z"}


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "projectiond"


@pytest.fixture
def bare_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH on which nothing is found."""
    monkeypatch.setenv("PATH", os.devnull)
