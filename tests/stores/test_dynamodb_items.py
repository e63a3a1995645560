"""Goldens of every stored item, as DynamoDB holds it: other clients read it, and later versions."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commit import Commit, DeadLetter, MarkerWrite, ParkedEvent
from daemon.core.errors import StoreDamaged, StoreTooNew
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.leases import Presence
from daemon.core.rows import ABSENT, Effect, Expectation, RowCheck, RowWrite, StoredRow, WriteKind
from daemon.stores.dynamodb import items
from daemon.stores.dynamodb.requests import Requests, row_item
from daemon.stores.dynamodb.rows import row_key_of, stored_row
from daemon.stores.dynamodb.tables import Tables
from daemon.stores.dynamodb.values import plain, typed

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SCOPE = Scope("orders", 1, "log", "a.jsonl")
PK = "orders-g1:log/a.jsonl"

CHECKPOINT = Checkpoint(
    position=(3, 2**130), origin=(1,), epoch=7, commit_seq=42, commit_id="c-1", owner="me",
    state=CheckpointState.PARKED,
    reason="why", incarnation="inode-1", watermark=AT, caught_up=True, segment=4, segment_seq=40, parked_seq=41,
    dead_run=2,
    operation_seq=9, code_digest="abc", counters={"read": 2**60, "applied": 1},
)  # fmt: skip
CHECKPOINT_ITEM: dict[str, Any] = {
    "pk": {"S": PK}, "sk": {"S": "checkpoint"}, "position": {"S": "3.1361129467683753853853498429727072845824"},
    "origin": {"S": "1"}, "epoch": {"N": "7"}, "commit_seq": {"N": "42"}, "commit_id": {"S": "c-1"},
    "owner": {"S": "me"},
    "state": {"S": "parked"}, "reason": {"S": "why"}, "incarnation": {"S": "inode-1"},
    "watermark": {"S": "2026-01-02T03:04:05.678901+00:00"}, "caught_up": {"BOOL": True}, "segment": {"N": "4"},
    "segment_seq": {"N": "40"}, "parked_seq": {"N": "41"}, "dead_run": {"N": "2"}, "operation_seq": {"N": "9"},
    "code_digest": {"S": "abc"}, "counters": {"M": {"read": {"N": "1152921504606846976"}, "applied": {"N": "1"}}},
}  # fmt: skip

LETTER = DeadLetter((2, 5), "e1", "k1", "not-json", "why", "placed", b"\x00raw", 4, bytes(16), AT)
LETTER_ITEM: dict[str, Any] = {
    "pk": {"S": PK}, "sk": {"S": "dead#0012.0015#e1"}, "position": {"S": "2.5"}, "event_id": {"S": "e1"},
    "key": {"S": "k1"},
    "reason": {"S": "not-json"}, "detail": {"S": "why"}, "handler": {"S": "placed"}, "payload": {"B": "AHJhdw=="},
    "payload_size": {"N": "4"}, "payload_digest": {"B": "AAAAAAAAAAAAAAAAAAAAAA=="},
    "at": {"S": "2026-01-02T03:04:05.678901+00:00"},
}  # fmt: skip

PARKED = ParkedEvent("k#1", (10,), "e2", b"\xff", "handler-raised", "because", AT)
PARKED_ITEM: dict[str, Any] = {
    "pk": {"S": PK}, "sk": {"S": "parked#KEY#00210#e2"}, "key": {"S": "k#1"}, "position": {"S": "10"},
    "event_id": {"S": "e2"},
    "payload": {"B": "/w=="}, "reason": {"S": "handler-raised"}, "detail": {"S": "because"},
    "at": {"S": "2026-01-02T03:04:05.678901+00:00"},
}  # fmt: skip

EFFECT = Effect("x1", "mail", {"to": "a", "total": Decimal("1.5")}, "e1", "k1")
EFFECT_ITEM: dict[str, Any] = {
    "pk": {"S": "orders-g1"}, "sk": {"S": "x1"}, "id": {"S": "x1"}, "name": {"S": "mail"},
    "payload": {"M": {"to": {"S": "a"}, "total": {"N": "1.5"}}}, "event_id": {"S": "e1"}, "key": {"S": "k1"},
    "shard": {"S": "log/a.jsonl"}, "order": {"S": "000000000042.003"},
}  # fmt: skip


def test_checkpoint() -> None:
    """A checkpoint is readable, positions as text beyond any number's digits, and reads back equal."""
    assert items.checkpoint_item(PK, CHECKPOINT) == CHECKPOINT_ITEM
    assert items.checkpoint_of(CHECKPOINT_ITEM) == CHECKPOINT


def test_checkpoint_leaves_out_what_is_none() -> None:
    """An absent attribute is None; a checkpoint that nothing happened to reads back equal too."""
    item = items.checkpoint_item(PK, Checkpoint())
    assert not {"owner", "reason", "incarnation", "watermark"} & item.keys()
    assert items.checkpoint_of(item) == Checkpoint()


def test_dead_letter() -> None:
    """A dead letter's item."""
    assert items.dead_letter_item(PK, LETTER) == LETTER_ITEM
    assert items.dead_letter_of(LETTER_ITEM) == LETTER


def test_parked_event() -> None:
    """A parked event's item: its key stands in the sort key as a digest, since it may hold anything."""
    item = items.parked_item(PK, PARKED)
    digest = items.parked_prefix("k#1").removeprefix("parked#")
    assert item == PARKED_ITEM | {"sk": {"S": PARKED_ITEM["sk"]["S"].replace("KEY", digest)}}
    assert len(digest) == 32
    assert items.parked_of(item) == PARKED


def test_effect() -> None:
    """An effect's item keeps its payload as a natural map, and what it sorts by."""
    assert items.effect_item(SCOPE, 42, 3, EFFECT) == EFFECT_ITEM
    assert items.effect_of(EFFECT_ITEM) == (("000000000042.003", "log/a.jsonl"), EFFECT)


def test_segment() -> None:
    """A packed segment's item says which commit wrote it, and the oldest segment that still counts."""
    item = items.segment_item(PK, 12, b"\x01" * 20, 42, 3)
    assert item == {
        "pk": {"S": PK}, "sk": {"S": "segment#000000000012"}, "entries": {"B": "AQEBAQEBAQEBAQEBAQEBAQEBAQE="},
        "seq": {"N": "42"}, "first": {"N": "3"},
    }  # fmt: skip
    segment, first = items.segment_of(item)
    assert (segment.number, segment.entries, segment.commit_seq, first) == (12, b"\x01" * 20, 42, 3)


def test_generation_and_pointer() -> None:
    """A generation's record, and the pointer that readers follow to the live table."""
    generation = Generation("orders", 12)
    record = items.generation_item(generation, 3, "p-orders-g12")
    assert record == {
        "pk": {"S": "orders"}, "sk": {"S": "generation#000000000012"}, "number": {"N": "12"}, "version": {"N": "3"},
        "table": {"S": "p-orders-g12"}, "schema": {"N": "1"},
    }  # fmt: skip
    assert items.pointer_item(generation, 3, "p-orders-g12") == {
        "pk": {"S": "orders"}, "sk": {"S": "pointer"}, "generation": {"N": "12"}, "version": {"N": "3"},
        "table": {"S": "p-orders-g12"}, "schema": {"N": "1"},
    }  # fmt: skip
    assert items.record_of("orders", record, 12).live
    assert not items.record_of("orders", record, None).live
    with pytest.raises(StoreTooNew, match="schema 2"):
        items.record_of("orders", record | {"schema": {"N": "2"}}, None)


def test_shard_and_presence() -> None:
    """The items that list a generation's shards, and a replica's presence."""
    item = items.shard_item(SCOPE)
    assert item == {
        "pk": {"S": "orders-g1"}, "sk": item["sk"], "projection": {"S": "orders"}, "generation": {"N": "1"},
        "source": {"S": "log"}, "shard": {"S": "a.jsonl"},
    }  # fmt: skip
    assert item["sk"]["S"].startswith("shard#")
    assert items.scope_of(item) == SCOPE
    presence = Presence("a/é", 7, ("orders-g1:log",))
    assert items.presence_item(presence) | {"sk": {"S": "-"}} == {
        "pk": {"S": "/replicas"}, "sk": {"S": "-"}, "replica": {"S": "a/é"}, "beat": {"N": "7"},
        "runs": {"L": [{"S": "orders-g1:log"}]},
    }  # fmt: skip
    assert items.presence_of(items.presence_item(presence)) == presence


ROW = RowWrite(
    RowKey("main", "k1"), WriteKind.PUT,
    {"status": "paid", "n": 3, "total": Decimal("1.50"), "open": False, "gone": None, "raw": b"\x00", "tags": ["a", 1],
     "at": {"": 1, "_": 2, "x": None}},
    Expectation(4, "log/a@1#e1"), "log/a@2#e2", {"log": 9}, 1_900_000_000,
)  # fmt: skip
ROW_ITEM: dict[str, Any] = {
    "key": {"S": "k1"}, "view": {"S": "main"}, "_v": {"N": "5"}, "_src": {"S": "log/a@2#e2"}, "status": {"S": "paid"},
    "n": {"N": "3"}, "total": {"N": "1.50"}, "open": {"BOOL": False}, "gone": {"NULL": True}, "raw": {"B": "AA=="},
    "tags": {"L": [{"S": "a"}, {"N": "1"}]}, "at": {"M": {"_": {"N": "1"}, "__": {"N": "2"}, "x": {"NULL": True}}},
    "_seq": {"M": {"log": {"N": "9"}}}, "_expires": {"N": "1900000000"},
}  # fmt: skip


def test_row() -> None:
    """A row is a plain item: attributes by their own names and natural types, bookkeeping under reserved names."""
    assert row_item(ROW, 5) == ROW_ITEM
    assert row_key_of(ROW_ITEM) == ROW.key
    assert stored_row(ROW_ITEM) == StoredRow(dict(ROW.attributes or {}), 5, "log/a@2#e2", {"log": 9})


def test_tombstone() -> None:
    """A tombstone is marked, has no attributes, and remembers its version vector; an empty row is none."""
    write = RowWrite(RowKey("main", "k"), WriteKind.PUT, None, ABSENT, "s", {"log": 4}, 100)
    item = row_item(write, 1)
    assert item == {
        "key": {"S": "k"}, "view": {"S": "main"}, "_v": {"N": "1"}, "_src": {"S": "s"}, "_gone": {"BOOL": True},
        "_seq": {"M": {"log": {"N": "4"}}}, "_expires": {"N": "100"},
    }  # fmt: skip
    assert stored_row(item) == StoredRow(None, 1, "s", {"log": 4})
    assert stored_row({"key": {"S": "k"}, "view": {"S": "main"}, "_v": {"N": "1"}, "_src": {"S": "s"}}).attributes == {}


@pytest.mark.parametrize("item", [{"key": {"S": "k"}, "view": {"S": "v"}}, {"_v": {"N": "x"}, "_src": {"S": "s"}},
                                  {"_v": {"N": "1"}, "_src": {"S": "s"}, "a": {"SS": ["x"]}}])  # fmt: skip
def test_foreign_row(item: dict[str, Any]) -> None:
    """A row without our bookkeeping, or with types we never write, is damage with a remedy, not a bug."""
    with pytest.raises(StoreDamaged, match="repair"):
        stored_row(item)


def test_commit() -> None:
    """A whole commit's request: action by action, with every condition."""
    commit = Commit(
        SCOPE,
        CHECKPOINT.fence,
        CHECKPOINT.next("c-2"),
        rows=(
            RowWrite(RowKey("main", "new"), WriteKind.PUT, {"a": 1}, ABSENT, "s2"),
            RowWrite(RowKey("main", "old"), WriteKind.PUT, {"a": "x,y"}, Expectation(3, "s1"), "s2"),
            RowWrite(RowKey("day", "d"), WriteKind.ADD, {"n": 2, "a.b": Decimal("0.5")}, None, "s2"),
            RowWrite(RowKey("day", "x"), WriteKind.ADD, {"n": 2}, None, "s2", None, 900),
            RowWrite(RowKey("main", "gone"), WriteKind.DELETE, None, Expectation(2, "s0"), "s2"),
        ),
        checks=(RowCheck(RowKey("main", "read"), Expectation(1, "s")), RowCheck(RowKey("main", "none"), ABSENT)),
        markers=(MarkerWrite("e1", bytes(range(16))),),
        markers_expire_at=1_900_000_000,
    )
    requests = Requests(Tables("p"))
    body = orjson.loads(requests.body(requests.actions(commit), requests.token(commit, 1, 0)))
    stands: dict[str, Any] = {
        "ConditionExpression": "#v=:v AND #s=:s", "ExpressionAttributeNames": {"#v": "_v", "#s": "_src"},
    }  # fmt: skip
    absent = {"ConditionExpression": "attribute_not_exists(#k)", "ExpressionAttributeNames": {"#k": "key"}}

    def were(version: str, source: str) -> dict[str, Any]:
        return stands | {"ExpressionAttributeValues": {":v": {"N": version}, ":s": {"S": source}}}

    def key(view: str, name: str) -> dict[str, Any]:
        return {"key": {"S": name}, "view": {"S": view}}

    table = "p-orders-g1"
    assert body == {
        "TransactItems": [
            {"Put": {
                "TableName": "p-state",
                "Item": CHECKPOINT_ITEM | {"commit_seq": {"N": "43"}, "commit_id": {"S": "c-2"}},
                "ConditionExpression": "epoch=:e AND commit_seq=:n",
                "ExpressionAttributeValues": {":e": {"N": "7"}, ":n": {"N": "42"}},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }},
            {"Put": {
                "TableName": "p-markers",
                "Item": {"pk": {"S": "orders-g1/e1"}, "digest": {"B": "AAECAwQFBgcICQoLDA0ODw=="},
                "expires": {"N": "1900000000"}},
                "ConditionExpression": "attribute_not_exists(pk)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }},
            {"Put": {"TableName": table, "Item": {**key("main", "new"), "_v": {"N": "1"}, "_src": {"S": "s2"},
            "a": {"N": "1"}}, **absent}},
            {"Put": {"TableName": table, "Item": {**key("main", "old"), "_v": {"N": "4"}, "_src": {"S": "s2"},
            "a": {"S": "x,y"}}, **were("3", "s1")}},
            {"Update": {
                "TableName": table, "Key": key("day", "d"),
                "UpdateExpression": "SET #s=:s REMOVE #g,#e ADD #v :o,#0 :0,#1 :1",
                "ExpressionAttributeNames": {"#s": "_src", "#g": "_gone", "#e": "_expires", "#v": "_v", "#0": "n",
                "#1": "a.b"},
                "ExpressionAttributeValues": {":o": {"N": "1"}, ":s": {"S": "s2"}, ":0": {"N": "2"},
                ":1": {"N": "0.5"}},
            }},
            {"Update": {
                "TableName": table, "Key": key("day", "x"),
                "UpdateExpression": "SET #s=:s,#e=:e REMOVE #g ADD #v :o,#0 :0",
                "ExpressionAttributeNames": {"#s": "_src", "#g": "_gone", "#e": "_expires", "#v": "_v", "#0": "n"},
                "ExpressionAttributeValues": {":o": {"N": "1"}, ":s": {"S": "s2"}, ":0": {"N": "2"},
                ":e": {"N": "900"}},
            }},
            {"Delete": {"TableName": table, "Key": key("main", "gone"), **were("2", "s0")}},
            {"ConditionCheck": {"TableName": table, "Key": key("main", "read"), **were("1", "s")}},
            {"ConditionCheck": {"TableName": table, "Key": key("main", "none"), **absent}},
        ],
        "ReturnConsumedCapacity": "TOTAL",
        "ClientRequestToken": body["ClientRequestToken"],
    }  # fmt: skip


# Keys

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.integers(900, 1100).map(
    lambda n: "é" * (n // 2)
)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_marker_keys_never_meet(one: str, two: str) -> None:
    """Two ids share a marker's key only if they are equal, long ones and ones that look like digests too."""
    keys = [items.marker_key("g/", text) for text in (one, two, "/" + "0" * 64)]
    assert all(0 < len(key.encode()) <= 2048 for key in keys)
    assert (keys[0] == keys[1]) == (one == two)


POSITIONS = st.lists(st.integers(0, 10**129), max_size=3).map(tuple)


@settings(deadline=None)
@given(st.lists(POSITIONS, min_size=2, max_size=6))
def test_sort_keys_compare_as_positions(positions: list[tuple[int, ...]]) -> None:
    """Dead letters and parked events come in position order, whatever the number of parts and digits."""
    keys = {items.sortable(position) + "#": position for position in positions}
    assert [keys[key] for key in sorted(keys)] == sorted(keys.values())


@example("a/b", "c", "a", "b/c")
@example("a\\", "/c", "a", "\\/c")
@example("a\\/b", "c", "a/b", "c")
@settings(deadline=None)
@given(st.text(max_size=3, alphabet="ab/\\"), st.text(max_size=3, alphabet="ab/\\"),
       st.text(max_size=3, alphabet="ab/\\"), st.text(max_size=3, alphabet="ab/\\"))  # fmt: skip
def test_scopes_never_share_a_key(source: str, shard: str, other_source: str, other_shard: str) -> None:
    """A slash inside a source's name does not make two scopes one."""
    one, two = Scope("p", 1, source, shard), Scope("p", 1, other_source, other_shard)
    assert (items.scope_key(one) == items.scope_key(two)) == (one == two)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**38) + 1, 10**38 - 1) | st.binary(max_size=5) | st.text(max_size=5)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("_a", max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)
@given(VALUES)
def test_values_read_back_equal(value: object) -> None:
    """Every portable value comes back equal, under names made of underscores too; no nested name is empty."""
    written = typed(value)
    assert plain(written) == value
    assert "" not in names_in(written)


def names_in(value: dict[str, Any]) -> list[str]:
    """Every name of every map inside a typed value."""
    ((kind, held),) = value.items()
    if kind == "M":
        return [*held, *(name for inner in held.values() for name in names_in(inner))]
    return [name for inner in held for name in names_in(inner)] if kind == "L" else []
