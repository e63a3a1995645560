"""`projectionctl` as a child process, against a control server with canned answers."""

import io
import os
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

from daemon.cli.ctl.main import app
from daemon.control.limits import ControlLimits
from daemon.control.models import MODELS
from daemon.control.peers import AccessList
from daemon.control.place import claim
from daemon.control.routes import routes_of
from daemon.control.server import ControlServer
from daemon.testing.observer import RecordingObserver
from tests.ctl.canned import CannedEngine
from tests.support.commands import Ended, Workplace


@dataclass
class Desk:
    """A place to run `projectionctl` at, and the engine that answers."""

    place: Workplace
    engine: CannedEngine
    socket: Path

    def ctl(self, *words: str, **environment: str) -> Ended:
        """Run a command in this process, which is told where the socket is."""
        return run_here(self.place.path, words, {"PROJECTIONCTL_SOCKET": str(self.socket)} | environment)

    def child(self, *words: str, **environment: str) -> Ended:
        """Run a command as a process of its own."""
        return self.place.ctl(*words, **({"PROJECTIONCTL_SOCKET": str(self.socket)} | environment))

    def on_a_terminal(self, *words: str, columns: int = 100, **environment: str) -> str:
        """Run a command on a terminal; give what it showed."""
        return self.place.ctl_on_a_terminal(
            *words, columns=columns, **({"PROJECTIONCTL_SOCKET": str(self.socket)} | environment)
        )


def run_here(directory: Path, words: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Run `projectionctl` without a process of its own, which would cost half a second each time."""
    out, err = io.StringIO(), io.StringIO()
    before, here = dict(os.environ), Path.cwd()
    for name in [name for name in os.environ if name.startswith(("PROJECTION", "COLUMNS", "NO_COLOR", "FORCE_COLOR"))]:
        del os.environ[name]
    os.environ |= environment
    os.chdir(directory)
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                app(list(words), prog_name="projectionctl")
            except SystemExit as ended:
                code = int(ended.code or 0)
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ |= before
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    """A server with canned answers, in a thread of its own."""
    engine = CannedEngine()
    with tempfile.TemporaryDirectory(prefix="pd-", dir="/tmp") as directory:
        socket = Path(directory) / "c" / "control.sock"
        routes = routes_of(MODELS, engine, engine, engine, daemon="shop", release="1.2.3", replica="web-1-4f2a")
        server = ControlServer(claim(socket), routes, AccessList(), ControlLimits(), RecordingObserver())
        ready = threading.Event()
        holder: list[anyio.from_thread.BlockingPortal] = []

        async def serve() -> None:
            async with anyio.from_thread.BlockingPortal() as portal, anyio.create_task_group() as tasks:
                holder.append(portal)
                tasks.start_soon(server.run)
                ready.set()
                await portal.sleep_until_stopped()
                tasks.cancel_scope.cancel()

        thread = threading.Thread(target=anyio.run, args=(serve,))
        thread.start()
        ready.wait()
        try:
            yield Desk(Workplace(tmp_path), engine, socket)
        finally:
            holder[0].call(holder[0].stop)
            thread.join()
