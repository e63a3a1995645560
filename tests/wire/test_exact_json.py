import base64
from decimal import Decimal

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.core.errors import EventProblem
from daemon.wire import exact_json

numbers = st.integers(-(10**40), 10**40) | st.decimals(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text()
keys = st.text() | st.just("_bytes")


fractions = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**300), max_value=10**300).filter(
    lambda number: not str(number).removeprefix("-").isdigit()
)


def nested(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Lists and maps of `leaves`, to any depth."""
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))


def reason_of(raw: bytes, max_depth: int = 64) -> EventProblem:
    """The problem that reading `raw` raises."""
    with pytest.raises(EventProblem) as caught:
        exact_json.loads(raw, max_depth=max_depth)
    return caught.value


@given(nested(scalars | st.binary()))
def test_rows_come_back_equal(value: object):
    """Any stored value, bytes and maps that look like bytes included, is read back equal to what was written."""
    assert exact_json.loads_row(exact_json.dumps_row(value)) == value


@given(nested(scalars))
def test_equal_payloads_have_equal_canonical_bytes(value: object):
    """A payload written and read again has the canonical bytes it had, whatever form its numbers took."""
    again = exact_json.loads_row(exact_json.dumps_row(value))
    assert exact_json.canonical(again) == exact_json.canonical(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"1.50", b"1.5"),
        (b"15e-1", b"1.5"),
        (b"1.0", b"1"),
        (b"1e3", b"1000"),
        (b"1.5e3", b"1500"),
        (b"-0.0", b"0"),
        (b"1e22", b"10000000000000000000000.0"),
        (b'{"b":1,"a":2.10}', b'{"a":2.1,"b":1}'),
    ],
)
def test_forms_of_one_number_are_one(one: bytes, other: bytes):
    """Two spellings of the same payload have the same canonical bytes."""
    assert exact_json.canonical(exact_json.loads(one)) == exact_json.canonical(exact_json.loads(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"0.1", b"0.10000000000000001"),
        (b"1e-400", b"0"),
        (b"9007199254740993.0", b"9007199254740992.0"),
        (b"1", b"true"),
        (b"1", b'"1"'),
    ],
)
def test_close_numbers_stay_apart(one: bytes, other: bytes):
    """Payloads that differ by less than a float can tell, or by type, have different canonical bytes."""
    assert exact_json.canonical(exact_json.loads(one)) != exact_json.canonical(exact_json.loads(other))


def test_canonical_takes_floats_and_decimals_alike():
    """A float in a payload has the canonical bytes of the decimal it is written as."""
    assert exact_json.canonical({"a": 1.50, "b": 2.0}) == exact_json.canonical({"a": Decimal("1.5"), "b": 2})


@given(fractions)
def test_fractions_are_exact(number: Decimal):
    """A fraction is read as exactly the decimal that its text says, wherever it stands and however it is spaced."""
    text = f'{{"note": "at 10:00:00.5", "n" : [ {number} , 1]}}'.encode()
    read = exact_json.loads(text)["n"][0]
    assert read == number
    assert type(read) is Decimal


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_within_64_bits_are_exact(number: int):
    """An integer of up to 64 bits, signed or not, is read as itself."""
    assert exact_json.loads(b"[%d]" % number) == [number]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b"{'a':1}", "not-json"),
        (b"[1] [2]", "not-json"),
        (b'"\\', "not-json"),
        (b'"\xff"', "bad-utf8"),
        (b'"\\ud800"', "bad-utf8"),
        (b"[NaN]", "not-a-number"),
        (b"-Infinity", "not-a-number"),
        (b"1e999", "not-a-number"),
        (b"1e-99999999999999999999999", "not-a-number"),
        (b"18446744073709551616", "integer-too-large"),
        (b"-9223372036854775809", "integer-too-large"),
        (b'{"a" : ' + b"9" * 5000 + b"}", "integer-too-large"),
        (b"[" * 65 + b"]" * 65, "too-deep"),
        (b"[" * 100_000, "too-deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too-deep"),
    ],
)
def test_each_wrong_text_has_its_reason(raw: bytes, reason: str):
    """Each kind of text that no event may hold is refused with a stable reason and a remedy."""
    problem = reason_of(raw)
    assert problem.reason == reason
    assert ";" in problem.detail


def test_depth_counts_nesting_only():
    """Brackets inside strings and side by side do not count; the deepest allowed nesting is read."""
    assert exact_json.loads(b'["' + b"[{" * 200 + b'\\"["]') == ["[{" * 200 + '"[']
    assert exact_json.loads(b"[" + b"[]," * 200 + b"[]]")
    assert exact_json.loads(b"[" * 64 + b"]" * 64)
    assert reason_of(b"[[[[[[[[]]]]]]]]", max_depth=3).reason == "too-deep"


def test_depth_of_hostile_text_is_found_in_linear_time():
    """A text of unclosed and escaped quotes is refused quickly: it would take hours if each quote were tried anew."""
    assert reason_of(b"[" * 65 + b'"\\' * 500_000).reason == "too-deep"
    assert reason_of(b"[" * 65 + b'\\"' * 500_000 + b"\\").reason == "too-deep"


def test_bytes_are_base64_under_their_mark():
    """Bytes are written as a map of one key, and a map of that form is told apart."""
    mark = base64.b64encode(b"\x00\xff").decode()
    assert exact_json.dumps_row({"b": b"\x00\xff"}) == b'{"b":{"_bytes":"%s"}}' % mark.encode()
    assert exact_json.loads_row(exact_json.dumps_row({"_bytes": mark})) == {"_bytes": mark}
    assert exact_json.dumps(b"\x00\xff") == b'{"_bytes":"%s"}' % mark.encode()


@pytest.mark.parametrize("value", [object(), {1: 2}, Decimal("NaN"), Decimal("Infinity"), {"a": {1, 2}}])
def test_what_json_cannot_say_is_refused(value: object):
    """A type without a JSON form, and a decimal that is no number, raise TypeError in every writer."""
    for write in (exact_json.dumps, exact_json.dumps_row, exact_json.canonical):
        with pytest.raises(TypeError):
            write(value)


@given(st.recursive(
    st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4),
              st.decimals(allow_nan=False, allow_infinity=False, places=3).map(float)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
))  # fmt: skip
@example([2.0, 1.5])
@example([2.5e-310, 0.0])
@example({"a": 2.0, "b": {"c": [0.5]}})
def test_decimals_taken_from_floats_are_those_of_the_text(value: object) -> None:
    """Unless the text may round, the floats' shortest texts are what an exact parse of the text gives."""
    raw = orjson.dumps(value)
    parsed = orjson.loads(raw)
    found = exact_json.take_decimals(parsed)
    if found >= 0 and not exact_json.may_round(raw, found):
        exact = exact_json.loads_exact(raw)
        assert parsed == exact
        assert (found == 0) == ("Decimal(" not in repr(exact))
        if found == 1:
            assert orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == exact_json.canonical(exact)


@pytest.mark.parametrize(
    "raw",
    [
        b"[0.1000000000000000055]",
        b"[1e-400]",
        b"[2.5E-310 ]",
        b"[12345678901234567890.5]",
        b"[1000000000000000055e-19]",
    ],
)
def test_a_text_that_a_double_may_not_hold_is_found(raw: bytes) -> None:
    """Sixteen digits in a row, or what comes out as nothing or nearly: read again, exactly."""
    assert exact_json.may_round(raw, exact_json.take_decimals(orjson.loads(raw)))


@pytest.mark.parametrize("raw", [b"[1.5E3]", b"[1e-7 ]", b"[0.0, 12.50]", b"[123456789012345e290]"])
def test_a_text_that_a_double_holds_is_read_once(raw: bytes) -> None:
    """Fifteen digits are kept wherever the point is."""
    parsed = orjson.loads(raw)
    assert not exact_json.may_round(raw, exact_json.take_decimals(parsed))
    assert parsed == exact_json.loads_exact(raw)
