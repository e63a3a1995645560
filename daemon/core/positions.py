"""Positions: opaque places in one shard of a log, ordered within that shard and nowhere else.

A position is a tuple of non-negative integers, compared as Python compares tuples: `(offset,)` for Kafka,
`(sequence, subsequence)` for Kinesis, `(xid, id)` for an outbox, `(file, byte)` for files. Integers, because Kinesis
sequence numbers have up to 129 digits and fit no database number; tuples, because several logs need two parts.

Invariants: everything at or below a checkpoint's position has been settled; reading resumes strictly after it. `START`
lies below every position. A queue has no positions: all its events carry `START`, and the marker is its checkpoint.
"""

type Position = tuple[int, ...]

START: Position = ()
"""Below every position: nothing was read yet."""

_START_TEXT = "start"


def position_text(position: Position) -> str:
    """Write a position as it is stored and shown: parts joined by dots, `start` for `START`."""
    return ".".join(map(str, position)) if position else _START_TEXT


def parse_position(text: str) -> Position:
    """Read what `position_text` wrote.

    Raises ValueError naming the text and the form expected.
    """
    if text == _START_TEXT:
        return START
    parts = text.split(".")
    if not (text.isascii() and "".join(parts).isdigit() and all(parts)):
        message = f"position {text!r} is not {_START_TEXT!r} or whole numbers joined by dots, such as '42' or '3.1024'"
        raise ValueError(message)
    return tuple(map(int, parts))
