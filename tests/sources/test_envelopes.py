import base64
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from daemon.core.events import BadRecord, Event
from daemon.sources.envelopes import CloudEvents, Envelope, FieldMap
from daemon.wire.exact_json import canonical
from tests.sources.file_log import line

FIELDS = FieldMap("meta.id", "kind", "at", "body", "origin", "about")
PLAIN = {"meta": {"id": "e1"}, "kind": "T", "at": "2026-03-01T10:00:00Z", "body": {"n": 1}, "origin": "o", "about": 7}


def decoded(raw: bytes, envelope: Envelope | None = None) -> Event | BadRecord:
    """Decode one line."""
    (record,) = (envelope or CloudEvents()).decode_many([raw], [(0, 9)], 64)
    return record


def event(raw: bytes, envelope: Envelope | None = None) -> Event:
    """Decode one line that is an event."""
    record = decoded(raw, envelope)
    assert isinstance(record, Event), record
    return record


def plain(**changes: object) -> bytes:
    """A line of plain JSON; None leaves a field out."""
    fields = {name: value for name, value in {**PLAIN, **changes}.items() if value is not None}
    return json.dumps(fields).encode()


def test_cloud_event_is_an_event():
    """Every attribute has its place; extensions are headers, as text; the raw bytes are kept."""
    raw = line(
        "e1", time="2026-03-01T10:00:00+01:00", subject="s", datacontenttype="application/json", traceid=7, sampled=True
    )
    got = event(raw)
    assert (got.id, got.type, got.source, got.subject, got.position) == ("e1", "T", "/s", "s", (0, 9))
    assert got.time == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert got.headers == {"datacontenttype": "application/json", "traceid": "7", "sampled": "true"}
    assert (got.data, got.raw) == ({"n": 1}, raw)


def test_plain_json_is_an_event():
    """Fields are found by dotted paths; integer ids are text; absent optional fields are none."""
    got = event(plain(), FIELDS)
    assert (got.id, got.type, got.source, got.subject) == ("e1", "T", "o", "7")
    assert (got.time, got.data) == (datetime(2026, 3, 1, 10, tzinfo=UTC), {"n": 1})
    bare = event(plain(meta={"id": 5}, at=None, origin=None, about=None), FIELDS)
    assert (bare.id, bare.moment, bare.source, bare.subject) == ("5", None, None, None)
    assert event(b'{"i":"x","t":"T"}', FieldMap("i", "t")).data == {"i": "x", "t": "T"}


def test_absent_fields_do_not_leak_from_the_line_before():
    """A line without time, source or subject has none, whatever the line before it had."""
    records = FIELDS.decode_many([plain(), plain(at=None, origin=None, about=None)], [(0, 1), (0, 2)], 64)
    assert isinstance(records[1], Event)
    assert (records[1].moment, records[1].source, records[1].subject) == (None, None, None)


def test_binary_payload():
    """`data_base64` is bytes."""
    fields = {"specversion": "1.0", "id": "e", "type": "T", "source": "/s"}
    raw = json.dumps({**fields, "data_base64": base64.b64encode(b"\x00\xff").decode()}).encode()
    assert event(raw).data == b"\x00\xff"
    assert event(json.dumps(fields).encode()).data is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1.50,"b":1}', b'{"b": 1, "a": 1.5}', True),
        (b'{"a":1.0}', b'{"a":1}', True),
        (b'{"a":1e1}', b'{"a":10}', True),
        (b'{"a":1}', b'{"a":2}', False),
        (b'{"a":0.1}', b'{"a":0.10000000000000001}', False),
        (b'{"a":"1.5,"}', b'{"a":1.5}', False),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_digest_is_of_the_canonical_payload(one: bytes, other: bytes, same: bool, mapped: bool):
    """Equal payloads have equal digests, in any spelling; others differ."""
    form = b'{"specversion":"1.0","id":"e","type":"T","source":"/s","data":%s}'
    envelope = FieldMap("id", "type", data="data") if mapped else CloudEvents()
    first, second = event(form % one, envelope), event(form % other, envelope)
    assert (first.digest == second.digest) is same
    assert (canonical(first.data) == canonical(second.data)) is same


def test_fractions_are_exact_decimals():
    """Money arrives as the decimal that was written, whatever its length, beside strings that look like numbers."""
    form = b'{"specversion":"1.0","id":"e","type":"T","source":"/s","data":{"t":"at 1.5,","a":%s,"b":[-0.10,2]}}'
    for text in ("19.90", "12345678901234567890.123456789", "1e-7", "1E16"):
        data = event(form % text.encode()).data
        assert data["a"] == Decimal(text)
        assert [type(data["a"]), type(data["b"][0]), data["b"][1]] == [Decimal, Decimal, 2]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"nonsense", "not-json"),
        (b"\xff", "bad-utf8"),
        (b"[1]", "bad-field"),
        (b'"text"', "bad-field"),
        (b"5", "bad-field"),
        (b"[" * 2000 + b"]" * 2000, "too-deep"),
        (line("e", data=json.loads("[" * 64 + "]" * 64)), "too-deep"),
        (line("e", data=json.loads("[" * 400 + "]" * 400)), "too-deep"),
        (line("e", deep=json.loads("[" * 400 + "]" * 400)), "bad-field"),
        (line("e", data=float("nan")), "not-a-number"),
        (line("e", data=2**64), "integer-too-large"),
        (line("e", data=-(2**63) - 1), "integer-too-large"),
        (line("e", specversion="0.3"), "bad-field"),
        (line("e", specversion=None), "bad-field"),
        (line(""), "missing-id"),
        (line("e", id=None), "missing-id"),
        (line("e", id=5), "missing-id"),
        (line("e", type=None), "missing-type"),
        (line("e", source=""), "missing-source"),
        (line("e", time="yesterday"), "bad-time"),
        (line("e", time="2026-03-01T10:00:00"), "bad-time"),
        (line("e", time="2026-13-01T10:00:00Z"), "bad-time"),
        (line("e", time="0001-01-01T00:00:00Z"), "bad-time"),
        (line("e", time=5), "bad-time"),
        (line("e", subject=5), "bad-field"),
        (line("e", extra={"a": 1}), "bad-field"),
        (line("e", extra=1.5), "bad-field"),
        (line("e", data_base64="AA=="), "bad-field"),
        (line("e", data=None, data_base64="A"), "bad-field"),
    ],
)
def test_bad_cloud_event_has_its_reason(raw: bytes, reason: str):
    """Each way of being no CloudEvent is a bad record at its place, with a stable reason, a remedy and the bytes."""
    record = decoded(raw)
    assert isinstance(record, BadRecord)
    assert (record.reason, record.position, record.raw) == (reason, (0, 9), raw)
    assert ";" in record.detail


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"[1]", "bad-field"),
        (plain(meta=None), "missing-id"),
        (plain(meta="e1"), "missing-id"),
        (plain(meta={"id": True}), "missing-id"),
        (plain(meta={"id": 2**64}), "missing-id"),
        (plain(kind=None), "missing-type"),
        (plain(kind=5), "missing-type"),
        (plain(at="noon"), "bad-time"),
        (plain(at="2026-03-01"), "bad-time"),
        (plain(at=[1]), "bad-time"),
        (plain(body=None), "bad-field"),
        (plain(origin={"a": 1}), "bad-field"),
        (plain(about=[1]), "bad-field"),
        (plain(body={"n": 2**64}), "integer-too-large"),
        (plain(body=json.loads("[" * 65 + "]" * 65)), "too-deep"),
        (plain(rest=json.loads("[" * 400 + "]" * 400)), "too-deep"),
    ],
)
def test_bad_plain_line_has_its_reason(raw: bytes, reason: str):
    """Each way in which a line does not fit the field map is a bad record with a stable reason and a remedy."""
    record = decoded(raw, FIELDS)
    assert isinstance(record, BadRecord)
    assert record.reason == reason
    assert ";" in record.detail


def test_bad_line_does_not_disturb_its_neighbours():
    """Lines around a bad one are decoded at their own positions."""
    records = CloudEvents().decode_many([line("a"), b"bad", line("b")], [(0, 1), (0, 2), (0, 3)], 64)
    assert [(type(record).__name__, record.position) for record in records] == [
        ("Event", (0, 1)),
        ("BadRecord", (0, 2)),
        ("Event", (0, 3)),
    ]


def test_empty_path_parts_are_refused():
    """A field path with an empty part is an error when the map is made."""
    with pytest.raises(ValueError, match="empty part"):
        FieldMap("a..b", "type")
