"""A container as a platform runs one, but without the platform: an OCI bundle of an image's files, started by runc.

Owns what a platform decides: the root is read-only, no capability is left, no new rights can be had, the process is
the first of its own process space. The network is the host's, so that tests reach it on loopback. What the image
decides (command, user, environment, directory) is taken from the image.

Invariant: what was started is killed by its own id before its block is left.
"""

import json
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

PATIENCE_SECONDS = 180.0
_TMPFS = ("nosuid", "nodev", "noexec")
_PLACES = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "mode=755", "size=64k")),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One started container."""

    name: str
    state: Path
    process: subprocess.Popen[bytes]
    out: Path
    log: Path

    def signal(self, name: str) -> None:
        """Send the first process a signal."""
        _runc(self.state, "kill", self.name, name)

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command in it, as its user."""
        return subprocess.run(
            ["runc", "--root", str(self.state), "exec", self.name, *words],
            capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    def pid(self) -> int:
        """Return the first process's number outside."""
        return int(json.loads(_runc(self.state, "state", self.name))["pid"])

    def started(self) -> bool:
        """Tell whether its first process runs by now."""
        said = _runc(self.state, "state", self.name, check=False)
        return bool(said) and json.loads(said)["status"] == "running"

    def said(self) -> str:
        """Read what it logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; fails when the container ends before it does."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode} first:\n{self.said()[-3000:]}"
            assert time.monotonic() < deadline, f"in vain:\n{self.said()[-3000:]}"
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(
    place: Path,
    root: Path,
    config: Mapping[str, Any],
    command: Sequence[str] = (),
    *,
    variables: Mapping[str, str] | None = None,
    binds: Mapping[str, Path] | None = None,
    tmpfs: Mapping[str, Sequence[str]] | None = None,
) -> Generator[Run]:
    """Start the image with `config` whose files are in `root`; `place` is for the bundle, and its output.

    `command` replaces the image's own words, not its entry point. `binds`: directories of the host, by where they are
    seen; `tmpfs`: empty ones in memory, each with its options of mounting. Nothing else can be written.
    """
    name = f"projectiond-{uuid4().hex[:12]}"
    bundle, state = place / name, place / f"{name}-state"
    bundle.mkdir(parents=True)
    specification = _specification(root, config, command, variables or {}, binds or {}, tmpfs or {})
    (bundle / "config.json").write_text(json.dumps(specification), encoding="utf-8")
    out, log = bundle / "out", bundle / "log"
    with out.open("wb") as out_file, log.open("wb") as log_file:
        process = _start(state, bundle, name, out_file, log_file)
    run = Run(name, state, process, out, log)
    try:
        run.until(run.started)
        yield run
    finally:
        _runc(state, "delete", "--force", name, check=False)
        process.kill()
        process.wait()


def _start(state: Path, bundle: Path, name: str, out: IO[bytes], log: IO[bytes]) -> subprocess.Popen[bytes]:
    words = ["runc", "--root", str(state), "run", "--bundle", str(bundle), name]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=log)


def _runc(state: Path, *words: str, check: bool = True) -> str:
    done = subprocess.run(["runc", "--root", str(state), *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def _specification(
    root: Path,
    config: Mapping[str, Any],
    command: Sequence[str],
    variables: Mapping[str, str],
    binds: Mapping[str, Path],
    tmpfs: Mapping[str, Sequence[str]],
) -> Mapping[str, Any]:
    user, _, group = config["User"].partition(":")
    mounts = [
        {"destination": at, "type": kind, "source": source, "options": options} for at, kind, source, options in _PLACES
    ]
    mounts += [
        {"destination": at, "type": "tmpfs", "source": "tmpfs", "options": [*_TMPFS, *(options or ["mode=1777"])]}
        for at, options in tmpfs.items()
    ]
    mounts += [
        {"destination": at, "type": "bind", "source": str(path), "options": ["rbind", "nosuid", "nodev"]}
        for at, path in binds.items()
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": int(user), "gid": int(group)},
            "args": [*config["Entrypoint"], *(command or config["Cmd"])],
            "env": [f"{name}={value}" for name, value in (_pairs(config["Env"]) | dict(variables)).items()],
            "cwd": config["WorkingDir"],
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": "projectiond",
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


def _pairs(variables: Sequence[str]) -> dict[str, str]:
    return dict(variable.split("=", 1) for variable in variables)
