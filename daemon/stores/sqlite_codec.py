"""How values stand in SQLite's columns, and the bulk statements that write and find many at once.

Owns the encodings (positions, checkpoints, times). Must not know transactions or outcomes.

Invariants: what is written reads back equal; `place` sorts, byte for byte, as positions do. Bulk statements come in a
few fixed sizes, so that each is prepared once: a statement of many rows releases the interpreter lock once, not once a
row, which is what a busy event loop on the other thread would make it wait for.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commit import DeadLetter, ParkedEvent
from daemon.core.cursor import cursor_form, cursor_of
from daemon.core.identity import Scope
from daemon.core.positions import Position, parse_position, position_text
from daemon.core.rows import Effect, StoredRow
from daemon.core.waiting import Wish
from daemon.wire.exact_json import dumps_row, loads_row

type Column = str | int | bytes | None
type Params = tuple[Column, ...]

_BLOCKS = (512, 64, 8, 1)
_UPDATE_SIZES = (1, 8, 64, 512)
_FIND_SIZES = (1, 16, 256)


def insert_many(connection: sqlite3.Connection, head: str, rows: Sequence[Params]) -> int:
    """Run `head` (up to VALUES) for all rows and return how many it inserted."""
    if not rows:
        return 0
    one = _marks(rows[0])
    count = start = 0
    for size in _BLOCKS:
        statement = f"{head} VALUES {','.join([one] * size)}"
        while len(rows) - start >= size:
            block = [value for row in rows[start : start + size] for value in row]
            count += connection.execute(statement, block).rowcount
            start += size
    return count


def update_many(connection: sqlite3.Connection, head: str, condition: str, rows: Sequence[Params]) -> int:
    """Run `head` (UPDATE ... SET) where `condition` holds, once for each row, and return how many it changed.

    Both name a row's values `new.column1` and so on. No two rows may be about the same one; the condition must not hold
    where values are NULL.
    """
    if not rows:
        return 0
    one, nothing = _marks(rows[0]), (None,) * len(rows[0])
    count = start = 0
    while start < len(rows):
        size = next((size for size in _UPDATE_SIZES if size >= len(rows) - start), _UPDATE_SIZES[-1])
        block = list(rows[start : start + size])
        block += [nothing] * (size - len(block))
        statement = f"{head} FROM (VALUES {','.join([one] * size)}) AS new WHERE {condition}"
        count += connection.execute(statement, [value for row in block for value in row]).rowcount
        start += size
    return count


def _marks(row: Params) -> str:
    return "(" + ",".join("?" * len(row)) + ")"


def all_at_once(connection: sqlite3.Connection, select: str, fixed: Params, columns: str) -> list[list[Any]]:
    """Return the rows of `select`, whose `columns` are texts, numbers or NULL, in one step.

    Each step gives the interpreter away, and a busy event loop gives it back half a millisecond later.
    """
    packed = connection.execute(f"SELECT json_group_array(json_array({columns})) FROM ({select})", fixed).fetchone()
    return orjson.loads(packed[0])


def find_many(
    connection: sqlite3.Connection, columns: str, tail: str, fixed: Params, wanted: Sequence[str]
) -> Iterator[list[Any]]:
    """Iterate `columns` (texts, numbers or NULL) of the rows of `tail` (`FROM ... WHERE ...`) `IN (wanted...)`.

    `fixed`: the other parameters of `tail`.
    """
    select, start = f"SELECT json_group_array(json_array({columns})) {tail}", 0
    while start < len(wanted):
        left = len(wanted) - start
        size = next((size for size in _FIND_SIZES if size >= left), _FIND_SIZES[-1])
        block: list[Column] = list(wanted[start : start + size])
        block += [None] * (size - len(block))  # NULL equals nothing
        packed = connection.execute(f"{select} IN ({','.join('?' * size)})", [*fixed, *block]).fetchone()
        yield from orjson.loads(packed[0])
        start += size


def place(position: Position) -> bytes:
    """Return bytes that compare as positions do: each part's length in bytes, then the part."""
    parts = bytearray()
    for number in position:
        size = (number.bit_length() + 7) // 8
        parts.append(size)
        parts += number.to_bytes(size)
    return bytes(parts)


def _time_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def checkpoint_params(checkpoint: Checkpoint) -> Params:
    """Return a checkpoint as the columns of `CHECKPOINT_COLUMNS`."""
    return (
        position_text(checkpoint.position),
        position_text(checkpoint.origin),
        checkpoint.epoch,
        checkpoint.commit_seq,
        checkpoint.commit_id,
        checkpoint.owner,
        str(checkpoint.state),
        checkpoint.reason,
        checkpoint.incarnation,
        _time_text(checkpoint.watermark),
        int(checkpoint.caught_up),
        checkpoint.segment,
        checkpoint.segment_seq,
        checkpoint.parked_seq,
        checkpoint.dead_run,
        checkpoint.operation_seq,
        checkpoint.code_digest,
        orjson.dumps(dict(checkpoint.counters)).decode(),
        None if checkpoint.redelivery is None else orjson.dumps(cursor_form(checkpoint.redelivery)).decode(),
        _time_text(checkpoint.since),
        None if checkpoint.stuck_at is None else position_text(checkpoint.stuck_at),
    )


def checkpoint_of(row: Sequence[Any]) -> Checkpoint:
    """Return the checkpoint that `checkpoint_params` wrote."""
    watermark: str | None = row[9]
    return Checkpoint(
        position=parse_position(row[0]),
        origin=parse_position(row[1]),
        epoch=row[2],
        commit_seq=row[3],
        commit_id=row[4],
        owner=row[5],
        state=CheckpointState(row[6]),
        reason=row[7],
        incarnation=row[8],
        watermark=None if watermark is None else datetime.fromisoformat(watermark),
        caught_up=bool(row[10]),
        segment=row[11],
        segment_seq=row[12],
        parked_seq=row[13],
        dead_run=row[14],
        operation_seq=row[15],
        code_digest=row[16],
        counters=orjson.loads(row[17]),
        redelivery=None if row[18] is None else cursor_of(orjson.loads(row[18])),
        since=None if row[19] is None else datetime.fromisoformat(row[19]),
        stuck_at=None if row[20] is None else parse_position(row[20]),
    )


def text_of(value: object) -> str:
    """Return a value as JSON text with exact numbers."""
    return dumps_row(value).decode()


def stored_row(attributes: str | None, version: int, source: str, sequences: str | None) -> StoredRow:
    """Return a row as read from its columns."""
    return StoredRow(
        None if attributes is None else loads_row(attributes),
        version,
        source,
        {} if sequences is None else loads_row(sequences),
    )


DEAD_LETTER_COLUMNS = (
    "place, event_id, position, key, reason, detail, handler, payload, payload_size, payload_digest, at, wish"
)
PARKED_COLUMNS = "key, place, event_id, position, payload, reason, detail, at, wish"
EFFECT_COLUMNS = "id, name, payload, event_id, key"


def dead_letter_params(scope: Scope, letters: Iterable[DeadLetter]) -> list[Params]:
    """Return dead letters as scope and `DEAD_LETTER_COLUMNS`."""
    return [
        (
            *scope,
            place(letter.position),
            letter.event_id,
            position_text(letter.position),
            letter.key,
            letter.reason,
            letter.detail,
            letter.handler,
            letter.payload,
            letter.payload_size,
            letter.payload_digest,
            letter.at.isoformat(),
            letter.wish,
        )
        for letter in letters
    ]


def dead_letter_of(row: Sequence[Any]) -> DeadLetter:
    """Return the dead letter of `DEAD_LETTER_COLUMNS`."""
    return DeadLetter(
        position=parse_position(row[2]),
        event_id=row[1],
        key=row[3],
        reason=row[4],
        detail=row[5],
        handler=row[6],
        payload=row[7],
        payload_size=row[8],
        payload_digest=row[9],
        at=datetime.fromisoformat(row[10]),
        wish=wish_of(row[11]),
    )


def wish_of(text: str | None) -> Wish | None:
    """Return a wish as it stands in its column."""
    return None if text is None else Wish(text)


def parked_params(scope: Scope, events: Iterable[ParkedEvent]) -> list[Params]:
    """Return parked events as scope and `PARKED_COLUMNS`."""
    return [
        (
            *scope,
            event.key,
            place(event.position),
            event.event_id,
            position_text(event.position),
            event.payload,
            event.reason,
            event.detail,
            event.at.isoformat(),
            event.wish,
        )
        for event in events
    ]


def parked_of(row: Sequence[Any]) -> ParkedEvent:
    """Return the parked event of `PARKED_COLUMNS`."""
    return ParkedEvent(
        key=row[0],
        position=parse_position(row[3]),
        event_id=row[2],
        payload=row[4],
        reason=row[5],
        detail=row[6],
        at=datetime.fromisoformat(row[7]),
        wish=wish_of(row[8]),
    )


def effect_params(scope: Scope, effects: Iterable[Effect]) -> list[Params]:
    """Return effects as projection, generation and `EFFECT_COLUMNS`."""
    return [
        (
            scope.projection,
            scope.generation,
            effect.id,
            effect.name,
            text_of(effect.payload),
            effect.event_id,
            effect.key,
        )
        for effect in effects
    ]


def effect_of(row: Sequence[Any]) -> Effect:
    """Return the effect of `EFFECT_COLUMNS`."""
    return Effect(row[0], row[1], loads_row(row[2]), row[3], row[4])
