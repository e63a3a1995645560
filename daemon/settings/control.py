"""The section of the control socket, which projectionctl talks to.

Owns each key's name, type, limits, default and reason, as `daemon.settings.models` does for the rest; the same
invariants hold.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from daemon.settings.base import Array, Section, Text, distinct, refuse

GREATEST_UID = 2**32 - 2
_LONGEST_PATH = 107


def _short_enough(path: str) -> str:
    if len(path.encode()) > _LONGEST_PATH:
        raise refuse(f"a path of at most {_LONGEST_PATH} bytes, which is all that a socket can have", "shorten it")
    return path


def _uids(uids: tuple[int, ...]) -> tuple[int, ...]:
    if any(uid < 0 or uid > GREATEST_UID for uid in uids):
        raise refuse(f"numbers of users, from 0 to {GREATEST_UID}", "`id -u NAME` tells a user's number")
    return distinct(uids)


class ControlSettings(Section):
    """The Unix socket that projectionctl talks to, and who may say what over it."""

    enabled: bool = Field(
        default=True,
        description="Without it nothing can be asked of the daemon or told to it while it runs.",
    )
    path: Annotated[Text, AfterValidator(_short_enough)] | None = Field(
        default=None,
        examples=["/run/projectiond/control.sock"],
        description="Where the socket stands: in a directory of its own, which is made with mode 0700 or must have it. "
        "Left out: /tmp/projectiond-UID/NAME.sock, NAME being daemon.name (NAME-2.sock and so on while that is "
        "taken), which projectionctl finds by itself.",
    )
    read_uids: Annotated[Array[int], AfterValidator(_uids)] = Field(
        default=(),
        description="Users, by number, who may read: status, lag, audit and the like. The daemon's own user may do "
        "everything.",
    )
    change_uids: Annotated[Array[int], AfterValidator(_uids)] = Field(
        default=(0,),
        description="Users, by number, who may change things as well: pause, rewind, skip and the like. root is in the "
        "list, since it can act as any user anyway.",
    )
    max_connections: int = Field(
        default=32,
        ge=1,
        le=10_000,
        description="Connections at once; one more is answered `busy` and closed.",
    )
    max_requests: int = Field(
        default=16,
        ge=1,
        le=1_000,
        description="Requests under way at once on one connection; one more is answered `busy`.",
    )
    max_line_bytes: int = Field(
        default=16_384,
        ge=1_024,
        le=1_048_576,
        description="The longest request. A longer line is answered with an error, and the connection closed.",
    )
    line_seconds: float = Field(
        default=5.0,
        ge=0.05,
        le=600.0,
        description="From a request's first byte to its line end; then the connection is closed.",
    )
    idle_seconds: float = Field(
        default=30.0,
        ge=0.05,
        le=86_400.0,
        description="How long a connection without a request under way may stay open.",
    )
    write_seconds: float = Field(
        default=10.0,
        ge=0.05,
        le=600.0,
        description="How long a client may leave unread what it is sent; then the connection is closed. What it "
        "changed goes on.",
    )
    poll_ms: int = Field(
        default=500,
        ge=10,
        le=60_000,
        description="How often it is looked whether somebody asked another replica for something: the most that a "
        "command given elsewhere takes to be begun here; one given here is begun at once. Each look reads one item of "
        "each generation.",
    )
    redelivery_share: float = Field(
        default=0.5,
        ge=0.01,
        le=0.9,
        description="The part of its time that a shard gives to a rewind, a replay, released keys and retried dead "
        "letters while live events wait; all of it while none do. More of it ends them sooner and lets the live log "
        "fall further behind meanwhile.",
    )
