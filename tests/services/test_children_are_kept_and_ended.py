"""A server's life, whichever it is: started, killed, frozen, started again, and never left behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from daemon.core.errors import StoreUnavailable
from daemon.demo.services import ports, service
from daemon.demo.services.ports import Port, is_free
from daemon.demo.services.service import ServiceFailed
from tests.services.conftest import ANSWERING, DEAF, ENDING, Small, alive, state_of, until

STARTER = """
import os, signal, sys
from tests.services.conftest import Small
server = Small().start()
print(server.pid, server._child._guard.pid, server.directory, flush=True)
{then}
"""
ROOT = Path(__file__).parents[2]


def started_elsewhere(then: str) -> "tuple[subprocess.Popen[str], int, int, Path]":
    """Start a server from another process, which goes on with `then`; tell that, the server, its guard, its files."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER.format(then=then)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    server, guard, directory = starter.stdout.readline().split()
    return starter, int(server), int(guard), Path(directory)


def test_it_answers_within_its_block_and_is_gone_after_it() -> None:
    """Where the block is left, process, guard, port and temporary files are gone."""
    with Small() as server:
        pid, directory, number = server.pid, server.directory, server.port.number
        assert server.answers()
        assert server.running
        assert "about to listen" in server.log.read_text(encoding="utf-8")
    assert not alive(pid)
    assert not server.running
    assert not directory.exists()
    assert is_free(number)


def test_what_was_named_is_kept(tmp_path: Path) -> None:
    """A directory that the caller named stays with its log, which every start adds to."""
    for _ in range(2):
        with Small(directory=tmp_path):
            pass
    assert (tmp_path / "small.log").read_text(encoding="utf-8").count("about to listen") == 2


def test_a_killed_one_comes_back_on_its_port() -> None:
    """A restart gives another process at the same address."""
    with Small() as server:
        before, address = server.pid, server.address
        server.kill()
        assert not alive(before)
        assert not server.running
        server.restart()
        assert server.pid != before
        assert server.address == address
        assert server.answers()


def test_a_frozen_one_is_there_and_silent() -> None:
    """Frozen, it answers nothing and keeps running; thawed, it goes on."""
    with Small() as server:
        server.freeze()
        until(lambda: state_of(server.pid).startswith("T"))
        assert not server.answers()
        assert server.running
        server.thaw()
        until(server.answers)


def test_a_frozen_one_can_be_ended() -> None:
    """Freezing does not keep a server from being stopped in order, nor from being killed."""
    with Small() as server:
        for end in (server.stop, server.kill):
            server.start()
            pid = server.pid
            server.freeze()
            end()
            assert not alive(pid)


def test_one_that_does_not_listen_to_reason_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to stop and still there after its time, it is killed."""
    monkeypatch.setattr(service, "STOP_SECONDS", 0.2)
    with_deaf_ears = Small(DEAF)
    try:
        with_deaf_ears.launch()
        pid = with_deaf_ears.pid
        until(lambda: "deaf" in with_deaf_ears.said())
        with_deaf_ears.stop()
        assert not alive(pid)
    finally:
        with_deaf_ears.close()


def test_one_that_ends_as_it_starts_is_quoted() -> None:
    """The error of a failed start holds the exit status and what the server said."""
    with pytest.raises(ServiceFailed, match="small ended with 3 as it started: no such setting: colour"), Small(ENDING):
        pass


def test_one_that_stays_silent_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer in time is killed, and the error says how long it had."""
    monkeypatch.setattr(service, "START_SECONDS", 0.5)
    silent = Small(DEAF)
    silent.launch()
    pid = silent.pid
    try:
        with pytest.raises(ServiceFailed, match=r"did not answer on 127\.0\.0\.1:\d+ within 0\.5 s"):
            silent.wait_until_answering()
        assert not alive(pid)
    finally:
        silent.close()


def test_a_program_that_is_not_there_is_named() -> None:
    """What cannot be executed is in the error."""

    class Absent(Small):
        def command(self) -> list[str]:
            return ["/nowhere/server"]

    with pytest.raises(ServiceFailed, match="cannot start /nowhere/server"), Absent():
        pass


def test_it_goes_with_a_killed_starter() -> None:
    """SIGKILL of the process that started it leaves neither server nor guard nor temporary files."""
    starter, server, guard, directory = started_elsewhere("signal.pause()")
    with starter:
        assert alive(server)
        starter.kill()
    until(lambda: not alive(server) and not alive(guard) and not directory.exists())


def test_it_goes_with_a_starter_that_forgot_it() -> None:
    """A starter that ends without ending its server leaves nothing either."""
    starter, server, guard, directory = started_elsewhere("os._exit(0)")
    with starter:
        pass
    until(lambda: not alive(server) and not alive(guard) and not directory.exists())


def test_a_frozen_one_goes_with_its_starter() -> None:
    """A server that was frozen when its starter was killed is ended too."""
    starter, server, guard, _ = started_elsewhere("server.freeze(); print(flush=True); signal.pause()")
    with starter:
        assert starter.stdout is not None
        starter.stdout.readline()
        starter.kill()
    until(lambda: not alive(server) and not alive(guard))


def test_a_copied_descriptor_does_not_hide_the_end() -> None:
    """A process forked from the starter, which holds a copy of all it had open, does not keep the server alive."""
    then = "child = os.fork() or signal.pause(); print(child, flush=True); signal.pause()"
    starter, server, guard, _ = started_elsewhere(then)
    with starter:
        assert starter.stdout is not None
        forked = int(starter.stdout.readline())
        starter.kill()
    try:
        until(lambda: not alive(server) and not alive(guard))
        assert alive(forked)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_it_goes_with_its_guard() -> None:
    """Where its guard is killed, the server is not left without one."""
    with Small() as server:
        assert server._child is not None
        pid = server.pid
        server._child._guard.kill()
        until(lambda: not alive(pid))
        assert not server.running
        assert server.start().answers()


def test_it_outlives_the_thread_that_started_it() -> None:
    """A thread may start a server for others and end."""
    with Small() as server:
        server.kill()
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        assert server.answers()
        assert server.running


def test_ctrl_c_on_the_terminal_is_not_for_it() -> None:
    """It is in no process group of its starter's."""
    with Small() as server:
        assert os.getpgid(server.pid) == server.pid != os.getpgid(0)


def test_a_port_lost_to_a_stranger_is_replaced_at_the_first_start() -> None:
    """Whoever takes the port between choosing and listening costs a try; the address is final only after an answer."""
    taken: list[int] = []

    class Unlucky(Small):
        def command(self) -> list[str]:
            if not taken:
                taken.append(self.port.number)
                return [sys.executable, "-c", "print('Address already in use'); raise SystemExit(1)"]
            return [*super().command()]

    with Unlucky() as server:
        assert taken
        assert server.port.number not in taken
        assert server.answers()


def test_a_known_address_is_never_replaced() -> None:
    """On a restart a lost port is an error: clients know the old one."""
    with Small() as server:
        server.program = "print('Address already in use'); raise SystemExit(1)"
        with pytest.raises(ServiceFailed, match="already in use"):
            server.restart()
        server.program = ANSWERING
        assert server.start().answers()


def test_a_port_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port reserved by one is not given to another before it is released, though nothing listens on it."""
    monkeypatch.setattr(ports, "FIRST", 25_001)
    monkeypatch.setattr(ports, "LAST", 25_003)
    monkeypatch.setattr(ports, "_TRIES", 2)
    first, second = Port(tmp_path), Port(tmp_path)
    assert {first.number, second.number} == {25_001, 25_002}
    with pytest.raises(StoreUnavailable, match="none of 2 ports tried between 25001 and 25003 is free"):
        Port(tmp_path)
    first.release()
    first.release()
    again = Port(tmp_path)
    assert again.number == first.number
    for port in (second, again):
        port.release()
