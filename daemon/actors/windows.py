"""The marker windows of all shards of this process, under one cap.

Invariants: a shard's window is loaded under its current epoch, from segments at least as new as the checkpoint names
(reads across items can be torn, so it reads again until it sees them). A dropped window loses nothing: the segments
hold it.
"""

from collections import OrderedDict

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit
from daemon.core.errors import StoreUnavailable
from daemon.core.identity import Scope
from daemon.core.window import MarkerWindow, SegmentLog
from daemon.ports.store import Store

_TORN_READS = 10


class WindowMemory:
    """Counts the ids held by all windows and drops the longest unused ones beyond `max_ids`."""

    def __init__(self, max_ids: int) -> None:
        """Start empty."""
        self.max_ids = max_ids
        self._held: OrderedDict[int, tuple[ShardWindow, int]] = OrderedDict()
        self._total = 0

    def touch(self, window: "ShardWindow") -> None:
        """Note that `window` was just used; make room by dropping others."""
        self.forget(window)
        self._held[id(window)] = window, len(window)
        self._total += len(window)
        while self._total > self.max_ids and len(self._held) > 1:
            oldest, _ = next(iter(self._held.values()))
            self.forget(oldest)
            oldest.drop()

    def forget(self, window: "ShardWindow") -> None:
        """A window counts no more: its shard ended, or it was dropped."""
        _, counted = self._held.pop(id(window), (window, 0))
        self._total -= counted


class ShardWindow:
    """One owned shard's marker window and packed segments."""

    def __init__(self, store: Store, scope: Scope, capacity: int, memory: WindowMemory) -> None:
        """Hold nothing yet."""
        self._store = store
        self._scope = scope
        self._capacity = capacity
        self._memory = memory
        self._window: MarkerWindow | None = None
        self.segments = SegmentLog(capacity)

    def __len__(self) -> int:
        """Count the ids in memory."""
        return 0 if self._window is None else len(self._window)

    async def loaded(self, checkpoint: Checkpoint) -> MarkerWindow:
        """Return the window, reading it first when it is not in memory.

        Raises StoreUnavailable when the store keeps answering with less than the checkpoint names.
        """
        if self._window is None:
            self._window = await self._load(checkpoint)
        self._memory.touch(self)
        return self._window

    def settle(self, commit: Commit, marks: bytes) -> None:
        """Take in what a commit marked."""
        if commit.segment is not None:
            self.segments.settle(commit.segment)
        if self._window is not None:
            self._window.remember(marks)

    def drop(self) -> None:
        """Free the memory; the next use loads the window again."""
        self._window = None

    def close(self) -> None:
        """The ownership ended."""
        self.drop()
        self._memory.forget(self)

    async def _load(self, checkpoint: Checkpoint) -> MarkerWindow:
        if checkpoint.segment < 0:
            return MarkerWindow(self._capacity)  # no commit up to the take wrote a segment, and none can since
        for _ in range(_TORN_READS):
            segments = await self._store.load_segments(self._scope, self._capacity)
            newest = segments[-1] if segments else None
            if newest is not None and newest.commit_seq >= checkpoint.segment_seq:
                window = MarkerWindow(self._capacity)
                for segment in segments:
                    window.remember(segment.entries)
                self.segments = SegmentLog(self._capacity, segments)
                return window
        message = (
            f"the packed markers of {self._scope.label} are older than its checkpoint names "
            f"(segment {checkpoint.segment} of commit {checkpoint.segment_seq}) after {_TORN_READS} reads; "
            "trying again later"
        )
        raise StoreUnavailable(message)
