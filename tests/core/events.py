"""Events and projections for the core's tests."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, cast

from daemon.core.errors import EventProblem
from daemon.core.events import BadRecord, Event
from daemon.core.positions import Position
from daemon.core.projection import Handler, ProjectionSpec

START_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def an_event(
    name: str = "e1", kind: str = "Did", data: object = None, *, position: Position = (1,), seconds: float | None = 0.0
) -> Event:
    """An event whose digest covers its data."""
    raw = repr((name, kind, data)).encode()
    moment = None if seconds is None else START_TIME + timedelta(seconds=seconds)
    digest = blake2b(repr(data).encode(), digest_size=16).digest()
    return Event(name, kind, "tests", None, moment, data, {}, position, digest, raw)


def a_bad_record(position: Position, raw: bytes = b"{") -> BadRecord:
    """A record that is no event."""
    return BadRecord(position, raw, EventProblem("not-json", "it ends too soon"))


def key_of(event: Event) -> str:
    """The key in the data; without one the event has none."""
    data = cast("dict[str, Any]", event.data) if isinstance(event.data, dict) else {}
    if not data.get("key"):
        raise EventProblem("no-key", "data.key is missing; send it")
    return data["key"]


def a_spec(*handlers: Any, **changes: Any) -> ProjectionSpec:
    """A projection whose handlers all listen to `Did`."""
    named = tuple(Handler(handler.__name__, handler) for handler in handlers)
    given: dict[str, Any] = {
        "name": "orders", "version": 1, "sources": ("log",), "key": key_of, "handlers": {"Did": named}, **changes,
    }  # fmt: skip
    return ProjectionSpec(**given)
