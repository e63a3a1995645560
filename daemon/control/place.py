"""Where the socket stands: its directory, its lock, its file.

Owns the paths, the rights on them, and what is done about a socket that a dead daemon left. Must not know what is said
over the socket. Used by both sides: a client looks for sockets where a daemon without a configured path puts them.

Invariants: the directory is 0700 and ours, no symbolic link, or nothing is bound; the socket is born 0600; a path is
served by at most one process, which holds the lock beside it (the kernel frees that however the process ends); only
who holds the lock removes a socket.
"""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon.control.limits import BACKLOG
from daemon.core.errors import SettingsProblem

LONGEST_PATH = 107
"""Bytes that the kernel takes as a socket's path."""
MOST_DAEMONS = 256
"""Daemons of one name and user that find a path by themselves."""
SUFFIX = ".sock"
_DIRECTORY_MODE = 0o700
_SOCKET_MODE = 0o600
_PID_BYTES = 20


@dataclass(slots=True)
class Place:
    """A path that this process serves, and the lock that says so."""

    path: Path
    listening: socket.socket
    lock: int

    def close(self) -> None:
        """Stop listening, remove the socket, free the path; a second time does nothing."""
        if self.lock < 0:
            return
        self.listening.close()
        self.path.unlink(missing_ok=True)
        os.close(self.lock)
        self.lock = -1


def default_directory(uid: int | None = None) -> Path:
    """Return where the sockets of a user's daemons are, unless `control.path` says otherwise."""
    return Path(f"/tmp/projectiond-{os.geteuid() if uid is None else uid}")  # noqa: S108 - 0700 and checked to be ours


def default_paths(name: str) -> Iterator[Path]:
    """Iterate the paths that a daemon of this name tries in turn: several may run on one machine."""
    directory = default_directory()
    for number in range(1, MOST_DAEMONS + 1):
        yield directory / f"{name}{'' if number == 1 else f'-{number}'}{SUFFIX}"


def settle(path: Path | None, name: str) -> Place:
    """Bind the socket at `path`, or at the first free default path. Raises SettingsProblem with what to do."""
    if path is not None:
        return claim(path)
    for candidate in default_paths(name):
        try:
            return claim(candidate)
        except PathTaken:
            continue
    raise PathTaken(
        f"{default_directory()}: {MOST_DAEMONS} daemons called {name!r} serve sockets there; set control.path"
    )


class PathTaken(SettingsProblem):
    """Another living process serves the path."""


def claim(path: Path) -> Place:
    """Bind one path, removing the socket of a daemon that has died.

    Raises PathTaken, or SettingsProblem where directory or path cannot be used.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise SettingsProblem(
            f"control.path {str(path)!r} has {len(os.fsencode(path))} bytes, a socket's path has at most "
            f"{LONGEST_PATH}; choose a shorter one"
        )
    try:
        _own_directory(path.parent)
        lock = _locked(path)
    except OSError as error:
        raise SettingsProblem(
            f"control.path {str(path)!r}: {error.strerror}; choose a directory that this daemon may "
            "make and write, or set control.enabled = false"
        ) from error
    try:
        _remove_stale(path)
        return Place(path, _bound(path), lock)
    except OSError as error:
        os.close(lock)
        raise SettingsProblem(f"control.path {str(path)!r}: {error.strerror}; choose another path") from error
    except BaseException:
        os.close(lock)
        raise


def lock_path(path: Path) -> Path:
    """Return the lock's path: it stays when the daemon ends, since removing a lock is a race."""
    return path.with_name(path.name + ".lock")


def _own_directory(directory: Path) -> None:
    """Make the directory, or look whether the one there can be trusted."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=_DIRECTORY_MODE)
    except FileExistsError:
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise SettingsProblem(
                f"control.path: {directory} is no directory (or a symbolic link); choose a directory of its own"
            ) from None
        if found.st_uid != os.geteuid():
            raise SettingsProblem(
                f"control.path: {directory} belongs to user {found.st_uid}, this daemon is user {os.geteuid()}; "
                "choose a directory of its own"
            ) from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise SettingsProblem(
                f"control.path: {directory} has mode {stat.S_IMODE(found.st_mode):04o}, others could reach the socket; "
                f"chmod 0700 {directory}, or choose a directory of its own"
            ) from None


def _locked(path: Path) -> int:
    """Open and lock the file beside the socket. Raises PathTaken, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(lock_path(path), flags, _SOCKET_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, _PID_BYTES).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise PathTaken(
            f"control.path {str(path)!r} is served by another process already (pid {pid}); give this daemon a "
            "control.path of its own, or stop the other"
        ) from None
    except BaseException:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SettingsProblem(f"control.path {str(path)!r} is there and is no socket; choose another, or remove it")
    path.unlink()


def _bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux takes the mode of a socket's file from the socket itself, so that it is never wider for a moment.
        os.fchmod(listening.fileno(), _SOCKET_MODE)
        listening.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def living(directory: Path) -> list[Path]:
    """List the sockets in a directory that somebody serves."""
    try:
        found = sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
    except OSError:
        return []
    return [path for path in found if _answers(path)]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(1)
            connection.connect(str(path))
        except OSError as error:
            return error.errno == errno.EAGAIN
    return True
