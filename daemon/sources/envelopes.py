"""Envelopes: how the bytes of one record hold an event.

Owns CloudEvents (structured JSON) and plain JSON by field map. Must not know where the bytes came from.

Invariants: decoding never raises for what the bytes hold: what is no event becomes a `BadRecord` at its position, with
a stable reason. An event's digest covers the canonical bytes of its `data`, whatever form its numbers and the order of
its keys had. The two loops are written flat, with local names: each record passes through here once, and a layer of
functions would cost as much as the parsing.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, cast

import orjson

from daemon.core.errors import EventProblem
from daemon.core.events import DIGEST_BYTES, BadRecord, Event, Record
from daemon.core.positions import Position
from daemon.wire.exact_json import (
    BYTES_NAME,
    MAX_DEPTH,
    canonical_number,
    check_depth,
    loads,
    loads_exact,
    may_round,
    problem_of,
    take_decimals,
)

WHOLE_OBJECT = "."
"""The data path that means the whole line."""
CLOUDEVENTS_VERSION = "1.0"

_SORT = orjson.OPT_SORT_KEYS
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_FIRST_MOMENT, _LAST_MOMENT = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
"""Between them, a time can be moved to any zone without leaving the calendar."""
_SHOWN = 80
_NOT_HEADERS = frozenset({"specversion", "id", "type", "source", "time", "subject", "data", "data_base64"})
_POINT, _PLUS = b".+"
_MISSING = object()
_HASHER = blake2b(digest_size=DIGEST_BYTES)
"""Copied for each payload, which costs half of making one with a keyword."""
_USUAL = 6
_USUAL_ATTRIBUTES = itemgetter("id", "type", "source", "specversion", "time", "data")
"""What most CloudEvents have, and perhaps a subject, but nothing else."""


class Envelope(Protocol):
    """A way of holding events in bytes."""

    def decode_many(self, lines: Sequence[bytes], positions: Sequence[Position], max_depth: int) -> list[Record]:
        """Decode records, one for each of `lines`; `max_depth` (1 to 250) bounds the nesting of each line."""
        ...


class CloudEvents:
    """CloudEvents 1.0 in structured JSON mode; extension attributes become the event's headers."""

    def decode_many(self, lines: Sequence[bytes], positions: Sequence[Position], max_depth: int) -> list[Record]:
        """Decode one CloudEvent a line."""
        parse, dumps, hasher, time_of, make = orjson.loads, orjson.dumps, _HASHER.copy, datetime.fromisoformat, Event
        pick, usual, first, last, sort = _USUAL_ATTRIBUTES, _USUAL, _FIRST_MOMENT, _LAST_MOMENT, _SORT
        records: list[Record] = []
        add = records.append
        for raw, position in zip(lines, positions, strict=True):
            try:
                fields = parse(raw)
                subject = fields.get("subject")
                plain = len(fields) == usual if subject is None else len(fields) == usual + 1 and type(subject) is str
                if plain and "time" in fields and "data" in fields:
                    event_id, kind, source, version, moment, data = pick(fields)
                    headers = _NO_HEADERS
                else:
                    event_id, kind, source, version, moment, data, subject, headers = _attributes(fields)
                # x > "" is one test of two things: it raises for what is no string, and is false for an empty one.
                if not (event_id > "" and kind > "" and source > "" and version == CLOUDEVENTS_VERSION):
                    _explain_cloud_event(raw)
                if moment is not None:
                    moment = time_of(moment)
                    if not first <= moment <= last:  # raises for a naive time
                        _explain_cloud_event(raw)
                dump = dumps(data, _encoded, sort)
                if (_POINT in dump or _PLUS in dump or dump.find(b"e-") >= 0) and (floats := take_decimals(data)):
                    if floats < 0 or may_round(raw, floats):
                        data = loads_exact(raw)["data"]
                        dump = dumps(data, canonical_number, sort)
                    elif floats > 1:
                        dump = dumps(data, canonical_number, sort)
                # A dump nested d deep has at least 2 d bytes, so that a short one needs no counting.
                if len(dump) + 2 > 2 * max_depth and dump.count(b"{") + dump.count(b"[") >= max_depth:
                    check_depth(raw, max_depth)
                digest = hasher()
                digest.update(dump)
                add(make(event_id, kind, source, subject, moment, data, headers, position, digest.digest(), raw))
            except Exception as error:  # noqa: BLE001 - what is wrong is found out, and kept, by reading the line again
                add(_bad(raw, position, error, max_depth, _explain_cloud_event))
        return records


class FieldMap:
    """Plain JSON objects, whose fields are named by dotted paths (`order.id`).

    `data` is the path of the payload, "." for the whole object. A line without `time` has none; an `id` may be an
    integer.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the field's own name, in every envelope
        type: str,  # noqa: A002 - as above
        time: str | None = None,
        data: str = WHOLE_OBJECT,
        source: str | None = None,
        subject: str | None = None,
    ) -> None:
        """Keep the paths. Raises ValueError for an empty path or part."""
        self.id, self.type = _path(id), _path(type)
        self.time, self.source, self.subject = _optional(time), _optional(source), _optional(subject)
        self.data = () if data == WHOLE_OBJECT else _path(data)

    def decode_many(  # noqa: C901, PLR0912 - one flat loop, as the module says
        self, lines: Sequence[bytes], positions: Sequence[Position], max_depth: int
    ) -> list[Record]:
        """Decode one event a line."""
        parse, dumps, hasher, time_of, make = orjson.loads, orjson.dumps, _HASHER.copy, datetime.fromisoformat, Event
        id_path, type_path, data_path, time_path = self.id, self.type, self.data, self.time
        time_name = time_path[0] if len(time_path) == 1 else None
        source_path, subject_path = self.source, self.subject
        first, last = _FIRST_MOMENT, _LAST_MOMENT
        source = subject = moment = None
        records: list[Record] = []
        add = records.append
        for raw, position in zip(lines, positions, strict=True):
            try:
                whole = data = event_id = kind = fields = parse(raw)
                for name in id_path:
                    event_id = event_id[name]
                for name in type_path:
                    kind = kind[name]
                for name in data_path:
                    data = data[name]
                if not (event_id and type(event_id) is str):
                    event_id = _text_of_id(event_id)
                if not kind or type(kind) is not str or type(fields) is not dict:
                    self._explain(raw)
                if time_path:
                    moment = whole.get(time_name) if time_name else _dig(fields, time_path)
                    if moment is not None:
                        moment = time_of(moment)
                        if not first <= moment <= last:  # raises for a naive time
                            self._explain(raw)
                if source_path:
                    source = _text(fields, source_path)
                if subject_path:
                    subject = _text(fields, subject_path)
                dump = dumps(data, None, _SORT)
                if (_POINT in dump or _PLUS in dump or dump.find(b"e-") >= 0) and (floats := take_decimals(data)):
                    if floats < 0 or may_round(raw, floats):
                        data = _dig(loads_exact(raw), data_path)
                        dump = dumps(data, canonical_number, _SORT)
                    elif floats > 1:
                        dump = dumps(data, canonical_number, _SORT)
                if len(raw) > 2 * max_depth and raw.count(b"{") + raw.count(b"[") > max_depth:
                    check_depth(raw, max_depth)
                digest = hasher()
                digest.update(dump)
                add(make(event_id, kind, source, subject, moment, data, _NO_HEADERS, position, digest.digest(), raw))
            except Exception as error:  # noqa: BLE001 - as above
                add(_bad(raw, position, error, max_depth, self._explain))
        return records

    def _explain(self, raw: bytes) -> None:
        """Raise EventProblem naming the field that is wrong, when one is."""
        fields = _object(raw)
        _text_of_id(_dig(fields, self.id), ".".join(self.id))
        _required(_dig(fields, self.type), "missing-type", ".".join(self.type))
        if self.time:
            _check_time(_dig(fields, self.time), ".".join(self.time))
        for path in (self.source, self.subject):
            if path:
                _text(fields, path)
        if self.data and _dig(fields, self.data, _MISSING) is _MISSING:
            _refuse("bad-field", f"no payload at {'.'.join(self.data)!r}; write one, or correct the map's data path")


# ------------------------------------------------------------------------------------------- why a line is no event


def _bad(raw: bytes, position: Position, error: Exception, max_depth: int, explain: Any) -> BadRecord:
    """Make the record of a line that failed, with its reason found by reading it again, slowly."""
    try:
        if isinstance(error, EventProblem):
            raise error
        if isinstance(error, orjson.JSONDecodeError):
            raise problem_of(raw, error, max_depth)
        check_depth(raw, max_depth)
        explain(raw)
        loads(raw, max_depth=max_depth)
    except EventProblem as problem:
        return BadRecord(position, raw, problem)
    detail = f"{type(error).__name__} while decoding; correct the line, or report it with its bytes"
    return BadRecord(position, raw, EventProblem("bad-field", detail))


def _explain_cloud_event(raw: bytes) -> None:
    """Raise EventProblem naming the attribute that is wrong, when one is."""
    fields = _object(raw)
    version = fields.get("specversion")
    if version != CLOUDEVENTS_VERSION:
        detail = f"specversion is {_shown(version)}, not {CLOUDEVENTS_VERSION!r}; write a CloudEvent, or map plain JSON"
        _refuse("bad-field", detail)
    _required(fields.get("id"), "missing-id", "id")
    _required(fields.get("type"), "missing-type", "type")
    _required(fields.get("source"), "missing-source", "source")
    _check_time(fields.get("time"), "time")
    subject = fields.get("subject")
    if subject is not None and type(subject) is not str:
        _refuse("bad-field", f"'subject' is {_shown(subject)}; write a string or leave it out")


def _attributes(fields: dict[str, Any]) -> tuple[str, str, str, str, str | None, Any, str | None, Mapping[str, str]]:
    """Return id, type, source, version, time, data, subject and headers of a CloudEvent of any shape."""
    subject = fields.get("subject")
    if type(subject) is not str and subject is not None:
        _refuse("bad-field", f"'subject' is {_shown(subject)}; write a string or leave it out")
    headers, data = _optional_attributes(fields)
    return (
        fields["id"], fields["type"], fields["source"], fields["specversion"],
        fields.get("time"), data, subject, headers,
    )  # fmt: skip


def _optional_attributes(fields: dict[str, Any]) -> tuple[Mapping[str, str], Any]:
    """Return the extension attributes as headers, and the payload, which may be written as base64."""
    data = fields.get("data")
    headers: dict[str, str] = {}
    for name, value in fields.items():
        if name in _NOT_HEADERS or value is None:
            continue
        if type(value) is str:
            headers[name] = value
        elif type(value) is bool or type(value) is int:
            headers[name] = str(value).lower()
        else:
            detail = (
                f"attribute {name[:_SHOWN]!r} is {_shown(value)}; write a string, integer or boolean, or put it in data"
            )
            _refuse("bad-field", detail)
    encoded = fields.get("data_base64")
    if encoded is None:
        return headers or _NO_HEADERS, data
    if data is not None or type(encoded) is not str:
        _refuse("bad-field", "'data_base64' stands beside data or is no string; write exactly one of them")
    try:
        return headers or _NO_HEADERS, b64decode(encoded, validate=True)
    except ValueError as error:
        return _refuse("bad-field", f"'data_base64' is no base64 ({error}); encode it by RFC 4648, or write data")


def _encoded(value: object) -> dict[str, str]:
    """Return what orjson should write for a binary payload, for `default=`."""
    return {BYTES_NAME: b64encode(cast("bytes", value)).decode()}


def _object(raw: bytes) -> dict[str, Any]:
    fields = orjson.loads(raw)
    if type(fields) is not dict:
        _refuse("bad-field", f"the line is {_shown(fields)}; write one JSON object a line")
    return cast("dict[str, Any]", fields)


def _required(value: object, reason: str, name: str) -> None:
    if not value or type(value) is not str:
        found = "is missing" if value is None else f"is {_shown(value)}"
        _refuse(reason, f"{name!r} {found}; every event needs one, a string that is not empty")


def _check_time(value: object, name: str) -> None:
    if value is None:
        return
    if type(value) is not str:
        _refuse("bad-time", f"{name!r} is {_shown(value)}; write RFC 3339 with an offset, such as 2026-03-01T10:15:30Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        _refuse("bad-time", f"{name!r} is {_shown(value)}; write RFC 3339 with an offset, such as 2026-03-01T10:15:30Z")
    if moment.tzinfo is None:
        _refuse("bad-time", f"{name!r} is {_shown(value)}, without an offset; append Z or one such as +01:00")
    if not _FIRST_MOMENT <= moment <= _LAST_MOMENT:
        _refuse("bad-time", f"{name!r} is {_shown(value)}, outside the years 2 to 9998; correct it")


def _text_of_id(value: object, name: str = "id") -> str:
    """Return an id as text: integers are ids too."""
    if type(value) is int:
        return str(value)
    _required(value, "missing-id", name)
    return cast("str", value)


def _text(fields: Any, path: tuple[str, ...]) -> str | None:
    value = _dig(fields, path)
    if value is None or type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    return _refuse("bad-field", f"{'.'.join(path)!r} is {_shown(value)}; write a string or leave it out")


def _dig(fields: Any, path: tuple[str, ...], absent: Any = None) -> Any:
    for name in path:
        if type(fields) is not dict or name not in fields:
            return absent
        fields = cast("dict[str, Any]", fields)[name]
    return fields


def _path(text: str) -> tuple[str, ...]:
    parts = tuple(text.split("."))
    if not all(parts):
        raise ValueError(f"path {text!r} has an empty part; write names joined by dots, such as 'order.id'")
    return parts


def _optional(text: str | None) -> tuple[str, ...]:
    return () if text is None else _path(text)


def _shown(value: object) -> str:
    """Return what stands there instead, briefly and without the content of a container."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _refuse(reason: str, detail: str) -> NoReturn:
    raise EventProblem(reason, detail)


def check_max_depth(max_depth: int) -> int:
    """Return `max_depth`. Raises ValueError beyond what the envelopes can bound."""
    if 1 <= max_depth <= MAX_DEPTH:
        return max_depth
    raise ValueError(f"max_depth {max_depth} is not within 1 to {MAX_DEPTH}; set one that is")
