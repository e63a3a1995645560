"""Loopback ports that stay a server's own, while it is down too.

Owns which ports are taken by servers of ours on this machine. Must not know the servers.

Invariants: ports are chosen below every range that systems give to outgoing connections, so that none takes a killed
server's port before it is started again; a lock file per port keeps other runs of ours from it, and is given back by
the kernel when its holder dies. What else listens is seen by binding; it may still come later, and then the server
says so when it starts.
"""

import fcntl
import os
import random
import socket
from pathlib import Path

from daemon.core.errors import StoreUnavailable
from daemon.demo.services.cache import cache_directory

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 32_000
_TRIES = 200


class Port:
    """One reserved port; `number` is what to listen on."""

    def __init__(self, directory: Path | None = None) -> None:
        """Reserve a free port. `directory` holds the lock files. Raises StoreUnavailable when none is free."""
        locks = directory or cache_directory() / "ports"
        locks.mkdir(parents=True, exist_ok=True)
        for number in random.sample(range(FIRST, LAST), _TRIES):
            lock = os.open(locks / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if _locked(lock) and is_free(number):
                self.number, self._lock = number, lock
                return
            os.close(lock)
        raise StoreUnavailable(
            f"none of {_TRIES} ports tried between {FIRST} and {LAST} is free; end what was left running there"
        )

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def is_free(number: int) -> bool:
    """Tell whether nothing listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections don't count
        try:
            probe.bind((LOOPBACK, number))
        except OSError:
            return False
    return True


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
