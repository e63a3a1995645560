"""The image, built from the Dockerfile and run as a platform runs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from daemon.demo.check import check
from daemon.demo.flights import read_flights
from daemon.demo.log import write_logs
from daemon.demo.manifest import Manifest
from daemon.demo.report import events_to_read
from daemon.demo.services.ports import LOOPBACK, Port
from daemon.demo.watch import Watcher
from tests.container.container import Run, running
from tests.container.docker_words import REVISION, Built
from tests.support.daemons import write_lock

ROOT = Path(__file__).parents[2]
SLICE = ROOT / "tests" / "data" / "flights.csv"
UID = 65532
LARGEST_MIB = 260

pytestmark = pytest.mark.timeout(1_200)


def _size(root: Path) -> int:
    return sum(file.lstat().st_size for file in root.rglob("*") if file.is_file() and not file.is_symlink())


@dataclass(frozen=True, slots=True)
class Place:
    """What a platform gives a container: the demonstration's slice to fold, a volume, a port."""

    path: Path
    manifest: Manifest
    port: int

    @property
    def database(self) -> Path:
        """The store, in the volume."""
        return self.path / "data" / "rows.db"

    @contextmanager
    def running(self, image: Built, **variables: str) -> Generator[Run]:
        """Start the image as it would be in production, with the demonstration's settings."""
        logs = {source: json.dumps([f"/app/logs/{source}-*.jsonl"]) for source in ("flights", "movements")}
        paths = {f"SOURCES__{source.upper()}__PATHS": value for source, value in logs.items()}
        settings = paths | {"STORE__PATH": "/var/lib/projectiond/rows.db", "METRICS__PORT": str(self.port)} | variables
        with running(
            self.path / "runs",
            image.root,
            image.config,
            variables={f"PROJECTIOND__{name}": value for name, value in settings.items()},
            binds={"/app": self.path / "app", "/var/lib/projectiond": self.path / "data"},
            tmpfs={"/run/projectiond": (f"uid={UID}", f"gid={UID}", "mode=0700")},
        ) as run:
            yield run

    def settled(self) -> int:
        """Count the events that are settled."""
        if not self.database.exists():
            return 0
        with Watcher(self.database) as watcher:
            return watcher.look().read

    def read_by_its_metrics(self) -> int:
        """Count the events that the running daemon says it settled, over all its shards."""
        found = re.findall(r"(?m)^projectiond_events_read_total\{.*\} (\S+)", self.ask("/metrics"))
        return round(sum(map(float, found)))

    def ask(self, path: str) -> str:
        """Ask the daemon over HTTP."""
        with urlopen(f"http://{LOOPBACK}:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()


@pytest.fixture
def place(tmp_path: Path) -> Generator[Place]:
    """The slice's logs and a volume that the image's user may write to."""
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", UID, UID)
    manifest = write_logs(tmp_path / "app" / "logs", read_flights(SLICE), seed=1)
    shutil.copyfile(ROOT / "config" / "demo.toml", tmp_path / "app" / "projectiond.toml")
    for at in (tmp_path, tmp_path / "app", tmp_path / "app" / "logs"):
        at.chmod(0o755)
    port = Port()
    try:
        yield Place(tmp_path, manifest, port.number)
    finally:
        port.release()


def test_the_dockerfiles_pass_the_linter():
    """The linter finds nothing in any Dockerfile."""
    linter = Path(sys.executable).with_name("hadolint")
    files = [ROOT / "Dockerfile", *(ROOT / "deploy").rglob("Dockerfile")]
    done = subprocess.run([linter, "--no-color", *files], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    assert len(files) == 2


def test_it_says_how_it_is_to_be_run(image: Built, capsys: pytest.CaptureFixture[str]):
    """A numeric user, no shell in start or health check, labels as others read them; and it is not large."""
    config = image.config
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["/opt/projectiond/bin/projectiond"]
    assert config["StopSignal"] == "SIGTERM"
    assert image.described["config"]["Healthcheck"]["Test"][0] == "CMD"
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert labels["title"] == "projectiond"
    assert (labels["version"], labels["revision"]) == ("1.2.3", REVISION)
    assert labels["description"]
    size = _size(image.root)
    with capsys.disabled():
        sys.stdout.write(f"\nthe image holds {size / 2**20:.0f} MiB\n")
    assert size < LARGEST_MIB * 2**20


def test_nothing_gets_in_that_does_not_run(image: Built):
    """No file of the checkout beside the packages, nothing of the host that built it, no installer, no secret."""
    found = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "a planted secret", str(image.root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == ""
    assert not (image.root / "etc/pip.conf").exists()
    assert not list((image.root / "opt/projectiond/bin").glob("pip*"))
    assert not list((image.root / "root").rglob("*.whl"))
    written = {path.name for path in (image.root / "app").iterdir()} if (image.root / "app").exists() else set[str]()
    assert written == set()
    said = json.dumps([image.config["Env"], image.described.get("history", [])])
    assert not re.search(r"(?i)secret|token|passw|index.url|BEGIN ", said)


def test_it_folds_answers_and_drains(image: Built, place: Place):
    """Told to stop amid commits it drains within its grace period (else it would leave with 4); started again it ends
    the work.

    All that as a numeric user without a single capability, the first process of its space, on a read-only root.
    """
    total = events_to_read(place.manifest)
    with place.running(image, ENGINE__BATCH_MAX_EVENTS="1") as run:
        run.until(lambda: place.settled() > 0)
        with write_lock(place.database):
            assert place.settled() < total
            run.signal("TERM")  # amid commits: the next one waits for the lock
        assert run.wait() == 0
        assert '"drained": true' in run.said()
    before = place.settled()
    assert 0 < before < total
    with place.running(image) as run:
        run.until(lambda: place.settled() == total)
        assert_contained(run)
        run.until(lambda: place.read_by_its_metrics() == total - before)
        assert_answering(run, place)
        run.signal("TERM")
        assert run.wait() == 0
    report = check(SLICE, place.database)
    assert report.right, report.text()


def assert_contained(run: Run) -> None:
    """The first process has no rights, and nothing outside its volume can be written."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{run.pid()}/status").read_text(encoding="ascii").splitlines()
    )
    assert status["Uid"].split() == [str(UID)] * 4
    assert status["NSpid"].split()[-1] == "1"
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    for path in ("/x", "/app/x", "/opt/projectiond/x", "/etc/x"):
        tried = run.execute("/opt/projectiond/bin/python", "-c", f"open({path!r}, 'w')")
        assert tried.returncode == 1
        assert "Read-only" in tried.stderr or "Permission denied" in tried.stderr, tried.stderr


def assert_answering(run: Run, place: Place) -> None:
    """Metrics, health, the health check of the image and the control socket answer."""
    assert place.ask("/healthz").startswith("ok")
    health = run.execute("/opt/projectiond/bin/python", "-m", "daemon.cli.probe")
    assert (health.returncode, health.stdout.split()[:2]) == (0, ["/healthz:", "200"])
    status = run.execute("/opt/projectiond/bin/projectionctl", "status", "--json")
    assert status.returncode == 0, status.stderr
    assert '"running"' in status.stdout


def test_a_stop_during_the_start_is_obeyed(image: Built, place: Place):
    """As the first process of its space, too, it ends at once when it is told to before any shard runs."""
    with place.running(image) as run:
        run.until(lambda: '"starting"' in run.said())
        run.signal("TERM")
        assert run.wait() in {0, 128 + signal.SIGTERM}  # drained, or ended before there was anything to drain
