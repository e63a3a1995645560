"""`projectiond demo` as a user runs it, on the slice."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from daemon.core.errors import StoreUnavailable
from daemon.demo.check import check
from daemon.demo.child import Daemon, running
from daemon.demo.interrupts import Interrupts
from daemon.demo.place import opened
from daemon.demo.progress import Shown
from daemon.demo.report import DemoReport, Phases
from daemon.demo.runner import DemoOptions, demonstration
from tests.support.commands import COMMAND
from tests.support.daemons import PATIENCE_SECONDS, ROOT, SLICE, Site, write_lock

GOLDEN = Path(__file__).parent / "goldens" / "demo.json"


def environment(**more: str) -> dict[str, str]:
    """Ours, with settings of another daemon in it, which must not reach the demonstration's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PROJECTIOND")}
    other = {"PROJECTIOND__STORE__PATH": "/nowhere/rows.db", "PROJECTIOND__DAEMON__PROJECTIONS": '["shop.orders"]'}
    return kept | other | {"PROJECTIOND__METRICS__ENABLED": "false"} | more


def demo(directory: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the demonstration to its end."""
    return subprocess.run(
        command(directory, *words), env=environment(**more), capture_output=True, text=True, check=False,
        timeout=PATIENCE_SECONDS, cwd=directory.parent,
    )  # fmt: skip


def command(directory: Path, *words: str) -> list[str]:
    """Return its command line."""
    return [COMMAND, "demo", "--directory", str(directory), "--csv", str(SLICE), *words]


@contextmanager
def started(directory: Path, *words: str) -> Generator[subprocess.Popen[str]]:
    """Start the demonstration; it is ended, and its daemon with it, when the block is left."""
    process = subprocess.Popen(
        command(directory, *words), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        cwd=directory.parent,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.terminate()


def said(process: subprocess.Popen[str], words: str) -> str:
    """Wait for a line on stderr that holds these words, and return it."""
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"{words!r} was never said:\n{''.join(seen)}")


def without_chance(document: dict[str, Any]) -> dict[str, Any]:
    """Take out what differs from run to run: times, and exactly when kills hit."""
    del document["seconds"], document["events_per_second"]
    document["kills"]["done"] = len(document["kills"]["done"])
    return document


def test_it_kills_resumes_and_proves_every_row(tmp_path: Path):
    """`demo --json` ends with 0; logs, counts by layer and rows are exactly the golden ones, three kills later."""
    ended = demo(tmp_path / "demo", "--json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    shares = [kill["share"] for kill in document["kills"]["done"]]
    assert 0 < shares[0] < shares[1] < shares[2] < 1
    assert document["seconds"]["total"] >= document["seconds"]["fold"] > 0
    assert without_chance(document) == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert ended.stderr.count("killed it with SIGKILL") == 3
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "daemon.log", "demo.json", "logs", "projectiond.db",
    ]  # fmt: skip


def test_replicas_are_killed_in_turn_and_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two daemons divide the shards; one is killed, then the other, then both, and all is exact and right."""
    monkeypatch.setenv("PROJECTIOND__METRICS__ENABLED", "false")
    said = io.StringIO()
    options = DemoOptions(directory=tmp_path / "demo", csv=SLICE, limit=500, replicas=2)
    with Shown(Console(file=said)) as display, demonstration(options, display) as demo:
        report = demo.run()
    assert report.problems == []
    assert [kill.replicas for kill in report.kills] == [1, 1, 2]
    words = [line.partition(" with SIGKILL")[0].strip() for line in said.getvalue().splitlines() if "SIGKILL" in line]
    assert words == ["killed replica 1", "killed replica 2", "killed all 2 replicas"]


def test_a_second_run_takes_the_logs_that_are_there(tmp_path: Path):
    """Complete logs of the same flights are used again, and the earlier rows are not; other flights get new logs."""
    directory = tmp_path / "demo"
    words = ("--json", "--kills", "0", "--limit", "100")
    first, second = (json.loads(demo(directory, *words).stdout) for _ in range(2))
    assert (first["logs"]["reused"], second["logs"]["reused"]) == (False, True)
    assert second["right"] is True
    assert second["events"] == first["events"]
    assert json.loads(demo(directory, *words, "--fresh").stdout)["logs"]["reused"] is False
    other = json.loads(demo(directory, *words, "--seed", "2").stdout)
    assert (other["right"], other["logs"]["reused"], other["logs"]["seed"]) == (True, False, 2)


def test_it_tells_what_people_read(tmp_path: Path):
    """Without `--json` the report says what was read, killed, stopped by which layer, and checked."""
    ended = demo(tmp_path / "demo", "--kills", "1", "--limit", "500")
    assert ended.returncode == 0, ended.stderr
    for words in (
        "stopped by marker",
        "exactly",
        "killed  1 time with SIGKILL",
        "every duplicate was stopped exactly",
    ):
        assert words in ended.stdout
    assert "\x1b" not in ended.stdout + ended.stderr


def test_a_daemon_that_forgets_duplicates_is_found_out(tmp_path: Path):
    """With a marker window too small for the log, rows and counters are wrong; it says where and ends with 1."""
    ended = demo(tmp_path / "demo", "--json", "--kills", "0", PROJECTIOND__ENGINE__MARKER_WINDOW_IDS="10")
    assert ended.returncode == 1, ended.stderr
    document = json.loads(ended.stdout)
    assert document["right"] is False
    assert document["rows"]["punctuality"]["different"] > 0
    assert document["rows"]["flight"]["different"] == document["rows"]["board"]["different"] == 0
    assert [each["projection"] for each in document["projections"] if not each["agree"]] == ["punctuality"]
    assert any(problem.startswith("punctuality: duplicate_marker is") for problem in document["problems"])
    assert any(problem.startswith("punctuality: 147 rows expected") for problem in document["problems"])


def test_a_changed_row_is_found_out(demo_site: Site):
    """One attribute of one row changed by another hand: the check finds that row, its command ends with 1, and the
    demonstration's report is not right, though every counter is.
    """
    assert demo_site.once().code == 0
    assert demo_site.checked().right
    with closing(sqlite3.connect(demo_site.database)) as connection, connection:
        changed = "UPDATE \"flight-g1\" SET attributes = replace(attributes, 'landed', 'lost') WHERE key = ?"
        assert connection.execute(changed, ("UA1545-2013-01-01T10Z",)).rowcount == 1
    report = check(SLICE, demo_site.database)
    assert not report.right
    assert [(model.model, model.wrong) for model in report.models] == [("flight", 1), ("punctuality", 0), ("board", 0)]
    told = DemoReport(
        manifest=demo_site.manifest, logs_reused=False, kills_asked=0, kills=(), look=demo_site.look(), checked=report,
        phases=Phases(1, 1, 1),
    )  # fmt: skip
    assert all(counts.agree for counts in told.counts)
    assert "flight: 2,004 rows expected, 2,004 found, 2,003 right" in told.problems[0]
    assert told.document()["right"] is False
    words = ["-m", "daemon.demo.check", "--csv", str(SLICE), "--database", str(demo_site.database)]
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'UA1545-2013-01-01T10Z: status is "lost", expected "landed"' in ended.stdout


def test_a_log_too_short_for_its_kills_is_no_success(tmp_path: Path):
    """Fewer kills than asked for are told, and end with 1, though every row is right."""
    ended = demo(tmp_path / "demo", "--json", "--limit", "5", "--kills", "40")
    assert ended.returncode == 1
    document = json.loads(ended.stdout)
    assert all(each["agree"] for each in document["projections"])
    assert "of 40 times before the logs' end" in document["problems"][0]


def test_a_directory_that_is_not_its_own_is_left_alone(tmp_path: Path):
    """A directory with a stranger's files is refused with 2, even where they are called like the demonstration's."""
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "projectiond.db").write_text("precious", encoding="utf-8")
    ended = demo(directory, "--json")
    assert ended.returncode == 2
    assert "was not made by a demonstration" in json.loads(ended.stdout)["error"]["message"]
    assert [path.name for path in directory.iterdir()] == ["projectiond.db"]
    assert (directory / "projectiond.db").read_text(encoding="utf-8") == "precious"


def test_a_second_demonstration_at_the_same_time_is_refused(tmp_path: Path):
    """While one uses the directory, another ends with 5 and touches nothing."""
    with opened(tmp_path / "demo") as directory:
        directory.database.write_text("in use", encoding="utf-8")
        ended = demo(tmp_path / "demo")
        assert ended.returncode == 5
        assert "another demonstration" in ended.stderr
        assert directory.database.read_text(encoding="utf-8") == "in use"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_drains_its_daemon(tmp_path: Path, number: signal.Signals):
    """Ctrl-C or SIGTERM amid commits lets the daemon drain and ends with 130."""
    directory = tmp_path / "demo"
    with started(directory, "--kills", "0") as process:
        until(lambda: len(committed(directory)) >= 6)
        with write_lock(directory / "projectiond.db"):
            process.send_signal(number)
            until(lambda: '"draining"' in daemon_log(directory))
        assert process.wait(PATIENCE_SECONDS) == 130
    assert free(directory)
    assert '"event": "stopped"' in daemon_log(directory)


def test_an_interrupt_at_a_start_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C in the very moment in which the daemon is started ends it too."""
    begun: list[Daemon] = []
    start = Daemon.start

    def interrupted(*arguments: Any) -> Daemon:
        begun.append(start(*arguments))
        signal.raise_signal(signal.SIGINT)
        return begun[0]

    monkeypatch.setattr(Daemon, "start", interrupted)
    interrupts = Interrupts()
    with opened(tmp_path / "demo") as directory, interrupts.caught():
        with pytest.raises(KeyboardInterrupt), running(directory, (), os.environ, interrupts):
            pass
        try:
            assert begun[0].process.poll() is not None
        finally:
            begun[0].process.kill()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_daemon_that_outlives_its_demonstration_keeps_its_directory(tmp_path: Path):
    """Killed hard itself, the demonstration leaves a daemon that finishes; no other run takes its database before."""
    directory = tmp_path / "demo"
    with started(directory, "--kills", "0") as process:
        until(lambda: len(committed(directory)) >= 6)
        with write_lock(directory / "projectiond.db"):  # the daemon cannot finish now
            process.kill()
            process.wait(PATIENCE_SECONDS)
            assert not free(directory)
            assert "another demonstration" in demo(directory).stderr
    until(lambda: free(directory))
    assert sum(json.loads(counters)["read"] for (counters,) in committed(directory)) == 15_871


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def daemon_log(directory: Path) -> str:
    """Read what the daemon logged."""
    return (directory / "daemon.log").read_text(encoding="utf-8")


def committed(directory: Path) -> list[tuple[str]]:
    """Read the checkpoints' counters."""
    try:
        with closing(sqlite3.connect(f"{(directory / 'projectiond.db').as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute('SELECT counters FROM "projectiond-checkpoints"').fetchall()
    except sqlite3.OperationalError:
        return []


def free(directory: Path) -> bool:
    """Whether nobody uses the directory."""
    try:
        with opened(directory):
            return True
    except StoreUnavailable:
        return False


def test_kept_running_it_folds_what_is_appended(tmp_path: Path):
    """With `--keep` it invites new events, tells what became of them, and Ctrl-C ends it with 0."""
    directory = tmp_path / "demo"
    log = directory / "logs" / "movements-0.jsonl"
    with started(directory, "--kills", "0", "--limit", "50", "--keep") as process:
        invitation = said(process, "a new event:")
        appended = subprocess.run(["sh", "-c", invitation.partition(":")[2]], check=True)
        assert appended.returncode == 0
        assert "applied +1" in said(process, "board-g1:movements/movements-0.jsonl")
        with log.open("a", encoding="ascii") as file:
            file.write(log.read_text(encoding="ascii").splitlines(keepends=True)[-1])
        assert "duplicate by marker +1" in said(process, "board-g1:movements/movements-0.jsonl")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert free(directory)
