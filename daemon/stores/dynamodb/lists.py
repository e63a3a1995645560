"""What the daemon's own tables hold in numbers: segments, parked keys and events, dead letters, effects.

Owns how each list is read, page by page, and how segments that count no more are removed. Must not know commits or who
owns a shard.

Invariants: every read is consistent and in order; a list that is asked for in part reads no more than it gives.
"""

from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from heapq import nsmallest

from daemon.core.commit import DeadLetter, ParkedEvent
from daemon.core.identity import Generation, Scope
from daemon.core.rows import Effect
from daemon.core.window import ENTRY_BYTES, StoredSegment
from daemon.stores.dynamodb.calls import Caller
from daemon.stores.dynamodb.items import (
    AFTER,
    DEAD,
    EVERY,
    PARKED,
    SEGMENT,
    dead_letter_of,
    effect_of,
    parked_of,
    parked_prefix,
    scope_key,
    segment_key,
    segment_of,
)

_PAGE = 64
"""Parked events of one page of the search for parked keys."""


@dataclass(slots=True)
class Lists:
    """Reads lists of one prefix. `state`, `effects_table`: the tables' names."""

    reads: Caller
    state: str
    effects_table: str

    async def segments(self, scope: Scope, max_ids: int) -> Sequence[StoredSegment]:
        """Return the newest packed segments that together hold at least `max_ids` ids (or all), oldest first."""
        newest: list[StoredSegment] = []
        missing, first = max_ids * ENTRY_BYTES, -1
        pages = self.reads.of(scope.of).pages(
            self.state, scope_key(scope), (SEGMENT, SEGMENT[:-1] + AFTER), forward=False
        )
        async with aclosing(pages):
            async for page in pages:
                for item in page:
                    segment, counts_from = segment_of(item)
                    first = max(first, counts_from)
                    if missing <= 0 or segment.number < first:
                        return newest[::-1]
                    newest.append(segment)
                    missing -= len(segment.entries)
        return newest[::-1]

    async def parked_keys(self, scope: Scope) -> Collection[str]:
        """Return the keys that are parked; a key's whole queue is passed over, once a page holds nothing else."""
        keys: set[str] = set()
        reads, low = self.reads.of(scope.of), PARKED
        while True:
            page = await reads.some(self.state, scope_key(scope), (low, PARKED[:-1] + AFTER), _PAGE)
            keys.update(item["key"]["S"] for item in page)
            if len(page) < _PAGE:
                return keys
            low = parked_prefix(page[-1]["key"]["S"]) + AFTER

    async def parked_events(self, scope: Scope, key: str, limit: int) -> Sequence[ParkedEvent]:
        """Return up to `limit` events that queue behind a parked key, in position order."""
        prefix, reads = parked_prefix(key), self.reads.of(scope.of)
        items = await reads.some(self.state, scope_key(scope), (f"{prefix}#", prefix + AFTER), limit)
        return [parked_of(item) for item in items]

    async def dead_letters(self, scope: Scope, limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` dead letters, in position order."""
        reads = self.reads.of(scope.of)
        items = await reads.some(self.state, scope_key(scope), (DEAD, DEAD[:-1] + AFTER), limit)
        return [dead_letter_of(item) for item in items]

    async def effects(self, generation: Generation, limit: int) -> Sequence[Effect]:
        """Return up to `limit` effects that wait to be relayed, in their shards' commit order. Reads them all."""
        items = await self.reads.of(generation).some(self.effects_table, generation.label, EVERY)
        return [effect for _, effect in nsmallest(limit, map(effect_of, items), key=lambda held: held[0])]

    async def drop_segments(self, scope: Scope, below: int) -> None:
        """Remove the packed segments older than number `below`."""
        reads = self.reads.of(scope.of)
        pages = reads.pages(self.state, scope_key(scope), (SEGMENT, segment_key(below - 1)))
        async with aclosing(pages):
            async for page in pages:
                await reads.delete_many(self.state, [{"pk": item["pk"], "sk": item["sk"]} for item in page])
