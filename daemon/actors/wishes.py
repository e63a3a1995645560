"""What people wish for waiting entries, carried out by the shard's owner.

Dead letters retried or discarded, parked keys
released.

Owns the order in which wishes are served and what a commit of each kind does. Must not know who wished, or when the
entries were written.

Invariants: a wish is served by ordinary commits, in which each entry that is applied is removed; a key is released in
order, and stays parked until the commit that removes its last entry; what fails again keeps its place and loses its
wish, so that nothing is tried for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.actors.late import Beside, BesideOf, Desk, LateFolder, ListingMoved, Part
from daemon.actors.runtime import Runtime
from daemon.core.commit import DeadLetter, ParkedEvent
from daemon.core.errors import SourceUnavailable
from daemon.core.events import Record
from daemon.core.positions import Position
from daemon.core.redelivery import Entry, Left, Listing, Origin
from daemon.core.waiting import Amended, LetterNote, LetterRef, ParkedRef, Settle, Waiting, Wish
from daemon.ports.observer import WaitingSettled

_LOOK_SECONDS = 30.0
"""How often a shard of which something waits looks for wishes that nobody told it of."""
_AT_ONCE = 50
"""Entries of one commit at most."""
_GONE = "gone"


@dataclass(slots=True)
class Wishes:
    """See the module. `share` is the part of the time that it takes while live is busy."""

    runtime: Runtime
    desk: Desk
    late: LateFolder
    share: float
    look: bool = False
    """There may be wishes to serve."""
    _not_before: float = 0.0
    _looked_at: float = 0.0

    def due_in(self, now: float, *, live: bool) -> float | None:
        """Return the seconds until a step is due, None while nothing waits. `live` is busy."""
        if self.look:
            return max(0.0, self._not_before - now) if live else 0.0
        counters = self.desk.folder.checkpoint.counters
        if not (counters.get("dead_lettered", 0) > 0 or counters.get("parked", 0) > 0):
            return None
        return max(0.0, self._looked_at + _LOOK_SECONDS - now)

    async def step(self) -> None:
        """Serve one wish, as far as one commit goes. Nothing of the live log may be in flight.

        Raises Superseded, StoreProblem.
        """
        clock = self.runtime.clock
        began = self._looked_at = clock.monotonic()
        try:
            self.look = await self._serve()
        except ListingMoved:
            self.look = True
        except SourceUnavailable:
            self.look = False  # the records cannot be read now; the next look tries again
        self._not_before = began + (clock.monotonic() - began) / self.share

    async def _serve(self) -> bool:
        """Serve the first wish there is; False when there is none."""
        waiting = await self.runtime.store.waiting(self.desk.folder.scope)
        needed = self.desk.listing is not None
        self.desk.listing = Listing(waiting)
        try:
            discarded = [note for note in waiting.letters if note.wish is Wish.DISCARD][:_AT_ONCE]
            retried = [note for note in waiting.letters if note.wish is Wish.RETRY][:_AT_ONCE]
            if discarded:
                await self._discard(discarded)
            elif retried:
                await self._retry([note.ref for note in retried])
            elif (key := _released(waiting)) is not None:
                await self._release(key)
            else:
                return False
        finally:
            if not needed:
                self.desk.listing = None
        return True

    async def _discard(self, notes: Sequence[LetterNote]) -> None:
        counts = {"dead_lettered": -len(notes), "skipped": len(notes)}
        commit = await self.late.change(Beside([Settle(note.ref) for note in notes], counts=counts))
        self.desk.noted(commit)
        self._tell(Wish.DISCARD, discarded=len(notes))

    async def _retry(self, refs: Sequence[LetterRef]) -> None:
        letters = await self.runtime.store.find_letters(self.desk.folder.scope, refs)
        whole = [one for one in letters if _is_whole(one)]
        records = await self._restored([(one.position, one.payload) for one in whole])
        entries = [
            Entry(record, Origin.DEAD, letter.ref, letter.reason)
            for letter, record in zip(whole, records, strict=True)
            if record is not None
        ]
        given = {entry.ref for entry in entries}
        lost = [Settle(one.ref, _unreadable(one)) for one in letters if one.ref not in given]
        if not entries:
            await self.late.change(Beside(lost))
            self._tell(Wish.RETRY, failed=len(lost))
            return

        def beside(part: Part) -> Beside:
            return Beside([*(lost if part.whole else ()), *_amended(part.left)])

        await self._apply(entries, beside, Wish.RETRY)

    async def _release(self, key: str) -> None:
        """Fold the first events of a parked key; the next one after them carries the wish on."""
        events = await self.runtime.store.parked_events(self.desk.folder.scope, key, _AT_ONCE + 1)
        records = await self._restored([(one.position, one.payload) for one in events[:_AT_ONCE]])
        entries: list[Entry] = []
        for event, record in zip(events, records, strict=False):
            if record is None:
                break
            entries.append(Entry(record, Origin.PARKED, event.ref, event.reason))
        if not entries:
            await self.late.change(Beside([Settle(events[0].ref, _lost(events[0]))]))
            self._tell(Wish.RELEASE, failed=1)
            return

        def beside(part: Part) -> Beside:
            folded = {entry.ref for entry in part.entries}
            rest = [event for event in events if event.ref not in folded]
            if part.late.stuck or not rest:
                return Beside(_amended(part.left))
            return Beside([Settle(rest[0].ref, Amended(rest[0].reason, rest[0].detail, "", Wish.RELEASE))])

        await self._apply(entries, beside, Wish.RELEASE)

    async def _apply(self, entries: Sequence[Entry], beside: BesideOf, wish: Wish) -> None:
        listing = self.desk.listing
        if listing is None:  # pragma: no cover - loaded before
            return
        done = await self.late.apply(entries, listing, beside, asked=True)
        self.desk.noted(done.commit)
        tally = done.part.late.tally
        failed = tally.get("failed", 0) + len(done.part.left)
        applied = sum(count for name, count in tally.items() if name.startswith("late_"))
        proven = len(done.part.entries) - applied - tally.get("failed", 0)
        self._tell(wish, applied=applied, failed=failed, duplicate=proven)

    async def _restored(self, kept: Sequence[tuple[Position, bytes]]) -> Sequence[Record | None]:
        scope = self.desk.folder.scope
        return await self.runtime.sources[scope.source].restore(scope.shard, kept)

    def _tell(self, wish: Wish, **counts: int) -> None:
        told = {name: count for name, count in counts.items() if count}
        self.runtime.observer.see(WaitingSettled(self.desk.folder.scope, wish, told))


def _released(waiting: Waiting) -> str | None:
    """Return a key that is to be released."""
    return next((note.key for note in waiting.parked if note.wish is Wish.RELEASE), None)


def _is_whole(letter: DeadLetter) -> bool:
    """Tell whether a dead letter holds all of its record: sources cut what is too large to be an event."""
    cut_by_source = letter.reason == "too-large" and not letter.event_id
    return len(letter.payload) == letter.payload_size and not cut_by_source


def _unreadable(letter: DeadLetter) -> Amended:
    kept = f"{len(letter.payload)} of its {letter.payload_size} bytes are kept"
    detail = f"{kept}, and the log does not give it again; re-deliver its position (`replay`), or discard it"
    return Amended(letter.reason, detail, letter.handler)


def _lost(event: ParkedEvent) -> Amended:
    detail = "the log does not hold this record any more, and what is kept of it is not all; rebuild the projection"
    return Amended(event.reason or _GONE, detail)


def _amended(left: Sequence[Left]) -> list[Settle]:
    """Return what entries that stay say from now on; their wish is served."""
    return [
        Settle(entry.ref, Amended(failure.reason or entry.reason, failure.detail, failure.handler))
        for entry, failure in left
        if isinstance(entry.ref, LetterRef | ParkedRef)
    ]
