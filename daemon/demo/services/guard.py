"""The parent of a server: ends it when whoever asked for it is gone, however that ended.

Owns one server's process from fork to wait. It runs by itself, as `python -I -S guard.py CONTROL REMOVE COMMAND...`,
and imports next to nothing, so that it starts in some milliseconds and stays small. CONTROL is an open socket: each
byte that comes is a signal number to pass on, its end means that the starter is gone. What goes back is the server's
pid and, once it ended, its exit status (`waitstatus_to_exitcode`), each on a line. REMOVE is a directory that nobody
wants any more once the starter is gone, or empty.

Invariants: signals are sent by the one process that waits for the server, so never to another that got its number. The
server does not outlive the guard where the kernel can promise that (Linux), nor the starter anywhere.
"""

import contextlib
import os
import select
import signal
import sys

TYPE_CHECKING = False  # what `typing` would say, without importing it
if TYPE_CHECKING:
    from types import FrameType

_LOOK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_CANNOT_EXECUTE = 127


def main() -> None:
    """Start the server, pass signals on, and end with it."""
    control, remove, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.set_inheritable(control, False)
    starter = os.getppid()
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, _woken)
    server = _fork(command)
    _tell(control, server)
    while True:
        ready = select.select([control, ended], [], [], _LOOK_SECONDS)[0]
        if ended in ready:
            os.read(ended, 64)
            pid, status = os.waitpid(server, os.WNOHANG)
            if pid:
                _tell(control, os.waitstatus_to_exitcode(status))
                return
        wanted = _read(control) if control in ready else None
        if wanted == b"" or os.getppid() != starter:  # a descriptor copied into another process would hide the end
            _signal(server, signal.SIGKILL)
            os.waitpid(server, 0)
            if remove:
                import shutil  # noqa: PLC0415 - costs more to import than everything else here

                shutil.rmtree(remove, ignore_errors=True)
            return
        for number in wanted or b"":
            _signal(server, number)


def _woken(number: int, frame: "FrameType | None") -> None:
    """Do nothing: that a handler is set makes the number appear in the pipe."""


def _fork(command: list[str]) -> int:
    guard = os.getpid()
    server = os.fork()
    if server:
        with contextlib.suppress(OSError):  # the child does the same; whoever is first
            os.setpgid(server, server)
        return server
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if sys.platform == "linux":
            import ctypes  # noqa: PLC0415 - after the fork: the guard itself never pays for it

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != guard:
                os._exit(_CANNOT_EXECUTE)
        os.execv(command[0], command)  # noqa: S606 - the command is the project's own, and no shell is wanted
    except BaseException as error:  # noqa: BLE001 - nothing may return into the guard's code
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    os._exit(_CANNOT_EXECUTE)


def _signal(server: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended, and is not waited for yet
        os.killpg(server, number)


def _read(control: int) -> bytes:
    try:
        return os.read(control, 64)
    except ConnectionError:
        return b""


def _tell(control: int, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(control, b"%d\n" % number)


if __name__ == "__main__":
    main()
