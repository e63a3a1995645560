"""Dedup verdicts: is this event new, and if not, which layer proves it.

Owns the judgement by position, by marker (ids within a shard, or ids anywhere) and by age. The judgement by sequence
needs the entity's row and is made by the fold with `judge_sequence`.

Invariants: a verdict is a value, never an exception. The same id with another payload is a conflict, never a
duplicate. An event that appears twice within one batch is judged against its first appearance. A late event whose
marker is still there is a duplicate, not late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

from daemon.core.events import DIGEST_BYTES, Event, Record
from daemon.core.positions import Position
from daemon.core.window import PAYLOAD_BYTES, SPLIT, MarkerWindow, held_payload


class Verdict(StrEnum):
    """What the evidence says about one event."""

    NEW = "new"
    DUPLICATE_POSITION = "duplicate-position"
    """At or below the live position of its own shard: its position says that it was applied."""
    DUPLICATE_MARKER = "duplicate-marker"
    """Its id was applied before, with the same payload."""
    DUPLICATE_VERSION = "duplicate-version"
    """Its entity's row already holds this sequence number or a later one (stale)."""
    CONFLICT = "conflicting-payload"
    """Its id was applied before, with another payload: an alarm and a dead letter."""
    GAP = "gap"
    """Its entity's sequence number jumps ahead."""
    LATE = "late"
    """Too old for the markers to prove it new."""
    FAILED = "failed"
    """New, but it has no key, or a handler raised on it."""
    PARKED = "parked"
    """New, but its key is parked: it queues behind."""


DUPLICATES = frozenset({Verdict.DUPLICATE_POSITION, Verdict.DUPLICATE_MARKER, Verdict.DUPLICATE_VERSION})


def id_digest(event_id: str) -> bytes:
    """Return the 16-byte digest under which an event id is kept in packed markers."""
    return blake2b(event_id.encode(), digest_size=DIGEST_BYTES).digest()


@dataclass(slots=True)
class Judged:
    """A batch's records with their verdicts (None: new), and the ids it would mark, in order."""

    records: Sequence[Record]
    verdicts: list[Verdict | None]
    marks: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Index of a new event to its packed marker: id digest and the first 4 bytes of its payload digest."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known before a batch is judged.

    `settled`: the shard's live position. `reopened`: positions at or below it that were dead-lettered, parked or
    skipped and may be applied now. `horizon`: events older than this are late (None: no horizon yet).
    """

    settled: Position
    horizon: datetime | None = None
    reopened: frozenset[Position] = frozenset()


def judge_by_position(records: Sequence[Record], evidence: Evidence) -> list[Verdict | None]:
    """Judge each record by its position and its age only."""
    settled, horizon = evidence.settled, evidence.horizon
    verdicts: list[Verdict | None] = [None] * len(records)
    if not records or records[0].position > settled:
        first_new = 0
    else:
        first_new = next((i for i, r in enumerate(records) if r.position > settled or not r.position), len(records))
        for index in range(first_new):
            if records[index].position not in evidence.reopened:
                verdicts[index] = Verdict.DUPLICATE_POSITION
    if horizon is not None:
        for index in range(first_new, len(records)):
            record = records[index]
            if type(record) is Event and record.moment is not None and record.moment < horizon:
                verdicts[index] = Verdict.LATE
    return verdicts


def judge_packed(
    records: Sequence[Record], verdicts: list[Verdict | None], window: MarkerWindow, pending: Mapping[bytes, bytes]
) -> Judged:
    """Judge the records not judged yet by the markers of their own shard; fill in the ids to mark.

    `pending` holds what the commit in flight marks (id digest to payload digest, 4 bytes).
    """
    marks: dict[int, bytes] = {}
    fresh: dict[bytes, bytes] = {}
    get_fresh, get_pending, get_known, hashed, split = fresh.get, pending.get, window.entries.get, blake2b, SPLIT
    for index, record in enumerate(records):
        verdict = verdicts[index]
        if (verdict is not None and verdict is not Verdict.LATE) or type(record) is not Event:
            continue
        digest = hashed(record.id.encode(), digest_size=DIGEST_BYTES).digest()
        payload = record.digest[:PAYLOAD_BYTES]
        before = get_fresh(digest)
        if before is None:
            high, low = split(digest)
            held = get_known(high >> 4)
            if held is not None:
                before = held_payload(held, low)
            if before is None and pending:
                before = get_pending(digest)
        if before is not None:
            verdicts[index] = Verdict.DUPLICATE_MARKER if before == payload else Verdict.CONFLICT
        elif verdict is None:
            fresh[digest] = payload
            marks[index] = digest + payload
    return Judged(records, verdicts, marks)


def judge_by_event(
    records: Sequence[Record], verdicts: list[Verdict | None], known: Mapping[str, bytes], pending: Mapping[str, bytes]
) -> Judged:
    """Judge by event ids.

    `known` holds markers read from the store, `pending` those of the commit in flight (id to digest).
    """
    fresh: dict[str, bytes] = {}
    for index, record in enumerate(records):
        verdict = verdicts[index]
        if (verdict is not None and verdict is not Verdict.LATE) or type(record) is not Event:
            continue
        before = fresh.get(record.id) or known.get(record.id) or pending.get(record.id)
        if before is None:
            if verdict is None:
                fresh[record.id] = record.digest
        else:
            verdicts[index] = Verdict.DUPLICATE_MARKER if before == record.digest else Verdict.CONFLICT
    return Judged(records, verdicts)


def judge_sequence(number: int, last: int | None, start: int | None) -> Verdict:
    """Judge an entity's sequence number against the last one its row holds from the same source.

    Without `start` the first number seen is accepted; with it the first must be `start`.
    """
    if last is None:
        if start is None or number == start:
            return Verdict.NEW
        return Verdict.GAP if number > start else Verdict.DUPLICATE_VERSION
    if number <= last:
        return Verdict.DUPLICATE_VERSION
    return Verdict.NEW if number == last + 1 else Verdict.GAP
