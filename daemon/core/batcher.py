"""The batcher: what was read and not folded yet, cut into batches by count, bytes and linger.

Invariants: records leave in the order they came; a batch's `through` is a position at which everything before is in it
or settled, so that a trailing gap without records (control markers, aborted data) still moves the checkpoint.
"""

from collections import deque
from dataclasses import dataclass, field

from daemon.core.events import Record
from daemon.core.positions import Position


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """A batch closes at `max_events` records or `max_bytes` bytes of raw records, or `linger` s after its first."""

    max_events: int = 2_000
    max_bytes: int = 4 * 1024 * 1024
    linger: float = 0.02


@dataclass(slots=True)
class Chunk:
    """A run of consecutive records of one shard, as a reader returns it and as a batch is folded.

    `through`: everything at or below it is in this chunk or before it. `arrived`: monotonic seconds when its oldest
    record was read. `at_end`: the log had no more at that moment. `ends_shard`: it never will (a closed shard,
    drained).
    """

    records: list[Record]
    through: Position
    arrived: float = 0.0
    at_end: bool = False
    ends_shard: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """Records that a reader passed over without decoding them: how many, and the position up to which.

    `ends`: the range, or the shard, has no more.
    """

    count: int
    through: Position
    ends: bool = False


@dataclass(slots=True)
class _Waiting:
    chunk: Chunk
    start: int = field(default=0)
    size: int = field(init=False)
    """Bytes of the records that are left."""

    def __post_init__(self) -> None:
        """Measure."""
        self.size = sum([len(record.raw) for record in self.chunk.records])


class Batcher:
    """Holds the unfolded records of one shard."""

    def __init__(self, policy: BatchPolicy) -> None:
        """Start empty."""
        self.policy = policy
        self.enough = policy.max_events
        """Records that fill a commit, as far as is known: no more are waited for, and few more are read ahead."""
        self._waiting: deque[_Waiting] = deque()
        self._count = 0
        self.size = 0
        """Bytes of the records that wait."""
        self._read = self._read_bytes = 0

    @property
    def mean_bytes(self) -> float | None:
        """Bytes of a record, of all that were read; None before any was."""
        return self._read_bytes / self._read if self._read else None

    def __len__(self) -> int:
        """Count the records that wait."""
        return self._count

    def __bool__(self) -> bool:
        """Tell whether anything waits, be it only a position to advance to."""
        return bool(self._waiting)

    @property
    def first(self) -> Record | None:
        """The first record that waits, as far as it was read."""
        for part in self._waiting:
            if part.start < len(part.chunk.records):
                return part.chunk.records[part.start]
        return None

    def add(self, chunk: Chunk) -> None:
        """Append what a reader returned."""
        self._waiting.append(_Waiting(chunk))
        self._count += len(chunk.records)
        self.size += self._waiting[-1].size
        self._read += len(chunk.records)
        self._read_bytes += self._waiting[-1].size

    def put_back(self, chunk: Chunk) -> None:
        """Return the rest of a batch to the front."""
        self._waiting.appendleft(_Waiting(chunk))
        self._count += len(chunk.records)
        self.size += self._waiting[0].size

    def due_in(self, now: float) -> float | None:
        """Return the seconds until a batch should be taken (0: now), None when nothing waits."""
        if not self._waiting:
            return None
        full = self._count >= self.enough or self.size >= self.policy.max_bytes
        if full or self._waiting[-1].chunk.ends_shard:
            return 0.0
        return max(0.0, self._waiting[0].chunk.arrived + self.policy.linger - now)

    def take(self, max_events: int | None = None) -> Chunk:
        """Remove and return the next batch.

        At most `max_events` records (default: the policy's; one at least) and the policy's bytes.

        A lone record always fits. Raises IndexError when nothing waits.
        """
        room = max(1, self.policy.max_events if max_events is None else min(max_events, self.policy.max_events))
        room_bytes = self.policy.max_bytes
        head = self._waiting[0].chunk
        taken = Chunk([], head.through, head.arrived)
        while self._waiting:
            part = self._waiting[0]
            chunk, size = part.chunk, len(part.chunk.records) - part.start
            count, given = _fit(part, min(size, room), room_bytes, forced=not taken.records)
            if count < len(chunk.records):
                taken.records += chunk.records[part.start : part.start + count]
            else:
                taken.records += chunk.records
            self._count -= count
            room -= count
            room_bytes -= given
            if count < size:
                if count:
                    part.start, part.size, self.size = part.start + count, part.size - given, self.size - given
                    taken.through = taken.records[-1].position
                break
            taken.through, taken.at_end, taken.ends_shard = chunk.through, chunk.at_end, chunk.ends_shard
            self.size -= part.size
            self._waiting.popleft()
        return taken

    def clear(self) -> None:
        """Forget everything that waits."""
        self._waiting.clear()
        self._count = self.size = 0


def _fit(part: _Waiting, count: int, room_bytes: int, *, forced: bool) -> tuple[int, int]:
    """Return how many of the next `count` records fit into `room_bytes`, and their bytes."""
    records, start = part.chunk.records, part.start
    if count == len(records) - start and part.size <= room_bytes:
        return count, part.size
    sizes = [len(record.raw) for record in records[start : start + count]]
    total = sum(sizes)
    if total <= room_bytes:
        return count, total
    given = 0
    for index, size in enumerate(sizes):
        if given + size > room_bytes and not (forced and index == 0):
            return index, given
        given += size
    return count, given
