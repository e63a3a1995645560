"""Dedup verdicts: is this event new, and if not, which layer proves it.

Owns the judgement by position, by marker (ids within a shard, or ids anywhere) and by age. The judgement by sequence
needs the entity's row and is made by the fold with `judge_sequence`.

Invariants: a verdict is a value, never an exception. The same id with another payload is a conflict, never a
duplicate. An event that appears twice within one batch is judged against its first appearance. A late event whose
marker is still there is a duplicate, not late.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from itertools import compress
from operator import add
from struct import Struct
from typing import cast

from daemon.core.events import DIGEST_BYTES, Event, Record
from daemon.core.positions import Position
from daemon.core.window import PAYLOAD_BYTES, MarkerWindow, held_payload

_HASHER = blake2b(digest_size=DIGEST_BYTES)
_type_of: Callable[[object], type] = type


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

    __hash__ = str.__hash__


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
    asked = _to_judge(records, verdicts)
    hasher = _HASHER.copy
    digests: list[bytes] = []
    events = cast("Sequence[Event]", records if len(asked) == len(records) else [records[index] for index in asked])
    for event in events:
        digest = hasher()
        digest.update(event.id.encode())
        digests.append(digest.digest())
    payloads = [event.digest[:PAYLOAD_BYTES] for event in events]
    halves = Struct(f">{2 * len(digests)}Q").unpack(b"".join(digests))
    kept = [high >> 4 for high in halves[::2]]
    known = window.entries
    if (
        len({*digests}) == len(digests)
        and known.keys().isdisjoint(kept)
        and pending.keys().isdisjoint(digests)
        and Verdict.LATE not in verdicts
    ):  # nothing was met before: most batches
        return Judged(records, verdicts, dict(zip(asked, map(add, digests, payloads), strict=True)))
    # Only what was met before, or comes twice, is looked at one by one.
    late = Verdict.LATE in verdicts
    repeated = {digest for digest, times in Counter(digests).items() if times > 1}
    met = known.keys() & kept
    doubtful = [
        late or key in met or digest in repeated or digest in pending for key, digest in zip(kept, digests, strict=True)
    ]
    marks = dict(zip(asked, map(add, digests, payloads), strict=True))
    fresh: dict[bytes, bytes] = {}
    get_fresh, get_pending, get_known = fresh.get, pending.get, known.get
    whole = zip(asked, digests, payloads, kept, halves[1::2], strict=True)
    for index, digest, payload, key, low in compress(whole, doubtful):
        before = get_fresh(digest)
        if before is None:
            held = get_known(key)
            if held is not None:
                before = held_payload(held, low)
            if before is None:
                before = get_pending(digest)
        if before is not None:
            verdicts[index] = Verdict.DUPLICATE_MARKER if before == payload else Verdict.CONFLICT
        elif verdicts[index] is None:
            fresh[digest] = payload
            continue
        del marks[index]
    return Judged(records, verdicts, marks)


def _to_judge(records: Sequence[Record], verdicts: Sequence[Verdict | None]) -> Sequence[int]:
    """Return the indices of the events that only a marker can tell about."""
    if verdicts.count(None) == len(verdicts) and {*map(_type_of, records)} == {Event}:
        return range(len(records))
    return [
        index
        for index, (record, verdict) in enumerate(zip(records, verdicts, strict=True))
        if (verdict is None or verdict is Verdict.LATE) and type(record) is Event
    ]


def judge_by_event(
    records: Sequence[Record], verdicts: list[Verdict | None], known: Mapping[str, bytes], pending: Mapping[str, bytes]
) -> Judged:
    """Judge by event ids.

    `known` holds markers read from the store, `pending` those of the commit in flight (id to digest).
    """
    if verdicts.count(None) == len(verdicts) and {*map(_type_of, records)} == {Event}:
        ids = [event.id for event in cast("Sequence[Event]", records)]
        if len({*ids}) == len(ids) and known.keys().isdisjoint(ids) and pending.keys().isdisjoint(ids):
            return Judged(records, verdicts)  # nothing was met before: most batches
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
