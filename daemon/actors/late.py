"""Folding what waits: entries below the live position become one commit on top of a settled checkpoint.

Owns the tries of one commit: rows and markers that have to be read first, limits, and answers that only another fold
can clear. Must not know where entries come from (`daemon.actors.redelivery`, `daemon.actors.wishes`).

Invariants: nothing of the live log is in flight or prepared meanwhile, and both share one checkpoint, one row cache and
one marker window; a commit that was applied is taken in before anything else is folded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from daemon.actors.committer import Answer, Committer
from daemon.actors.folder import Folder, overlay_of
from daemon.actors.runtime import Runtime
from daemon.actors.sightings import Sent, tell_answered
from daemon.core.batcher import Chunk
from daemon.core.checkpoint import Checkpoint, counted
from daemon.core.commit import Commit, Committed, Duplicate, Fenced, Rejected, RowMoved, TooLarge, Unlisted
from daemon.core.cursor import Redelivery
from daemon.core.dedup import id_digest
from daemon.core.errors import RowsContended, StoreRefused, Superseded
from daemon.core.events import Event, Record
from daemon.core.fold import Failure, FoldContext, Folded, Missing, fold
from daemon.core.identity import RowKey
from daemon.core.late import Late, cut, late_commit, late_of, parking
from daemon.core.operations import ShardOutcome
from daemon.core.planner import Oversize, PlanContext, Planned, plan
from daemon.core.positions import START, Position
from daemon.core.projection import Dedup, OnError, ProjectionSpec
from daemon.core.redelivery import Entry, Left, Listing, Proof, Sorted, sort_out
from daemon.core.rows import StoredRow
from daemon.core.view import Base
from daemon.core.waiting import Settle, SkippedRange


class ListingMoved(Exception):
    """What waits is not what was read: it is read again."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What a commit does besides applying entries."""

    settles: Sequence[Settle] = ()
    skips: Sequence[SkippedRange] = ()
    cursor: Redelivery | None = None
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    outcomes: Sequence[ShardOutcome] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one commit takes of the entries it was given: up to the position `through`, or `whole`.

    `entries` are folded, `left` stay where they are (those beyond `through` were not come to).
    """

    entries: Sequence[Entry]
    left: Sequence[Left]
    late: Late
    through: Position
    whole: bool


type BesideOf = Callable[[Part], Beside]
"""Says what a commit of a part does besides."""


@dataclass(slots=True)
class Done:
    """What became of a part."""

    part: Part
    commit: Commit


@dataclass(slots=True)
class Desk:
    """What waits in one owned shard, while anybody works on it. Loaded only while nothing is in flight."""

    runtime: Runtime
    folder: Folder
    listing: Listing | None = None

    async def load(self) -> Listing:
        """Read what waits, as it stands now."""
        self.listing = Listing(await self.runtime.store.waiting(self.folder.scope))
        return self.listing

    def noted(self, commit: Commit) -> None:
        """Take in a commit of this shard; a key of which nothing waits any more is parked no longer."""
        if self.listing is not None and (commit.settles or commit.skips or commit.parked or commit.dead_letters):
            self.folder.parked -= self.listing.settle(commit)


@dataclass(slots=True)
class LateFolder:
    """Turns entries of one owned shard into commits."""

    runtime: Runtime
    folder: Folder
    committer: Committer
    spec: ProjectionSpec
    most: int = 0
    """Entries of one commit at most; fewer after one that was too large."""
    _markers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    _condemned: dict[int, Failure] = field(default_factory=dict[int, Failure])
    _fetched: int = 0
    """Rows that were fetched for the newest fold."""

    def __post_init__(self) -> None:
        """Begin with the live log's batches."""
        self.most = self.folder.batcher.policy.max_events

    async def apply(
        self,
        entries: Sequence[Entry],
        listing: Listing,
        beside: BesideOf,
        *,
        asked: bool,
        horizon: datetime | None = None,
    ) -> Done:
        """Fold as many of `entries` as one commit takes, and commit them with what `beside` says for so many.

        `asked`: a person named these entries: handlers and effects are all for them, and age does not matter.
        Raises ListingMoved, Superseded, StoreProblem.
        """
        given = len(entries)
        tried = entries = entries[: self.most]
        stopped: list[Left] = []
        conflicts = 0
        while True:
            proof = await self._proof(entries, horizon)
            sorted_ = sort_out(entries, proof, listing.queues, asked=asked)
            folded = await self._fold(sorted_, redelivery=not asked)
            if isinstance(folded, int):  # it waits for an event that may yet come
                entry = sorted_.entries[folded]
                stopped.append((entry, Failure("gap", "an earlier event of its key is missing")))
                entries = [one for one in entries if one is not entry]
                continue
            late = late_of(folded, sorted_.entries, self.spec.on_error, self.runtime.clock.now())
            all_folded = folded.count == len(sorted_.entries)
            through = (tried[-1] if all_folded else sorted_.entries[folded.count - 1]).record.position
            left = [one for one in (*sorted_.left, *stopped) if one[0].record.position <= through]
            part = Part(sorted_.entries[: folded.count], left, late, through, whole=all_folded and len(tried) == given)
            planned = self._plan(folded, sorted_, part, beside(part))
            if isinstance(planned, Oversize):
                tried = entries = self._halve(entries, planned.failure)
                continue
            commit, rest = planned
            records = [entry.record for entry in part.entries]
            answer = await self._send(Sent(self.folder.checkpoint, commit, records, folded, self._fetched, late=True))
            match answer:
                case Committed():
                    self._settle(commit, rest)
                    return Done(part, commit)
                case Duplicate(markers=markers):
                    self._markers.update(markers)
                case RowMoved(keys=keys):
                    conflicts += 1
                    if conflicts > self.runtime.policy.retry.max_row_conflicts:
                        raise RowsContended(f"{self.folder.scope.label}: rows move under what is applied late: {keys}")
                    for key in keys:
                        self.folder.cache.discard(key)
                case Unlisted():
                    raise ListingMoved
                case TooLarge(detail=detail) | Rejected(detail=detail):
                    reason = "rejected" if isinstance(answer, Rejected) else "too-large"
                    tried = entries = self._halve(entries, Failure(reason, detail))
                case Fenced(checkpoint=now):
                    raise superseded(self.folder, now)

    async def change(self, beside: Beside) -> Commit:
        """Commit what needs no fold. Raises ListingMoved, Superseded, StoreProblem."""
        before = self.folder.checkpoint
        counters = counted(before.counters, {**beside.counts, "commits": 1})
        after = replace(before.next(self.runtime.clock.unique()), counters=counters)
        if beside.cursor is not None:
            after = replace(after, redelivery=beside.cursor)
        commit = Commit(
            self.folder.scope,
            before.fence,
            after,
            settles=tuple(beside.settles),
            skips=tuple(beside.skips),
            outcomes=tuple(beside.outcomes),
        )
        commit = replace(commit, checkpoint=parking(commit))
        answer = await self._send(Sent(before, commit, late=True))
        match answer:
            case Committed():
                self.folder.checkpoint = commit.checkpoint
                return commit
            case Unlisted():
                raise ListingMoved
            case Fenced(checkpoint=now):
                raise superseded(self.folder, now)
            case _:
                raise StoreRefused(f"{self.folder.scope.label}: the store answers {answer!r} to a commit without rows")

    async def _send(self, sent: Sent) -> Answer:
        """Send a commit, charge what it cost, and tell of its answer as of a live one's."""
        clock = self.runtime.clock
        began = clock.monotonic()
        answer = await self.committer.send(sent.commit, len(sent.records))
        now = clock.monotonic()
        if isinstance(answer, Committed):
            self.runtime.spending.charge(sent.commit.scope.projection, answer.consumed, now)
        tell_answered(self.runtime, sent, answer, now - began)
        return answer

    # Judging and folding

    async def _proof(self, entries: Sequence[Entry], horizon: datetime | None) -> Proof:
        spec, folder = self.spec, self.folder
        if spec.dedup is Dedup.SHARD:
            window = await folder.window.loaded(folder.checkpoint)
            return Proof(spec, lambda event: window.known(id_digest(event.id)), horizon)
        if spec.dedup is Dedup.SEQUENCE:
            return Proof(spec, lambda _: None, None)
        wanted = {one.record.id for one in entries if isinstance(one.record, Event)} - self._markers.keys()
        if wanted:
            self._markers.update(await self.runtime.store.find_markers(folder.scope.of, wanted))
        return Proof(spec, lambda event: self._markers.get(event.id), horizon)

    async def _fold(self, sorted_: Sorted, *, redelivery: bool) -> Folded | int:
        """Fold to the end, or return the index of an entry that has to wait for a missing event."""
        loaded: dict[RowKey, StoredRow | None] = {}
        self._fetched = 0
        cached = self.folder.cache.get

        def lookup(key: RowKey) -> Base:
            return loaded[key] if key in loaded else cached(key)

        context = FoldContext(
            # A failure never parks the shard here, nor a key that cannot be parked again.
            spec=replace(self.spec, on_error=OnError.DEAD_LETTER),
            shard=self.folder.scope.shard_id,
            lookup=lookup,
            parked=self.folder.parked - sorted_.freed,
            redelivery=redelivery,
            failures=self._condemned,
            accepts=sorted_.accepts,
        )
        count = len(sorted_.entries)
        while True:
            result = fold(sorted_.judged, context, count)
            match result:
                case Missing(keys=keys):
                    rows = await self.runtime.store.load_rows(self.folder.scope.of, keys)
                    self._fetched += len(rows)
                    loaded.update(rows)
                    for key, row in rows.items():
                        self.folder.cache.put(key, row)
                case Folded():
                    if result.stop is not None:
                        return result.stop.index
                    shorter = cut(result, sorted_.entries, self.spec.on_error)
                    if shorter == result.count:
                        return result
                    count = shorter
                case _:  # pragma: no cover - nothing uncommitted lies beneath
                    raise StoreRefused("a fold on a settled base is not settled; this is a bug, please report it")

    def _plan(self, folded: Folded, sorted_: Sorted, part: Part, extra: Beside) -> tuple[Commit, Planned] | Oversize:
        folder, clock = self.folder, self.runtime.clock
        context = PlanContext(
            scope=folder.scope,
            spec=self.spec,
            before=folder.checkpoint,
            commit_id=clock.unique(),
            now=clock.now(),
            limits=self.runtime.store.limits,
            segments=folder.window.segments,
            dead_run=folder.checkpoint.dead_run,
            settles=(*part.late.settles, *extra.settles),
            skips=tuple(extra.skips),
        )
        records: list[Record] = [entry.record for entry in sorted_.entries]
        planned = plan(folded, Chunk(records, START), context)
        if isinstance(planned, Oversize):
            return planned
        commit = late_commit(planned, part.late, sorted_.own & set(range(folded.count)), folder.checkpoint)
        after = replace(commit.checkpoint, counters=counted(commit.checkpoint.counters, extra.counts))
        outcomes = tuple(extra.outcomes)
        if extra.cursor is not None:
            cursor = extra.cursor
            rows = {"rows": len(commit.rows), "commits": 1}
            after = replace(after, redelivery=replace(cursor, counters=counted(cursor.counters, rows)))
        return replace(commit, checkpoint=after, outcomes=outcomes), planned

    def _halve(self, entries: Sequence[Entry], failure: Failure) -> Sequence[Entry]:
        """Return what to try next; a single entry that fits nowhere failed for good."""
        if len(entries) > 1:
            self.most = max(1, len(entries) // 2)
            return entries[: self.most]
        if self._condemned or not entries:
            raise StoreRefused(
                f"{self.folder.scope.label}: even the dead letter of an entry does not fit: {failure.detail}"
            )
        self._condemned = {0: failure}
        return entries

    def _settle(self, commit: Commit, planned: Planned) -> None:
        folder = self.folder
        folder.checkpoint = commit.checkpoint
        folder.window.settle(commit, planned.marks)
        folder.parked.update(event.key for event in commit.parked)
        for key, row in overlay_of(planned).items():
            if row is None or isinstance(row, StoredRow):
                folder.cache.put(key, row)
            else:
                folder.cache.discard(key)
        self._markers.clear()
        self._condemned = {}
        self.most = min(self.most + self.most // 4 + 1, folder.batcher.policy.max_events)


def superseded(folder: Folder, now: Checkpoint | None) -> Superseded:
    """Return the error of an ownership that ended."""
    return Superseded(
        f"{folder.scope.label}: epoch {folder.checkpoint.epoch} was superseded by "
        f"{now.epoch if now else 'a deletion'}; another owner carries on",
        released=now is not None and now.owner is None,
    )
