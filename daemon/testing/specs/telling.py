"""Events as a test writes them, made into what the daemon's own decoder makes of a log's line.

Owns the short forms that a test may use. Must not know projections.

Invariant: whatever its form, an event passes through CloudEvents text and the real decoder, so that its payload has
exactly the shape that it has in production: lists for tuples, `Decimal` for every fraction, text for dates.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pydantic import BaseModel

from daemon.core.errors import EventProblem
from daemon.core.events import BadRecord, Event, Record
from daemon.core.identity import ShardId
from daemon.core.values import normalise
from daemon.sources.envelopes import CloudEvents
from daemon.wire.exact_json import dumps

FIRST_MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When the first event happened, where a test does not say; each later one a second after the one before."""
DEFAULT_SHARD = "0"
_MAX_DEPTH = 64
_PAIR = 2
_FORMS = (
    'write event("OrderPlaced", order_id="o1"), ("OrderPlaced", {...}), an instance of the payload\'s class, '
    "a CloudEvent as a dict, or a line of a log"
)


@dataclass(frozen=True, slots=True)
class Told:
    """An event as a test tells it; what it leaves open is None. `line`: the record as it stands, whatever it holds."""

    type: str
    data: object = field(default_factory=dict[str, object])
    id: str | None = None
    at: datetime | None = None
    source: str | None = None
    shard: str = DEFAULT_SHARD
    subject: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    line: bytes | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """An event in its place: its number among those given (from 1), its shard and its bytes."""

    number: int
    shard: ShardId
    id: str
    type: str
    line: bytes

    def record(self, position: int) -> Record:
        """Decode it, anew each time, at a position of its shard."""
        (record,) = CloudEvents().decode_many([self.line], [(position,)], _MAX_DEPTH)
        return record

    def __str__(self) -> str:
        """Name it as reports do."""
        return f"{self.id} {self.type}" if self.type else f"{self.id} (no event)"


def event(  # noqa: PLR0913 - one keyword for each part of an event
    what: object,
    data: Mapping[str, object] | None = None,
    /,
    *,
    id: str | None = None,  # noqa: A002 - the field's own name
    type: str | None = None,  # noqa: A002 - as above
    at: datetime | None = None,
    source: str | None = None,
    shard: str = DEFAULT_SHARD,
    subject: str | None = None,
    headers: Mapping[str, str] | None = None,
    **named: object,
) -> Told:
    """Tell an event: its type and payload, `event("OrderPlaced", order_id="o1")`, or an instance of a payload's class.

    A payload with fields named like a parameter is given as `data`. `at`: when it happened (aware); `source`: the name
    of the source it comes from, where the projection follows several; `shard`: which of its shards. `type`: where the
    instance's class has another name. Raises TypeError for what is no event.
    """
    payload: object = named if data is None else {**data, **named}
    if isinstance(what, str):
        kind = what
    elif _is_payload(what) and not payload:
        kind, payload = what.__class__.__name__, what
    else:
        raise TypeError(f"{what!r:.200} is no event; {_FORMS}")
    return Told(type or kind, payload, id, at, source, shard, subject, headers or {})


def told(given: object) -> Told:
    """Read one event in any of its forms. Raises TypeError for what is none."""
    if isinstance(given, Told):
        return given
    if isinstance(given, Event):
        one = cast("Event[Any]", given)
        return Told(one.type, one.data, one.id, one.moment, subject=one.subject, headers=one.headers)
    if isinstance(given, bytes | str):
        return Told("", line=given.encode() if isinstance(given, str) else given)
    if isinstance(given, tuple):
        pair = cast("tuple[Any, ...]", given)
        if len(pair) == _PAIR and isinstance(pair[0], str):
            return Told(pair[0], pair[1])
    if isinstance(given, Mapping):
        fields_ = cast("Mapping[str, object]", given)
        if isinstance(fields_.get("type"), str):
            return _from_cloud_event(fields_)
    instance = cast("object", given)
    if _is_payload(instance):
        return event(instance)
    raise TypeError(f"{given!r:.200} is no event; {_FORMS}")


def flattened(events: Iterable[object]) -> list[Told]:
    """Read events; a list among them stands for its items."""
    found: list[Told] = []
    for one in events:
        if isinstance(one, list):
            found += flattened(cast("list[object]", one))
        else:
            found.append(told(one))
    return found


def placed(events: Iterable[Told], default_source: str) -> list[Given]:
    """Number events, give each a line of a log. Raises ValueError for a payload that is no JSON."""
    return [_placed(one, number, default_source) for number, one in enumerate(events, 1)]


def _placed(one: Told, number: int, default_source: str) -> Given:
    shard = ShardId(one.source or default_source, one.shard)
    line = one.line
    if line is None:
        moment = one.at or FIRST_MOMENT + timedelta(seconds=number - 1)
        try:
            data = normalise(_plain(one.data))
            line = dumps(
                {
                    **one.headers,
                    "specversion": "1.0",
                    "id": one.id or f"e{number}",
                    "type": one.type,
                    "source": "/spec",
                    "time": moment.isoformat(),
                    **({} if one.subject is None else {"subject": one.subject}),
                    "data": data,
                }
            )
        except (EventProblem, TypeError) as problem:
            raise ValueError(f"event {number} ({one.type}): its payload is no JSON: {problem}") from problem
    (record,) = CloudEvents().decode_many([line], [(number,)], _MAX_DEPTH)
    if isinstance(record, BadRecord):
        return Given(number, shard, f"line {number}", "", line)
    return Given(number, shard, record.id, record.type, line)


def _from_cloud_event(fields_: Mapping[str, object]) -> Told:
    time = fields_.get("time")
    known = {"specversion", "id", "type", "source", "time", "subject", "data"}
    return Told(
        str(fields_["type"]),
        fields_.get("data", {}),
        cast("str | None", fields_.get("id")),
        datetime.fromisoformat(time) if isinstance(time, str) else cast("datetime | None", time),
        subject=cast("str | None", fields_.get("subject")),
        headers={name: str(value) for name, value in fields_.items() if name not in known},
    )


def _is_payload(value: object) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def _plain(value: object) -> object:
    """Return a payload's instances as plain mappings."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("Iterable[object]", value)]
    return value


def lines_of(log: bytes) -> list[Told]:
    """Read the lines of a log, as `given` takes them."""
    return [told(line) for line in log.splitlines() if line.strip()]


__all__ = ["FIRST_MOMENT", "Given", "Told", "event", "flattened", "lines_of", "placed", "told"]
