"""The Store port: checkpoints, markers, rows, dead letters, parked keys and effects, committed together.

The contract suite is `tests/contracts/store.py`. A store whose rows live outside the checkpoint's transaction (a search
index) implements the same port over another store: that one's transaction holds the rows of record and says what must
still be copied, and the copy trails under the row's own version.

Invariants: `commit` is all or nothing and answers with a value; it raises only where nothing was applied and no commit
of this shape could be. The identical commit under the same attempt is applied at most once and answers `Committed`
again. `take` is idempotent by owner. Every read that follows a take is consistent with it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from daemon.core.checkpoint import Checkpoint, Fence
from daemon.core.commit import Commit, DeadLetter, Limits, Outcome, ParkedEvent
from daemon.core.generations import GenerationRecord
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.inventory import Part
from daemon.core.leases import Presence
from daemon.core.operations import Operation, ShardOutcome, Standing
from daemon.core.projection import Index
from daemon.core.rows import Effect, StoredRow
from daemon.core.waiting import LetterRef, ParkedRef, Waiting, Wish
from daemon.core.window import StoredSegment


class Store(Protocol):
    """Where a read model and the truth about its progress live."""

    @property
    def limits(self) -> Limits:
        """What one transaction may hold."""
        ...

    async def recorded(self, projections: Collection[str]) -> Mapping[str, Sequence[GenerationRecord]]:
        """List these projections' generations, oldest first, as far as there is a store; open or not.

        Makes nothing. Raises StoreProblem.
        """
        ...

    async def survey(self, generations: Mapping[Generation, Sequence[Index]]) -> Sequence[Part]:
        """Look at what the store and the rows of these generations, with their indexes, stand on; open or not.

        Makes and changes nothing. Raises StoreProblem where it cannot be used as it is.
        """
        ...

    async def establish(self, generations: Mapping[Generation, Sequence[Index]]) -> None:
        """Make and switch on what `survey` says is to be; what exists is otherwise left as it is. Open or not.

        Idempotent. Raises StoreProblem.
        """
        ...

    async def open(self) -> None:
        """Connect, and create or upgrade what is the store's own. Raises StoreProblem, each kind with its remedy."""
        ...

    async def aclose(self) -> None:
        """Finish what was accepted and disconnect."""
        ...

    async def generations(self, projection: str) -> Sequence[GenerationRecord]:
        """List a projection's generations, oldest first."""
        ...

    async def create_generation(
        self, generation: Generation, version: int, *, live: bool, indexes: Sequence[Index] = ()
    ) -> GenerationRecord:
        """Make a generation's rows table with its secondary `indexes`, and its record; idempotent.

        The pointer names it when `live`. Returns what stands: another version where a replica was faster.
        """
        ...

    async def checkpoints(self, generation: Generation) -> Mapping[Scope, Checkpoint]:
        """Read every checkpoint of a generation."""
        ...

    async def read_checkpoint(self, scope: Scope) -> Checkpoint | None:
        """Read one checkpoint, consistently; None when the shard was never taken."""
        ...

    async def take(
        self,
        scope: Scope,
        owner: str,
        initial: Checkpoint,
        over: Fence | None = None,
        *,
        seen: int | None = None,
    ) -> Checkpoint:
        """Raise the epoch by compare-and-set in the name of `owner` and return the checkpoint as it then stands.

        `initial` is what the shard begins with when it was never taken. With `over` it is taken only where it still
        stands at that fence (`UNTAKEN`: was never taken). With `seen` it is taken only while that is the sequence of
        the generation's standing. Raises Superseded, OperationsMoved where it is not so, StoreProblem.
        """
        ...

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        """Apply a commit, whole or not at all.

        `attempt` rises with every new try of one commit; the same number means the identical request once more.
        """
        ...

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Read rows, consistently. Every key is in the answer: None when absent."""
        ...

    async def find_markers(self, generation: Generation, event_ids: Collection[str]) -> Mapping[str, bytes]:
        """Return the payload digests (16 bytes) of those ids that are marked."""
        ...

    async def load_segments(self, scope: Scope, max_ids: int) -> Sequence[StoredSegment]:
        """Return the newest packed segments that together hold at least `max_ids` ids (or all), oldest first."""
        ...

    async def parked_keys(self, scope: Scope) -> Collection[str]:
        """Return the keys that are parked."""
        ...

    async def parked_events(self, scope: Scope, key: str, limit: int) -> Sequence[ParkedEvent]:
        """Return up to `limit` events that queue behind a parked key, in position order."""
        ...

    async def dead_letters(self, scope: Scope, limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` dead letters, in position order."""
        ...

    async def waiting(self, scope: Scope) -> Waiting:
        """Read what waits to be applied: dead letters, parked events (without payloads), skipped ranges."""
        ...

    async def find_letters(self, scope: Scope, refs: Collection[LetterRef]) -> Sequence[DeadLetter]:
        """Return those of these dead letters that are there, in position order."""
        ...

    async def wish(self, scope: Scope, refs: Collection[LetterRef | ParkedRef], wish: Wish | None) -> int:
        """Note on these entries what a person wishes (None: nothing any more). Returns how many are there.

        The shard's owner carries it out. An entry that is gone stays gone. Raises StoreProblem.
        """
        ...

    async def standing(self, generation: Generation) -> Standing:
        """Read where a generation's operations stand, consistently. Raises StoreProblem."""
        ...

    async def accept(self, operation: Operation, after: Standing) -> Operation | None:
        """Write an operation and the standing after it, together, where it is the next one.

        Returns the operation that stands for its request: this one, or an earlier one of the same request; None where
        another operation took its sequence. Idempotent. Raises StoreProblem.
        """
        ...

    async def requested(self, generation: Generation, request: str) -> Operation | None:
        """Return the operation that a request became, if it became one."""
        ...

    async def operations(self, generation: Generation, after: int, limit: int) -> Sequence[Operation]:
        """Return up to `limit` operations with a higher sequence than `after`, oldest first."""
        ...

    async def outcomes(self, generation: Generation, sequence: int) -> Sequence[ShardOutcome]:
        """Return what shards made of an operation, as far as they have committed it."""
        ...

    async def effects(self, generation: Generation, limit: int) -> Sequence[Effect]:
        """Return up to `limit` effects that wait to be relayed, in commit order."""
        ...

    async def announce(self, presence: Presence) -> None:
        """Keep a replica's presence, in place of its earlier one. Raises StoreProblem."""
        ...

    async def presences(self) -> Mapping[str, Presence]:
        """Read the presence of every replica, by its name, consistently. Raises StoreProblem."""
        ...

    async def forget(self, replica: str) -> None:
        """Remove a replica's presence, if there is one. Raises StoreProblem."""
        ...

    async def expire(self, now_seconds: int) -> int:
        """Remove markers, rows and tombstones whose time has come, where the store does not do so itself.

        Returns the count.
        """
        ...


__all__ = ["GenerationRecord", "Store"]
