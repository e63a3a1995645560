"""Conditions and updates against plain oracles, and every text that is refused."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.testing.dynamodb.errors import ServiceError
from daemon.testing.dynamodb.expressions import Expressions, projected
from daemon.testing.dynamodb.tables import plain_item
from daemon.testing.dynamodb.values import measured_item

ITEM: dict[str, Any] = {
    "s": {"S": "hello"},
    "n": {"N": "5"},
    "b": {"B": "AQID"},
    "flag": {"BOOL": True},
    "nothing": {"NULL": True},
    "tags": {"SS": ["x", "y"]},
    "nums": {"NS": ["1", "2"]},
    "lst": {"L": [{"S": "a"}, {"M": {"deep": {"N": "7"}}}]},
    "doc": {"M": {"city": {"S": "Bern"}, "lst": {"L": [{"N": "1"}]}}},
}
VALUES: dict[str, Any] = {
    ":s": {"S": "hello"}, ":he": {"S": "he"}, ":z": {"S": "z"}, ":five": {"N": "5.0"}, ":six": {"N": "6"},
    ":four": {"N": "4"}, ":true": {"BOOL": True}, ":x": {"S": "x"}, ":one": {"N": "1"}, ":t": {"S": "SS"},
    ":bern": {"S": "Bern"}, ":seven": {"N": "7"}, ":b": {"B": "AQ=="}, ":set": {"SS": ["y", "x"]},
}  # fmt: skip


def bound(text: str, **more: Any) -> Expressions:
    """The expressions of a request with the values that the text uses, and the alias #_v."""
    words = {token.strip("(),") for token in text.replace("(", " ").replace(",", " ").split()}
    request: dict[str, Any] = {"ExpressionAttributeValues": {n: v for n, v in VALUES.items() if n in words}} | more
    if not request["ExpressionAttributeValues"]:
        del request["ExpressionAttributeValues"]
    return Expressions(request)


def met(text: str, item: dict[str, Any] = ITEM, **more: Any) -> bool:
    """Whether an item meets a condition."""
    expressions = bound(text, **more)
    condition = expressions.condition(text)
    expressions.done()
    assert condition is not None
    return condition.test(item, expressions.values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s = :s", True), ("s = :z", False), ("s <> :z", True), ("s <> :s", False),
        ("n = :five", True), ("n < :six", True), ("n > :six", False), ("n <= :five", True), ("n >= :six", False),
        ("s < :z", True), ("s < :six", False), ("gone = :s", False), ("gone <> :s", True), ("gone < :s", False),
        ("n BETWEEN :four AND :six", True), ("n between :six and :seven", False),
        ("s IN (:z, :s)", True), ("s IN (:z, :x)", False), ("gone IN (:s)", False),
        ("attribute_exists(s)", True), ("attribute_exists(gone)", False), ("attribute_not_exists(gone)", True),
        ("attribute_not_exists(doc.city)", False), ("attribute_exists(doc.absent.more)", False),
        ("attribute_exists(lst[1].deep)", True), ("attribute_exists(lst[9])", False),
        ("attribute_type(tags, :t)", True), ("attribute_type(s, :t)", False), ("attribute_type(gone, :t)", False),
        ("begins_with(s, :he)", True), ("begins_with(s, :z)", False), ("begins_with(n, :he)", False),
        ("begins_with(b, :b)", True), ("contains(s, :he)", True), ("contains(tags, :x)", True),
        ("contains(nums, :one)", True), ("contains(tags, :one)", False), ("contains(lst, :x)", False),
        ("size(s) = :five", True), ("size(tags) < :six", True), ("size(gone) = :five", False),
        ("size(n) = :five", False), ("size(b) < :four", True), ("size(lst) > :one", True),
        ("NOT s = :s", False), ("NOT (s = :z OR n = :six)", True), ("s = :s AND n = :six OR flag = :true", True),
        ("s = :s AND (n = :six OR flag = :true)", True), ("s = :z OR s = :x AND flag = :true", False),
        ("NOT s = :z AND flag = :true", True), ("doc.city = :bern", True), ("lst[1].deep = :seven", True),
        ("doc.lst[0] = :one", True), ("tags = :set", True), ("NOT NOT s = :s", True),
    ],
)  # fmt: skip
def test_conditions_mean_what_the_guide_says(text: str, expected: bool) -> None:
    """Comparators and functions (developer guide): other types and missing attributes compare false, <> true; NOT
    binds before AND, AND before OR.
    """
    assert met(text) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "The expression can not be empty"),
        ("   ", "The expression can not be empty"),
        ("s =", 'token: "<EOF>", near: "="'),
        ("s = :s extra", 'token: "extra", near: ":s extra"'),
        ("_v = :s", 'token: "_", near: "_v"'),
        ("a-b = :s", 'token: "-"'),
        ("s == :s", "Syntax error"),
        ("1a = :s", "Syntax error"),
        ("name = :s", "reserved keyword: name"),
        ("doc.Year = :s", "reserved keyword: Year"),
        ("#x = :s", "attribute name used in the document path is not defined; attribute name: #x"),
        ("s = :gone", "attribute value used in expression is not defined; attribute value: :gone"),
        ("((s = :s))", "redundant parentheses"),
        ("s = s", "first operand must be distinct"),
        ("attribute_exists(:s)", "requires a document path"),
        ("attribute_exists(s, n)", "number of operands: 2"),
        ("size(s)", "Syntax error"),
        ("nonsense(s)", "Invalid function name; function: nonsense"),
        ("s = begins_with(s, :he)", "not allowed to be used this way"),
        ("begins_with(s, :six)", "operator or function: begins_with, operand type: N"),
        ("s < :true", "operator: <, operand type: BOOL"),
        ("s BETWEEN :true AND :s", "operator: BETWEEN, operand type: BOOL"),
        ("n BETWEEN :six AND :four", "upper bound to be greater than or equal to lower bound"),
        ("n BETWEEN :s AND :four", "requires same data type"),
        ("attribute_type(s, :s)", "Invalid attribute type name found"),
        ("attribute_type(s, :six)", "operand type: N"),
        ("size(:six) = :six", "operator or function: size, operand type: N"),
        ("s IN (" + ", ".join([":s"] * 101) + ")", "too many operands; number of operands: 101"),
        ("s = :s " * 600, "Expression size has exceeded the maximum allowed size; expression size: 4200"),
        ("s = :" + "v" * 255, "longer than the 255 allowed"),
    ],
)  # fmt: skip
def test_conditions_against_the_rules_are_refused(text: str, words: str) -> None:
    """Reserved words, leading underscores, undefined placeholders, wrong operand types, redundant parentheses and more
    than 4 KB are refused with the service's words.
    """
    with pytest.raises(ServiceError) as refused:
        met(text)
    assert refused.value.message.startswith("Invalid ConditionExpression: ")
    assert words in refused.value.message
    assert not refused.value.item_level


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"ExpressionAttributeNames": {}}, "ExpressionAttributeNames must not be empty"),
        ({"ExpressionAttributeValues": {}}, "ExpressionAttributeValues must not be empty"),
        ({"ExpressionAttributeNames": {"#a": "x"}}, "unused in expressions: keys: {#a}"),
        ({"ExpressionAttributeValues": {":v": {"S": "x"}, ":a": {"S": "x"}}}, "unused in expressions: keys: {:a, :v}"),
        ({"ExpressionAttributeNames": {"a": "x"}}, 'invalid key: Syntax error; key: "a"'),
        ({"ExpressionAttributeNames": {"#a": ""}}, "Empty attribute name for key #a"),
        ({"ExpressionAttributeValues": {"v": {"S": "x"}}}, 'invalid key: Syntax error; key: "v"'),
    ],
)
def test_placeholders_are_all_used_and_well_formed(request_: dict[str, Any], words: str) -> None:
    """A placeholder that no expression uses refuses the request; so does a malformed one."""

    def bind() -> None:
        expressions = Expressions(request_)
        expressions.condition("attribute_exists(placeholders)")
        expressions.done()

    with pytest.raises(ServiceError) as refused:
        bind()
    assert words in refused.value.message


def test_placeholders_need_an_expression() -> None:
    """Names or values without any expression are refused."""
    with pytest.raises(ServiceError, match="can only be specified when using expressions"):
        Expressions({"ExpressionAttributeNames": {"#a": "x"}}).done()


def test_a_cached_expression_takes_other_names_and_values() -> None:
    """The same text under other names and values means those: nothing of a former request is kept."""
    for name, value, expected in (("s", "hello", True), ("s", "other", False), ("gone", "hello", False)):
        expressions = Expressions(
            {
                "ExpressionAttributeNames": {"#a": name},
                "ExpressionAttributeValues": {":v": {"S": value}},
            }
        )
        condition = expressions.condition("#a = :v")
        assert condition is not None
        assert condition.test(ITEM, expressions.values) is expected


def updated(text: str, item: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The item after an update, as plain Python."""
    expressions = bound(text, **more)
    update = expressions.update(text)
    expressions.done()
    assert update is not None
    return plain_item(update.apply(ITEM if item is None else item, expressions.values))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("SET s = :z", {"s": "z"}),
        ("set s = :z, fresh = s", {"s": "z", "fresh": "hello"}),
        ("SET n = n + :six", {"n": 11}),
        ("SET n = (n - :six) - :one", {"n": -2}),
        ("SET n = :six + (n - :one)", {"n": 10}),
        ("SET n = if_not_exists(n, :one) + :one", {"n": 6}),
        ("SET fresh = if_not_exists(fresh, :one)", {"fresh": 1}),
        ("SET fresh = if_not_exists(fresh, s)", {"fresh": "hello"}),
        ("SET doc.city = :z", {"doc": {"city": "z", "lst": [1]}}),
        ("SET doc.fresh = :z", {"doc": {"city": "Bern", "lst": [1], "fresh": "z"}}),
        ("SET doc.lst[0] = :z", {"doc": {"city": "Bern", "lst": ["z"]}}),
        ("SET lst[9] = :z", {"lst": ["a", {"deep": 7}, "z"]}),
        ("SET lst[1].deep = lst[1].deep + :one", {"lst": ["a", {"deep": 8}]}),
        ("SET lst = list_append(lst, lst)", {"lst": ["a", {"deep": 7}, "a", {"deep": 7}]}),
        ("REMOVE s, gone", {"s": None}),
        ("REMOVE lst[0], lst[1]", {"lst": []}),
        ("REMOVE lst[0] SET lst[1].deep = :one", {"lst": [{"deep": 1}]}),
        ("REMOVE doc.city, doc.absent", {"doc": {"lst": [1]}}),
        ("ADD n :six", {"n": 11}),
        ("ADD fresh :six", {"fresh": 6}),
        ("ADD tags :set", {}),
        ("DELETE tags :set", {"tags": None}),
        ("DELETE gone :set", {}),
        ("SET s = :z REMOVE flag ADD n :one DELETE tags :set", {"s": "z", "flag": None, "n": 6, "tags": None}),
    ],
)
def test_updates_do_what_the_guide_says(text: str, changed: dict[str, Any]) -> None:
    """SET, REMOVE, ADD, DELETE (developer guide): every operand is read before anything changes; an index beyond the
    end appends; a set that becomes empty goes.
    """
    expected = {**plain_item(ITEM), **changed}
    for name, value in changed.items():
        if value is None:
            del expected[name]
    before = repr(ITEM)
    assert updated(text) == expected
    assert repr(ITEM) == before


@pytest.mark.parametrize(
    ("text", "words", "item_level"),
    [
        ("INVALID SYNTAX HERE", 'token: "INVALID", near: "INVALID SYNTAX"', False),
        ("SET s = :z SET n = :six", 'The "SET" section can only be used once', False),
        ("SET s = :z, s = :x", "Two document paths overlap", False),
        ("SET doc = :z, doc.city = :x", "path one: [doc], path two: [doc, city]", False),
        ("SET doc.city = :z REMOVE doc[0]", "Two document paths conflict", False),
        ("SET s = s + :s", "operator or function: +, operand type: S", False),
        ("ADD n :s", "operator: ADD, operand type: STRING, typeSet: ALLOWED_FOR_ADD_OPERAND", False),
        ("DELETE tags :six", "operator: DELETE, operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND", False),
        ("ADD doc.n :six", "only be used on top-level attributes", False),
        ("SET lst = list_append(lst, :s)", "operator or function: list_append, operand type: S", False),
        ("SET s = size(s)", "Invalid function name; function: size", False),
        ("SET s = if_not_exists(:s, :z)", "requires a document path", False),
        ("SET _v = :z", 'token: "_", near: "SET _v"', False),
        ("SET n = n + :one + :one", 'token: "+", near: ":one + :one"', False),
        ("SET n = " + "(" * 301 + "n" + " + :one)" * 301, "301 operators", False),
        ("SET n = s + :one", "incorrect data type", True),
        ("ADD s :one", "incorrect data type", True),
        ("ADD tags :one", "incorrect data type", True),
        ("SET s = list_append(s, lst)", "incorrect data type", True),
        ("SET s = gone", "refers to an attribute that does not exist in the item", True),
        ("SET n = gone + :one", "refers to an attribute that does not exist in the item", True),
        ("SET gone.x = :z", "invalid for update", True),
        ("SET s.x = :z", "invalid for update", True),
        ("SET doc[0] = :z", "invalid for update", True),
        ("REMOVE gone.x", "invalid for update", True),
    ],
)
def test_updates_against_the_rules_are_refused(text: str, words: str, item_level: bool) -> None:
    """What the text or a placeholder's type gives away refuses the request; what the item shows, the item."""
    with pytest.raises(ServiceError) as refused:
        updated(text)
    assert words in refused.value.message
    assert refused.value.item_level is item_level


@pytest.mark.parametrize(
    ("old", "more", "words"),
    [
        ("9" * 38, "0.1", "more than 38 significant digits"),
        ("9" + "0" * 125, "9" + "0" * 125, "Number overflow"),
    ],
)
def test_sums_are_exact_or_refused(old: str, more: str, words: str) -> None:
    """A sum that 38 digits cannot hold is refused, never rounded; one that they can is exact."""
    item, _ = measured_item({"n": {"N": old}})
    with pytest.raises(ServiceError, match=words) as refused:
        updated("ADD n :m", item, ExpressionAttributeValues={":m": {"N": more}})
    assert refused.value.item_level
    exact = updated("SET n = n + :m", item, ExpressionAttributeValues={":m": {"N": "1"}}) if old[1] == "9" else {}
    assert exact in ({}, {"n": Decimal(10) ** 38})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s, n", {"s": "hello", "n": 5}),
        ("doc.city", {"doc": {"city": "Bern"}}),
        ("doc.city, doc.lst[0]", {"doc": {"city": "Bern", "lst": [1]}}),
        ("lst[1], lst[7]", {"lst": [{"deep": 7}]}),
        ("gone, doc.absent", {}),
    ],
)
def test_projections_keep_the_shape(text: str, expected: dict[str, Any]) -> None:
    """A projection keeps the maps above what it names, and closes up lists; what is missing is left out."""
    projection = Expressions({}).projection(text)
    assert projection is not None
    assert plain_item(projected(ITEM, projection.tree)) == expected


NAMES = ("a", "b", "c")
NUMBERS = st.integers(-50, 50)
PLAIN = st.one_of(NUMBERS, st.text("xyz", max_size=2), st.booleans())
ROWS = st.dictionaries(st.sampled_from(NAMES), PLAIN)


def wire(value: Any) -> dict[str, Any]:
    """A plain value as an attribute value."""
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


type Row = dict[str, Any]
type Oracle = Callable[[Row], bool]


def both(one: Oracle, two: Oracle) -> Oracle:
    """Both of two."""
    return lambda row: one(row) and two(row)


def either(one: Oracle, two: Oracle) -> Oracle:
    """Either of two."""
    return lambda row: one(row) or two(row)


def opposite(one: Oracle) -> Oracle:
    """The opposite of one."""
    return lambda row: not one(row)


def present(name: str) -> Oracle:
    """Whether a row has a name."""
    return lambda row: name in row


@st.composite
def conditions(draw: Any, depth: int = 3) -> tuple[str, Oracle]:
    """A condition's text with literal placeholders, and the same as a function of a plain row."""
    kind = draw(st.sampled_from(["and", "or", "not", "cmp", "cmp", "exists"] if depth else ["cmp", "exists"]))
    if kind in {"and", "or"}:
        (left, one), (right, two) = draw(conditions(depth - 1)), draw(conditions(depth - 1))
        if kind == "and":
            return f"({left}) AND ({right})", both(one, two)
        return f"({left}) OR ({right})", either(one, two)
    if kind == "not":
        text, inner = draw(conditions(depth - 1))
        return f"NOT ({text})", opposite(inner)
    name = draw(st.sampled_from(NAMES))
    if kind == "exists":
        return f"attribute_exists({name})", present(name)
    sign = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
    value = draw(st.one_of(NUMBERS, st.text("xyz", max_size=2)))

    def compare(row: dict[str, Any]) -> bool:
        found = row.get(name)
        same = type(found) is type(value)
        if sign == "=":
            return same and found == value
        if sign == "<>":
            return not (same and found == value)
        if not same or found is None:
            return False
        return {"<": found < value, "<=": found <= value, ">": found > value, ">=": found >= value}[sign]

    return f"{name} {sign} {{{value!r}}}", compare


@given(pair=conditions(), row=ROWS)
def test_any_condition_agrees_with_plain_python(pair: tuple[str, Any], row: dict[str, Any]) -> None:
    """Generated conditions give what the same condition gives on plain values."""
    text, oracle = pair
    values: dict[str, Any] = {}
    parts: list[str] = []
    for piece in text.split("{"):
        literal, brace, rest = piece.partition("}")
        if brace:
            values[f":v{len(values)}"] = wire(eval(literal))
            parts.append(f":v{len(values) - 1}{rest}")
        else:
            parts.append(piece)
    request: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
    expressions = Expressions(request)
    while "((" in (text := "".join(parts)):
        parts = ["".join(parts).replace("((", "(NOT NOT (", 1)]
    condition = expressions.condition(text)
    expressions.done()
    assert condition is not None
    assert condition.test({name: wire(value) for name, value in row.items()}, expressions.values) is oracle(row)


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "add", "default", "copy", "remove"]), st.sampled_from(NAMES), NUMBERS),
    unique_by=lambda step: step[1],
    min_size=1,
    max_size=3,
)


@given(steps=STEPS, row=st.fixed_dictionaries(dict.fromkeys(NAMES, NUMBERS)), missing=st.sets(st.sampled_from(NAMES)))
def test_any_update_agrees_with_plain_python(steps: Any, row: dict[str, int], missing: set[str]) -> None:
    """Generated updates give what the same steps give on a plain dict, all of them reading the row as it was."""
    before = {name: value for name, value in row.items() if name not in missing}
    expected: dict[str, int] = dict(before)
    clauses: dict[str, list[str]] = {"SET": [], "REMOVE": [], "ADD": []}
    values: dict[str, Any] = {}
    for index, (kind, name, amount) in enumerate(steps):
        place = f":v{index}"
        other = NAMES[(NAMES.index(name) + 1) % 3]
        values[place] = {"N": str(amount)}
        match kind:
            case "set":
                clauses["SET"].append(f"{name} = {place}")
                expected[name] = amount
            case "add":
                clauses["ADD"].append(f"{name} {place}")
                expected[name] = before.get(name, 0) + amount
            case "default":
                clauses["SET"].append(f"{name} = if_not_exists({name}, {place}) + {place}")
                expected[name] = before.get(name, amount) + amount
            case "copy":
                clauses["SET"].append(f"{name} = if_not_exists({other}, {place}) - {place}")
                expected[name] = before.get(other, amount) - amount
            case _:
                del values[place]
                clauses["REMOVE"].append(name)
                expected.pop(name, None)
    text = " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts)
    expressions = Expressions({"ExpressionAttributeValues": values} if values else {})
    update = expressions.update(text)
    expressions.done()
    assert update is not None
    after = update.apply({name: wire(value) for name, value in before.items()}, expressions.values)
    assert plain_item(after) == expected
