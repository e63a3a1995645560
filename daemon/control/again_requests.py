"""Re-delivery, dead letters and parked keys as they come over the wire.

Owns their arguments, as `daemon.control.requests` does for the rest; the same invariants hold. What shows payloads or
rows, or folds a range to find out, needs the right to change.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from daemon.control.peers import Access
from daemon.control.requests import About, Arguments, Change, Name, PositionText, TargetText
from daemon.core import again
from daemon.core.again import Filter
from daemon.core.commands import Target

PlaceText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=400,
        description="A place in the log: `earliest`, `now`, a position, or a time such as 2026-03-01T00:00:00Z.",
    ),
]
From = Annotated[PlaceText, Field(alias="from")]
To = Annotated[PlaceText, Field(alias="to")]
Limit = Annotated[int, Field(ge=0, le=10_000, description="How many are listed; the counts are of all.")]


class Rewind(Change):
    """Deliver again what lies after a place, up to where each shard stands; the live position never moves."""

    command_name = "rewind"

    to: PlaceText

    def command(self) -> again.Rewind:
        """Return the core's command."""
        return again.Rewind(Target.of(self.target), self.to)


class ReplayPlan(Arguments):
    """What delivering a range again would come to: events, time, units, price, duplicates, handlers left out."""

    command_name = "replay.plan"
    access: ClassVar[Access] = Access.CHANGE
    result = again.PlanReport

    target: TargetText
    since: From
    until: To = "now"
    diff: Annotated[bool, Field(description="Also fold the range, and tell which rows would change.")] = False

    def command(self) -> again.ReplayPlan:
        """Return the core's query."""
        return again.ReplayPlan(Target.of(self.target), self.since, self.until, self.diff)


class ReplayApply(Change):
    """Deliver a planned range again; refused when anything has changed since it was planned."""

    command_name = "replay.apply"

    since: From
    until: To
    plan: Annotated[Name, Field(description="The id that the plan gave.")]

    def command(self) -> again.ReplayApply:
        """Return the core's command."""
        return again.ReplayApply(Target.of(self.target), self.since, self.until, self.plan)


class ReplayStatus(About):
    """How far each shard's re-delivery has come, or what the last one came to, by the layer that suppressed."""

    command_name = "replay.status"
    result = again.CursorsReport

    def command(self) -> again.ReplayStatus:
        """Return the core's query."""
        return again.ReplayStatus(Target.of(self.target))


class ReplayAbort(Change):
    """End the re-delivery under way, rewind or replay; what it applied stays applied."""

    command_name = "replay.abort"

    def command(self) -> again.ReplayAbort:
        """Return the core's command."""
        return again.ReplayAbort(Target.of(self.target))


class _Filtered(Arguments):
    """Which dead letters are meant: those that agree with all that is given."""

    key: Annotated[Name | None, Field(description="Of this key.")] = None
    reason: Annotated[Name | None, Field(description="With this reason.")] = None
    handler: Annotated[Name | None, Field(description="Of this handler.")] = None
    event: Annotated[Name | None, Field(description="Of the event of this id.")] = None
    position: Annotated[PositionText | None, Field(description="At this position.")] = None
    every: Annotated[bool, Field(description="All of the target, where nothing else is given.")] = False

    def which(self) -> Filter:
        """Return the filter."""
        return Filter(self.key, self.reason, self.handler, self.event, self.position, self.every)


class LettersList(About, _Filtered):
    """The dead letters that a filter means, and their counts by reason and shard."""

    command_name = "dead-letters.list"
    result = again.LettersReport

    limit: Limit = 100

    def command(self) -> again.LettersList:
        """Return the core's query."""
        return again.LettersList(Target.of(self.target), self.which(), self.limit)


class LettersShow(Arguments):
    """One dead letter with its payload."""

    command_name = "dead-letters.show"
    access: ClassVar[Access] = Access.CHANGE
    result = again.LetterReport

    target: TargetText
    position: PositionText
    event: Annotated[Name | None, Field(description="Its event's id, where several lie at the position.")] = None

    def command(self) -> again.LettersShow:
        """Return the core's query."""
        return again.LettersShow(Target.of(self.target), self.position, self.event)


class LettersRetry(Change, _Filtered):
    """Fold dead letters again, each once, out of the order of its key by nature."""

    command_name = "dead-letters.retry"

    def command(self) -> again.LettersRetry:
        """Return the core's command."""
        return again.LettersRetry(Target.of(self.target), self.which())


class LettersDiscard(Change, _Filtered):
    """Remove dead letters for good: they count as skipped."""

    command_name = "dead-letters.discard"

    def command(self) -> again.LettersDiscard:
        """Return the core's command."""
        return again.LettersDiscard(Target.of(self.target), self.which())


class KeysParked(About):
    """The parked keys, the longest parked first, and how many events queue behind them."""

    command_name = "keys.parked"
    result = again.KeysReport

    limit: Limit = 100

    def command(self) -> again.KeysParked:
        """Return the core's query."""
        return again.KeysParked(Target.of(self.target), self.limit)


class KeysRelease(Change):
    """Fold what queues behind a parked key, in order; then the key goes on."""

    command_name = "keys.release"

    key: Annotated[Name | None, Field(description="The key.")] = None
    every: Annotated[bool, Field(description="Every parked key of the target.")] = False

    def command(self) -> again.KeysRelease:
        """Return the core's command."""
        return again.KeysRelease(Target.of(self.target), self.key, self.every)


AGAIN_MODELS: tuple[type[Arguments], ...] = (
    Rewind, ReplayPlan, ReplayApply, ReplayStatus, ReplayAbort, LettersList, LettersShow, LettersRetry, LettersDiscard,
    KeysParked, KeysRelease,
)  # fmt: skip
"""The commands of this page, in the order of the reference."""
