"""DynamoDB's limits, and how large an action's item will be.

Owns every number of AWS's size rules. Pure: must not know clients or requests' text.

Invariants: `measure` never says less than the item takes; for small items it says a cheap upper bound, for large ones
the exact size by the rules; what no item can ever hold raises EventProblem with the limit and a remedy. Numbers were
checked when they were put into a view, so they are looked at again only where a quick look finds anything unusual.
"""

from collections.abc import Mapping
from decimal import Decimal
from itertools import chain
from typing import Any, cast

import orjson

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Action, Commit, DeadLetter, Limits, MarkerWrite, ParkedEvent
from daemon.core.errors import EventProblem
from daemon.core.identity import RowKey
from daemon.core.operations import ShardOutcome
from daemon.core.rows import Effect, RowCheck, RowWrite, WriteKind
from daemon.core.values import MAX_DIGITS
from daemon.core.waiting import Settle, SkippedRange, SkipRef
from daemon.core.window import SegmentWrite
from daemon.stores.dynamodb.values import nested_name

MAX_ACTIONS = 100
MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
MAX_ITEM_BYTES = 400 * 1024
MAX_PARTITION_KEY_BYTES = 2048
MAX_SORT_KEY_BYTES = 1024
MAX_NESTING = 31
"""Lists and maps inside each other: the value inside the innermost is the 32nd level."""
MAX_NAME_BYTES = 65_535
MAX_EXPRESSION_BYTES = 4096
MAX_OPERATORS = 300
MAX_ADDED = MAX_OPERATORS - 10
"""Amounts that one addition adds."""

_MAGNITUDE = (-130, 125)
_CONTAINER_BYTES = 3
_ELEMENT_BYTES = 1
_ODD_BYTES = 40
"""What is allowed for keys' and bookkeeping's names and numbers in a bound."""
_MARKER_BYTES = 160
"""What a marker takes besides its id."""
_SMALL = 8 * 1024
"""A bound below this is good enough: a hundred of them stay far below what a transaction holds."""

_dumps = orjson.dumps
_ADD = WriteKind.ADD


def measure(action: Action) -> int:
    """Return how many bytes an action's item takes, at most.

    Raises EventProblem (`too-large`, `bad-value`, `bad-key`) for one that DynamoDB can never hold.
    """
    kind = type(action)
    try:
        if kind is MarkerWrite:
            return _MARKER_BYTES + 4 * len(cast("MarkerWrite", action).event_id)
        if kind is RowWrite:
            return _row(cast("RowWrite", action))
        return _MEASURES[kind](action)
    except UnicodeError as error:
        raise EventProblem("bad-value", f"text cannot be written as UTF-8 ({error}); drop lone surrogates") from error


def bound(commit: Commit) -> int | None:
    """Return a bound of the bytes of all items together, where `measure` would certainly raise for none of them.

    None where it might, or where the commit holds what is seldom. One dump of all rows instead of one for each.
    """
    if (
        commit.effects
        or commit.dead_letters
        or commit.parked
        or commit.checks
        or commit.settles
        or commit.skips
        or commit.outcomes
    ):
        return None
    rows = commit.rows
    texts = [*chain.from_iterable([row.key for row in rows]), *[row.source for row in rows]]
    if "" in texts or max(map(len, texts), default=0) > MAX_SORT_KEY_BYTES // 4:
        return None
    if True in [bool(row.sequences) for row in rows]:
        return None
    held = [row.attributes or {} for row in rows]
    try:
        dump = _dumps(held, _seldom)
    except (TypeError, EventProblem):  # `measure` says which
        return None
    nested = dump.count(b"[") + dump.count(b"{") - 1 - len(rows)
    if nested >= MAX_NESTING or len(dump) > MAX_NAME_BYTES or max(map(len, held), default=0) > MAX_ADDED:
        return None
    total = 2 * len(dump) + 4 * len("".join(texts)) + 5 * _ODD_BYTES * len(rows) + _checkpoint(commit.checkpoint)
    if commit.markers:
        total += _MARKER_BYTES * len(commit.markers) + 4 * len("".join([marker.event_id for marker in commit.markers]))
    return total if commit.segment is None else total + _segment(commit.segment)


LIMITS = Limits(
    actions=MAX_ACTIONS,
    transaction_bytes=MAX_TRANSACTION_BYTES,
    item_bytes=MAX_ITEM_BYTES,
    measure=measure,
    bound=bound,
)
"""What one `TransactWriteItems` may hold."""


# ---------------------------------------------------------------------------------------------------------- rows


def _row(write: RowWrite) -> int:
    view, key = write.key
    attributes = write.attributes
    wide = len(write.source) + len(key) + len(view)
    try:
        dump = _dumps(attributes, _seldom) if attributes else b""
    except TypeError:  # stricter than DynamoDB about numbers: integers beyond 64 bits
        dump = None
    if wide > MAX_SORT_KEY_BYTES // 4 or not key or not view:
        check_key(write.key)
    if dump is None or write.sequences or dump.count(b"[") + dump.count(b"{") > MAX_NESTING:
        return _exact_row(write)
    bound = 2 * len(dump) + 4 * wide + 5 * _ODD_BYTES
    if bound > _SMALL:
        return _exact_row(write)
    if write.kind is WriteKind.ADD and attributes:
        _check_expression(attributes)
    return bound


def _seldom(value: object) -> str:
    """Stand in, in a dump that only measures, for what JSON does not have."""
    if isinstance(value, Decimal):
        check_number(value)
        return str(value)
    if isinstance(value, bytes):
        return "x" * len(value)
    raise TypeError(type(value).__name__)


def _exact_row(write: RowWrite) -> int:
    size = key_size(write.key) + 5 * _ODD_BYTES + _utf8(write.source)
    if write.sequences:
        size += value_size(write.sequences)
    if write.attributes:
        size += attributes_size(write.attributes)
        if write.kind is WriteKind.ADD:
            _check_expression(write.attributes)
    return size


def _check_expression(amounts: Mapping[str, Any]) -> None:
    """Refuse an addition whose expression DynamoDB would not take."""
    count = len(amounts)
    if count > MAX_ADDED:
        detail = (
            f"{count} amounts added to one row exceed the {MAX_ADDED} that one update expression takes "
            f"({MAX_OPERATORS} operators, {MAX_EXPRESSION_BYTES} bytes); spread them over rows, or put() the row"
        )
        raise EventProblem("too-large", detail)


def key_size(key: RowKey) -> int:
    """Return the bytes of a row's key attributes."""
    return _utf8(key.key) + _utf8(key.view) + len("key") + len("view")


def check_key(key: RowKey) -> None:
    """Refuse a row's key that is empty or too long. Raises EventProblem (`bad-key`)."""
    for name, text, limit in (
        ("key", key.key, MAX_PARTITION_KEY_BYTES),
        ("view", key.view, MAX_SORT_KEY_BYTES),
    ):
        size = _utf8(text)
        if not 0 < size <= limit:
            detail = f"{name} {text!r:.80} has {size} bytes, not 1 to {limit}; choose a shorter one (a digest, say)"
            raise EventProblem("bad-key", detail)


# -------------------------------------------------------------------------------------------------------- values


def attributes_size(attributes: Mapping[str, Any]) -> int:
    """Return the bytes of attributes: names and values, as DynamoDB counts them.

    Raises EventProblem (`bad-value`) for what it cannot hold.
    """
    total = 0
    for name, value in attributes.items():
        size = _utf8(name)
        if size > MAX_NAME_BYTES:
            raise EventProblem("bad-value", f"an attribute's name of {size} bytes exceeds {MAX_NAME_BYTES}; shorten it")
        total += size + value_size(value)
    return total


def value_size(value: object, depth: int = 0) -> int:
    """Return the bytes of one value, as DynamoDB counts them.

    Raises EventProblem (`bad-value`) for a number or a depth beyond its limits.
    """
    if isinstance(value, str):
        return _utf8(value)
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, int | Decimal):
        return check_number(value)
    if isinstance(value, bytes):
        return len(value)
    if depth >= MAX_NESTING:
        detail = f"value nests deeper than {MAX_NESTING} lists and maps; flatten it or store it as a string"
        raise EventProblem("bad-value", detail)
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, object]", value)
        return _CONTAINER_BYTES + sum(
            _ELEMENT_BYTES + _utf8(nested_name(name)) + value_size(item, depth + 1) for name, item in entries.items()
        )
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        return _CONTAINER_BYTES + sum(_ELEMENT_BYTES + value_size(item, depth + 1) for item in items)
    raise EventProblem("bad-value", f"type {type(value).__name__} cannot be stored; convert it to text or a number")


def check_number(value: int | Decimal) -> int:
    """Return the bytes of a number. Raises EventProblem (`bad-value`) for one that DynamoDB cannot hold exactly."""
    number = Decimal(value)
    if not number.is_finite():
        raise EventProblem("bad-value", f"{value} is no number a row can hold; store a finite number or None")
    sign, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits)).lstrip("0").rstrip("0")
    if len(text) > MAX_DIGITS:
        detail = f"a number of {len(text)} digits exceeds the {MAX_DIGITS} that DynamoDB keeps; store a string"
        raise EventProblem("bad-value", detail)
    low, high = _MAGNITUDE
    if text and not low <= number.adjusted() <= high:
        raise EventProblem("bad-value", f"{value:.6E} is beyond 1E{low} or 1E+{high + 1}; scale it or store a string")
    # Two digits a byte, which a point at an odd place can move by one; one byte of its own, and one for a sign.
    return len(text) // 2 + 3 + sign if exponent or text else 2


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


# ------------------------------------------------------------------------------------------------------- seldom


def _check(check: RowCheck) -> int:
    check_key(check.key)
    return key_size(check.key) + 5 * _ODD_BYTES + _utf8(check.expect.source)


def _segment(segment: SegmentWrite) -> int:
    return 2500 + len(segment.entries)


def _effect(effect: Effect) -> int:
    texts = (effect.name, effect.id, effect.id, effect.event_id, effect.key)
    return 2500 + attributes_size({"payload": effect.payload}) + sum(map(_utf8, texts))


def _dead_letter(letter: DeadLetter) -> int:
    texts = (letter.key, letter.reason, letter.detail, letter.handler)
    return 3500 + len(letter.payload) + sum(map(_utf8, texts)) + 2 * _utf8(letter.event_id) + _digits(letter.position)


def _parked(event: ParkedEvent) -> int:
    texts = (event.key, event.reason, event.detail)
    return 3500 + len(event.payload) + sum(map(_utf8, texts)) + 2 * _utf8(event.event_id) + _digits(event.position)


def _settle(settle: Settle) -> int:
    # What stands there grows by the words at most; what is removed counts as it stands, which only the store knows.
    texts = () if settle.keep is None else (settle.keep.reason, settle.keep.detail, settle.keep.handler)
    kept = 0 if isinstance(settle.ref, SkipRef) else 4500
    return kept + sum(map(_utf8, texts))


def _skipped(one: SkippedRange) -> int:
    return 2800 + _utf8(one.note) + _digits(one.after) + 2 * _digits(one.through)


def _outcome(outcome: ShardOutcome) -> int:
    values = [*outcome.before.items(), *outcome.after.items()]
    texts = (outcome.detail, outcome.replica, outcome.scope.source, outcome.scope.shard, *(str(one) for one in values))
    return 2000 + sum(map(_utf8, texts))


def _checkpoint(checkpoint: Checkpoint) -> int:
    texts = (checkpoint.commit_id, checkpoint.owner, checkpoint.reason, checkpoint.incarnation, checkpoint.code_digest)
    counters = sum(len(name) + 24 for name in checkpoint.counters)
    places = _digits(checkpoint.position) + _digits(checkpoint.origin)
    cursor = checkpoint.redelivery
    if cursor is not None:
        places += (
            1000 + _digits(cursor.after) + _digits(cursor.until) + _digits(cursor.position) + 40 * len(cursor.counters)
        )
        texts += (cursor.id, cursor.command, cursor.reason)
    return 2800 + places + counters + sum(_utf8(text) for text in texts if text)


def _digits(position: tuple[int, ...]) -> int:
    """Return a bound of the bytes that a position takes as text and as part of a key."""
    return sum(2 * (part.bit_length() * 31 // 100) + 16 for part in position)


_MEASURES: dict[type, Any] = {
    RowCheck: _check,
    SegmentWrite: _segment,
    Effect: _effect,
    DeadLetter: _dead_letter,
    ParkedEvent: _parked,
    Settle: _settle,
    SkippedRange: _skipped,
    ShardOutcome: _outcome,
    Checkpoint: _checkpoint,
}
