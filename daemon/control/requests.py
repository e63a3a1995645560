"""The commands as they come over the wire: each one's arguments, the right it needs, and what it becomes.

Owns the names, types and limits of arguments; the schema in docs/reference is written from here. Must not know how a
command is carried out.

Invariants: unknown arguments are refused; nothing is converted (a text "1" is no number); each model becomes one
command of the core, and a command has one model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daemon.control.frames import BadRequest, Failure
from daemon.control.peers import Access
from daemon.core import commands, reports
from daemon.core.commands import Target
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.identity import Generation, Scope
from daemon.core.positions import Position, parse_position

_SHOWN_MISTAKES = 5

Name = Annotated[str, Field(min_length=1, max_length=1_024)]
TargetText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1_200,
        description="What it is about: `all`, NAME, NAME-g2, NAME:SOURCE/SHARD or NAME-g2:SOURCE/SHARD.",
        examples=["order-summary", "order-summary:orders/0"],
    ),
]
PositionText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=400,
        description="A position as `shards` shows it: whole numbers joined by dots, or `start`.",
        examples=["4711", "1.20480"],
    ),
]


class Arguments(BaseModel):
    """The arguments of one command."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    command_name: ClassVar[str] = ""
    """Its name on the wire."""
    access: ClassVar[Access] = Access.READ
    streams: ClassVar[bool] = False
    """Whether it answers by rows until its connection is closed."""
    lasting: ClassVar[bool] = False
    """Whether it goes on when its client has gone."""
    result: ClassVar[type | None] = None
    """What its result is; None where it has none."""
    told: ClassVar[type | None] = None
    """What it tells on the way: its rows, or its progress."""

    def command(self) -> Any:
        """Return the core's command. Raises CommandRefused."""
        raise NotImplementedError


class About(Arguments):
    """A command about a target."""

    target: TargetText = "all"


class Change(Arguments):
    """A command that changes something: one operation per generation, carried out shard by shard."""

    access: ClassVar[Access] = Access.CHANGE
    lasting: ClassVar[bool] = True
    result = reports.Answer
    told = reports.Progress

    target: TargetText
    wait_seconds: Annotated[
        float | None,
        Field(
            ge=0,
            le=86_400,
            description="How long the answer may wait for the shards before it says which are pending; 5 seconds where "
            "it is left out. The operation goes on either way.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who answers: `replica` names the process among its peers, `commands` are those it knows."""

    daemon: str
    release: str
    replica: str
    pid: int
    protocol: int
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """What was waited for is settled. `scope`: the shard that was asked about, or that keeps the event's id, if one."""

    generation: Generation
    scope: Scope | None
    wanted: str
    position: str | None


class Hello(Arguments):
    """Who answers, and which commands it knows."""

    command_name = "hello"
    result = Greeting


class Status(About):
    """How every projection stands, and each shard that is stuck: why, since when, at which event, and the way out."""

    command_name = "status"
    result = reports.StatusReport

    def command(self) -> commands.Status:
        """Return the core's command."""
        return commands.Status(Target.of(self.target))


class Shards(About):
    """Every shard, one by one."""

    command_name = "shards"
    result = reports.ShardsReport

    def command(self) -> commands.Shards:
        """Return the core's command."""
        return commands.Shards(Target.of(self.target))


class Lag(About):
    """How far every shard is behind its log's end: events, seconds, and how long until it has caught up."""

    command_name = "lag"
    result = reports.LagReport

    def command(self) -> commands.Lag:
        """Return the core's command."""
        return commands.Lag(Target.of(self.target))


class Top(About):
    """Every shard's state, position and rates, again and again."""

    command_name = "top"
    streams = True
    told = reports.TopRow

    interval_seconds: Annotated[float, Field(ge=0.1, le=3_600, description="From one table to the next.")] = 1.0

    def command(self) -> commands.Top:
        """Return the core's command."""
        return commands.Top(Target.of(self.target), self.interval_seconds)


class Tail(About):
    """Events as this replica commits them, with what became of each; no payloads."""

    command_name = "tail"
    streams = True
    told = reports.TailRow

    def command(self) -> commands.Tail:
        """Return the core's command."""
        return commands.Tail(Target.of(self.target))


class Audit(About):
    """The newest operations, newest first: who, when, what, and what became of it."""

    command_name = "audit"
    result = reports.AuditReport

    limit: Annotated[int, Field(ge=1, le=1_000, description="Operations at most.")] = 50

    def command(self) -> commands.Audit:
        """Return the core's command."""
        return commands.Audit(Target.of(self.target), self.limit)


class Explain(Arguments):
    """Which event, position, commit and generation last touched a row, and what is known of its markers."""

    command_name = "explain"
    result = reports.Explanation

    target: TargetText
    key: Annotated[Name, Field(description="The row's own key.")]
    view: Annotated[Name, Field(description="The kind of row; `main` is the projection's own.")] = "main"

    def command(self) -> commands.Explain:
        """Return the core's command."""
        return commands.Explain(Target.of(self.target), self.key, self.view)


Reason = Annotated[str, Field(max_length=500, description="Why, for whoever reads status and audit later.")]


class Pause(Change):
    """Stop after the commit in flight, until resumed, across restarts too."""

    command_name = "pause"

    reason: Reason = ""

    def command(self) -> commands.Pause:
        """Return the core's command."""
        return commands.Pause(Target.of(self.target), self.reason)


class Drain(Change):
    """Commit all that was read, then stand still until resumed."""

    command_name = "drain"

    reason: Reason = ""

    def command(self) -> commands.Drain:
        """Return the core's command."""
        return commands.Drain(Target.of(self.target), self.reason)


class Resume(Change):
    """Go on with what is paused, drained or parked."""

    command_name = "resume"

    def command(self) -> commands.Resume:
        """Return the core's command."""
        return commands.Resume(Target.of(self.target))


class Restart(Change):
    """Drop all memory of a shard and take it again; a parked one tries again, a paused one stays paused."""

    command_name = "restart"

    def command(self) -> commands.Restart:
        """Return the core's command."""
        return commands.Restart(Target.of(self.target))


class Skip(Change):
    """Move one shard's position without folding what lies before it; one range record keeps what was skipped."""

    command_name = "skip"

    position: PositionText
    standing: Annotated[
        PositionText | None,
        Field(description="Where the shard stood when this was decided: it is moved only if it stands there still."),
    ] = None

    def command(self) -> commands.Skip:
        """Return the core's command."""
        standing = None if self.standing is None else position_of(self.standing)
        return commands.Skip(Target.of(self.target), position_of(self.position), standing)


class Wait(Arguments):
    """Wait until a projection has settled a position or an event: read your writes."""

    command_name = "wait"
    result = Reached

    target: TargetText
    position: Annotated[PositionText | None, Field(description="Wait until the shard has settled this.")] = None
    event: Annotated[Name | None, Field(description="Wait until the event of this id is settled.")] = None
    timeout_seconds: Annotated[float, Field(ge=0, le=86_400, description="How long to wait at most.")] = 30.0

    def command(self) -> "WaitFor":
        """Return what to wait for."""
        if (self.position is None) == (self.event is None):
            raise CommandRefused(
                RefusalCode.USAGE, "one of position and event is wanted, not both", "leave the other out"
            )
        position = None if self.position is None else position_of(self.position)
        return WaitFor(Target.of(self.target), position, self.event, self.timeout_seconds)


@dataclass(frozen=True, slots=True)
class WaitFor:
    """What is waited for: a position of one shard, or an event of any; at most `timeout` seconds."""

    target: Target
    position: Position | None
    event: str | None
    timeout: float


def position_of(text: str) -> Position:
    """Read a position. Raises CommandRefused."""
    try:
        return parse_position(text)
    except ValueError as error:
        raise CommandRefused(RefusalCode.USAGE, str(error), "write it as `projectionctl shards` shows it") from None


BASIC_MODELS: tuple[type[Arguments], ...] = (
    Hello, Status, Shards, Lag, Top, Tail, Audit, Explain, Wait, Pause, Drain, Resume, Restart, Skip,
)  # fmt: skip
"""The commands of this page, in the order of the reference."""


def read_arguments(model: type[Arguments], args: Mapping[str, Any], request: str) -> Arguments:
    """Check a request's arguments. Raises BadRequest naming what is wrong, all at once."""
    try:
        return model.model_validate(dict(args))
    except ValidationError as error:
        told: list[str] = []
        for mistake in error.errors(include_url=False, include_context=False, include_input=False):
            place = ".".join(map(str, mistake["loc"])) or "args"
            told.append(f"{place}: {mistake['msg']}")
        more = len(told) - _SHOWN_MISTAKES
        reason = "; ".join(told[:_SHOWN_MISTAKES]) + (f"; and {more} more" if more > 0 else "")
        known = ", ".join(field.alias or name for name, field in model.model_fields.items()) or "none"
        remedy = f"{model.command_name} takes: {known}"
        raise BadRequest(Failure(RefusalCode.USAGE, f"{model.command_name}: {reason}", remedy), request) from None
