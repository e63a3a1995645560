"""Which replicas run, and which of them a kill hits."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.demo.child import Daemon, DaemonEnded
from daemon.demo.interrupts import Interrupts
from daemon.demo.place import DemoDirectory, opened
from daemon.demo.replicas import Replicas, Start, victims

FOREVER = "import signal; print('{}', flush=True); signal.pause()"
DRAINING = """\
import signal, sys, time
def drain(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
print("ready", flush=True)
signal.pause()
"""
DONE = "print('{\"done\": true}')"
FAILED = 'import sys; print(\'{"error": {"message": "it is broken", "remedy": "fix-settings"}}\'); sys.exit(2)'

type Starts = Callable[[str], Start]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DemoDirectory]:
    """A directory of the demonstration's."""
    with opened(tmp_path / "demo") as made:
        yield made


@pytest.fixture
def starts(directory: DemoDirectory) -> Starts:
    """Makes what starts a program in a daemon's place."""

    def of(program: str) -> Start:
        @contextmanager
        def start() -> Generator[Daemon]:
            with tempfile.TemporaryFile() as out:
                process = subprocess.Popen([sys.executable, "-c", program], stdout=out)
                daemon = Daemon(process, directory, out)
                try:
                    yield daemon
                finally:
                    daemon.stop(Interrupts())

        return start

    return of


def until_ended(together: Replicas) -> None:
    """Wait until all have ended by themselves."""
    while not together.ended():
        time.sleep(0.005)


def test_each_replica_is_killed_in_turn_then_all_at_once() -> None:
    """Two replicas: the first, the other, both, the first again. One alone is hit every time."""
    assert [list(victims(kill, 2)) for kill in range(1, 5)] == [[0], [1], [0, 1], [0]]
    assert [list(victims(kill, 1)) for kill in range(1, 4)] == [[0], [0], [0]]


def test_only_what_was_killed_is_started_again(starts: Starts) -> None:
    """A kill leaves the others alone; completing starts those that lack."""
    begun: list[Daemon] = []
    start = starts(FOREVER)

    @contextmanager
    def counted() -> Generator[Daemon]:
        with start() as daemon:
            begun.append(daemon)
            yield daemon

    with Replicas(counted, 2, Interrupts()) as together:
        together.complete()
        together.complete()
        assert len(begun) == 2
        assert together.kill([1]) == 1
        assert [daemon.ended() for daemon in begun] == [False, True]
        together.complete()
        assert together.kill([0, 1]) == 2
        assert not together.ended()
        together.complete()
        assert [daemon.ended() for daemon in begun] == [True] * 3 + [False] * 2
    assert [daemon.process.returncode for daemon in begun[:3]] == [-signal.SIGKILL] * 3
    assert all(daemon.ended() for daemon in begun)


def test_what_had_ended_by_itself_was_not_killed(starts: Starts) -> None:
    """All have ended once each has done its work; a kill that comes too late is none."""
    with Replicas(starts(DONE), 2, Interrupts()) as together:
        together.complete()
        until_ended(together)
        assert together.kill([0, 1]) == 0
        assert together.ended()


def test_one_that_fails_is_told_while_the_other_runs(starts: Starts) -> None:
    """Its own words are the error, and the other has ended when the block is left."""
    both = iter([starts(FOREVER)(), starts(FAILED)()])
    with Replicas(lambda: next(both), 2, Interrupts()) as together:
        together.complete()
        with pytest.raises(DaemonEnded, match="ended with 2: it is broken"):
            until_ended(together)


def test_each_is_told_to_stop_once(starts: Starts) -> None:
    """Leaving the block lets all of them drain: a second signal would have cut that short."""
    begun: list[Daemon] = []
    start = starts(DRAINING)

    @contextmanager
    def known() -> Generator[Daemon]:
        with start() as daemon:
            begun.append(daemon)
            yield daemon

    with Replicas(known, 2, Interrupts()) as together:
        together.complete()
        while not all(os.fstat(daemon._out.fileno()).st_size for daemon in begun):
            time.sleep(0.005)
    assert [daemon.process.returncode for daemon in begun] == [0, 0]


def test_an_interrupt_comes_at_the_end_of_the_outermost_block() -> None:
    """Held twice over, it is raised once both blocks are left."""
    interrupts = Interrupts()
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt), interrupts.caught(), interrupts.held():  # noqa: PT012
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
        reached.append("the outer block")
    assert reached == ["the outer block"]
    assert not interrupts.pending
