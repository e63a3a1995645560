"""The image's health check, against whoever answers."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from daemon.cli.probe import main
from daemon.demo.services.ports import LOOPBACK, Port

STATUS = {"/healthz": 200, "/readyz": 503}


class Answers(BaseHTTPRequestHandler):
    """A daemon that is alive and not ready."""

    def do_GET(self):
        """Answer."""
        self.send_response(STATUS[self.path])
        self.end_headers()
        self.wfile.write(b"ok" if STATUS[self.path] == 200 else b"store")

    def log_message(self, format: str, *args: object):  # noqa: A002 - the base class named it
        """Say nothing."""


@contextmanager
def answering() -> Generator[int]:
    """Serve on a free port for the time of the block; give its number."""
    with HTTPServer((LOOPBACK, 0), Answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_alive_is_healthy_and_not_ready_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """200 on /healthz is 0; any other status is 1 and told; a daemon that listens everywhere is asked on loopback."""
    with answering() as port:
        monkeypatch.setenv("PROJECTIOND__METRICS__PORT", str(port))
        monkeypatch.setenv("PROJECTIOND__METRICS__HOST", "0.0.0.0")
        assert main([]) == 0
        assert main(["/readyz"]) == 1
    assert capsys.readouterr().out == "/healthz: 200 ok\n/readyz: 503 store\n"


def test_nobody_there_is_unhealthy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """No answer, or a port that is no number, is 1 and said in one line."""
    free = Port()
    monkeypatch.setenv("PROJECTIOND__METRICS__PORT", str(free.number))
    assert main([]) == 1
    free.release()
    monkeypatch.setenv("PROJECTIOND__METRICS__PORT", "nonsense")
    assert main([]) == 1
    said = capsys.readouterr().out
    assert said.count("/healthz: no answer (") == 2
    assert said.count("\n") == 2


def test_it_costs_little():
    """Asked every quarter of a minute, it imports nothing of the daemon but its release."""
    ours = "[name for name in sys.modules if name.startswith(('daemon.', 'pydantic'))]"
    code = f"import sys, daemon.cli.probe; print({ours})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['daemon.cli', 'daemon.cli.probe']\n"
