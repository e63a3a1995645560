"""What a commit makes of entries that were folded late: what is settled, what stays, what is counted. Pure.

Owns the accounts of re-delivery, retries and releases. Must not know how entries are judged (`daemon.core.redelivery`).

Invariants: every entry ends as exactly one thing, and moves from one counter to another; the live position, the run of
dead letters and the log's incarnation never change here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from daemon.core.checkpoint import Checkpoint, counted
from daemon.core.commit import Commit, ParkedEvent
from daemon.core.dedup import DUPLICATES, Verdict
from daemon.core.events import Event
from daemon.core.fold import Failure, Folded
from daemon.core.planner import Planned
from daemon.core.positions import Position
from daemon.core.projection import OnError
from daemon.core.redelivery import Entry, Left, Origin, event_id_of
from daemon.core.waiting import Amended, LetterRef, ParkedRef, Settle, SkippedRange, SkipRef, shrunk


@dataclass(slots=True)
class Late:
    """What a commit makes of entries. `counts` are the checkpoint's counters, `tally` the cursor's."""

    settles: list[Settle] = field(default_factory=list[Settle])
    parked: list[ParkedEvent] = field(default_factory=list[ParkedEvent])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    tally: dict[str, int] = field(default_factory=dict[str, int])
    kept: set[LetterRef] = field(default_factory=set[LetterRef])
    """Places whose failure makes no dead letter: it stands already, or the event is parked."""
    stuck: set[str] = field(default_factory=set[str])
    """Keys whose first event failed again."""
    failures: list[Left] = field(default_factory=list[Left])

    def count(self, **changes: int) -> None:
        """Add to the checkpoint's counters."""
        self.counts = counted(self.counts, changes)

    def note(self, name: str, count: int = 1) -> None:
        """Add to the cursor's counters."""
        self.tally[name] = self.tally.get(name, 0) + count


_COUNTER = {Origin.DEAD: "dead_lettered", Origin.PARKED: "parked", Origin.SKIPPED: "skipped"}
_LATE = {Origin.DEAD: "late_dead_lettered", Origin.PARKED: "late_parked", Origin.SKIPPED: "late_skipped"}
_DUPLICATE = {
    Verdict.DUPLICATE_POSITION: "duplicate_position",
    Verdict.DUPLICATE_MARKER: "duplicate_marker",
    Verdict.DUPLICATE_VERSION: "duplicate_version",
}


def late_of(folded: Folded, entries: Sequence[Entry], on_error: OnError, now: datetime) -> Late:
    """Return what becomes of the entries that a fold went through. `on_error` is the projection's own."""
    late = Late()
    for index, verdict in enumerate(folded.verdicts):
        entry = entries[index]
        if verdict is None:
            _settle(late, entry, "applied", _LATE[entry.origin])
        elif verdict in DUPLICATES:
            _settle(late, entry, _DUPLICATE[verdict], _DUPLICATE[verdict])
        elif verdict is Verdict.PARKED:
            _settle(late, entry, "parked", "failed")
        else:
            _failed(late, entry, folded.failures[index], verdict, on_error, now)
    return late


def _settle(late: Late, entry: Entry, counter: str, tally: str) -> None:
    """Take an entry off its list and count what it came to."""
    if entry.ref is not None:
        late.settles.append(Settle(entry.ref))
    if entry.counted:
        late.count(**{_COUNTER[entry.origin]: -1})
    else:
        late.count(read=1)
    late.count(**{counter: 1})
    late.note(tally)


def _failed(late: Late, entry: Entry, failure: Failure, verdict: Verdict, on_error: OnError, now: datetime) -> None:
    record, origin, ref = entry.record, entry.origin, entry.ref
    parks = on_error is OnError.PARK_KEY and verdict is Verdict.FAILED
    late.failures.append((entry, failure))
    if origin is Origin.DEAD or (origin is Origin.PARKED and parks):
        late.kept.add(LetterRef(record.position, event_id_of(record)))
        if ref is not None:
            late.settles.append(Settle(ref, Amended(failure.reason, failure.detail, failure.handler)))
        if isinstance(ref, ParkedRef):
            late.stuck.add(ref.key)
        late.note("failed")
    elif origin is Origin.SKIPPED and parks and isinstance(record, Event) and record.key:
        late.kept.add(LetterRef(record.position, record.id))
        late.parked.append(
            ParkedEvent(record.key, record.position, record.id, record.raw, failure.reason, failure.detail, now)
        )
        late.stuck.add(record.key)
        _settle(late, entry, "parked", "failed")
    else:
        _settle(late, entry, "dead_lettered", "failed")


def cut(folded: Folded, entries: Sequence[Entry], on_error: OnError) -> int:
    """Return how many entries may be committed together: none after one whose failure parks its key."""
    if on_error is not OnError.PARK_KEY:
        return folded.count
    for index in sorted(folded.failures):
        if (
            index < folded.count
            and folded.verdicts[index] is Verdict.FAILED
            and entries[index].origin is not Origin.DEAD
        ):
            return index + 1
    return folded.count


def late_commit(planned: Planned, late: Late, own: Iterable[int], before: Checkpoint) -> Commit:
    """Return a planned commit as one of entries: nothing of the live cursor moves but the watermark."""
    commit, records = planned.commit, planned.folded.judged.records
    marked = {record.id for index in own if isinstance(record := records[index], Event)}
    counts = {name: len(getattr(commit, name)) for name in ("rows", "effects")}
    checkpoint = replace(
        commit.checkpoint,
        position=before.position,
        incarnation=before.incarnation,
        caught_up=before.caught_up,
        dead_run=before.dead_run,
        counters=counted(before.counters, {**late.counts, **counts, "commits": 1}),
    )
    commit = replace(
        commit,
        checkpoint=checkpoint,
        markers=tuple(marker for marker in commit.markers if marker.event_id not in marked),
        dead_letters=tuple(letter for letter in commit.dead_letters if letter.ref not in late.kept),
        parked=(*commit.parked, *late.parked),
    )
    return replace(commit, checkpoint=parking(commit))


def parking(commit: Commit) -> Checkpoint:
    """Return a commit's checkpoint, naming the commit where it changes parked keys."""
    changes = bool(commit.parked) or any(isinstance(settle.ref, ParkedRef) for settle in commit.settles)
    checkpoint = commit.checkpoint
    return replace(checkpoint, parked_seq=checkpoint.commit_seq) if changes else checkpoint


def passed(
    ranges: Sequence[SkippedRange], after: Position, through: Position, left: Sequence[tuple[Position, Position]]
) -> tuple[list[Settle], list[SkippedRange]]:
    """Return what a commit does to skipped ranges once all between two positions is settled, but for what is `left`."""
    settles: list[Settle] = []
    skips: list[SkippedRange] = []
    for one in ranges:
        pieces = shrunk(one, after, through, left)
        if pieces == [one]:
            continue
        if all(piece.through != one.through for piece in pieces):
            settles.append(Settle(SkipRef(one.through)))
        skips += [piece for piece in pieces if piece != one]
    return settles, skips
