"""The other end of the socket: a client that sends one request and reads its answers.

Owns finding a daemon's socket, sending, receiving and the time that may take. Must not know what a command means. Plain
blocking sockets, so that a command line starts at once.

Invariants: what comes back is frames of this request's id, the last of them final; whatever keeps a daemon from
answering is one `Unreachable` with the path, the reason and the remedy.
"""

import os
import re
import socket
import tomllib
import uuid
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Self, cast

from daemon.control.frames import Answer, Request, decode_answer, encode_request
from daemon.control.place import default_directory, living
from daemon.core.errors import ProjectiondError, Remedy

MOST_BYTES = 64 * 1024 * 1024
"""The longest answer that is read: a table of many thousand shards."""
CONNECT_SECONDS = 5.0
_READ_BYTES = 65_536
_DEFAULT_NAME = "projectiond"


class Unreachable(ProjectiondError):
    """No daemon answers."""

    remedy = Remedy.WAIT


class WrongSocket(ProjectiondError):
    """It is not to be told which daemon is meant, or what answers is none of this version."""

    remedy = Remedy.FIX_SETTINGS


class Client:
    """A connection to one daemon. Use as a context manager."""

    def __init__(self, path: Path, *, timeout: float = CONNECT_SECONDS) -> None:
        """Connect to the socket at `path` within `timeout` seconds. Raises Unreachable."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._kept = bytearray()
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(os.fspath(path))
            self._socket.settimeout(None)
        except OSError as error:
            self._socket.close()
            raise Unreachable(_why(path, error)) from None

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up; what was changed goes on."""
        self._socket.close()

    def ask(
        self, command: str, args: Mapping[str, Any], *, request: str | None = None, silence: float | None = None
    ) -> Generator[Answer]:
        """Send a request and iterate its answers up to the final one.

        `silence`: seconds that may pass without a frame, None for any time. Raises Unreachable, WrongSocket.
        """
        id_ = request or fresh_id()
        try:
            self._socket.settimeout(silence)
            self._socket.sendall(encode_request(Request(id_, command, args)))
        except OSError:
            pass  # a daemon that turns somebody away says why before it closes
        while True:
            answer = self._answer()
            if answer.id not in {id_, None}:
                continue
            yield answer
            if answer.kind.final:
                return

    def _answer(self) -> Answer:
        line = self._line()
        try:
            return decode_answer(line)
        except (ValueError, KeyError, TypeError) as error:
            raise WrongSocket(
                f"{self.path}: what answers speaks another protocol ({error}); use the projectionctl of the daemon's "
                "own release"
            ) from None

    def _line(self) -> bytes:
        searched = 0
        while (end := self._kept.find(b"\n", searched)) < 0:
            searched = len(self._kept)
            if searched > MOST_BYTES:
                raise WrongSocket(f"{self.path}: an answer of more than {MOST_BYTES} bytes; ask for less at once")
            try:
                more = self._socket.recv(_READ_BYTES)
            except TimeoutError:
                raise Unreachable(
                    f"{self.path}: the daemon took the request and does not answer; look at its log, then ask again "
                    "with the same --request id, which does nothing twice"
                ) from None
            except OSError as error:
                raise Unreachable(_why(self.path, error)) from None
            if not more:
                raise Unreachable(
                    f"{self.path}: the daemon went away before it answered; what was begun goes on when it runs again, "
                    "ask then"
                )
            self._kept += more
        line = bytes(self._kept[:end])
        del self._kept[: end + 1]
        return line


def fresh_id() -> str:
    """Return a request id of one's own."""
    return uuid.uuid4().hex


def _why(path: Path, error: OSError) -> str:
    if isinstance(error, TimeoutError) or error.errno is None:
        return f"{path}: no daemon answers; look whether it runs"
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no socket; look whether the daemon runs, and what its control.path is"
    if isinstance(error, ConnectionRefusedError):
        return f"{path}: nobody listens: the daemon has ended, or was killed; start it"
    if isinstance(error, PermissionError):
        return f"{path}: not permitted to user {os.geteuid()}; ask as the daemon's own user, or as root"
    return f"{path}: {error.strerror or error}; look whether the daemon runs"


def find_socket(given: Path | None, config: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the socket of the daemon that is meant.

    In turn: the one given; `control.path` of the environment's variables or of the settings file; where a daemon
    without a path puts it. Settings that are wrong elsewhere do not matter; a file that cannot be read says nothing.
    Raises WrongSocket where several daemons run, Unreachable where none does.
    """
    if given is not None:
        return given
    path, name = _configured(config, environment)
    if path is not None:
        return Path(path)
    directory = default_directory()
    found = living(directory)
    ours = [one for one in found if name is not None and re.fullmatch(rf"{re.escape(name)}(-[0-9]+)?", one.stem)]
    if ours or len(found) == 1:
        return (ours or found)[0]  # of replicas, any will do: they share the store
    if found:
        names = ", ".join(str(one) for one in found)
        raise WrongSocket(f"several daemons run here ({names}); say which: projectionctl --socket PATH ...")
    raise Unreachable(
        f"{directory}: no daemon of user {os.geteuid()} has a socket here; look whether it runs, ask as its own user, "
        "or say where its control.path is: projectionctl --socket PATH ..."
    )


def _configured(config: Path | None, environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return `control.path` and `daemon.name`, as far as file and environment say."""
    tree: Mapping[str, Any] = {}
    if config is not None:
        try:
            tree = tomllib.loads(config.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            tree = {}
    path = environment.get("PROJECTIOND__CONTROL__PATH") or _text(tree, "control", "path")
    name = environment.get("PROJECTIOND__DAEMON__NAME") or _text(tree, "daemon", "name")
    return path, name or (_DEFAULT_NAME if config is not None else None)


def _text(tree: Mapping[str, Any], table: str, key: str) -> str | None:
    inner = tree.get(table)
    value: object = cast("Mapping[str, Any]", inner).get(key) if isinstance(inner, Mapping) else None
    return value if isinstance(value, str) and value else None
