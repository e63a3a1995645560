"""Re-delivery: what of a range of the log is folded again, and what a commit makes of it. Pure.

Theory of operation. Every record of the range lies at or below the live position of its own shard, so its position
proves that it was settled: it is counted and left alone, unless it is listed as dead-lettered, parked or skipped. What
is listed is judged by the next layers (its marker, its entity's sequence number) and folded once; the commit that
applies it removes it from its list and moves the cursor. An event's own listing proves that it was not applied, so the
marker that its dead-lettering or parking left behind does not speak against it.

The same holds when a person retries a dead letter or releases a key: an entry is an entry, whoever asked for it.

Invariants: an entry is removed in the commit that applies it; the live position, the run of dead letters and the log's
incarnation never change here; an event of a parked key is folded only when none of that key waits before it; what
cannot be proven new stays where it is, with the reason.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from daemon.core.checkpoint import Checkpoint, CheckpointState, counted
from daemon.core.commit import Commit
from daemon.core.cursor import CursorState, Redelivery
from daemon.core.dedup import Judged, Verdict, id_digest
from daemon.core.events import BadRecord, Event, Record
from daemon.core.fold import Failure
from daemon.core.positions import Position, position_text
from daemon.core.projection import Dedup, ProjectionSpec
from daemon.core.waiting import (
    LetterNote,
    LetterRef,
    ParkedNote,
    ParkedRef,
    SkipRef,
    Waiting,
)
from daemon.core.window import PAYLOAD_BYTES

# ---------------------------------------------------------------------------------------------- beginning and ending


@dataclass(frozen=True, slots=True)
class Order:
    """A wish for a re-delivery of one shard: after one position, up to another (None: to where the shard stands)."""

    id: str
    command: str
    after: Position
    until: Position | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a re-delivery is not begun or ended. `conflict`: another one is in the way."""

    reason: str
    remedy: str
    conflict: bool = False


def begun(checkpoint: Checkpoint, order: Order) -> Checkpoint | Refusal:
    """Return the checkpoint with its second cursor set; the same order again changes nothing.

    A range is cut to what this generation has settled: nothing before its origin, nothing past its live position.
    """
    held = checkpoint.redelivery
    if held is not None and held.id == order.id:
        return checkpoint
    if held is not None and held.active:
        return Refusal(
            f"{held.command} {held.id} is under way on this shard: it has come from {position_text(held.after)} to "
            f"{position_text(held.position)} and goes up to {position_text(held.until)}",
            "wait for its end (`replay status`), or end it (`replay abort`)",
            conflict=True,
        )
    if checkpoint.state is CheckpointState.DONE:
        return Refusal("the shard has ended and nobody follows it any more", "rebuild the projection")
    after = max(order.after, checkpoint.origin)
    until = checkpoint.position if order.until is None else min(order.until, checkpoint.position)
    if after >= until:
        return Refusal(
            f"nothing was settled after {position_text(after)} up to {position_text(until)}: the shard began at "
            f"{position_text(checkpoint.origin)} and stands at {position_text(checkpoint.position)}",
            "name an earlier beginning, or a later end",
        )
    cursor = Redelivery(order.id, order.command, after, until, after, order.at)
    return replace(checkpoint, redelivery=cursor)


def aborted(checkpoint: Checkpoint, reason: str, at: datetime) -> Checkpoint | Refusal:
    """Return the checkpoint with its re-delivery ended; what that applied stays applied."""
    held = checkpoint.redelivery
    if held is None or not held.active:
        last = "there was none" if held is None else f"{held.command} {held.id} is {held.state}"
        return Refusal(f"no re-delivery is under way on this shard: {last}", "nothing needs to be done")
    return replace(checkpoint, redelivery=replace(held, state=CursorState.ABORTED, ended=at, reason=reason))


def advanced(cursor: Redelivery, position: Position, tally: Mapping[str, int], at: datetime) -> Redelivery:
    """Return the cursor moved to `position`; at its end it is done."""
    done = position >= cursor.until
    return replace(
        cursor,
        position=min(position, cursor.until),
        counters=counted(cursor.counters, tally),
        state=CursorState.DONE if done else cursor.state,
        ended=at if done else None,
    )


# ------------------------------------------------------------------------------------------------------- what waits


class Origin(StrEnum):
    """Why an event below the live position was not applied."""

    DEAD = "dead-lettered"
    PARKED = "parked"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that waits. `ref` names its dead letter or parked event; a skipped one has none.

    `reason`: why it was dead-lettered. `counted`: it is in the checkpoint's `read`.
    """

    record: Record
    origin: Origin
    ref: LetterRef | ParkedRef | None = None
    reason: str = ""
    counted: bool = True


type Left = tuple[Entry, Failure]
"""An entry that stays where it is, and why."""

LATE_REASON, CONFLICT_REASON = Verdict.LATE.value, Verdict.CONFLICT.value


def event_id_of(record: Record) -> str:
    """Return the id by which a record is listed; a record that is no event has none."""
    return record.id if isinstance(record, Event) else ""


class Listing:
    """What waits in one scope, found by position. Kept up to date by the shard's owner."""

    __slots__ = ("_at", "_letters", "_parked", "queues", "skipped")

    def __init__(self, waiting: Waiting) -> None:
        """Take in what was read."""
        self._letters: dict[LetterRef, LetterNote] = {note.ref: note for note in waiting.letters}
        self._parked = {LetterRef(note.position, note.event_id): note for note in waiting.parked}
        self.queues: dict[str, list[ParkedRef]] = {
            key: [note.ref for note in queue] for key, queue in waiting.queues.items()
        }
        self.skipped = list(waiting.skipped)
        self._at = {place.position for place in (*self._letters, *self._parked)}

    def next_after(self, position: Position) -> Position | None:
        """Return a position below which, after this one, nothing waits; None where nothing does at all.

        It is that of the next entry, or the position itself where a skipped range goes on or begins right behind it.
        """
        if any(one.after <= position < one.through for one in self.skipped):
            return position
        places = [place for place in self._at if place > position]
        places += [one.after for one in self.skipped if one.after > position]
        return min(places, default=None)

    def entries(self, records: Sequence[Record]) -> list[Entry]:
        """Return those of consecutive records that wait."""
        if not records:
            return []
        low, high = records[0].position, records[-1].position
        ranges = [one for one in self.skipped if one.after < high and one.through >= low]
        if not ranges and not any(low <= position <= high for position in self._at):
            return []
        found: list[Entry] = []
        for record in records:
            place = LetterRef(record.position, event_id_of(record))
            letter, parked = self._letters.get(place), self._parked.get(place)
            if letter is not None:
                found.append(Entry(record, Origin.DEAD, letter.ref, letter.reason))
            elif parked is not None:
                found.append(Entry(record, Origin.PARKED, parked.ref, parked.reason))
            else:
                one = next((one for one in ranges if one.after < record.position <= one.through), None)
                if one is not None:
                    found.append(Entry(record, Origin.SKIPPED, counted=one.counted))
        return found

    def settle(self, commit: Commit) -> set[str]:
        """Take in what a commit of this shard changed; return the keys that are no longer parked."""
        cleared: set[str] = set()
        for settle in commit.settles:
            if settle.keep is not None:
                continue
            match settle.ref:
                case LetterRef():
                    self._letters.pop(settle.ref, None)
                case ParkedRef(key=key, position=position, event_id=event_id):
                    self._parked.pop(LetterRef(position, event_id), None)
                    queue = [ref for ref in self.queues.get(key, ()) if ref != settle.ref]
                    self.queues[key] = queue
                    if not queue:
                        del self.queues[key]
                        cleared.add(key)
                case SkipRef(through=through):
                    self.skipped = [one for one in self.skipped if one.through != through]
        for letter in commit.dead_letters:
            note = LetterNote(
                letter.position, letter.event_id, letter.key, letter.reason, letter.handler, letter.at, letter.wish
            )
            self._letters.setdefault(letter.ref, note)
            self._at.add(letter.position)
        for event in commit.parked:
            note = ParkedNote(event.key, event.position, event.event_id, event.reason, event.at, event.wish)
            if self._parked.setdefault(LetterRef(event.position, event.event_id), note) is note:
                self.queues[event.key] = sorted([*self.queues.get(event.key, ()), event.ref])
            self._at.add(event.position)
            cleared.discard(event.key)
        for one in commit.skips:
            kept = [other for other in self.skipped if other.through != one.through]
            self.skipped = sorted([*kept, one], key=lambda each: each.through)
        return cleared


# -------------------------------------------------------------------------------------------------------- judgement


@dataclass(slots=True)
class Sorted:
    """Entries that are folded, with their verdicts, and those that stay where they are."""

    entries: list[Entry] = field(default_factory=list[Entry])
    verdicts: list[Verdict | None] = field(default_factory=list[Verdict | None])
    marks: dict[int, bytes] = field(default_factory=dict[int, bytes])
    own: set[int] = field(default_factory=set[int])
    """Indices of those whose marker stands already, left by their own dead-lettering or parking."""
    left: list[Left] = field(default_factory=list[Left])
    freed: set[str] = field(default_factory=set[str])
    """Keys that are parked, of which entries are folded all the same: nothing of them waits before."""

    @property
    def judged(self) -> Judged:
        """What the fold is given."""
        return Judged([entry.record for entry in self.entries], list(self.verdicts), dict(self.marks))

    @property
    def accepts(self) -> dict[int, frozenset[Verdict]]:
        """What sequence numbers may say of entries that are known not to have been applied."""
        return {
            index: _ACCEPTED[entry.origin]
            for index, entry in enumerate(self.entries)
            if entry.origin in _ACCEPTED and self.verdicts[index] is None
        }


_ACCEPTED = {
    # Its number was advanced past when it was dead-lettered, or could not be read then.
    Origin.DEAD: frozenset({Verdict.GAP, Verdict.DUPLICATE_VERSION}),
    # Whoever releases a key that a gap parked gives the missing event up.
    Origin.PARKED: frozenset({Verdict.GAP}),
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known about markers. `marked` returns the payload digest (16 or 4 bytes) that an event's id is marked by.

    `horizon`: skipped events older than this can no longer be proven new, None: all can, or a person decided.
    """

    spec: ProjectionSpec
    marked: Callable[[Event], bytes | None]
    horizon: datetime | None = None


def sort_out(
    entries: Iterable[Entry], proof: Proof, queues: Mapping[str, Sequence[ParkedRef]], *, asked: bool
) -> Sorted:
    """Say of each entry whether it is folded now, and what its marker says. `asked`: a person named these entries.

    `queues` are the parked events of every parked key, in order.
    """
    result = Sorted()
    heads = {key: list(queue) for key, queue in queues.items()}
    fresh: dict[str, bytes] = {}
    for entry in entries:
        held = _held_back(entry, proof, heads, asked=asked)
        if isinstance(held, Failure):
            result.left.append((entry, held))
            continue
        verdict = Verdict.PARKED if held else None
        if isinstance(entry.record, Event):
            late = _judge_event(result, entry, entry.record, proof, fresh, queues=held)
            if late is not None:
                result.left.append((entry, late))
                continue
            verdict = result.verdicts.pop()
            key = _key_of(entry, proof.spec)
            if key in heads and not held:
                result.freed.add(key)
        if isinstance(entry.ref, ParkedRef):
            heads[entry.ref.key] = [ref for ref in heads[entry.ref.key] if ref != entry.ref]
        result.entries.append(entry)
        result.verdicts.append(verdict)
    return result


def _judge_event(
    result: Sorted, entry: Entry, event: Event, proof: Proof, fresh: dict[str, bytes], *, queues: bool
) -> Failure | None:
    """Append what the event's marker says to `result.verdicts`, or return why it can be proven nothing."""
    index = len(result.entries)
    verdict = Verdict.PARKED if queues else None
    # Only what was marked when it was listed has a marker of its own: no late event, and no record that was no event.
    own = entry.ref is not None and entry.ref.event_id == event.id and entry.reason != LATE_REASON
    before = fresh.get(event.id)
    marked = before or proof.marked(event)
    if marked is not None and event.digest[: len(marked)] != marked:
        verdict = Verdict.CONFLICT
    elif before is not None or (marked is not None and not own):
        verdict = Verdict.DUPLICATE_MARKER
    else:
        if marked is not None:
            result.own.add(index)
        elif _is_late(entry, proof):
            return _unproven(entry, proof)
        elif proof.spec.dedup is Dedup.SHARD:
            result.marks[index] = id_digest(event.id) + event.digest[:PAYLOAD_BYTES]
        fresh[event.id] = event.digest
        if queues:
            event.key = _key_of(entry, proof.spec)
    result.verdicts.append(verdict)
    return None


def _held_back(entry: Entry, proof: Proof, heads: Mapping[str, Sequence[ParkedRef]], *, asked: bool) -> Failure | bool:
    """Tell why an entry stays where it is, or whether it has to queue behind its parked key."""
    if entry.reason == CONFLICT_REASON:
        detail = (
            "its id was applied before with another payload; discard it, or publish it again under an id of its own"
        )
        return Failure(CONFLICT_REASON, detail)
    if entry.reason == LATE_REASON and not asked:
        return _unproven(entry, proof)
    key = _key_of(entry, proof.spec)
    waits_before = any(ref.position < entry.record.position for ref in heads.get(key, ()))
    if not waits_before:
        return False
    if entry.origin is Origin.SKIPPED:
        return True
    if entry.origin is Origin.PARKED:
        return Failure(entry.reason, "earlier events of its key wait before it: they have to be applied first")
    return Failure(
        entry.reason, f"key {key!r:.200} is parked and earlier events of it wait; release it first (`keys release`)"
    )


def _key_of(entry: Entry, spec: ProjectionSpec) -> str:
    """Return an entry's key as far as it can be told: the fold meets the same error and judges it."""
    if isinstance(entry.ref, ParkedRef):
        return entry.ref.key
    record = entry.record
    if isinstance(record, BadRecord):
        return ""
    try:
        upcast = spec.upcasters.get(record.type)
        return spec.key(upcast(record) if upcast else record)
    except MemoryError:
        raise
    except BaseException:  # noqa: BLE001 - a user's function; see above
        return ""


def _is_late(entry: Entry, proof: Proof) -> bool:
    record = entry.record
    return (
        proof.horizon is not None
        and isinstance(record, Event)
        and record.moment is not None
        and record.moment < proof.horizon
    )


def _unproven(entry: Entry, proof: Proof) -> Failure:
    detail = (
        f"it lies further behind the watermark than markers are kept ({proof.spec.marker_retention}), so that none can "
        "prove it new"
    )
    remedy = "retry it by name" if entry.origin is Origin.DEAD else "raise marker_retention, or rebuild the projection"
    return Failure(LATE_REASON, f"{detail}; {remedy}")
