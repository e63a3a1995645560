"""Attribute values: what is accepted, how it comes back, what it weighs."""

from base64 import b64encode
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.testing.dynamodb.errors import ServiceError
from daemon.testing.dynamodb.tables import plain
from daemon.testing.dynamodb.values import canonical_number, measured, measured_item, number_bytes

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0.0", "0"),
        ("+7", "7"),
        ("007", "7"),
        ("100", "100"),
        ("1.500", "1.5"),
        ("1E3", "1000"),
        ("12e-3", "0.012"),
        (".5", "0.5"),
        ("5.", "5"),
        ("9" * 38, "9" * 38),
        ("1E125", "1" + "0" * 125),
        ("1E-130", "0." + "0" * 129 + "1"),
        ("0." + "1" * 38, "0." + "1" * 38),
    ],
)
def test_numbers_come_back_in_full_without_needless_zeros(text: str, stored: str) -> None:
    """Leading and trailing zeros are trimmed and no exponent is left (developer guide, data types, Number)."""
    assert canonical_number(text) == stored
    assert measured({"N": text})[0] == {"N": stored}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be converted to a numeric value"),
        ("abc", "cannot be converted to a numeric value"),
        (" 1", "cannot be converted to a numeric value"),
        ("NaN", "cannot be converted to a numeric value"),
        ("Infinity", "cannot be converted to a numeric value"),
        ("0x10", "cannot be converted to a numeric value"),
        ("1e", "cannot be converted to a numeric value"),
        ("1_000", "cannot be converted to a numeric value"),
        ("9" * 39, "more than 38 significant digits"),
        ("1." + "1" * 38, "more than 38 significant digits"),
        ("1E126", "Number overflow"),
        ("-1E999999", "Number overflow"),
        ("1E-131", "Number underflow"),
    ],
)
def test_numbers_beyond_the_rules_are_refused(text: str, words: str) -> None:
    """A Number has at most 38 digits, between 1E-130 and 9.99E125 (quotas, data types)."""
    with pytest.raises(ServiceError, match=words):
        canonical_number(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 1), ("1", 2), ("-1", 3), ("12", 2), ("123", 3), ("123456", 4), ("3.14159", 5), ("42.12", 3), ("100", 2),
        ("1" + "0" * 125, 2), ("0.00001", 2), ("9" * 38, 20), ("-0.5", 3), ("1.001", 4),
    ],
)  # fmt: skip
def test_a_number_costs_its_significant_digits(text: str, size: int) -> None:
    """A byte, one for every two digits on each side of the point, one for a minus: as measured on AWS at the 400 KB
    limit.
    """
    assert number_bytes(canonical_number(text)) == size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": ""}, 0),
        ({"S": "abc"}, 3),
        ({"S": "é"}, 2),
        ({"B": b64encode(b"12345").decode()}, 5),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"L": []}, 3),
        ({"L": [{"S": "a"}, {"BOOL": False}]}, 3 + 2 + 2),
        ({"M": {}}, 3),
        ({"M": {"ab": {"S": "c"}}}, 3 + 2 + 1 + 1),
        ({"SS": ["a", "bc"]}, 3),
        ({"NS": ["1", "100"]}, 4),
        ({"BS": [b64encode(b"12").decode()]}, 2),
    ],
)
def test_sizes_follow_the_documented_rules(value: dict[str, Any], size: int) -> None:
    """UTF-8 and raw bytes; a flag is 1; lists and maps 3 plus 1 an element (item sizes, developer guide)."""
    assert measured(value)[1] == size


def test_attribute_names_count() -> None:
    """An item's size holds its names: the quota page's example of 23 bytes."""
    assert measured_item({"shirt-color": {"S": "R"}, "shirt-size": {"S": "M"}})[1] == 23


def nested(levels: int) -> dict[str, Any]:
    """A text under so many lists and maps."""
    value: dict[str, Any] = {"S": "leaf"}
    for level in range(levels):
        value = {"M": {"n": value}} if level % 2 else {"L": [value]}
    return value


def test_documents_are_32_levels_deep_at_most() -> None:
    """The attribute is level 1: 31 wraps put the leaf on level 32, and a 32nd is refused."""
    measured(nested(31))
    with pytest.raises(ServiceError, match="Nesting Levels have exceeded supported limits"):
        measured(nested(32))


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ({}, "ValidationException", "must contain exactly one"),
        ({"S": "a", "N": "1"}, "ValidationException", "more than one datatypes"),
        ({"X": "a"}, "ValidationException", "must contain exactly one"),
        ({"NULL": False}, "ValidationException", "must have the value of true"),
        ({"SS": []}, "ValidationException", "may not be empty"),
        ({"SS": ["a", "a"]}, "ValidationException", "contains duplicates"),
        ({"NS": ["1", "1.0"]}, "ValidationException", "contains duplicates"),
        ({"BS": ["AA==", "AA=="]}, "ValidationException", "contains duplicates"),
        ({"S": 1}, "SerializationException", "type S"),
        ({"N": 1}, "SerializationException", "type S or N"),
        ({"BOOL": "true"}, "SerializationException", "BOOL"),
        ({"L": {}}, "SerializationException", "L"),
        ({"M": []}, "SerializationException", "M"),
        ({"B": "not base64!"}, "SerializationException", "Base64"),
        ("text", "SerializationException", "object"),
    ],
)
def test_malformed_values_are_refused(value: Any, code: str, words: str) -> None:
    """A value is exactly one type with content of that type; sets are neither empty nor hold a member twice."""
    with pytest.raises(ServiceError, match=words) as refused:
        measured(value)
    assert refused.value.code == code


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=8)
SCALARS = st.one_of(
    st.text().map(lambda text: {"S": text}),
    NUMBERS.map(lambda number: {"N": str(number)}),
    st.binary().map(lambda raw: {"B": b64encode(raw).decode()}),
    st.booleans().map(lambda flag: {"BOOL": flag}),
    st.just({"NULL": True}),
    st.sets(st.text(), min_size=1).map(lambda members: {"SS": list(members)}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner).map(lambda members: {"L": members}),
        st.dictionaries(st.text(), inner).map(lambda members: {"M": members}),
    ),
    max_leaves=10,
)


def weight(value: Any) -> int:
    """The documented size of a plain Python value, written again from the rules."""
    match value:
        case bool() | None:
            return 1
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case Decimal():
            sign, digits, exponent = value.as_tuple()
            text = "".join(map(str, digits)).rjust(60, "0") + "0" * max(0, int(exponent))
            point = len(text) + min(0, int(exponent))
            whole, fraction = text[:point].lstrip("0"), text[point:].rstrip("0")
            whole = whole if fraction else whole.rstrip("0")
            fraction = fraction if whole else fraction.lstrip("0")
            return 1 + -(-len(whole) // 2) + -(-len(fraction) // 2) + (sign if whole or fraction else 0)
        case set():
            return sum(map(weight, cast("set[Any]", value)))
        case list():
            return 3 + sum(1 + weight(one) for one in cast("list[Any]", value))
        case dict():
            return 3 + sum(1 + len(name.encode()) + weight(one) for name, one in cast("dict[str, Any]", value).items())
        case _:
            raise AssertionError(value)


@given(VALUES)
def test_canonical_values_stay_as_they_are(value: Any) -> None:
    """Bringing a value into canonical form twice is the same as once, in size too."""
    once, size = measured(value)
    assert measured(once) == (once, size)


@given(VALUES)
def test_sizes_agree_with_a_plain_count(value: Any) -> None:
    """The size of any value is that of an independent count over plain Python."""
    once, size = measured(value)
    assert size == weight(plain(once))


async def test_an_item_is_400_kb_at_most(db: Any) -> None:
    """409,600 bytes fit and one more does not, names counted (quotas, items)."""
    room = 400 * 1024 - len("pk") - len("a") - len("b")
    await db.put("a", b={"S": "x" * room})
    refused = await db.refused("PutItem", TableName="hashed", Item={"pk": {"S": "a"}, "b": {"S": "x" * (room + 1)}})
    assert (refused.code, refused.message) == ("ValidationException", "Item size has exceeded the maximum allowed size")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"b": {"S": "x"}}, "Missing the key pk in the item"),
        ({"pk": {"N": "1"}}, "Type mismatch for key pk expected: S actual: N"),
        ({"pk": {"S": ""}}, "cannot contain an empty string value. Key: pk"),
        ({"pk": {"S": "x" * 2049}}, "maximum size limit of2048 bytes"),
        ({"pk": {"S": "é" * 1025}}, "maximum size limit of2048 bytes"),
        ({"pk": {"S": "a"}, "": {"S": "x"}}, "Empty attribute name"),
    ],
)
async def test_keys_are_there_and_whole(db: Any, item: dict[str, Any], words: str) -> None:
    """A key attribute is present, of its declared type, not empty, and a partition key at most 2,048 bytes."""
    refused = await db.refused("PutItem", TableName="hashed", Item=item)
    assert refused.code == "ValidationException"
    assert words in refused.message


@pytest.mark.parametrize(
    "key",
    [{}, {"pk": {"N": "1"}}, {"pk": {"S": "a"}, "sk": {"S": "b"}}, {"other": {"S": "a"}}],
)
async def test_a_key_names_the_key_attributes_alone(db: Any, key: dict[str, Any]) -> None:
    """A `Key` that is not exactly the schema's is refused."""
    refused = await db.refused("GetItem", TableName="hashed", Key=key)
    assert refused.message == "The provided key element does not match the schema"


async def test_a_sort_key_is_1024_bytes_at_most(db: Any) -> None:
    """A sort key of 1,024 bytes fits, and one more does not."""
    await db.ok("PutItem", TableName="ranged", Item={"pk": {"S": "a"}, "sk": {"S": "x" * 1024}})
    refused = await db.refused("PutItem", TableName="ranged", Item={"pk": {"S": "a"}, "sk": {"S": "x" * 1025}})
    assert "1024 bytes" in refused.message


async def test_sets_come_back_in_their_own_order(db: Any) -> None:
    """Strings by their bytes, numbers by value: the order of the service, not that of the request."""
    await db.put("a", s={"SS": ["b", "", "a"]}, n={"NS": ["10", "9", "-1"]})
    assert await db.item("a") == {"pk": {"S": "a"}, "s": {"SS": ["", "a", "b"]}, "n": {"NS": ["-1", "9", "10"]}}
