"""The planner: a folded batch in, one commit out, or why it does not fit.

Knows a store only by its `Limits`. Must not do I/O or fold: when a batch does not fit, it says how many of its records
are worth trying, and the caller folds that prefix.

Invariants: every commit is complete in itself (a prefix of the log, with its rows, marks, dead letters and position);
no two actions touch one item; a commit of one event that cannot fit names the limit, so that the event can be
dead-lettered.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import cast

from daemon.core.batcher import Chunk
from daemon.core.checkpoint import Checkpoint, counted
from daemon.core.commit import (
    EXCERPT_BYTES,
    INLINE_PAYLOAD_BYTES,
    Action,
    Commit,
    DeadLetter,
    Limits,
    MarkerWrite,
    ParkedEvent,
)
from daemon.core.dedup import DUPLICATES, Verdict
from daemon.core.errors import EventProblem
from daemon.core.events import DIGEST_BYTES, BadRecord, Event, Record
from daemon.core.fold import Failure, Folded
from daemon.core.identity import MAIN_VIEW, RowKey, Scope
from daemon.core.positions import Position, position_text
from daemon.core.projection import Dedup, ProjectionSpec
from daemon.core.rows import ABSENT, Expectation, RowCheck, RowWrite, StoredRow, WriteKind
from daemon.core.view import Touch, View
from daemon.core.waiting import Settle, SkippedRange
from daemon.core.window import SegmentLog, SegmentWrite


@dataclass(frozen=True, slots=True)
class PlanContext:
    """What a commit is planned on.

    `now` is aware; `before` is the checkpoint it goes on top of, `pending` the segment of a commit still in flight.
    `settles` and `skips` go into the commit as they are. `identify` gives the log's incarnation for the newest record
    and position; `dead_run` the dead letters in a row.
    """

    scope: Scope
    spec: ProjectionSpec
    before: Checkpoint
    commit_id: str
    now: datetime
    limits: Limits
    segments: SegmentLog | None = None
    pending: SegmentWrite | None = None
    identify: Callable[[Record | None, Position], str | None] = lambda _last, _through: None
    dead_run: int = 0
    settles: tuple[Settle, ...] = ()
    skips: tuple[SkippedRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A commit ready to send.

    `marks` holds the packed markers it adds (20 bytes each), for the window once it settled.
    """

    commit: Commit
    folded: Folded
    marks: bytes = b""
    segment: SegmentWrite | None = None


@dataclass(frozen=True, slots=True)
class Oversize:
    """The batch exceeds a limit.

    Try its first `suggest` records, or, when it is a single one, dead-letter it with `failure`. `actions`: how many it
    came to, where that is the limit it exceeds, and `fixed` of them, which do not grow with its records.
    """

    suggest: int
    failure: Failure
    actions: int = 0
    fixed: int = 0


def plan(folded: Folded, chunk: Chunk, context: PlanContext) -> Planned | Oversize:
    """Turn a folded batch into a commit within the limits."""
    records = chunk.records[: folded.count]
    rows, checks = _rows(folded, records, context)
    markers: tuple[MarkerWrite, ...] = ()
    marks = b""
    segment: SegmentWrite | None = None
    if context.spec.dedup is Dedup.EVENT:
        markers = _markers(folded, records)
    elif context.spec.dedup is Dedup.SHARD and context.segments is not None:
        ids = folded.judged.marks
        whole = folded.count == len(folded.verdicts) == len(folded.judged.records)
        marks = b"".join(ids.values() if whole else [mark for index, mark in ids.items() if index < folded.count])
        if marks:
            segment = context.segments.after(marks, context.pending)
    parked = _parked(folded, records, context)
    draft = Commit(
        scope=context.scope,
        fence=context.before.fence,
        checkpoint=context.before,
        rows=rows,
        checks=checks,
        markers=markers,
        markers_expire_at=int((context.now + context.spec.marker_retention).timestamp()),
        segment=segment,
        effects=tuple({effect.id: effect for effect in reversed(folded.effects)}.values())[::-1],
        dead_letters=_dead_letters(folded, records, context),
        parked=parked,
        settles=context.settles,
        skips=context.skips,
    )
    commit = replace(draft, checkpoint=_checkpoint_after(draft, folded, chunk, context))
    oversize = _beyond_limits(commit, folded.count, context.limits)
    return oversize or Planned(commit, folded, marks, segment)


def _markers(folded: Folded, records: list[Record]) -> tuple[MarkerWrite, ...]:
    if folded.kinds <= _MARKED and {*map(_type_of, records)} == {Event}:
        return tuple([MarkerWrite(event.id, event.digest) for event in cast("list[Event]", records)])
    return tuple(
        MarkerWrite(record.id, record.digest)
        for record, verdict in zip(records, folded.verdicts, strict=True)
        if verdict in _MARKED and type(record) is Event
    )


_type_of: Callable[[object], type] = type
_MARKED = frozenset({None, Verdict.FAILED, Verdict.PARKED})


def _rows(
    folded: Folded, records: list[Record], context: PlanContext
) -> tuple[tuple[RowWrite, ...], tuple[RowCheck, ...]]:
    if not records:
        return (), ()
    label = context.scope.shard_id.label
    spec = context.spec
    expires = None if spec.expires is None else int((context.now + spec.expires).timestamp())
    tombstone = int((context.now + spec.marker_retention).timestamp())
    writes: list[RowWrite] = []
    checks: list[RowCheck] = []
    for view in folded.views:
        touch = view.settle()
        source = provenance(label, view.last or _last_applied(folded, records))
        if touch is _WRITTEN:
            base, image, sequences = view.base, view.image, view.sequences
            expect = expectation(view)
            if image is not None and sequences is None and (expect is ABSENT or not cast("StoredRow", base).sequences):
                # most rows
                writes.append(RowWrite(view.row_key, _PUT, image, expect, source, None, expires))
                continue
            written = _written(view, source, expires, tombstone)
            if written is not None:
                writes.append(written)
            else:
                checks.append(RowCheck(view.row_key, ABSENT))
        elif touch is _ADDED:
            writes.append(RowWrite(view.row_key, _ADD, view.amounts, None, source, None, expires))
        elif touch is _READ and not _only_mine(view, label):
            checks.append(RowCheck(view.row_key, expectation(view)))
    return tuple(writes), tuple(checks)


_READ, _ADDED, _WRITTEN = Touch.READ, Touch.ADDED, Touch.WRITTEN
_PUT, _ADD = WriteKind.PUT, WriteKind.ADD


def _written(view: View, source: str, expires: int | None, tombstone: int) -> RowWrite | None:
    expect = expectation(view)
    sequences = view.sequences
    if sequences is None and isinstance(view.base, StoredRow) and view.base.sequences:
        sequences = view.base.sequences
    if view.image is not None:
        return RowWrite(view.row_key, WriteKind.PUT, view.image, expect, source, sequences, expires)
    if sequences:
        return RowWrite(view.row_key, WriteKind.PUT, None, expect, source, sequences, tombstone)
    if expect == ABSENT:
        return None
    return RowWrite(view.row_key, WriteKind.DELETE, None, expect, source)


def _last_applied(folded: Folded, records: list[Record]) -> Record:
    """Return the newest applied record, else any event, else the last: for a row no single event is known to touch."""
    for index in range(len(records) - 1, -1, -1):
        if folded.verdicts[index] is None:
            return records[index]
    return next((record for record in reversed(records) if type(record) is Event), records[-1])


def provenance(shard_label: str, record: Record) -> str:
    """Return `_src`: the shard, position and event id that a row was last touched by."""
    event_id = record.id if type(record) is Event else ""
    position = record.position
    match len(position):
        case 1:
            return f"{shard_label}@{position[0]}#{event_id}"
        case 2:
            return f"{shard_label}@{position[0]}.{position[1]}#{event_id}"
        case _:
            return f"{shard_label}@{position_text(position)}#{event_id}"


def shard_of(source: str) -> str:
    """Return the shard label inside a `_src`."""
    found = _SOURCE(source)
    return found[1] if found else ""


_SOURCE = re.compile(r"(.*?)@(?:start|[0-9.]+)#", re.DOTALL).match


def expectation(view: View) -> Expectation:
    """Return what the row behind a loaded view must still be."""
    base = view.base
    return Expectation(base.version, base.source) if isinstance(base, StoredRow) else ABSENT


def _only_mine(view: View, label: str) -> bool:
    """Tell whether this shard alone writes a row: its own partial, or a projection's own row from this source only."""
    base = view.base
    if not isinstance(base, StoredRow) or shard_of(base.source) != label:
        return False
    if view.row_key.view != MAIN_VIEW:
        return view.row_key.view.endswith(f"@{label}")
    return len(base.sequences) < 2  # noqa: PLR2004 - one source, or none recorded


def _dead_letters(folded: Folded, records: list[Record], context: PlanContext) -> tuple[DeadLetter, ...]:
    letters: dict[tuple[Position, str], DeadLetter] = {}
    for index, failure in sorted(folded.failures.items()):
        if folded.verdicts[index] is not Verdict.PARKED:
            letter = dead_letter(records[index], failure, context.now)
            letters.setdefault((letter.position, letter.event_id), letter)
    return tuple(letters.values())


def dead_letter(record: Record, failure: Failure, now: datetime) -> DeadLetter:
    """Return the dead letter of a record."""
    raw = record.raw
    digest = blake2b(raw, digest_size=DIGEST_BYTES)
    no_id = "" if record.position else digest.hexdigest()  # a queue's bad records are told apart by what they hold
    return DeadLetter(
        position=record.position,
        event_id=record.id if isinstance(record, Event) else no_id,
        key=record.key if isinstance(record, Event) else "",
        reason=failure.reason,
        detail=failure.detail,
        handler=failure.handler,
        payload=raw if len(raw) <= INLINE_PAYLOAD_BYTES else raw[:EXCERPT_BYTES],
        payload_size=len(raw),
        payload_digest=digest.digest(),
        at=now,
    )


def _parked(folded: Folded, records: list[Record], context: PlanContext) -> tuple[ParkedEvent, ...]:
    if Verdict.PARKED not in folded.kinds:
        return ()
    parked: list[ParkedEvent] = []
    told: set[str] = set()
    for index, verdict in enumerate(folded.verdicts):
        if verdict is not Verdict.PARKED:
            continue
        record = records[index]
        if isinstance(record, BadRecord):
            continue
        first = folded.newly_parked.get(record.key)
        if record.key in told:
            first = None
        told.add(record.key)
        reason, detail = (first.reason, first.detail) if first else ("", "")
        parked.append(ParkedEvent(record.key, record.position, record.id, record.raw, reason, detail, context.now))
    return tuple(parked)


def _checkpoint_after(commit: Commit, folded: Folded, chunk: Chunk, context: PlanContext) -> Checkpoint:
    before = context.before
    whole = folded.count == len(chunk.records)
    position = chunk.through if whole else chunk.records[folded.count - 1].position if folded.count else before.position
    watermark = before.watermark
    if folded.watermark is not None and (watermark is None or folded.watermark > watermark):
        watermark = folded.watermark
    sequence = before.commit_seq + 1
    last = chunk.records[folded.count - 1] if folded.count else None
    return replace(
        before,
        commit_seq=sequence,
        commit_id=context.commit_id,
        position=max(position, before.position),
        incarnation=context.identify(last, position) or before.incarnation,
        dead_run=context.dead_run,
        watermark=watermark,
        caught_up=before.caught_up or (whole and chunk.at_end),
        segment=before.segment if commit.segment is None else commit.segment.number,
        segment_seq=before.segment_seq if commit.segment is None else sequence,
        parked_seq=sequence if commit.parked else before.parked_seq,
        counters=counted(before.counters, _counts(commit, folded)),
    )


def _counts(commit: Commit, folded: Folded) -> dict[str, int]:
    verdicts = folded.verdicts
    by_verdict = {verdict: verdicts.count(verdict) for verdict in folded.kinds if verdict is not None}
    duplicates = sum(by_verdict.get(verdict, 0) for verdict in DUPLICATES)
    parked = len(commit.parked)
    dead = sum(1 for index in folded.failures if verdicts[index] is not Verdict.PARKED)
    return {
        "read": len(verdicts),
        "applied": len(verdicts) - duplicates - dead - parked,
        "duplicate_position": by_verdict.get(Verdict.DUPLICATE_POSITION, 0),
        "duplicate_marker": by_verdict.get(Verdict.DUPLICATE_MARKER, 0),
        "duplicate_version": by_verdict.get(Verdict.DUPLICATE_VERSION, 0),
        "dead_lettered": dead,
        "parked": parked,
        "commits": 1,
        "rows": len(commit.rows),
        "effects": len(commit.effects),
    }


def actions_of(commit: Commit) -> Iterable[Action]:
    """Iterate the items a commit touches, the checkpoint first."""
    yield commit.checkpoint
    yield from commit.rows
    yield from commit.checks
    yield from commit.markers
    if commit.segment is not None:
        yield commit.segment
    yield from commit.effects
    yield from commit.dead_letters
    yield from commit.parked
    yield from commit.settles
    yield from commit.skips
    yield from commit.outcomes


def count_actions(commit: Commit) -> tuple[int, int]:
    """Count the items a commit touches, and those among them that every commit of its kind touches."""
    fixed = 1 + (commit.segment is not None)
    return (
        fixed + len(commit.rows) + len(commit.checks) + len(commit.markers)
        + len(commit.effects) + len(commit.dead_letters) + len(commit.parked)
        + len(commit.settles) + len(commit.skips) + len(commit.outcomes)
    ), fixed  # fmt: skip


def _beyond_limits(commit: Commit, count: int, limits: Limits) -> Oversize | None:
    """Return why the commit exceeds the store's limits, None when it fits."""
    if limits.actions is not None:
        actions, fixed = count_actions(commit)
        if actions > limits.actions:
            oversize = _oversize(count, actions, limits.actions, "actions in one transaction")
            return replace(oversize, actions=actions, fixed=fixed)
    if limits.measure is None or _fits_at_a_glance(commit, limits):
        return None
    total = 0
    for action in actions_of(commit):
        try:
            size = limits.measure(action)
        except EventProblem as problem:
            return Oversize(max(1, count // 2), Failure(problem.reason, problem.detail))
        if limits.item_bytes is not None and size > limits.item_bytes:
            return _oversize(count, size, limits.item_bytes, f"bytes in one item ({_name(action)})")
        total += size
    if limits.transaction_bytes is not None and total > limits.transaction_bytes:
        return _oversize(count, total, limits.transaction_bytes, "bytes in one transaction")
    return None


def _fits_at_a_glance(commit: Commit, limits: Limits) -> bool:
    total = None if limits.bound is None else limits.bound(commit)
    return total is not None and all(
        total <= most for most in (limits.item_bytes, limits.transaction_bytes) if most is not None
    )


def _oversize(count: int, value: int, limit: int, what: str) -> Oversize:
    detail = f"{value} {what} exceed the store's limit of {limit}; split the row or the event"
    suggest = max(1, min(count - 1, count * limit * 9 // (value * 10)))
    return Oversize(suggest, Failure("too-large", detail))


def _name(action: Action) -> str:
    key = getattr(action, "key", None)
    return f"row {key.view}/{key.key:.80}" if isinstance(key, RowKey) else type(action).__name__


def retention_horizon(watermark: datetime | None, retention: timedelta) -> datetime | None:
    """Return the event time before which markers prove nothing."""
    return None if watermark is None else watermark - retention
