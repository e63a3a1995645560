"""Keys and sequence numbers: every path, every value, and the same text as the core's own joining."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import EventProblem
from daemon.core.events import Event
from daemon.core.keys import key_text
from daemon.loading.paths import key_function, sequence_function

DATA: dict[str, Any] = {
    "id": "o1",
    "n": 7,
    "price": Decimal("1.50"),
    "deep": {"er": {"id": "x"}},
    "none": None,
    "e": "",
}


def an_event(data: Any = None, subject: str | None = "s1") -> Event:
    """An event with every field that a path can name."""
    payload = DATA if data is None else data
    return Event("e1", "OrderPlaced", "/shop", subject, None, payload, {"ce-tenant.x": "t1"}, (1,), b"", b"")


KEYS: list[tuple[str | tuple[str, ...] | Callable[[Event], object], str]] = [
    ("data.id", "o1"),
    ("data.n", "7"),
    ("data.price", "1.5"),
    ("data.deep.er.id", "x"),
    ("subject", "s1"),
    ("id", "e1"),
    ("type", "OrderPlaced"),
    ("source", "/shop"),
    ("headers.ce-tenant.x", "t1"),
    (("data.id",), "o1"),
    (("data.id", "data.n"), "o1#7"),
    (("data.id", "subject", "data.deep.er.id"), "o1#s1#x"),
    (lambda event: event.data["id"] + "!", "o1!"),
    (lambda event: (event.data["id"], date(2026, 1, 2)), "o1#2026-01-02"),
    (lambda event: event.data["n"], "7"),
]


@pytest.mark.parametrize(("key", "text"), KEYS)
def test_a_key_is_read(key: object, text: str):
    """Each kind of key gives the text of its value, composite ones joined by #."""
    assert key_function(key)(an_event()) == text


WRONG: list[tuple[str | tuple[str, ...] | Callable[[Event], object], str, str]] = [
    ("data.missing", "no-key", "'e1' of type 'OrderPlaced' has no data.missing"),
    ("data.deep.missing.id", "no-key", "has no data.deep.missing.id"),
    ("data.id.x", "no-key", "has no data.id.x"),
    ("headers.missing", "no-key", "has no headers.missing"),
    (("data.id", "data.missing"), "no-key", "has no data.missing"),
    (("data.id", "headers.missing"), "no-key", "has no headers.missing"),
    ("data.none", "bad-key", "data.none: None cannot be a key"),
    ("data.e", "bad-key", "data.e: '' cannot be a key"),
    ("data.deep", "bad-key", "data.deep: "),
    (("data.id", "data.none"), "bad-key", "data.id, data.none: None"),
    (("data.id", "data.e"), "bad-key", "data.id, data.e: ''"),
    (lambda event: event.data["missing"], "no-key", "the key function raised KeyError: 'missing'"),
    (lambda _event: None, "bad-key", "the key function: None"),
]


@pytest.mark.parametrize(("key", "reason", "names"), WRONG)
def test_a_missing_or_bad_key_is_the_event_s_problem(key: Any, reason: str, names: str):
    """Where there is no key, or none that can be one, the event's problem names the path."""
    with pytest.raises(EventProblem) as caught:
        key_function(key)(an_event())
    assert caught.value.reason == reason
    assert names in caught.value.detail


@pytest.mark.parametrize("data", [None, [], "text", 5, [1, 2]])
@pytest.mark.parametrize("key", ["data.id", ("data.id", "data.n"), "data.a.b"])
def test_a_payload_of_another_shape_has_no_key(data: Any, key: Any):
    """A payload that is no object has no field to be a key."""
    event = an_event()
    event.data = data
    with pytest.raises(EventProblem) as caught:
        key_function(key)(event)
    assert caught.value.reason == "no-key"


def test_a_missing_subject_is_no_key():
    """A field of the event itself that is None is missing."""
    with pytest.raises(EventProblem, match="has no subject"):
        key_function("subject")(an_event(subject=None))


def test_a_long_key_is_refused():
    """1,024 bytes fit, 1,025 do not, in one part and in several."""
    assert key_function("data.id")(an_event({"id": "é" * 512})) == "é" * 512
    with pytest.raises(EventProblem, match="exceeds 1024"):
        key_function("data.id")(an_event({"id": "é" * 512 + "x"}))
    with pytest.raises(EventProblem, match="exceeds 1024"):
        key_function(("data.id", "data.n"))(an_event({"id": "x" * 1024, "n": "y"}))


PART = st.one_of(st.text(alphabet="a#\\é", max_size=4), st.text(max_size=300), st.integers(), st.none(), st.booleans())


@given(parts=st.lists(PART, min_size=1, max_size=3))
def test_the_fast_paths_join_as_the_core_does(parts: list[object]):
    """Whatever the values, a compiled key is exactly the core's joining, or fails as it does."""
    data = {f"p{number}": part for number, part in enumerate(parts)}
    key = key_function(tuple(f"data.{name}" for name in data))
    assert _outcome(lambda: key(an_event(data))) == _outcome(lambda: key_text(tuple(parts)))


def _outcome(read: Callable[[], str]) -> tuple[str, str]:
    try:
        return "key", read()
    except EventProblem as problem:
        return "problem", problem.reason


def test_a_sequence_number_is_an_int():
    """A sequence number is read as it is; anything else is the event's problem, naming path and value."""
    sequence = sequence_function("data.meta.seq")
    assert sequence(an_event({"meta": {"seq": 0}})) == 0
    assert sequence(an_event({"meta": {"seq": 2**62}})) == 2**62
    for wrong in (-1, "1", True, Decimal(1), None):
        with pytest.raises(EventProblem) as caught:
            sequence(an_event({"meta": {"seq": wrong}}))
        assert caught.value.reason == "no-sequence"
        assert f"data.meta.seq of event 'e1' is {wrong!r}" in caught.value.detail
    with pytest.raises(EventProblem, match="is None"):
        sequence(an_event({"meta": 1}))
