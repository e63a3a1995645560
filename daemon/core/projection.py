"""What the engine knows of a projection: its handlers, key and guarantees, compiled to plain callables.

Built by the loader behind `daemon.api`; the core never sees a user's class, a decorator or a validation library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from daemon.core.events import Event
from daemon.core.view import View


class Dedup(StrEnum):
    """Which guarantee against duplicates a projection pays for."""

    EVENT = "event"
    """By event id, from any shard or source: one marker per event."""
    SHARD = "shard"
    """By event id, within a shard, among the newest `marker_window` ids: packed markers."""
    SEQUENCE = "sequence"
    """By the entity's own sequence number, kept in the row."""


class OnError(StrEnum):
    """What happens to an event whose handler raises (handlers are pure, so trying again is pointless)."""

    DEAD_LETTER = "dead-letter"
    PARK_KEY = "park-key"
    PARK_SHARD = "park-shard"


class OnGap(StrEnum):
    """What happens when an entity's sequence number jumps ahead."""

    PARK = "park"
    WAIT = "wait"


class OnLate(StrEnum):
    """What happens to an event too old for its marker to be trusted."""

    APPLY = "apply"
    DEAD_LETTER = "dead-letter"


class Handler(NamedTuple):
    """One handler: its name (part of effect ids) and a callable that takes the view and the event."""

    name: str
    function: Callable[[View, Event], None]
    replay: bool = True


class Index(NamedTuple):
    """A secondary index: created alike for every generation.

    `numbers`: which of its attributes hold numbers; the others hold strings. DynamoDB has to know, and refuses a row
    that holds anything else there.
    """

    name: str
    hash: str
    range: str | None = None
    numbers: tuple[str, ...] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """Its attributes, the partition's first."""
        return (self.hash,) if self.range is None else (self.hash, self.range)


@dataclass(frozen=True, slots=True)
class ProjectionSpec:
    """A loaded projection. Times are timedeltas, windows are counts of ids.

    `key` returns an event's natural key and raises EventProblem when there is none; `key_field` is the payload field
    that holds it, where it is just that, so that a row already met in a batch is found without a call. `sequence`
    returns the entity's own number (only with `Dedup.SEQUENCE`). `upcasters` map an old event type to a function that
    returns the newer event. `explicit` names the options that the code sets itself, which the settings' general
    defaults leave alone. `code_digest` identifies the handlers' code (hex).
    """

    name: str
    version: int
    sources: tuple[str, ...]
    key: Callable[[Event], str]
    handlers: Mapping[str, tuple[Handler, ...]]
    dedup: Dedup = Dedup.EVENT
    sequence: Callable[[Event], int] | None = None
    sequence_start: int | None = None
    on_gap: OnGap = OnGap.PARK
    on_error: OnError = OnError.DEAD_LETTER
    late: OnLate = OnLate.DEAD_LETTER
    upcasters: Mapping[str, Callable[[Event], Event]] = field(default_factory=dict[str, Callable[[Event], Event]])
    marker_window: int = 200_000
    marker_retention: timedelta = timedelta(days=14)
    indexes: tuple[Index, ...] = ()
    expires: timedelta | None = None
    explicit: frozenset[str] = frozenset()
    code_digest: str = ""
    key_field: str | None = None

    def dispatch(self, *, redelivery: bool) -> Mapping[str, tuple[Handler, ...]]:
        """Return the handlers by event type, without the `replay=False` ones during a re-delivery."""
        if not redelivery:
            return self.handlers
        return {
            kind: kept for kind, handlers in self.handlers.items() if (kept := tuple(h for h in handlers if h.replay))
        }  # fmt: skip
