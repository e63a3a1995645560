"""A commit as one `TransactWriteItems` body.

This is the hot path: what is constant is made once, and items are joined as bytes.

Owns the form of rows and markers, every condition of a commit, and the order of its actions. Must not know clients, or
what an answer means.

Invariants: the same commit and attempt always give the same bytes; action 0 is the checkpoint, then come markers, rows,
checks, segment, effects, dead letters, parked events, which is what outcomes count on; every write of a row raises `_v`
and sets `_src`; a condition compares both; `add` carries no condition.
"""

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from daemon.core.commit import Commit, MarkerWrite
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.rows import ABSENT, Expectation, RowCheck, RowWrite, WriteKind
from daemon.stores.dynamodb.items import (
    checkpoint_item,
    dead_letter_item,
    effect_item,
    keep_first,
    marker_key,
    parked_item,
    scope_key,
    segment_item,
)
from daemon.stores.dynamodb.tables import Tables
from daemon.stores.dynamodb.values import Typed, typed

VERSION, SOURCE, SEQUENCES, EXPIRES, GONE = "_v", "_src", "_seq", "_expires", "_gone"
"""Bookkeeping of a row. `_gone` marks a tombstone: absent to readers, remembered by the sequence layer."""
LAST_PARKED = "last_parked"
"""The sort keys of the events that the checkpoint's own commit parked: who takes the shard waits until they show."""

_dumps = orjson.dumps
_type_of: Callable[[object], type] = type

_HEAD = b'{"TransactItems":['
_TAIL = b'],"ReturnConsumedCapacity":"TOTAL","ClientRequestToken":"%b"}'
_KEEPS_OLD = b'"ReturnValuesOnConditionCheckFailure":"ALL_OLD"'
_FENCE = (
    b',"ConditionExpression":"epoch=:e AND commit_seq=:n",'
    b'"ExpressionAttributeValues":{":e":{"N":"%d"},":n":{"N":"%d"}},' + _KEEPS_OLD + b"}}"
)
_MARKER_TAIL = b'"},"expires":{"N":"%d"}},"ConditionExpression":"attribute_not_exists(pk)",' + _KEEPS_OLD + b"}}"
_IF_ABSENT = b',"ConditionExpression":"attribute_not_exists(#k)","ExpressionAttributeNames":{"#k":"key"}}}'
_IF_STANDS = (
    b',"ConditionExpression":"#v=:v AND #s=:s","ExpressionAttributeNames":{"#v":"_v","#s":"_src"},'
    b'"ExpressionAttributeValues":{":v":{"N":"%d"},":s":{"S":%b}}}}'
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which actions stand where in a commit's request."""

    markers: range
    rows: range
    checks: range

    @staticmethod
    def of(commit: Commit) -> "Shape":
        """Return the places of a commit's actions."""
        rows = 1 + len(commit.markers)
        checks = rows + len(commit.rows)
        return Shape(range(1, rows), range(rows, checks), range(checks, checks + len(commit.checks)))


class Requests:
    """Builds the requests of one prefix. Keeps what is constant about scopes and generations."""

    def __init__(self, tables: Tables) -> None:
        """Prepare what every request has in common."""
        self._tables = tables
        self._checkpoint_head = b'{"Put":{"TableName":%b,"Item":' % _dumps(tables.state)
        self._marker_head = b'{"Put":{"TableName":%b,"Item":{"pk":{"S":' % _dumps(tables.markers)
        self._state = b'"TableName":%b' % _dumps(tables.state)
        self._effects = b'"TableName":%b' % _dumps(tables.effects)
        self._rows: dict[Generation, bytes] = {}
        self._scopes: dict[Scope, str] = {}
        self._additions: dict[tuple[tuple[str, ...], bool], bytes] = {}

    def actions(self, commit: Commit) -> bytes:
        """Return a commit's request up to its token.

        Raises TypeError, UnicodeError for a value that no item can hold.
        """
        scope = commit.scope
        pk = self._scopes.get(scope)
        if pk is None:
            pk = self._scopes[scope] = scope_key(scope)
        parts = [self._checkpoint(pk, commit)]
        if commit.markers:
            parts.append(self._markers(scope.of.label + "/", commit.markers, commit.markers_expire_at))
        if commit.rows or commit.checks:
            table = self._rows.get(scope.of)
            if table is None:
                table = self._rows[scope.of] = b'{"TableName":%b,' % _dumps(self._tables.rows(scope.of))
            parts.extend([self._row(table, write) for write in commit.rows])
            parts.extend([_check(table, check) for check in commit.checks])
        if commit.segment is not None:
            parts.append(self._segment(pk, commit))
        if commit.effects or commit.dead_letters or commit.parked:
            parts.extend(self._seldom(pk, commit))
        return _HEAD + b",".join(parts)

    @staticmethod
    def body(actions: bytes, token: bytes) -> bytes:
        """Return a whole request."""
        return actions + _TAIL % token

    def token(self, commit: Commit, attempt: int, revision: int) -> bytes:
        """Return a client token of 32 characters: one for each attempt of each commit of each prefix.

        `revision` counts the bodies that one attempt had to be written in.
        """
        parts = (self._tables.prefix, scope_key(commit.scope), commit.commit_id, str(attempt), str(revision))
        return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest().encode()

    # The parts

    def _checkpoint(self, pk: str, commit: Commit) -> bytes:
        item = checkpoint_item(pk, commit.checkpoint)
        if commit.parked:
            item[LAST_PARKED] = typed([parked_item(pk, event)["sk"]["S"] for event in commit.parked])
        return self._checkpoint_head + _dumps(item) + _FENCE % commit.fence

    def _markers(self, label: str, markers: Sequence[MarkerWrite], expires: int) -> bytes:
        tail = _MARKER_TAIL % expires
        middle = b'},"digest":{"B":"'
        between = tail + b"," + self._marker_head
        # The keys in one dump, cut where one string ends and the next begins: no string holds that, quotes are escaped.
        keys = _dumps([marker_key(label, event_id) for event_id, _ in markers])[2:-2].split(b'","')
        return (
            self._marker_head
            + between.join(
                [
                    b'"%b"%b%b' % (key, middle, b2a_base64(digest, newline=False))
                    for key, (_, digest) in zip(keys, markers, strict=True)
                ]
            )
            + tail
        )

    def _row(self, table: bytes, write: RowWrite) -> bytes:
        if write.kind is WriteKind.PUT:
            expect = write.expect or ABSENT
            return b'{"Put":' + table + b'"Item":' + _dumps(row_item(write, expect.version + 1)) + _condition(expect)
        if write.kind is WriteKind.ADD:
            return self._addition(table, write)
        expect = write.expect or ABSENT
        kind = b'{"ConditionCheck":' if expect == ABSENT else b'{"Delete":'
        return kind + table + _key(write.key) + _condition(expect)

    def _addition(self, table: bytes, write: RowWrite) -> bytes:
        amounts = write.attributes or {}
        names = tuple(amounts)
        shape = (names, write.expires_at is None)
        expression = self._additions.get(shape)
        if expression is None:
            if len(self._additions) > _SHAPES:
                self._additions.clear()
            expression = self._additions[shape] = _addition_expression(*shape)
        values = b"".join(
            [b',":%d":{"N":"%b"}' % (index, str(amount).encode()) for index, amount in enumerate(amounts.values())]
        )
        if write.expires_at is not None:
            values += b',":e":{"N":"%d"}' % write.expires_at
        return (
            b'{"Update":' + table + _key(write.key) + expression
            + b'"ExpressionAttributeValues":{":o":{"N":"1"},":s":{"S":%b}%b}}}' % (_dumps(write.source), values)
        )  # fmt: skip

    def _segment(self, pk: str, commit: Commit) -> bytes:
        segment = commit.segment
        if segment is None:  # pragma: no cover - asked only when there is one
            return b""
        item = segment_item(pk, segment.number, segment.entries, commit.checkpoint.commit_seq, segment.drop_below)
        return self._checkpoint_head + _dumps(item) + b"}}"

    def _seldom(self, pk: str, commit: Commit) -> Iterable[bytes]:
        sequence = commit.checkpoint.commit_seq
        for ordinal, effect in enumerate(commit.effects):
            yield _update(self._effects, keep_first(effect_item(commit.scope, sequence, ordinal, effect)))
        for letter in commit.dead_letters:
            yield _update(self._state, keep_first(dead_letter_item(pk, letter)))
        for event in commit.parked:
            yield _update(self._state, keep_first(parked_item(pk, event)))


_SHAPES = 4096
"""Shapes of additions kept at most."""


def _update(table: bytes, update: dict[str, Any]) -> bytes:
    return b'{"Update":{' + table + b"," + _dumps(update)[1:] + b"}"


def _key(key: RowKey) -> bytes:
    return b'"Key":{"key":{"S":%b},"view":{"S":%b}}' % (_dumps(key.key), _dumps(key.view))


def _condition(expect: Expectation) -> bytes:
    version, source = expect
    return _IF_STANDS % (version, _dumps(source)) if version else _IF_ABSENT


def _check(table: bytes, check: RowCheck) -> bytes:
    return b'{"ConditionCheck":' + table + _key(check.key) + _condition(check.expect)


def _addition_expression(names: tuple[str, ...], lasting: bool) -> bytes:  # noqa: FBT001 - half of a cache's key
    expiry = " REMOVE #g,#e" if lasting else ",#e=:e REMOVE #g"
    sums = "".join(f",#{index} :{index}" for index in range(len(names)))
    known = {"#s": SOURCE, "#g": GONE, "#e": EXPIRES, "#v": VERSION}
    known.update({f"#{index}": name for index, name in enumerate(names)})
    expression = f"SET #s=:s{expiry} ADD #v :o{sums}"
    return b',"UpdateExpression":%b,"ExpressionAttributeNames":%b,' % (_dumps(expression), _dumps(known))


def row_item(write: RowWrite, version: int) -> dict[str, Typed]:
    """Return a row's item as a PUT writes it. Raises TypeError for a type that rows cannot hold."""
    view, key = write.key
    item: dict[str, Typed] = {
        "key": {"S": key},
        "view": {"S": view},
        "_v": {"N": str(version)},
        "_src": {"S": write.source},
    }
    attributes = write.attributes
    if attributes is None:
        item[GONE] = {"BOOL": True}
    else:
        for name, value in attributes.items():
            kind = _type_of(value)
            if kind is str:
                item[name] = {"S": value}
            elif kind is int:
                item[name] = {"N": str(value)}
            else:
                item[name] = typed(value)
    if write.sequences:
        item[SEQUENCES] = typed(write.sequences)
    if write.expires_at is not None:
        item[EXPIRES] = {"N": str(write.expires_at)}
    return item
