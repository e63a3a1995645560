"""Requests filled into templates against requests built item by item: the same, whatever the values hold."""

from decimal import Decimal
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, MarkerWrite
from daemon.core.identity import RowKey, Scope
from daemon.core.rows import ABSENT, Expectation, RowCheck, RowWrite, WriteKind
from daemon.stores.dynamodb import requests as module
from daemon.stores.dynamodb.items import marker_key
from daemon.stores.dynamodb.requests import Requests, row_item
from daemon.stores.dynamodb.tables import Tables
from daemon.stores.dynamodb.values import typed

SCOPE = Scope("orders", 1, "log", "a")
BEFORE = Checkpoint(epoch=1, commit_seq=4)
TABLE = "pre-orders-g1"

AWKWARD = st.sampled_from(
    ['","', '"', "\\", "%b", "%", "%%s", ",", '",', '"/', "/x", "é☃", "\n", "\x00", "{}", "null", "", "a" * 300]
)
TEXT = AWKWARD | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(10**37), 10**37) | st.integers(-3, 3) | st.just(Decimal("1.50")) | st.just(Decimal("1E+20"))
VALUES = TEXT | NUMBERS | st.booleans() | st.none() | st.just([1, "a,b"]) | st.just(b"x") | st.just({"": {"n": None}})
ROWS = st.builds(RowKey, TEXT, TEXT)
EXPECTED = st.just(ABSENT) | st.builds(Expectation, st.integers(1, 2**70), TEXT)
EXPIRY = st.none() | st.integers(0, 2**33)
PUTS = st.builds(
    RowWrite, ROWS, st.just(WriteKind.PUT), st.none() | st.dictionaries(TEXT, VALUES, max_size=5), EXPECTED, TEXT,
    st.none() | st.dictionaries(TEXT, st.integers(0, 2**65), max_size=2), EXPIRY,
)  # fmt: skip
ADDS = st.builds(
    RowWrite,
    ROWS,
    st.just(WriteKind.ADD),
    st.dictionaries(TEXT, NUMBERS, max_size=4),
    st.none(),
    TEXT,
    st.none(),
    EXPIRY,
)
DELETES = st.builds(RowWrite, ROWS, st.just(WriteKind.DELETE), st.none(), EXPECTED, TEXT)
ALIKE = st.dictionaries(TEXT, VALUES, min_size=1, max_size=3).flatmap(
    lambda first: st.lists(
        st.builds(
            RowWrite, ROWS, st.just(WriteKind.PUT),
            st.fixed_dictionaries({name: st.just(value) | VALUES for name, value in first.items()}),
            st.builds(Expectation, st.integers(1, 2**70), TEXT) | EXPECTED, TEXT, st.none(), st.just(7) | EXPIRY,
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
"""Rows of the same names, which are taken together where their values are of the same kinds."""
COMMITS = st.builds(
    Commit,
    st.just(SCOPE),
    st.just(BEFORE.fence),
    st.just(BEFORE.next("c")),
    (st.lists(PUTS | ADDS | DELETES, max_size=8) | ALIKE).map(tuple),
    st.lists(st.builds(RowCheck, ROWS, EXPECTED), max_size=3).map(tuple),
    st.lists(st.builds(MarkerWrite, TEXT, st.binary(min_size=16, max_size=16)), max_size=6).map(tuple),
    st.integers(0, 2**33),
)


def condition(expect: Expectation | None) -> dict[str, Any]:
    """What a write or check of a row is conditioned on."""
    if not expect or not expect.version:
        return {"ConditionExpression": "attribute_not_exists(#k)", "ExpressionAttributeNames": {"#k": "key"}}
    return {
        "ConditionExpression": "#v=:v AND #s=:s",
        "ExpressionAttributeNames": {"#v": "_v", "#s": "_src"},
        "ExpressionAttributeValues": {":v": typed(expect.version), ":s": typed(expect.source)},
    }


def key_of(key: RowKey) -> dict[str, Any]:
    """A row's key."""
    return {"key": typed(key.key), "view": typed(key.view)}


def built(part: RowWrite | RowCheck | MarkerWrite, expires: int) -> dict[str, Any]:
    """One action, built item by item."""
    if isinstance(part, MarkerWrite):
        marker = {"pk": marker_key("orders-g1/", part.event_id), "digest": part.digest, "expires": expires}
        return {"Put": {
            "TableName": "pre-markers", "Item": {name: typed(value) for name, value in marker.items()},
            "ConditionExpression": "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }}  # fmt: skip
    keyed = {"TableName": TABLE, "Key": key_of(part.key)}
    if isinstance(part, RowCheck):
        return {"ConditionCheck": keyed | condition(part.expect)}
    if part.kind is WriteKind.DELETE:
        gone = part.expect is not None and part.expect.version
        return {"Delete" if gone else "ConditionCheck": keyed | condition(part.expect)}
    if part.kind is WriteKind.PUT:
        version = (part.expect or ABSENT).version + 1
        return {"Put": {"TableName": TABLE, "Item": row_item(part, version)} | condition(part.expect)}
    amounts = dict(part.attributes or {})
    names = {"#s": "_src", "#g": "_gone", "#e": "_expires", "#v": "_v"}
    values = {":o": typed(1), ":s": typed(part.source)}
    sums = ""
    for index, name in enumerate(amounts):
        names[f"#{index}"], values[f":{index}"] = name, typed(amounts[name])
        sums += f",#{index} :{index}"
    expiry = " REMOVE #g,#e"
    if part.expires_at is not None:
        expiry, values[":e"] = ",#e=:e REMOVE #g", typed(part.expires_at)
    return {"Update": keyed | {
        "UpdateExpression": f"SET #s=:s{expiry} ADD #v :o{sums}",
        "ExpressionAttributeNames": names, "ExpressionAttributeValues": values,
    }}  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(COMMITS)
def test_templates_say_what_items_say(commit: Commit) -> None:
    """Every row, check and marker of a request is the one that building it plainly gives, whatever it holds."""
    requests = Requests(Tables("pre"))
    body = orjson.loads(requests.body(requests.actions(commit), b"token"))
    parts = (*commit.markers, *commit.rows, *commit.checks)
    assert body["TransactItems"][1:] == [built(part, commit.markers_expire_at) for part in parts]
    assert body["ClientRequestToken"] == "token"


@settings(deadline=None)
@given(COMMITS)
def test_the_same_commit_gives_the_same_bytes(commit: Commit) -> None:
    """A request is the same from a builder that has made others before: what is sent again is identical."""
    used = Requests(Tables("pre"))
    used.actions(commit)
    assert used.actions(commit) == Requests(Tables("pre")).actions(commit)


def test_templates_are_bounded(monkeypatch: Any) -> None:
    """Rows of ever new shapes do not fill the memory with templates."""
    monkeypatch.setattr(module, "_SHAPES", 10)
    requests = Requests(Tables("pre"))
    for number in range(50):
        row = RowWrite(RowKey("main", "k"), WriteKind.PUT, {f"a{number}": 1}, ABSENT, "s")
        requests.actions(Commit(SCOPE, BEFORE.fence, BEFORE.next("c"), rows=(row,)))
    assert len(requests._templates) <= 10
