"""Records into events: CloudEvents (structured or binary), Debezium's outbox, plain JSON by field map; tombstones.

Owns what of a Kafka record reaches a projection: beside what the envelope holds, every record header under its own
name, `kafka_key` and `kafka_timestamp` as headers, and the record's time where the event carries none. Must not know
where records come from.

Invariants: decoding never raises for what a record holds: what is no event becomes a `BadRecord` at its offset. A null
value is an event without data, of the type given for tombstones where the record does not name its own; its id is its
place in the log. `receipt` holds the record, from which the checkpoint's identity is made.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Protocol, cast

import orjson

from daemon.core.errors import EventProblem
from daemon.core.events import DIGEST_BYTES, BadRecord, Event, Record
from daemon.core.positions import Position
from daemon.sources.envelopes import CLOUDEVENTS_VERSION, Envelope
from daemon.sources.kafka.client import Raw
from daemon.wire.exact_json import (
    BYTES_NAME,
    canonical_number,
    check_depth,
    loads,
    loads_exact,
    may_round,
    problem_of,
    take_decimals,
)

KEY_HEADER, TIMESTAMP_HEADER = "kafka_key", "kafka_timestamp"
_KEPT_OF_A_LARGE_ONE = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPECVERSION = "ce_specversion"
_ATTRIBUTES = frozenset({"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject"})
_CONNECT = {"schema", "payload"}
_NULL_DIGEST = blake2b(b"null", digest_size=DIGEST_BYTES).digest()


class RecordHeaders(Mapping[str, str]):
    """An event's headers, made of a record's when first looked at: most projections never do.

    Values are text; what is no UTF-8 is base64. Of a header given twice the last one counts.
    """

    __slots__ = ("_envelope", "_made", "_record")

    def __init__(self, record: Raw, envelope: Mapping[str, str] | None = None) -> None:
        """Keep the record, and the envelope's own headers (extension attributes)."""
        self._record, self._envelope = record, envelope
        self._made: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return (self._made or self._make())[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made or self._make())

    def __len__(self) -> int:
        return len(self._made or self._make())

    def _make(self) -> dict[str, str]:
        record = self._record
        made = {
            name.removeprefix("ce_"): text_of(value)
            for name, value in record.headers
            if name not in _ATTRIBUTES and value is not None
        }
        made.update(self._envelope or {})
        if record.key is not None:
            made[KEY_HEADER] = text_of(record.key)
        made[TIMESTAMP_HEADER] = str(record.timestamp)
        self._made = made
        return made


class Form(Protocol):
    """A way in which records hold events."""

    def decode_many(self, records: Sequence[Raw], positions: Sequence[Position], max_depth: int) -> list[Record]:
        """Decode records with values, one for each."""
        ...


class Structured:
    """The whole event in the value: CloudEvents in structured mode, or plain JSON by field map."""

    def __init__(self, envelope: Envelope) -> None:
        """Decode values by `envelope`."""
        self._envelope = envelope

    def decode_many(self, records: Sequence[Raw], positions: Sequence[Position], max_depth: int) -> list[Record]:
        """Decode the values."""
        values: list[Any] = [record.value for record in records]
        return self._envelope.decode_many(values, positions, max_depth)


class AnyCloudEvents:
    """CloudEvents in structured or binary mode, told apart record by record by the header `ce_specversion`."""

    def __init__(self, envelope: Envelope) -> None:
        """Decode what is structured by `envelope`."""
        self._structured = Structured(envelope)

    def decode_many(self, records: Sequence[Raw], positions: Sequence[Position], max_depth: int) -> list[Record]:
        """Decode records of either mode."""
        binary = [index for index, record in enumerate(records) if record.headers and _is_binary(record)]
        if not binary:
            return self._structured.decode_many(records, positions, max_depth)
        apart = set(binary)
        rest = [index for index in range(len(records)) if index not in apart]
        decoded = self._structured.decode_many([records[i] for i in rest], [positions[i] for i in rest], max_depth)
        found: dict[int, Record] = dict(zip(rest, decoded, strict=True))
        for index in binary:
            found[index] = _guarded(_binary, records[index], positions[index], max_depth)
        return [found[index] for index in range(len(records))]


class DebeziumOutbox:
    """What Debezium's outbox event router writes: id and type in headers, the payload as the value.

    The payload may be JSON, JSON inside a JSON string, or either of them under Connect's `schema` and `payload`.
    """

    def __init__(self, id_header: str = "id", type_header: str = "eventType") -> None:
        """Read the id and the type from these headers."""
        self._id, self._type = id_header, type_header

    def decode_many(self, records: Sequence[Raw], positions: Sequence[Position], max_depth: int) -> list[Record]:
        """Decode records that the router wrote."""
        return [
            _guarded(self._decode, record, position, max_depth)
            for record, position in zip(records, positions, strict=True)
        ]

    def _decode(self, record: Raw, position: Position, max_depth: int) -> Event:
        headers = {name: value for name, value in record.headers if value is not None}
        event_id = _unquoted(headers, self._id, "missing-id")
        kind = _unquoted(headers, self._type, "missing-type")
        raw = record.value or b""
        payload: Any = orjson.loads(raw)
        if _is_wrapped(payload):
            payload = loads(raw, max_depth=max_depth)["payload"]
            raw = b"" if type(payload) is str else _dumped(payload)
        if type(payload) is str:
            raw = payload.encode()
        data, digest = payload_of(raw, max_depth)
        subject = None if record.key is None else _bare(text_of(record.key))
        return Event(
            event_id, kind, None, subject, None, data, RecordHeaders(record), position, digest, record.value or b""
        )


class Decoder:
    """Decodes a partition's records, whatever their form."""

    def __init__(self, form: Form, *, max_depth: int, max_bytes: int, tombstone_type: str = "Tombstone") -> None:
        """A record whose value has more than `max_bytes` is bad; JSON may nest `max_depth` levels."""
        self._form, self._max_depth, self._max_bytes, self._tombstone = form, max_depth, max_bytes, tombstone_type

    def decode(self, records: Sequence[Raw]) -> list[Record]:
        """Decode records of one partition, one event or bad record for each."""
        positions: list[Position] = [(record.offset,) for record in records]
        odd = [index for index, record in enumerate(records) if self._is_odd(record)]
        if odd:
            return self._decode_with_odd(records, positions, odd)
        decoded = self._form.decode_many(records, positions, self._max_depth)
        self._complete(records, decoded)
        return decoded

    def _is_odd(self, record: Raw) -> bool:
        return record.value is None or len(record.value) > self._max_bytes

    def _decode_with_odd(self, records: Sequence[Raw], positions: list[Position], odd: list[int]) -> list[Record]:
        apart = set(odd)
        rest = [index for index in range(len(records)) if index not in apart]
        decoded = self._form.decode_many([records[i] for i in rest], [positions[i] for i in rest], self._max_depth)
        found: dict[int, Record] = dict(zip(rest, decoded, strict=True))
        for index in odd:
            found[index] = self._odd(records[index], positions[index])
        every = [found[index] for index in range(len(records))]
        self._complete(records, every)
        return every

    def _odd(self, record: Raw, position: Position) -> Record:
        value = record.value
        if value is None:
            if record.headers and _is_binary(record):
                return _guarded(_binary, record, position, self._max_depth)
            place = f"{record.topic}/{record.partition}/{record.offset}"
            subject = None if record.key is None else text_of(record.key)
            return Event(
                place, self._tombstone, None, subject, None, None, RecordHeaders(record), position, _NULL_DIGEST, b""
            )
        detail = (
            f"a record of {len(value)} bytes exceeds the limit of {self._max_bytes}; split the event or raise "
            "max_record_bytes"
        )
        return BadRecord(position, value[:_KEPT_OF_A_LARGE_ONE], EventProblem("too-large", detail))

    @staticmethod
    def _complete(records: Sequence[Raw], decoded: list[Record]) -> None:
        """Give each event what the Kafka record holds beside the envelope."""
        for record, event in zip(records, decoded, strict=True):
            event.receipt = record
            if type(event) is Event:
                if type(event.headers) is not RecordHeaders:
                    event.headers = RecordHeaders(record, event.headers)
                if event.moment is None and record.timestamp >= 0:
                    event.moment = _EPOCH + timedelta(milliseconds=record.timestamp)


def payload_of(raw: bytes, max_depth: int) -> tuple[Any, bytes]:
    """Return the payload that `raw` holds as JSON, exactly, and its digest. Raises EventProblem."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise problem_of(raw, error, max_depth) from None
    check_depth(raw, max_depth)
    dump = orjson.dumps(data, None, orjson.OPT_SORT_KEYS)
    floats = take_decimals(data)
    if floats and (floats < 0 or may_round(raw, floats)):
        data = loads_exact(raw)
        floats = -1
    if floats < 0 or floats > 1:
        dump = orjson.dumps(data, canonical_number, orjson.OPT_SORT_KEYS)
    return data, blake2b(dump, digest_size=DIGEST_BYTES).digest()


def _is_wrapped(payload: Any) -> bool:
    return type(payload) is dict and cast("dict[str, Any]", payload).keys() == _CONNECT


def _dumped(payload: object) -> bytes:
    return orjson.dumps(payload, canonical_number)


def text_of(value: bytes) -> str:
    """Return bytes as text: UTF-8, or else base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()


def _is_binary(record: Raw) -> bool:
    return any(name == _SPECVERSION for name, _ in record.headers)


def _binary(record: Raw, position: Position, max_depth: int) -> Event:
    """Decode a CloudEvent in binary mode: attributes in headers, the payload as the value."""
    headers = {name: text_of(value) for name, value in record.headers if value is not None}
    version = headers[_SPECVERSION]
    if version != CLOUDEVENTS_VERSION:
        raise EventProblem("bad-field", f"ce_specversion is {version!r:.80}, not {CLOUDEVENTS_VERSION!r}")
    event_id, kind, source = (
        _header(headers, f"ce_{name}", reason)
        for name, reason in (("id", "missing-id"), ("type", "missing-type"), ("source", "missing-source"))
    )
    moment = _time(headers["ce_time"]) if "ce_time" in headers else None
    content = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    value = record.value
    data: Any = None
    if value is None:
        digest = _NULL_DIGEST
    elif content.endswith(("/json", "+json")):
        data, digest = payload_of(value, max_depth)
    else:
        data = value
        dump = orjson.dumps({BYTES_NAME: b64encode(value).decode()})
        digest = blake2b(dump, digest_size=DIGEST_BYTES).digest()
    return Event(
        event_id, kind, source, headers.get("ce_subject"), moment, data, RecordHeaders(record), position, digest,
        value or b"",
    )  # fmt: skip


def _guarded(decode: Any, record: Raw, position: Position, max_depth: int) -> Record:
    """Decode one record; what it raises says why it is no event."""
    value = record.value or b""
    try:
        try:
            return decode(record, position, max_depth)
        except EventProblem:
            raise
        except Exception:
            loads(value, max_depth=max_depth)
            raise
    except EventProblem as problem:
        return BadRecord(position, value, problem)
    except Exception as error:  # noqa: BLE001 - a record of any bytes must not end the shard
        detail = f"{type(error).__name__} while decoding; correct the record, or report it with its bytes"
        return BadRecord(position, value, EventProblem("bad-field", detail))


def _header(headers: Mapping[str, str], name: str, reason: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise EventProblem(reason, f"header {name!r} is missing or empty; every event needs it")
    return value


def _unquoted(headers: Mapping[str, bytes], name: str, reason: str) -> str:
    return _bare(_header({key: text_of(value) for key, value in headers.items()}, name, reason))


def _bare(text: str) -> str:
    """Return what a JSON string holds: Connect's JSON converter writes headers and keys with quotes."""
    if len(text) > 1 and text[0] == '"' == text[-1]:
        try:
            return str(orjson.loads(text))
        except orjson.JSONDecodeError:
            return text
    return text


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1 < moment.year < 9999:  # noqa: PLR2004 - within any zone's calendar
        raise EventProblem(
            "bad-time", f"ce_time is {text!r:.80}; write RFC 3339 with an offset, such as 2026-03-01T10:15:30Z"
        )
    return moment
