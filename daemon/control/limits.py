"""How much of the daemon a client may take up: bytes, time, connections, requests.

Invariant: nothing that a client sends or fails to read makes the daemon keep more than these allow.
"""

from dataclasses import dataclass

BACKLOG = 128
"""Connections that the kernel holds until they are accepted."""
DROPPABLE_FRAMES = 64
"""Progress and rows that wait for one slow client; more are left out, and counted in the next frame."""
HELD_FRAMES = 16
"""Answers that wait for one slow client before no more of its requests are read."""


@dataclass(frozen=True, slots=True)
class ControlLimits:
    """Limits of one socket. Times in seconds.

    `max_line_bytes`: a request's line, with its end. `line`: from a line's first byte to its end. `idle`: a connection
    without a request under way. `write`: until the client takes what it is sent. `max_requests`: under way at once on
    one connection.
    """

    max_connections: int = 32
    max_requests: int = 16
    max_line_bytes: int = 16_384
    line: float = 5.0
    idle: float = 30.0
    write: float = 10.0
