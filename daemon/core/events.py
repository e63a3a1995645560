"""Events in their neutral form, and records that are not events.

Owns the shape every envelope is decoded into. Must not know any wire format: decoding lives beside the sources.

Invariants: an event is never changed once decoded, except that the fold sets `key` for the projection it folds; its
`digest` covers the canonical payload, so that the same id with another payload can be told from a duplicate.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic

from daemon.core.errors import EventProblem
from daemon.core.positions import Position

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # a default needs Python 3.13 at run time, and only type checkers want it

    D = TypeVar("D", default=Any)
else:
    from typing import TypeVar

    D = TypeVar("D")

DIGEST_BYTES = 16
"""Length of a payload digest and of an id digest, in bytes."""


class Event(Generic[D]):  # noqa: UP046 - a type parameter gets no default before Python 3.13
    """One event of a log. `Event[OrderPlaced]` says to a type checker what `data` is; plain `Event` leaves it open.

    `data` is the payload: plain JSON values with exact `Decimal` for every fraction, or, for a handler registered with
    a class, an instance of that class. `position` is its place in its shard. `raw` is the record as it was read
    (bytes).
    """

    __slots__ = (
        "data",
        "digest",
        "headers",
        "id",
        "key",
        "moment",
        "position",
        "raw",
        "receipt",
        "source",
        "subject",
        "type",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - one positional constructor, on the decoders' hot path
        self,
        id: str,  # noqa: A002 - the field's own name, in every envelope
        type: str,  # noqa: A002 - as above
        source: str | None,
        subject: str | None,
        moment: datetime | None,
        data: D,
        headers: Mapping[str, str],
        position: Position,
        digest: bytes,
        raw: bytes,
        receipt: object = None,
    ) -> None:
        """Store the decoded fields; `moment` is the event's own time (aware), None where the log carries none."""
        self.id = id
        self.type = type
        self.source = source
        self.subject = subject
        self.moment = moment
        self.data = data
        self.headers = headers
        self.position = position
        self.digest = digest
        self.raw = raw
        self.receipt = receipt
        self.key = ""

    @property
    def time(self) -> datetime:
        """When the event happened, by its own account (aware datetime).

        Raises EventProblem (`no-time`) where the record carries no time.
        """
        if self.moment is None:
            detail = f"event {self.id!r} carries no time; map one (fields.time) or do not read event.time"
            raise EventProblem("no-time", detail)
        return self.moment

    def with_data[T](self, data: T, type: str | None = None) -> "Event[T]":  # noqa: A002 - the field's own name
        """Return a copy with another payload (and type), same identity, position and digest.

        For upcasters and classes.
        """
        copy = Event(
            self.id, type or self.type, self.source, self.subject, self.moment, data,
            self.headers, self.position, self.digest, self.raw, self.receipt,
        )  # fmt: skip
        copy.key = self.key
        return copy

    def __repr__(self) -> str:
        """Identity only: a payload has no place in a traceback."""
        return f"Event(id={self.id!r}, type={self.type!r}, position={self.position!r})"


class BadRecord:
    """A record of a log that is no event: it will be dead-lettered at its position, with the reason."""

    __slots__ = ("detail", "position", "raw", "reason", "receipt")

    type = ""
    """No handler is for it."""

    def __init__(self, position: Position, raw: bytes, problem: EventProblem, receipt: object = None) -> None:
        """Keep the raw bytes (possibly cut by the source's size limit) and why they are no event."""
        self.position = position
        self.raw = raw
        self.reason = problem.reason
        self.detail = problem.detail
        self.receipt = receipt

    def __repr__(self) -> str:
        """Where and why, without the bytes."""
        return f"BadRecord(position={self.position!r}, reason={self.reason!r})"


type Record = Event | BadRecord
