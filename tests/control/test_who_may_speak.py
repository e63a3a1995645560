"""Rights by the kernel's word: who may read, who may change, who may not speak; and the socket's own place."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from daemon.control.peers import AccessList
from daemon.control.place import PathTaken, claim, default_paths, lock_path, settle
from daemon.core.errors import SettingsProblem
from daemon.ports.observer import ControlTrouble
from tests.control.conftest import Serve, Serving

ROOT = os.geteuid() == 0
STRANGER = 65_534
_ASK = """\
import json, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
try:
    connection.sendall(json.dumps({"v": 1, "id": "r1", "command": sys.argv[2]}).encode() + b"\\n")
except BrokenPipeError:
    pass  # turned away, which the answer tells
print(connection.makefile().readline())
"""


_BE_KILLED = """\
import os, pathlib, sys
from daemon.control.place import claim
held = claim(pathlib.Path(sys.argv[1]))
os.kill(os.getpid(), 9)
"""


async def ask_as(uid: int, serving: Serving, command: str) -> str:
    """Ask as another user, who is let through to the socket by a capability, and return the answer's line."""
    become = ["setpriv", f"--reuid={uid}", "--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    done = await anyio.run_process([*become, sys.executable, "-c", _ASK, str(serving.path), command], check=False)
    return done.stdout.decode() + done.stderr.decode()


@pytest.mark.anyio
async def test_a_stranger_is_turned_away(serve: Serve):
    """A user on no list is refused by the kernel's word of his number, before he is heard, and the log says so."""
    assert ROOT, "these tests change users, and so run as root"
    async with serve() as serving:
        answer = await ask_as(STRANGER, serving, "echo")
        assert '"code":"forbidden"' in answer
        assert "(65534) may not speak here" in answer
        assert "control.read_uids" in answer
        (trouble,) = serving.observer.of(ControlTrouble)
        assert "65534" in trouble.reason


@pytest.mark.anyio
async def test_reading_and_changing_are_rights_apart(serve: Serve):
    """Who may read is answered, and refused what changes anything; who may change may do both."""
    async with serve(access=AccessList(readers=(STRANGER,))) as serving:
        assert '"user":65534' in await ask_as(STRANGER, serving, "echo")
        refused = await ask_as(STRANGER, serving, "slow")
        assert '"code":"forbidden"' in refused
        assert "control.change_uids" in refused
        assert not serving.engine.begun.is_set()
    async with serve(access=AccessList(changers=(STRANGER,))) as serving:
        serving.engine.go.set()
        assert '"user":65534' in await ask_as(STRANGER, serving, "echo")
        assert '"progress"' in await ask_as(STRANGER, serving, "slow")


@pytest.mark.anyio
async def test_the_socket_is_ours_alone(serve: Serve):
    """The socket is 0600 in a 0700 directory whatever the umask, and both go with the server, but for the lock."""
    before = os.umask(0)
    try:
        async with serve() as serving:
            assert stat.S_IMODE(serving.path.stat().st_mode) == 0o600
            assert stat.S_ISSOCK(serving.path.stat().st_mode)
            assert stat.S_IMODE(serving.path.parent.stat().st_mode) == 0o700
        assert [path.name for path in serving.path.parent.iterdir()] == ["control.sock.lock"]
    finally:
        os.umask(before)


def test_the_socket_is_born_private(place: Path, monkeypatch: pytest.MonkeyPatch):
    """There is no moment in which the socket is wider than 0600, though the umask would leave it so."""
    born: list[int] = []

    def look(path: Path, _mode: int) -> None:
        born.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr(Path, "chmod", look)
    before = os.umask(0)
    try:
        claim(place).close()
    finally:
        os.umask(before)
    assert born == [0o600]


def test_two_daemons_on_one_path_are_refused(place: Path):
    """A path that a living process serves is refused with its pid and the key to change, and that process keeps it."""
    held = claim(place)
    with pytest.raises(PathTaken, match=rf"pid {os.getpid()}\); give this daemon a control.path of its own"):
        claim(place)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(place))
    held.close()
    claim(place).close()


def test_a_dead_daemons_socket_is_taken_over(place: Path):
    """The socket file that a killed daemon left is removed by the next one, which then serves the path."""
    done = subprocess.run([sys.executable, "-c", _BE_KILLED, str(place)], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    assert place.exists()
    held = claim(place)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(place))
    held.close()


def test_what_is_no_socket_is_left_alone(place: Path):
    """A file at the path is not removed: the daemon refuses to start, with the key to change."""
    place.parent.mkdir(mode=0o700)
    place.write_text("precious", encoding="utf-8")
    with pytest.raises(SettingsProblem, match="is no socket"):
        claim(place)
    assert place.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("kind", ["open to others", "a symbolic link", "a file", "another user's"])
def test_a_directory_that_cannot_be_trusted_is_refused(place: Path, kind: str):
    """Nothing is bound in a directory that others can reach, own, or have put a link for."""
    directory = place.parent
    if kind == "open to others":
        directory.mkdir()
        directory.chmod(0o750)
    elif kind == "a symbolic link":
        elsewhere = directory.with_name("elsewhere")
        elsewhere.mkdir(mode=0o700)
        directory.symlink_to(elsewhere)
    elif kind == "a file":
        directory.write_text("", encoding="utf-8")
    else:
        directory.mkdir(mode=0o700)
        os.chown(directory, STRANGER, STRANGER)
    with pytest.raises(SettingsProblem, match=r"control\.path"):
        claim(place)
    assert not place.exists()


def test_a_path_too_long_is_told(place: Path):
    """A path that no socket can have is refused with its length and the limit."""
    with pytest.raises(SettingsProblem, match="at most 107"):
        claim(place.parent / ("x" * 120))


def test_without_a_path_daemons_find_places_of_their_own(monkeypatch: pytest.MonkeyPatch, place: Path):
    """Daemons of one name and no path get NAME.sock, NAME-2.sock and so on; what is free again is used again."""
    monkeypatch.setattr("daemon.control.place.default_directory", lambda: place.parent)
    first, second = settle(None, "shop"), settle(None, "shop")
    assert [first.path.name, second.path.name] == ["shop.sock", "shop-2.sock"]
    assert [first.path, second.path] == list(default_paths("shop"))[:2]
    first.close()
    third = settle(None, "shop")
    assert third.path.name == "shop.sock"
    second.close()
    third.close()


def test_the_lock_outlives_nobody(place: Path):
    """The lock is free as soon as its holder ends, and is not inherited by children."""
    held = claim(place)
    assert fcntl.fcntl(held.lock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    held.close()
    assert lock_path(place).exists()
    claim(place).close()
