"""What waits to be applied: dead letters, events behind parked keys, skipped ranges, and what people wish for them.

Owns the names of waiting entries and what a commit may make of them. Must not know how an entry is folded.

Invariants: only the shard's owner removes or amends an entry, in a commit of its own; a person only notes a wish on it;
an entry is removed in the very commit that applies it, so it is applied once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from daemon.core.positions import Position, position_text


class Wish(StrEnum):
    """What a person asked to be done with a waiting entry. The shard's owner carries it out."""

    RETRY = "retry"
    """Fold a dead letter again."""
    DISCARD = "discard"
    """Remove a dead letter: it counts as skipped."""
    RELEASE = "release"
    """Fold what queues behind a parked key, in order. It stands on the key's first event."""


class LetterRef(NamedTuple):
    """Names a dead letter of a scope."""

    position: Position
    event_id: str


class ParkedRef(NamedTuple):
    """Names a parked event of a scope."""

    key: str
    position: Position
    event_id: str


class SkipRef(NamedTuple):
    """Names a skipped range of a scope by its end."""

    through: Position


type Ref = LetterRef | ParkedRef | SkipRef


class Amended(NamedTuple):
    """What an entry that stays says from now on."""

    reason: str
    detail: str
    handler: str = ""
    wish: Wish | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """What a commit makes of a waiting entry that must be there: `keep` amends it, None removes it."""

    ref: Ref
    keep: Amended | None = None


@dataclass(frozen=True, slots=True)
class SkippedRange:
    """Positions after `after` up to and including `through` that were never applied: the checkpoint passed over them.

    Ranges of a scope never overlap; `through` tells them apart. `note` says who skipped them and why. `counted`: its
    events are in the checkpoint's `read` and `skipped`; otherwise nobody counted them.
    """

    after: Position
    through: Position
    at: datetime
    note: str = ""
    counted: bool = False


class LetterNote(NamedTuple):
    """A dead letter without its payload."""

    position: Position
    event_id: str
    key: str
    reason: str
    handler: str
    at: datetime
    wish: Wish | None

    @property
    def ref(self) -> LetterRef:
        """Its name."""
        return LetterRef(self.position, self.event_id)


class ParkedNote(NamedTuple):
    """A parked event without its payload. `reason` is set on the one that parked its key."""

    key: str
    position: Position
    event_id: str
    reason: str
    at: datetime
    wish: Wish | None

    @property
    def ref(self) -> ParkedRef:
        """Its name."""
        return ParkedRef(self.key, self.position, self.event_id)


@dataclass(frozen=True, slots=True)
class Waiting:
    """All that waits in one scope, each list in position order (parked events: by key, then position)."""

    letters: Sequence[LetterNote] = ()
    parked: Sequence[ParkedNote] = ()
    skipped: Sequence[SkippedRange] = ()
    _queues: dict[str, list[ParkedNote]] = field(default_factory=dict[str, list[ParkedNote]])

    @property
    def queues(self) -> Mapping[str, Sequence[ParkedNote]]:
        """The parked events by key, in position order."""
        if not self._queues and self.parked:
            for note in sorted(self.parked, key=lambda note: (note.position, note.event_id)):
                self._queues.setdefault(note.key, []).append(note)
        return self._queues

    def within(self, after: Position, until: Position) -> "Waiting":
        """Return what of it lies after one position and not after another. Skipped ranges are cut to it."""
        return Waiting(
            [note for note in self.letters if after < note.position <= until],
            [note for note in self.parked if after < note.position <= until],
            [
                replace(one, after=max(one.after, after), through=min(one.through, until))
                for one in self.skipped
                if one.after < until and one.through > after
            ],
        )


def shrunk(
    one: SkippedRange, after: Position, through: Position, left: Sequence[tuple[Position, Position]] = ()
) -> list[SkippedRange]:
    """Return what remains skipped of a range once everything after `after`, up to `through`, was settled.

    `left`: pieces in between (from exclusive, to inclusive) that stay skipped all the same.
    """
    if through <= one.after or after >= one.through:
        return [one]
    ends = [(one.after, max(one.after, after))]
    ends += [(max(low, one.after), high) for low, high in left if one.after < high <= one.through]
    ends.append((min(through, one.through), one.through))
    return [replace(one, after=low, through=high) for low, high in ends if low < high]


def names(arguments: Mapping[str, object], note: LetterNote) -> bool:
    """Tell whether a filter (`key`, `reason`, `handler`, `event`, `position`, or `every`) means a dead letter."""
    filters = ("key", "reason", "handler", "event", "position")
    wanted = {name: arguments[name] for name in filters if arguments.get(name)}
    if not wanted:
        return bool(arguments.get("every"))
    has = {
        "key": note.key,
        "reason": note.reason,
        "handler": note.handler,
        "event": note.event_id,
        "position": position_text(note.position),
    }
    return all(has[name] == value for name, value in wanted.items())


def heads(waiting: Waiting, key: object = None) -> list[LetterRef | ParkedRef]:
    """Return the first event behind each parked key, or behind `key` alone."""
    return [queue[0].ref for name, queue in waiting.queues.items() if key in {None, name}]
