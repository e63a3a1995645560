"""The commands: what a person may ask for, of what, and who asked. Values only.

Owns the vocabulary shared by the socket, the engine and the shards. Must not know how a command travels, is kept or is
carried out (`daemon.core.operations`).

A changing command has a `name` (the wire's and the audit's), a `target`, and `arguments()`: plain values, which are all
that is kept of it beside the target. A query only reads.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.identity import Generation, Scope
from daemon.core.positions import Position, position_text

type Plain = str | int | bool | None
"""What an argument may be."""

_TARGET = re.compile(r"(?P<name>[^:]+?)(?:-g(?P<number>[1-9][0-9]{0,8}))?(?::(?P<source>[^/]+)/(?P<shard>.+))?")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: `uid` and `pid` as the socket's peer shows them, `user` and `host` by name."""

    uid: int
    user: str
    host: str
    pid: int = 0

    @property
    def label(self) -> str:
        """`alice@web-1`, as it stands in reasons and records."""
        return f"{self.user}@{self.host}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a command is about: everything, a projection, one generation of it, or one shard.

    Without `projection` everything; without `generation` each one that the projection has; without `shard` every shard,
    those that start later too.
    """

    projection: str | None = None
    generation: int | None = None
    source: str | None = None
    shard: str | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """Read `NAME`, `NAME-g2`, `NAME:SOURCE/SHARD` or `NAME-g2:SOURCE/SHARD`; `all` is everything.

        Raises CommandRefused naming the text and the forms expected.
        """
        if text == "all":
            return cls()
        found = _TARGET.fullmatch(text)
        if found is None:
            raise CommandRefused(
                RefusalCode.USAGE,
                f"{text!r:.200} names no projection, generation or shard",
                "write NAME, NAME-g2, NAME:SOURCE/SHARD, NAME-g2:SOURCE/SHARD, or all",
            )
        number = found["number"]
        return cls(found["name"], int(number) if number else None, found["source"], found["shard"])

    @classmethod
    def at(cls, scope: Scope) -> Self:
        """Name one scope."""
        return cls(*scope)

    @property
    def label(self) -> str:
        """As `of` reads it."""
        if self.projection is None:
            return "all"
        generation = "" if self.generation is None else f"-g{self.generation}"
        return f"{self.projection}{generation}" + ("" if self.shard is None else f":{self.source}/{self.shard}")

    def covers(self, generation: Generation) -> bool:
        """Tell whether a generation is meant, or a shard of it."""
        return self.projection in {None, generation.projection} and self.generation in {None, generation.number}


class Command(Protocol):
    """A command that changes something: it becomes an operation of each generation it is about."""

    name: ClassVar[str]
    """Its name on the wire and in the audit."""

    @property
    def target(self) -> Target:
        """What it is about."""
        ...

    def arguments(self) -> dict[str, Plain]:
        """Return what is kept of it beside the target."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop after the commit in flight, until resumed; what was read and not committed is read again then."""

    name: ClassVar[str] = "pause"
    target: Target = Target()
    reason: str = ""

    def arguments(self) -> dict[str, Plain]:
        """Return the reason, for people."""
        return {"reason": self.reason} if self.reason else {}


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop reading, commit all that was read, and then stand still until resumed."""

    name: ClassVar[str] = "drain"
    target: Target = Target()
    reason: str = ""

    def arguments(self) -> dict[str, Plain]:
        """Return the reason, for people."""
        return {"reason": self.reason} if self.reason else {}


@dataclass(frozen=True, slots=True)
class Resume:
    """Leave the paused, drained or parked state."""

    name: ClassVar[str] = "resume"
    target: Target = Target()

    def arguments(self) -> dict[str, Plain]:
        """Return nothing: the target says it all."""
        return {}


@dataclass(frozen=True, slots=True)
class Restart:
    """Drop all memory of a shard and take it again; a parked one tries again, a paused one stays paused."""

    name: ClassVar[str] = "restart"
    target: Target = Target()

    def arguments(self) -> dict[str, Plain]:
        """Return nothing: the target says it all."""
        return {}


@dataclass(frozen=True, slots=True)
class Skip:
    """Move one shard's position to `position` without folding what lies before it.

    `standing`: the checkpoint's position as it was shown; the shard must still stand there. None: as it is when the
    command arrives.
    """

    name: ClassVar[str] = "skip"
    target: Target
    position: Position
    standing: Position | None = None

    def arguments(self) -> dict[str, Plain]:
        """Return both positions, as they are shown."""
        arguments: dict[str, Plain] = {"position": position_text(self.position)}
        if self.standing is not None:
            arguments["standing"] = position_text(self.standing)
        return arguments


# Queries


@dataclass(frozen=True, slots=True)
class Status:
    """How every projection and its stuck shards stand."""

    name: ClassVar[str] = "status"
    target: Target = Target()


@dataclass(frozen=True, slots=True)
class Shards:
    """Every shard, one by one."""

    name: ClassVar[str] = "shards"
    target: Target = Target()


@dataclass(frozen=True, slots=True)
class Lag:
    """How far every shard is behind its log's end."""

    name: ClassVar[str] = "lag"
    target: Target = Target()


@dataclass(frozen=True, slots=True)
class Top:
    """Every shard's state, position and rates, told again every `interval` seconds until cancelled."""

    name: ClassVar[str] = "top"
    target: Target = Target()
    interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Tail:
    """Events as this process commits them, told commit by commit until cancelled."""

    name: ClassVar[str] = "tail"
    target: Target = Target()


@dataclass(frozen=True, slots=True)
class Audit:
    """The newest `limit` operations, newest first."""

    name: ClassVar[str] = "audit"
    target: Target = Target()
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Explain:
    """Which event last touched a row. `key` is the row's own, in `view`."""

    name: ClassVar[str] = "explain"
    target: Target
    key: str
    view: str = "main"


type Query = Status | Shards | Lag | Top | Audit | Explain
