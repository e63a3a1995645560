"""The marker window: the newest event ids of one shard, in memory, and the packed segments that persist them.

Owns at most 128 bytes an id. An id digest of 16 bytes is split into a 60-bit dictionary key and a 60-bit value that
holds 28 further bits of the id and 32 bits of the payload digest; both are small ints, which beats any container of
bytes.

Invariants: an id counts as known only when all 88 kept bits agree. The window forgets oldest first, in chunks. Segments
are numbered; only the newest (open) one is rewritten, and an entry never moves.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from struct import Struct

from daemon.core.events import DIGEST_BYTES

PAYLOAD_BYTES = 4
"""Bytes of the payload digest kept with each id."""
ENTRY_BYTES = DIGEST_BYTES + PAYLOAD_BYTES
SEGMENT_BYTES = 1024
"""A segment stops being rewritten once it holds this much: one write unit."""

_SPLIT = Struct(">QQ").unpack
_ENTRY = Struct(">QI4xI").iter_unpack
_HALVES = Struct(f"{DIGEST_BYTES}s{PAYLOAD_BYTES}s").iter_unpack
_PAYLOAD_BITS = 32
_PAYLOAD_MASK = (1 << _PAYLOAD_BITS) - 1
_LOW_SHIFT = 36


class MarkerWindow:
    """The newest `capacity` ids of a shard. Not thread-safe; owned by one actor.

    `entries` maps the kept bits; it is public for the one loop that judges batches (`daemon.core.dedup.judge_packed`).
    """

    __slots__ = ("capacity", "entries")

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self.capacity = capacity
        self.entries: dict[int, int] = {}

    def __len__(self) -> int:
        """Count the ids held."""
        return len(self.entries)

    def known(self, digest: bytes) -> bytes | None:
        """Return the payload digest (4 bytes) marked with an id digest, or None."""
        high, low = _SPLIT(digest)
        held = self.entries.get(high >> 4)
        return None if held is None else held_payload(held, low)

    def remember(self, packed: bytes) -> None:
        """Add packed entries (20 bytes each), newest last, and forget the oldest beyond the capacity."""
        mine = self.entries
        for high, low, payload in _ENTRY(packed):
            mine[high >> 4] = (low >> 4) << _PAYLOAD_BITS | payload
        excess = len(mine) - self.capacity
        if excess > self.capacity >> 6:
            for oldest in list(islice(mine, excess)):
                del mine[oldest]


def held_payload(held: int, low: int) -> bytes | None:
    """Return the payload digest in a held entry, None when it belongs to another id than `low` is half of."""
    if held >> _PAYLOAD_BITS != low >> _LOW_SHIFT:
        return None
    return (held & _PAYLOAD_MASK).to_bytes(PAYLOAD_BYTES)


@dataclass(frozen=True, slots=True)
class SegmentWrite:
    """One packed segment as it stands after a commit: `entries` is its whole content.

    Segments numbered below `drop_below` hold nothing but ids outside the window; a store may drop them at leisure.
    """

    number: int
    entries: bytes
    drop_below: int


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A packed segment as read back; `commit_seq` is the commit that wrote it."""

    number: int
    entries: bytes
    commit_seq: int


class SegmentLog:
    """Where the next marks go: the open segment, and the sizes of the ones before it. Owned by one actor."""

    __slots__ = ("_capacity", "_counts", "_open", "_total", "first", "number")

    def __init__(self, capacity: int, segments: Iterable[StoredSegment] = ()) -> None:
        """Continue after `segments` (oldest first), keeping those that hold the newest `capacity` ids."""
        self._capacity = capacity
        self._counts: deque[int] = deque()
        self._total = 0
        self.first = 0
        self.number = 0
        self._open = b""
        for segment in segments:
            if not self._counts:
                self.first = segment.number
            self._counts.append(len(segment.entries) // ENTRY_BYTES)
            self._total += self._counts[-1]
            self.number, self._open = segment.number, segment.entries

    def after(self, added: bytes, pending: SegmentWrite | None = None) -> SegmentWrite:
        """Return the segment to write for `added` entries: the open one while it fits `SEGMENT_BYTES`, else the next.

        `pending` is the write of a commit still in flight, on top of which this one goes.
        """
        number, held = (self.number, self._open) if pending is None else (pending.number, pending.entries)
        if held and len(held) + len(added) > SEGMENT_BYTES:
            return SegmentWrite(number + 1, added, self.first)
        return SegmentWrite(number, held + added, self.first)

    def settle(self, written: SegmentWrite) -> None:
        """Advance past a committed write."""
        count = len(written.entries) // ENTRY_BYTES
        if self._counts and written.number == self.number:
            self._total -= self._counts.pop()
        elif not self._counts:
            self.first = written.number
        self._counts.append(count)
        self._total += count
        self.number, self._open = written.number, written.entries
        while len(self._counts) > 1 and self._total - self._counts[0] >= self._capacity:
            self._total -= self._counts.popleft()
            self.first += 1


def unpacked(packed: bytes) -> dict[bytes, bytes]:
    """Return packed entries as a dict of id digest to payload digest (4 bytes)."""
    return dict(_HALVES(packed))
