"""The whole Store port in memory: strict, atomic, with scripted faults.

Owns what a database would; `MemoryData` is the database and outlives its handles, so that two stores on one
`MemoryData` are two processes on one file. Must not know who calls it.

Invariants: a commit checks everything before it changes anything; what comes in and goes out is copied, so that nobody
holds the store's own values; a fault answers instead of one commit and is then gone.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import anyio
import anyio.lowlevel

from daemon.core.checkpoint import Checkpoint, Fence, check_over
from daemon.core.commit import (
    Action,
    Commit,
    Committed,
    DeadLetter,
    Duplicate,
    Fenced,
    Limits,
    Outcome,
    ParkedEvent,
    Rejected,
    RowMoved,
    TooLarge,
    Unknown,
    Unlisted,
)
from daemon.core.errors import EventProblem, StoreProblem, StoreRefused
from daemon.core.generations import GenerationRecord
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.inventory import Part, PartState
from daemon.core.leases import Presence
from daemon.core.operations import Operation, ShardOutcome, Standing, check_seen
from daemon.core.planner import actions_of
from daemon.core.positions import Position
from daemon.core.projection import Index
from daemon.core.rows import ABSENT, Effect, Expectation, RowCheck, RowWrite, StoredRow, WriteKind
from daemon.core.values import add_exact
from daemon.core.waiting import (
    LetterNote,
    LetterRef,
    ParkedNote,
    ParkedRef,
    Ref,
    Settle,
    SkippedRange,
    SkipRef,
    Waiting,
    Wish,
)
from daemon.core.window import ENTRY_BYTES, StoredSegment


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """A fault: no answer comes. `applied`: the commit took effect all the same."""

    applied: bool


type Fault = Outcome | LostAnswer | StoreProblem | Callable[[Commit], Outcome | LostAnswer | StoreProblem | None]
"""What the next commit meets: an outcome, a lost answer, an error, or a function that chooses (None: nothing)."""


@dataclass(slots=True)
class MemoryData:
    """What the handles share: the database."""

    generations: dict[Generation, GenerationRecord] = field(default_factory=dict[Generation, GenerationRecord])
    checkpoints: dict[Scope, Checkpoint] = field(default_factory=dict[Scope, Checkpoint])
    rows: dict[tuple[Generation, RowKey], StoredRow] = field(default_factory=dict[tuple[Generation, RowKey], StoredRow])
    row_expiry: dict[tuple[Generation, RowKey], int] = field(default_factory=dict[tuple[Generation, RowKey], int])
    markers: dict[tuple[Generation, str], tuple[bytes, int]] = field(
        default_factory=dict[tuple[Generation, str], tuple[bytes, int]]
    )
    segments: dict[Scope, dict[int, StoredSegment]] = field(default_factory=dict[Scope, dict[int, StoredSegment]])
    effects: dict[Generation, dict[str, Effect]] = field(default_factory=dict[Generation, dict[str, Effect]])
    dead: dict[Scope, dict[tuple[Position, str], DeadLetter]] = field(
        default_factory=dict[Scope, dict[tuple[Position, str], DeadLetter]]
    )
    parked: dict[Scope, list[ParkedEvent]] = field(default_factory=dict[Scope, list[ParkedEvent]])
    skipped: dict[Scope, dict[Position, SkippedRange]] = field(
        default_factory=dict[Scope, dict[Position, SkippedRange]]
    )
    presences: dict[str, Presence] = field(default_factory=dict[str, Presence])
    standings: dict[Generation, Standing] = field(default_factory=dict[Generation, Standing])
    operations: dict[Generation, list[Operation]] = field(default_factory=dict[Generation, list[Operation]])
    outcomes: dict[tuple[Scope, int], ShardOutcome] = field(default_factory=dict[tuple[Scope, int], ShardOutcome])


class MemoryStore:
    """A Store over a `MemoryData`.

    `faults` is a queue: each commit takes one. `gate`: while set to an unset event, commits wait in flight, not yet
    applied. `commits` keeps every request that arrived, with its attempt.
    """

    def __init__(self, data: MemoryData | None = None, limits: Limits | None = None) -> None:
        """Stand on `data` (default: an empty database)."""
        self.data = MemoryData() if data is None else data
        self._limits = limits or Limits()
        self.faults: deque[Fault] = deque()
        self.gate: anyio.Event | None = None
        self.commits: list[tuple[Commit, int]] = []
        self._opened = False

    @property
    def limits(self) -> Limits:
        """What one transaction may hold."""
        return self._limits

    async def open(self) -> None:
        """Become usable."""
        await anyio.lowlevel.checkpoint()
        self._opened = True

    async def aclose(self) -> None:
        """Refuse everything from now on; the data stays."""
        self._opened = False
        await anyio.lowlevel.checkpoint()

    async def _arrive(self) -> MemoryData:
        await anyio.lowlevel.checkpoint()
        if not self._opened:
            raise StoreRefused("the store is not open; call open() first")
        return self.data

    async def recorded(self, projections: Collection[str]) -> Mapping[str, Sequence[GenerationRecord]]:
        """List generations by projection."""
        await anyio.lowlevel.checkpoint()
        records = sorted(self.data.generations.values(), key=lambda record: record.generation)
        found = {name: [record for record in records if record.generation.projection == name] for name in projections}
        return {name: kept for name, kept in found.items() if kept}

    async def survey(self, generations: Mapping[Generation, Sequence[Index]]) -> Sequence[Part]:
        """Tell that memory is there."""
        return [Part("memory", "rows, checkpoints and markers", PartState.EXISTS)]

    async def establish(self, generations: Mapping[Generation, Sequence[Index]]) -> None:
        """Do nothing: memory is there."""

    async def generations(self, projection: str) -> Sequence[GenerationRecord]:
        """List a projection's generations, oldest first."""
        data = await self._arrive()
        found = [record for generation, record in data.generations.items() if generation.projection == projection]
        return sorted(found, key=lambda record: record.generation.number)

    async def create_generation(
        self, generation: Generation, version: int, *, live: bool, indexes: Sequence[Index] = ()
    ) -> GenerationRecord:
        """Make a generation's record; idempotent."""
        data = await self._arrive()
        if generation not in data.generations:
            if live:
                for other, record in data.generations.items():
                    if other.projection == generation.projection and record.live:
                        data.generations[other] = GenerationRecord(other, record.version, live=False)
            data.generations[generation] = GenerationRecord(generation, version, live)
        return data.generations[generation]

    async def checkpoints(self, generation: Generation) -> Mapping[Scope, Checkpoint]:
        """Read every checkpoint of a generation."""
        data = await self._arrive()
        return {scope: _copied(held) for scope, held in data.checkpoints.items() if scope.of == generation}

    async def read_checkpoint(self, scope: Scope) -> Checkpoint | None:
        """Read one checkpoint."""
        held = (await self._arrive()).checkpoints.get(scope)
        return None if held is None else _copied(held)

    async def take(
        self,
        scope: Scope,
        owner: str,
        initial: Checkpoint,
        over: Fence | None = None,
        *,
        seen: int | None = None,
    ) -> Checkpoint:
        """Raise the epoch in the name of `owner`; again by the same owner, return what stands."""
        data = await self._arrive()
        held = data.checkpoints.get(scope)
        if held is None or held.owner != owner:
            check_over(scope.label, held, over)
            check_seen(scope, data.standings.get(scope.of, Standing()).sequence, seen)
            held = data.checkpoints[scope] = _copied(held or initial).taken(owner)
        return _copied(held)

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        """Apply a commit, whole or not at all, unless a fault answers instead."""
        await self._arrive()
        self.commits.append((commit, attempt))
        if self.gate is not None:
            await self.gate.wait()
        fault = self.faults.popleft() if self.faults else None
        answer = fault(commit) if callable(fault) else fault
        if answer is None:
            return self._apply(commit)
        if isinstance(answer, StoreProblem):
            raise answer
        if isinstance(answer, LostAnswer):
            if answer.applied:
                self._apply(commit)
            return Unknown("no answer came (scripted)")
        return answer

    def _apply(self, commit: Commit) -> Outcome:
        data = self.data
        held = data.checkpoints.get(commit.scope)
        if held is None or held.fence != commit.fence:
            if held is not None and held.commit_id == commit.commit_id and held.epoch == commit.fence.epoch:
                return Committed()
            return Fenced(None if held is None else _copied(held))
        too_large = beyond(commit, self._limits)
        if too_large is not None:
            return too_large
        generation = commit.scope.of
        known = {m.event_id: data.markers[generation, m.event_id][0] for m in commit.markers
                 if (generation, m.event_id) in data.markers}  # fmt: skip
        if known:
            return Duplicate(known)
        moved = frozenset(part.key for part in (*commit.rows, *commit.checks) if not self._stands(generation, part))
        if moved:
            return RowMoved(moved)
        unlisted = frozenset(settle.ref for settle in commit.settles if not self._listed(commit.scope, settle.ref))
        if unlisted:
            return Unlisted(unlisted)
        try:
            rows = [(write, self._after(generation, write)) for write in commit.rows]
        except EventProblem as problem:
            return Rejected(str(problem))
        checkpoint, effects, outcomes = _copied(commit.checkpoint), deepcopy(commit.effects), deepcopy(commit.outcomes)
        self._write(replace(commit, checkpoint=checkpoint, effects=effects, outcomes=outcomes), rows)
        return Committed()

    def _stands(self, generation: Generation, part: RowWrite | RowCheck) -> bool:
        if part.expect is None:
            return True
        held = self.data.rows.get((generation, part.key))
        return part.expect == (ABSENT if held is None else Expectation(held.version, held.source))

    def _after(self, generation: Generation, write: RowWrite) -> StoredRow | None:
        held = self.data.rows.get((generation, write.key))
        version, sequences = (held.version, held.sequences) if held else (0, {})
        if write.kind is WriteKind.DELETE:
            return None
        attributes = write.attributes
        if write.kind is WriteKind.ADD:
            before = (held.attributes if held else None) or {}
            sums = {name: add_exact(before.get(name), amount, name) for name, amount in (attributes or {}).items()}
            attributes = {**before, **sums}
        elif write.sequences is not None:
            sequences = write.sequences
        return deepcopy(
            StoredRow(None if attributes is None else dict(attributes), version + 1, write.source, dict(sequences))
        )

    def _write(self, commit: Commit, rows: list[tuple[RowWrite, StoredRow | None]]) -> None:
        data, scope, generation = self.data, commit.scope, commit.scope.of
        for write, row in rows:
            place = (generation, write.key)
            data.row_expiry.pop(place, None)
            if row is None:
                data.rows.pop(place, None)
                continue
            data.rows[place] = row
            if write.expires_at is not None:
                data.row_expiry[place] = write.expires_at
        for marker in commit.markers:
            data.markers[generation, marker.event_id] = (marker.digest, commit.markers_expire_at)
        if commit.segment is not None:
            segments = data.segments.setdefault(scope, {})
            for number in [number for number in segments if number < commit.segment.drop_below]:
                del segments[number]
            segments[commit.segment.number] = StoredSegment(
                commit.segment.number, commit.segment.entries, commit.checkpoint.commit_seq
            )
        for effect in commit.effects:
            data.effects.setdefault(generation, {}).setdefault(effect.id, effect)
        for letter in commit.dead_letters:
            data.dead.setdefault(scope, {}).setdefault((letter.position, letter.event_id), letter)
        data.parked.setdefault(scope, []).extend(commit.parked)
        for settle in commit.settles:
            self._settle(scope, settle)
        for one in commit.skips:
            data.skipped.setdefault(scope, {})[one.through] = one
        for outcome in commit.outcomes:
            data.outcomes[scope, outcome.sequence] = outcome
        data.checkpoints[scope] = commit.checkpoint

    def _listed(self, scope: Scope, ref: Ref) -> bool:
        match ref:
            case LetterRef():
                return ref in self.data.dead.get(scope, {})
            case ParkedRef():
                return any(event.ref == ref for event in self.data.parked.get(scope, ()))
            case SkipRef():
                return ref.through in self.data.skipped.get(scope, {})

    def _settle(self, scope: Scope, settle: Settle) -> None:
        """Remove a waiting entry, or amend it."""
        data, ref, keep = self.data, settle.ref, settle.keep
        changes = {} if keep is None else {"reason": keep.reason, "detail": keep.detail, "wish": keep.wish}
        match ref:
            case LetterRef():
                letter = data.dead[scope].pop(ref)
                if keep is not None:
                    data.dead[scope][ref] = replace(letter, handler=keep.handler, **changes)
            case ParkedRef():
                queue = data.parked[scope]
                at = next(index for index, event in enumerate(queue) if event.ref == ref)
                queue[at : at + 1] = [] if keep is None else [replace(queue[at], **changes)]
            case SkipRef():
                del data.skipped[scope][ref.through]

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Read rows; every key is in the answer."""
        data = await self._arrive()
        return {key: deepcopy(data.rows.get((generation, key))) for key in keys}

    async def find_markers(self, generation: Generation, event_ids: Collection[str]) -> Mapping[str, bytes]:
        """Return the payload digests of those ids that are marked."""
        data = await self._arrive()
        return {name: data.markers[generation, name][0] for name in event_ids if (generation, name) in data.markers}

    async def load_segments(self, scope: Scope, max_ids: int) -> Sequence[StoredSegment]:
        """Return the newest segments that together hold at least `max_ids` ids, oldest first."""
        data = await self._arrive()
        newest: list[StoredSegment] = []
        held = 0
        for _, segment in sorted(data.segments.get(scope, {}).items(), reverse=True):
            if held >= max_ids:
                break
            newest.append(segment)
            held += len(segment.entries) // ENTRY_BYTES
        return newest[::-1]

    async def parked_keys(self, scope: Scope) -> Collection[str]:
        """Return the keys that are parked."""
        return {event.key for event in (await self._arrive()).parked.get(scope, [])}

    async def parked_events(self, scope: Scope, key: str, limit: int) -> Sequence[ParkedEvent]:
        """Return up to `limit` events behind a parked key, in position order."""
        queue = (await self._arrive()).parked.get(scope, [])
        return sorted((event for event in queue if event.key == key), key=lambda event: event.position)[:limit]

    async def dead_letters(self, scope: Scope, limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` dead letters, in position order."""
        letters = (await self._arrive()).dead.get(scope, {})
        return sorted(letters.values(), key=lambda letter: letter.position)[:limit]

    async def waiting(self, scope: Scope) -> Waiting:
        """Read what waits, without payloads."""
        data = await self._arrive()
        letters = [
            LetterNote(one.position, one.event_id, one.key, one.reason, one.handler, one.at, one.wish)
            for one in data.dead.get(scope, {}).values()
        ]
        parked = [
            ParkedNote(one.key, one.position, one.event_id, one.reason, one.at, one.wish)
            for one in data.parked.get(scope, [])
        ]
        skipped = data.skipped.get(scope, {})
        return Waiting(
            sorted(letters, key=lambda note: note.ref),
            sorted(parked, key=lambda note: note.ref),
            [skipped[through] for through in sorted(skipped)],
        )

    async def find_letters(self, scope: Scope, refs: Collection[LetterRef]) -> Sequence[DeadLetter]:
        """Return those of these dead letters that are there, in position order."""
        letters = (await self._arrive()).dead.get(scope, {})
        return [letters[ref] for ref in sorted(refs) if ref in letters]

    async def wish(self, scope: Scope, refs: Collection[LetterRef | ParkedRef], wish: Wish | None) -> int:
        """Note a wish on entries."""
        data = await self._arrive()
        letters, queue, found = data.dead.get(scope, {}), data.parked.get(scope, []), 0
        for ref in refs:
            if isinstance(ref, LetterRef):
                if ref in letters:
                    letters[ref] = replace(letters[ref], wish=wish)
                    found += 1
            else:
                for index, event in enumerate(queue):
                    if event.ref == ref:
                        queue[index] = replace(event, wish=wish)
                        found += 1
        return found

    async def effects(self, generation: Generation, limit: int) -> Sequence[Effect]:
        """Return up to `limit` effects, in commit order."""
        return deepcopy(list((await self._arrive()).effects.get(generation, {}).values())[:limit])

    async def standing(self, generation: Generation) -> Standing:
        """Return where a generation's operations stand."""
        return (await self._arrive()).standings.get(generation, Standing())

    async def accept(self, operation: Operation, after: Standing) -> Operation | None:
        """Write an operation and the standing after it, where it is the next one."""
        data = await self._arrive()
        generation = operation.generation
        held = data.operations.setdefault(generation, [])
        known = next((one for one in held if one.request == operation.request), None)
        if known is not None:
            return known
        if operation.sequence != data.standings.get(generation, Standing()).sequence + 1:
            return None
        held.append(operation)
        data.standings[generation] = after
        return operation

    async def requested(self, generation: Generation, request: str) -> Operation | None:
        """Return the operation that a request became."""
        held = (await self._arrive()).operations.get(generation, [])
        return next((one for one in held if one.request == request), None)

    async def operations(self, generation: Generation, after: int, limit: int) -> Sequence[Operation]:
        """Return later operations, oldest first."""
        return (await self._arrive()).operations.get(generation, [])[after : after + limit]

    async def outcomes(self, generation: Generation, sequence: int) -> Sequence[ShardOutcome]:
        """Return what shards made of an operation."""
        held = (await self._arrive()).outcomes
        return [one for (scope, number), one in sorted(held.items()) if number == sequence and scope.of == generation]

    async def announce(self, presence: Presence) -> None:
        """Keep a replica's presence."""
        (await self._arrive()).presences[presence.replica] = presence

    async def presences(self) -> Mapping[str, Presence]:
        """Return every replica's presence."""
        return dict((await self._arrive()).presences)

    async def forget(self, replica: str) -> None:
        """Remove a replica's presence."""
        (await self._arrive()).presences.pop(replica, None)

    async def expire(self, now_seconds: int) -> int:
        """Remove markers, rows and tombstones whose time has come."""
        data = await self._arrive()
        markers = [place for place, (_, at) in data.markers.items() if at <= now_seconds]
        rows = [place for place, at in data.row_expiry.items() if at <= now_seconds]
        for place in markers:
            del data.markers[place]
        for place in rows:
            del data.rows[place], data.row_expiry[place]
        return len(markers) + len(rows)


def beyond(commit: Commit, limits: Limits) -> TooLarge | None:
    """Return what a store with these limits answers to a commit that breaks one, None when it fits."""
    actions: list[Action] = list(actions_of(commit))
    if limits.actions is not None and len(actions) > limits.actions:
        return TooLarge(f"{len(actions)} actions exceed the limit of {limits.actions}; send fewer events at once")
    if limits.measure is None:
        return None
    sizes = [limits.measure(action) for action in actions]
    if limits.item_bytes is not None and max(sizes) > limits.item_bytes:
        return TooLarge(f"an item of {max(sizes)} bytes exceeds the limit of {limits.item_bytes}; split it")
    if limits.transaction_bytes is not None and sum(sizes) > limits.transaction_bytes:
        return TooLarge(f"{sum(sizes)} bytes exceed the limit of {limits.transaction_bytes}; send fewer events at once")
    return None


def _copied(held: Checkpoint) -> Checkpoint:
    """Return a checkpoint that shares nothing with another that anybody could change."""
    cursor = held.redelivery
    if cursor is not None:
        cursor = replace(cursor, counters=dict(cursor.counters))
    return replace(held, counters=dict(held.counters), redelivery=cursor)
