"""The daemon as a child process of the demonstration: started, killed hard, told to stop, and its last words.

Owns how the daemon is started: its settings file, the environment and the files it writes to. Must not know what the
daemon does with its logs.

Invariants: what was started is ended by its own process id before its block is left. A shell's settings for another
daemon never reach this one: of the PROJECTIOND__ variables, only those on the engine and on logging are passed on.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from daemon.core.errors import ProjectiondError, Remedy, SettingsProblem
from daemon.demo.interrupts import Interrupts
from daemon.demo.place import DemoDirectory
from daemon.settings.environment import PREFIX, variable_of

SETTINGS_FILE = "demo.toml"
STOP_SECONDS = 60.0
"""How long a daemon that was told to stop may take; it is killed after that, which loses nothing."""
_PASSED_ON = (f"{PREFIX}ENGINE__", f"{PREFIX}LOGGING__", f"{PREFIX}METRICS__")
_LEASES = {"kind": "lease", "lease_seconds": "1", "poll_ms": "100"}
"""How replicas divide the shards: with a shorter lease than a production's, so that a killed one is missed soon."""
_TAIL_BYTES = 4_000
_LOOK_SECONDS = 0.01


class DaemonEnded(ProjectiondError):
    """The daemon ended by itself although it should not have; `remedy` is what it asked for."""

    def __init__(self, message: str, remedy: Remedy) -> None:
        """Keep the remedy beside the message."""
        super().__init__(message)
        self.remedy = remedy  # pyright: ignore[reportAttributeAccessIssue] - each daemon asks for its own


def settings_file() -> Path:
    """Return the demonstration's settings: of the installed package, or of the checkout.

    Raises SettingsProblem when neither is there.
    """
    package = Path(__file__).parents[1]
    candidates = (package / "_config" / SETTINGS_FILE, package.parent / "config" / SETTINGS_FILE)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise SettingsProblem(
        f"the demonstration's settings are missing (looked for {', '.join(map(str, candidates))}); "
        "install projectiond again, or run it from a checkout"
    )


def environment_of(
    directory: DemoDirectory,
    batch_max_events: int | None,
    inherited: Mapping[str, str],
    store: Mapping[str, str],
    *,
    replicas: int = 1,
) -> dict[str, str]:
    """Return the daemon's environment: the settings' paths lead into `directory`; several replicas share by leases.

    `store`: the variables that say where rows are kept.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if name != "PROJECTIOND_CONFIG" and (not name.startswith(PREFIX) or name.startswith(_PASSED_ON))
    }
    paths = {
        source: json.dumps([f"{_literal(directory.logs)}/{source}-*.jsonl"]) for source in ("flights", "movements")
    }
    ours = {variable_of(("sources", source, "paths")): value for source, value in paths.items()}
    ours |= store
    if replicas > 1:
        ours |= {variable_of(("coordination", name)): value for name, value in _LEASES.items()}
    batch = variable_of(("engine", "batch_max_events"))
    if batch_max_events is not None and batch not in kept:
        ours[batch] = str(batch_max_events)
    return kept | ours


def _literal(path: Path) -> str:
    """Return a path with nothing in it that a glob would take for a pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


@dataclass(slots=True)
class Daemon:
    """A started daemon."""

    process: subprocess.Popen[bytes]
    directory: DemoDirectory
    _out: IO[bytes] = field(repr=False)
    _told: bool = False

    @classmethod
    def start(cls, directory: DemoDirectory, words: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Start `projectiond run` with more words. Its log is appended to the directory's."""
        out = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the daemon; `running` closes it
        command = [sys.executable, "-m", "daemon.cli", "run", "--config", str(settings_file()), *words]
        with directory.daemon_log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=directory.path,  # modules beside a user's shell must not be taken for ours
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                pass_fds=(directory.lock,),
                process_group=0,  # Ctrl-C is for the demonstration, which then ends the daemon in order
            )
        return cls(process, directory, out)

    def ended(self) -> bool:
        """Tell whether it is gone."""
        return self.process.poll() is not None

    def kill(self) -> bool:
        """Kill it as the power would; False when it had ended by itself before."""
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    def tell_to_stop(self) -> None:
        """Let it drain and end. It is told once: a second signal would end it at once."""
        if not self._told and not self.ended():
            self._told = True
            self.process.terminate()

    def stop(self, interrupts: Interrupts) -> None:
        """Let it drain and end; kill it if that takes too long, or an interrupt is pending."""
        if not self.ended():
            self.tell_to_stop()
            deadline = time.monotonic() + STOP_SECONDS
            while not self.ended() and time.monotonic() < deadline and not interrupts.pending:
                time.sleep(_LOOK_SECONDS)
            self.process.kill()
            self.process.wait()

    def result(self) -> Mapping[str, Any]:
        """Return the JSON document it printed at its end. Raises DaemonEnded when there is none, or an error in it."""
        self._out.seek(0)
        try:
            document: dict[str, Any] = json.loads(self._out.read())
        except ValueError:
            document = {}
        error: dict[str, str] = document.get("error", {})
        if not document or error:
            raise self.complaint(error.get("message"), Remedy(error.get("remedy", Remedy.REPORT)))
        return document

    def complaint(self, said: str | None = None, remedy: Remedy = Remedy.REPORT) -> DaemonEnded:
        """Return the error that it ended although it should not have."""
        words = said or self.last_words() or "it said nothing"
        return DaemonEnded(
            f"the daemon ended with {self.process.returncode}: {words} (its log: {self.directory.daemon_log})", remedy
        )

    def last_words(self) -> str:
        """Return the end of its log."""
        try:
            return self.directory.daemon_log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""

    def close(self) -> None:
        """Give back what it took here."""
        self._out.close()


@contextmanager
def running(
    directory: DemoDirectory, words: Sequence[str], environment: Mapping[str, str], interrupts: Interrupts
) -> Generator[Daemon]:
    """Start a daemon for the time of the block; it is told to stop at the end if it still runs."""
    daemon: Daemon | None = None
    try:
        with interrupts.held():
            daemon = Daemon.start(directory, words, environment)
        yield daemon
    finally:
        if daemon is not None:
            with interrupts.held():
                daemon.stop(interrupts)
                daemon.close()
