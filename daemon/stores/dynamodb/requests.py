"""A commit as one `TransactWriteItems` body.

This is the hot path: it is written by filling templates, not by building items.

Owns the form of rows and markers, every condition of a commit, and the order of its actions. Must not know clients, or
what an answer means.

Theory of operation. Rows of one shape (names and kinds of their attributes) differ in their values only, so each shape
has a template of JSON text, and all templates of a commit are filled in one formatting of bytes. The values come from
one JSON dump of them all, cut at its commas; where a string holds a comma, which the count of commas tells, each value
is dumped by itself. Rows that hold lists, maps or bytes are dumped as items, and go in whole.

Invariants: the same commit and attempt always give the same bytes; action 0 is the checkpoint, then come markers, rows,
checks, segment, effects, dead letters, parked events, settled entries, skips, outcomes of operations, which is what
outcomes count on; every write of a row raises `_v` and sets `_src`; a condition compares both; `add` carries no
condition.
"""

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from itertools import chain
from struct import unpack
from typing import Any

import orjson

from daemon.core.commit import Commit, MarkerWrite
from daemon.core.identity import Scope
from daemon.core.rows import ABSENT, Expectation, RowWrite, WriteKind
from daemon.core.window import SegmentWrite
from daemon.stores.dynamodb.items import (
    SAFE_ID,
    checkpoint_item,
    dead_letter_item,
    effect_item,
    keep_first,
    marker_key,
    parked_item,
    scope_key,
    segment_item,
)
from daemon.stores.dynamodb.operation_items import outcome_item
from daemon.stores.dynamodb.tables import Tables
from daemon.stores.dynamodb.values import Typed, typed
from daemon.stores.dynamodb.waiting import entry_key, settle_action, skipped_item

VERSION, SOURCE, SEQUENCES, EXPIRES, GONE = "_v", "_src", "_seq", "_expires", "_gone"
"""Bookkeeping of a row. `_gone` marks a tombstone: absent to readers, remembered by the sequence layer."""
LAST_PARKED = "last_parked"
"""The sort keys of the events that the checkpoint's own commit parked: who takes the shard waits until they show."""
LAST_REMOVED = "last_removed"
"""The sort keys of the waiting entries that the checkpoint's own commit removed: until they are gone, none is read."""

_dumps = orjson.dumps
_type_of: Callable[[object], type] = type

_HEAD = b'{"TransactItems":['
_TAIL = b'],"ReturnConsumedCapacity":"TOTAL","ClientRequestToken":"%b"}'
_KEEPS_OLD = '"ReturnValuesOnConditionCheckFailure":"ALL_OLD"'
_FENCE = (
    ',"ConditionExpression":"epoch=:e AND commit_seq=:n",'
    '"ExpressionAttributeValues":{":e":{"N":"%d"},":n":{"N":"%d"}},' + _KEEPS_OLD + "}}"
).encode()
# In templates, a string's value brings its quotes along, a number's does not.
_KEY = '"Key":{"key":{"S":%b},"view":{"S":%b}}'
_IF_ABSENT = ',"ConditionExpression":"attribute_not_exists(#k)","ExpressionAttributeNames":{"#k":"key"}}}'
_IF_STANDS = (
    ',"ConditionExpression":"#v=:v AND #s=:s","ExpressionAttributeNames":{"#v":"_v","#s":"_src"},'
    '"ExpressionAttributeValues":{":v":{"N":"%b"},":s":{"S":%b}}}}'
)
_VALUE = {
    str: '{"S":%b}',
    int: '{"N":"%b"}',
    Decimal: '{"N":%b}',  # dumped as a string
    bool: '{"BOOL":%b}',
    type(None): '{"NULL":true%.0b}',  # takes its value and shows none of it
}
"""Kinds of values that a template takes."""
_SHAPES = 4096
"""Templates kept at most."""
_DIGEST_BYTES = 16
_CUT_DIGESTS = "22s2x"
"""Of a digest, padded by two bytes to a multiple of three, 22 of the 24 characters of base64 are its own."""
_PADDING = b"\0\0"


@dataclass(frozen=True, slots=True)
class Shape:
    """Which actions stand where in a commit's request."""

    markers: range
    rows: range
    checks: range
    settles: range

    @staticmethod
    def of(commit: Commit) -> "Shape":
        """Return the places of a commit's actions."""
        rows = 1 + len(commit.markers)
        checks = rows + len(commit.rows)
        seldom = checks + len(commit.checks)
        settles = seldom + (commit.segment is not None) + len(commit.effects) + len(commit.dead_letters)
        settles += len(commit.parked)
        return Shape(
            range(1, rows), range(rows, checks), range(checks, seldom), range(settles, settles + len(commit.settles))
        )


class Requests:
    """Builds the requests of one prefix. Keeps what is constant about scopes and shapes."""

    def __init__(self, tables: Tables) -> None:
        """Prepare what every request has in common."""
        self._tables = tables
        self._state = f'"TableName":"{tables.state}"'
        self._effects = f'"TableName":"{tables.effects}"'
        self._put_state = f'{{"Put":{{{self._state},"Item":'.encode()
        self._marker = f'{{"Put":{{"TableName":"{tables.markers}","Item":{{"pk":{{"S":"'
        self._scopes: dict[Scope, str] = {}
        self._templates: dict[Any, bytes] = {}

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
            parts.append(self._rows(self._tables.rows(scope.of), commit))
        if commit.segment is not None:
            parts.append(self._segment(pk, commit, commit.segment))
        if commit.effects or commit.dead_letters or commit.parked or commit.settles or commit.skips or commit.outcomes:
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
        removed = [entry_key(settle.ref) for settle in commit.settles if settle.keep is None]
        if removed:
            item[LAST_REMOVED] = typed(removed)
        return self._put_state + _dumps(item) + _FENCE % commit.fence

    def _markers(self, label: str, markers: Sequence[MarkerWrite], expires: int) -> bytes:
        count = len(markers)
        ids = [event_id for event_id, _ in markers]
        dump = _dumps(ids)
        if (len(dump) > SAFE_ID and max(map(len, ids)) > SAFE_ID) or b'"/' in dump:
            ids = [marker_key("", event_id) for event_id in ids]
            dump = _dumps(ids)
        # Without an escaped quote, only where one id ends and the next begins do quotes meet a comma.
        keys = dump[2:-2].split(b'","') if b'\\"' not in dump else [_dumps(event_id)[1:-1] for event_id in ids]
        text = b2a_base64(_PADDING.join([digest for _, digest in markers]) + _PADDING, newline=False)
        values: list[Any] = [None] * (2 * count)
        values[::2] = keys
        values[1::2] = unpack(_CUT_DIGESTS * count, text)
        template = (
            f'{self._marker}{label}%b"}},"digest":{{"B":"%b=="}},"expires":{{"N":"{expires}"}}}},'
            f'"ConditionExpression":"attribute_not_exists(pk)",{_KEEPS_OLD}}}}}'
        )
        return b",".join([template.encode()] * count) % tuple(values)

    def _rows(self, table: str, commit: Commit) -> bytes:
        templates, values = self._alike(table, commit.rows) or self._one_by_one(table, commit.rows)
        for check in commit.checks:
            templates.append(_guarded(table, "ConditionCheck", check.expect))
            view, key = check.key
            values += (key, view)
            if check.expect.version:
                values += check.expect
        return _filled(templates, values)

    def _alike(self, table: str, rows: Sequence[RowWrite]) -> tuple[list[bytes], list[Any]] | None:
        """Return templates and values of whole rows of one shape, taken column by column; None where they are not."""
        first = rows[0].attributes if rows else None
        if not first or {*[row.kind for row in rows]} != _ALL_PUT or any(row.sequences for row in rows):
            return None
        attributes: list[Any] = [row.attributes for row in rows]
        expires, expects = rows[0].expires_at, [row.expect for row in rows]
        try:
            columns = [[each[name] for each in attributes] for name in first]
            versions: list[int] = [expect.version for expect in expects]  # pyright: ignore[reportOptionalMemberAccess] - caught
        except (KeyError, TypeError, AttributeError):  # other names, a tombstone, no expectation
            return None
        kinds = [{*map(_type_of, column)} for column in columns]
        if (
            {*map(len, attributes)} != {len(first)}
            or {*map(len, kinds)} != _ONE
            or 0 in versions
            or {*[row.expires_at for row in rows]} != {expires}
        ):
            return None
        shape = (table, tuple(first), tuple([kind.pop() for kind in kinds]), False, expires is None)
        template = self._templates.get(shape)
        if template is None:
            template = self._keep(shape, _put_template(*shape))
        if not template:
            return None
        count = len(rows)
        keys = [row.key for row in rows]
        sources = [row.source for row in rows]
        before = [[key.key for key in keys], [key.view for key in keys], [version + 1 for version in versions], sources]
        if expires is not None:
            columns.append([expires] * count)
        after = [versions, [expect.source for expect in expects if expect]]
        return [template] * count, [*chain.from_iterable(zip(*before, *columns, *after, strict=True))]

    def _one_by_one(self, table: str, rows: Sequence[RowWrite]) -> tuple[list[bytes], list[Any]]:
        """Return templates and values of rows of any shape."""
        templates: list[bytes] = []
        values: list[Any] = []
        held = self._templates
        for write in rows:
            view, key = write.key
            kind, attributes, expect = write.kind, write.attributes, write.expect or ABSENT
            if kind is _PUT and attributes is not None and not write.sequences:
                version = expect.version
                shape = (
                    table, tuple(attributes), tuple(map(_type_of, attributes.values())), not version,
                    write.expires_at is None,
                )  # fmt: skip
                template = held.get(shape)
                if template is None:
                    template = self._keep(shape, _put_template(*shape))
                if template:
                    templates.append(template)
                    values += (key, view, version + 1, write.source)
                    values += attributes.values()
                    if write.expires_at is not None:
                        values.append(write.expires_at)
                    if version:
                        values += expect
                    continue
            if kind is _ADD:
                amounts = attributes or {}
                shape = (
                    table, tuple(amounts), tuple(map(_type_of, amounts.values())), write.expires_at is None
                )  # fmt: skip
                template = held.get(shape)
                if template is None:
                    template = self._keep(shape, _addition_template(*shape))
                templates.append(template)
                values += (key, view, write.source)
                values += amounts.values()
                if write.expires_at is not None:
                    values.append(write.expires_at)
                continue
            templates.append(_lone_write(table, write).replace(b"%", b"%%"))
        return templates, values

    def _keep(self, shape: Any, template: bytes) -> bytes:
        if len(self._templates) >= _SHAPES:
            self._templates.clear()
        self._templates[shape] = template
        return template

    def _segment(self, pk: str, commit: Commit, segment: SegmentWrite) -> bytes:
        item = segment_item(pk, segment.number, segment.entries, commit.checkpoint.commit_seq, segment.drop_below)
        return self._put_state + _dumps(item) + b"}}"

    def _seldom(self, pk: str, commit: Commit) -> Iterable[bytes]:
        sequence = commit.checkpoint.commit_seq
        for ordinal, effect in enumerate(commit.effects):
            yield _update(self._effects, keep_first(effect_item(commit.scope, sequence, ordinal, effect)))
        for letter in commit.dead_letters:
            yield _update(self._state, keep_first(dead_letter_item(pk, letter)))
        for event in commit.parked:
            yield _update(self._state, keep_first(parked_item(pk, event)))
        for settle in commit.settles:
            yield _dumps(settle_action(self._tables.state, pk, settle))
        for one in commit.skips:
            yield self._put_state + _dumps(skipped_item(pk, one)) + b"}}"
        for outcome in commit.outcomes:
            yield self._put_state + _dumps(outcome_item(outcome)) + b"}}"


_PUT, _ADD = WriteKind.PUT, WriteKind.ADD
_ALL_PUT, _ONE = {_PUT}, {1}


# ----------------------------------------------------------------------------------------------------- templates


def _filled(templates: Sequence[bytes], values: list[Any]) -> bytes:
    """Return the templates, joined by commas, with the values in their places."""
    try:
        pieces = _dumps(values, str)[1:-1].split(b",")
    except TypeError:  # an integer beyond 64 bits, which matters to nobody here, or a lone surrogate, met again below
        pieces = []
    if len(pieces) != len(values):
        pieces = [b"%d" % value if type(value) is int else _dumps(value, str) for value in values]
    return b",".join(templates) % tuple(pieces)


def _text(value: object) -> str:
    """Return JSON text that may stand in a template."""
    return _dumps(value).decode().replace("%", "%%")


def _put_template(
    table: str,
    names: tuple[str, ...],
    kinds: tuple[type, ...],
    absent: bool,  # noqa: FBT001 - half of a shape
    lasting: bool,  # noqa: FBT001 - the other half
) -> bytes:
    """Return the template of a whole row: key, view, version, source, attributes, expiry, expectation.

    Empty for a shape that holds lists, maps or bytes.
    """
    if not _VALUE.keys() >= set(kinds):
        return b""
    attributes = "".join(f",{_text(name)}:{_VALUE[kind]}" for name, kind in zip(names, kinds, strict=True))
    expires = "" if lasting else f',"{EXPIRES}":{{"N":"%b"}}'
    return (
        f'{{"Put":{{"TableName":"{table}","Item":{{"key":{{"S":%b}},"view":{{"S":%b}},"{VERSION}":{{"N":"%b"}},'
        f'"{SOURCE}":{{"S":%b}}{attributes}{expires}}}{_IF_ABSENT if absent else _IF_STANDS}'
    ).encode()


def _addition_template(table: str, names: tuple[str, ...], kinds: tuple[type, ...], lasting: bool) -> bytes:  # noqa: FBT001 - of a shape
    """Return the template of an addition: key, view, source, amounts, expiry."""
    known = {"#s": SOURCE, "#g": GONE, "#e": EXPIRES, "#v": VERSION}
    known.update({f"#{index}": name for index, name in enumerate(names)})
    expiry = " REMOVE #g,#e" if lasting else ",#e=:e REMOVE #g"
    sums = "".join(f",#{index} :{index}" for index in range(len(names)))
    amounts = "".join(f',":{index}":{_VALUE[kind]}' for index, kind in enumerate(kinds))
    expires = "" if lasting else ',":e":{"N":"%b"}'
    return (
        f'{{"Update":{{"TableName":"{table}",{_KEY},"UpdateExpression":"SET #s=:s{expiry} ADD #v :o{sums}",'
        f'"ExpressionAttributeNames":{_text(known)},'
        f'"ExpressionAttributeValues":{{":o":{{"N":"1"}},":s":{{"S":%b}}{amounts}{expires}}}}}}}'
    ).encode()


def _guarded(table: str, operation: str, expect: Expectation) -> bytes:
    """Return the template of a check or delete: key, view, expectation."""
    condition = _IF_STANDS if expect.version else _IF_ABSENT
    return f'{{"{operation}":{{"TableName":"{table}",{_KEY}{condition}'.encode()


def _lone_write(table: str, write: RowWrite) -> bytes:
    """Return one write that no template holds: a row with nested values or a version vector, a tombstone, a delete."""
    view, key = write.key
    expect = write.expect or ABSENT
    values: list[Any] = []
    if write.kind is WriteKind.DELETE:
        template = _guarded(table, "Delete" if expect.version else "ConditionCheck", expect)
        values += (key, view)
    else:
        condition = _IF_STANDS if expect.version else _IF_ABSENT
        item = _text(row_item(write, expect.version + 1))
        template = f'{{"Put":{{"TableName":"{table}","Item":{item}{condition}'.encode()
    if expect.version:
        values += expect
    return _filled([template], values)


def _update(table: str, update: dict[str, Any]) -> bytes:
    return f'{{"Update":{{{table},'.encode() + _dumps(update)[1:] + b"}"


def row_item(write: RowWrite, version: int) -> dict[str, Typed]:
    """Return a row's item as a PUT writes it. Raises TypeError for a type that rows cannot hold."""
    view, key = write.key
    item: dict[str, Typed] = {
        "key": {"S": key},
        "view": {"S": view},
        VERSION: {"N": str(version)},
        SOURCE: {"S": write.source},
    }
    if write.attributes is None:
        item[GONE] = {"BOOL": True}
    else:
        for name, value in write.attributes.items():
            item[name] = typed(value)
    if write.sequences:
        item[SEQUENCES] = typed(write.sequences)
    if write.expires_at is not None:
        item[EXPIRES] = {"N": str(write.expires_at)}
    return item
