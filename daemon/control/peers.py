"""Who is at the other end of a connection, and what he may do.

Owns the reading of peer credentials (`SO_PEERCRED`, which the kernel keeps as they were at `connect`) and the lists of
users with rights. Must not know commands.

Invariants: the credentials come from the kernel and never from the peer's own words; who may change may read; a user
that no list names may do neither. Numbers are those of this process's own user namespace.
"""

import os
import pwd
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

_CREDENTIALS = struct.Struct("3i")


class Access(IntEnum):
    """What a peer may do; each includes those before it."""

    NONE = 0
    READ = 1
    CHANGE = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """A process at the other end, as the kernel tells it."""

    pid: int
    uid: int
    gid: int

    @property
    def user(self) -> str:
        """The user's name, or its number where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except (KeyError, OverflowError):
            return str(self.uid)


@dataclass(frozen=True, slots=True)
class AccessList:
    """Which users may read, and which may change as well. This process's own user may always do both."""

    readers: Collection[int] = ()
    changers: Collection[int] = ()

    def of(self, uid: int) -> Access:
        """Return what a user may do."""
        if uid == os.geteuid() or uid in self.changers:
            return Access.CHANGE
        return Access.READ if uid in self.readers else Access.NONE


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected. Raises OSError."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))
