"""Reading one shard of a file source: blocks into lines, lines into records, one file after the other.

Owns the place in the log, half lines, over-long lines, and the step from a rotated file to its successor. Must not know
envelopes' insides.

Invariants: a position is (file number, offset just after the line); a line counts once its newline is there, or once
its file has a successor; nothing is held of a block while the log is idle; a file that lost what was read stops the
shard.
"""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, compress, pairwise
from pathlib import Path
from threading import Lock

from anyio import CapacityLimiter, to_thread

from daemon.core.batcher import Chunk, Passed
from daemon.core.errors import EventProblem, LogLost, SourceUnavailable
from daemon.core.events import BadRecord, Record
from daemon.core.positions import START, Position
from daemon.ports.clock import Clock
from daemon.sources.envelopes import Envelope
from daemon.sources.file_identity import FileIdentity, OpenFile, chain_of

BLOCK_BYTES = 256 * 1024
KEPT_OF_A_LONG_LINE = 4096
_PLACEHOLDER = b"?"
"""Stands for a line that is too long until its bad record takes its place."""
_CUTTING = Lock()
"""Held while a block is cut into lines: files are read side by side, but the event loop shares the interpreter with one
thread that needs it for long, not with all."""
_BLANKS, _VISIBLE = b" \t\r", b"!"
_BOM = b"\xef\xbb\xbf"
_REMEDY = "rewind or rebuild the projection from what is there, or skip to a position that you know"


class FileReader:
    """One opening of one shard. Each look at an idle file is two stat calls, made on the loop."""

    def __init__(  # noqa: PLR0913 - what a source gives each of its readers
        self,
        path: Path,
        file: OpenFile,
        after: Position,
        *,
        until: Position | None,
        envelope: Envelope,
        clock: Clock,
        limiter: CapacityLimiter,
        poll_interval: float,
        max_line_bytes: int,
        max_depth: int,
        follow_rotation: bool,
        learned: Callable[[FileIdentity], None],
        begins: Callable[[OpenFile], None],
    ) -> None:
        """Begin in `file` strictly after `after` (file number, offset).

        Each file's identity is told to `learned`; `begins` raises LogLost for a next file that another shard follows.
        """
        self._path, self._file, self._until = path, file, until
        self._number, self._at = after[0], after[1]
        self._through = after
        self._envelope, self._clock, self._limiter = envelope, clock, limiter
        self._poll_interval, self._max_line, self._max_depth = poll_interval, max_line_bytes, max_depth
        self._follow_rotation, self._learned, self._begins = follow_rotation, learned, begins
        self._lines: list[bytes] = []
        self._positions: list[Position] = []
        self._too_long: dict[Position, BadRecord] = {}
        self._block_through: Position = START
        self._long: tuple[int, bytes] | None = None
        self._told_end = self.closed = False
        self._seen: tuple[object, ...] = ()
        self._identity = file.identity(self._number)
        self._identities = {self._number: self._identity}
        learned(self._identity)

    async def read(self, max_events: int, max_bytes: int) -> Chunk:
        """Return the next records; at the end an empty chunk, at first at once, then after the poll interval."""
        if not await self._ready(max_bytes):
            moved = self._moved()
            return Chunk([], self._through, self._clock.monotonic(), at_end=not moved, ends_shard=self._passed())
        self._told_end = False
        count = _fitting(self._lines, max_events, max_bytes)
        lines, positions = self._lines[:count], self._positions[:count]
        self._lines, self._positions = self._lines[count:], self._positions[count:]
        records = self._envelope.decode_many(lines, positions, self._max_depth)
        if self._too_long:
            records = [self._too_long.pop(record.position, record) for record in records]
        self._through = positions[-1] if self._lines else self._block_through
        return Chunk(records, self._through, self._clock.monotonic())

    async def skim(self, before: Position | None, max_bytes: int) -> Passed:
        """Pass over the next lines below a position; they are found, and not looked into."""
        if not await self._ready(max_bytes):
            self._moved()
            return Passed(0, self._through, self._passed())
        self._told_end = False
        count = len(self._lines) if before is None else bisect_left(self._positions, before)
        if not count:
            return Passed(0, self._through)
        last = self._positions[count - 1]
        self._lines, self._positions = self._lines[count:], self._positions[count:]
        self._too_long = {place: record for place, record in self._too_long.items() if place > last}
        self._through = last if self._lines else self._block_through
        return Passed(count, self._through, self._passed())

    async def _ready(self, max_bytes: int) -> bool:
        """Tell whether there are lines, looking for some, after the poll interval where there were none."""
        if not self._lines and not self._passed():
            if self._told_end:
                await self._clock.sleep(self._poll_interval)
            if self._looks() != self._seen:
                await to_thread.run_sync(self._fill_or_fail, max_bytes, limiter=self._limiter)
        return bool(self._lines)

    def _moved(self) -> bool:
        """Take the position on past what held no line; tell whether it moved."""
        moved = self._block_through > self._through
        self._through = max(self._block_through, self._through)
        self._told_end = not moved
        return moved

    def identity(self, last: Record | None, through: Position) -> str | None:
        """Return the identity of the file in which `through` lies."""
        number = through[0] if through else self._number
        for old in [known for known in self._identities if known < number]:
            del self._identities[old]
        return self._identities.get(number, self._identity).text()

    async def acknowledge(self, records: Sequence[Record]) -> None:
        """Do nothing: a file keeps no account of its readers."""

    async def aclose(self) -> None:
        """Close the file."""
        self.closed = True
        self._file.close()

    def _passed(self) -> bool:
        return self._until is not None and self._through >= self._until

    def _range_ends(self) -> bool:
        return self._until is not None and self._block_through >= self._until

    def _looks(self) -> tuple[object, ...]:
        """Return what changes when there may be something to read: cheap enough to ask of an idle file."""
        mine = self._file.status()
        try:
            named = os.stat(self._path)  # noqa: PTH116 - a path object would be made for each look
        except OSError:
            return mine.st_size, mine.st_mtime_ns, None
        return mine.st_size, mine.st_mtime_ns, named.st_ino, named.st_size, named.st_mtime_ns

    # -------------------------------------------------------------------------------------- in a worker thread

    def _fill_or_fail(self, max_bytes: int) -> None:
        self._seen = ()
        try:
            seen = self._looks()
            self._fill(max(1, min(BLOCK_BYTES, max_bytes)))
        except OSError as error:
            raise SourceUnavailable(f"{self._file.path} cannot be read ({error}); mend its rights or disk") from error
        if not self._lines or self._took_all(seen):
            self._seen = seen

    def _took_all(self, seen: tuple[object, ...]) -> bool:
        """Tell whether a look from before reading promises nothing beyond what was read, in this file or the next."""
        mine = self._file.status()
        # Whole lines up to the size that was seen, under its own name still: the next look has to differ from this one.
        return not self._file.zipped and seen == (
            self._at, mine.st_mtime_ns, mine.st_ino, self._at, mine.st_mtime_ns,
        )  # fmt: skip

    def _fill(self, size: int) -> None:
        """Read until there is a line, a longer position, or nothing more."""
        while True:
            block = self._file.read_at(self._at, size)
            self._check_file()
            cut = block.rfind(b"\n") + 1
            if cut:
                with _CUTTING:
                    self._take_lines(block[:cut])
                if self._lines or self._range_ends():
                    return
                continue
            if self._long is not None or len(block) > self._max_line:
                self._pass_over(block)
            elif len(block) == size:
                size = min(2 * size, self._max_line + 1)
                continue
            if not block or len(block) < size:
                successor = self._successor()
                if successor is None:
                    return
                if len(self._file.read_at(self._at, size)) > (len(block) if self._long is None else 0):
                    successor.close()
                    continue
                self._finish_file(b"" if self._long else block, successor)
                if self._lines or self._range_ends():
                    return

    def _check_file(self) -> None:
        """Raise LogLost when the open file no longer holds what was read from it."""
        size = self._file.size()
        if size is not None and size < self._at:
            detail = f"{self._file.path} is {size} bytes long, but {self._at} were read: it was truncated"
            raise LogLost(f"{detail} (rotate by renaming, not by copytruncate); {_REMEDY}")
        if self._file.zipped:
            return
        if not self._file.matches(self._identity):
            detail = (
                f"{self._file.path} was written anew in place: the {self._identity.length} bytes it began with changed"
            )
            raise LogLost(f"{detail}, and offset {self._at} means nothing in it; {_REMEDY}")
        if self._identity.length < 4096:  # noqa: PLR2004 - HEAD_BYTES: a whole head never changes
            self._identity = self._identities[self._number] = self._file.identity(self._number)
            self._learned(self._identity)

    def _take_lines(self, block: bytes) -> None:
        """Cut a block that ends with a newline into lines and positions."""
        at, number = self._at, self._number
        lines = block.split(b"\n")
        lines.pop()
        positions: list[Position] = [(number, at := at + len(line) + 1) for line in lines]
        # Length is judged before BOM and CR go, as it is for a line that is longer than a block.
        if self._long is not None:
            start, head = self._long
            self._long = None
            self._mark_long(positions[0], head + lines[0], positions[0][1] - 1 - start)
            lines[0] = _PLACEHOLDER
        if len(block) > self._max_line:
            for index, line in enumerate(lines):
                if len(line) > self._max_line:
                    self._mark_long(positions[index], line, len(line))
                    lines[index] = _PLACEHOLDER
        if self._at == 0 and lines[0].startswith(_BOM):
            lines[0] = lines[0][len(_BOM) :]
        if b"\r" in block:
            lines = [line.removesuffix(b"\r") for line in lines]
        self._at, self._block_through = at, (number, at)
        self._file.forget_window(at)
        self._set(lines, positions)

    def _set(self, lines: list[bytes], positions: list[Position]) -> None:
        """Keep what is a record and lies in the range."""
        if self._until is not None and positions[-1] > self._until:
            kept = bisect_right(positions, self._until)
            lines, positions = lines[:kept], positions[:kept]
            self._block_through = self._until
        # No line that is blank sorts behind a visible character: one look at the least line costs next to nothing.
        if min(lines, default=_VISIBLE) < _VISIBLE:
            filled = [bool(line.strip(_BLANKS)) for line in lines]
            positions = list(compress(positions, filled))
            lines = list(compress(lines, filled))
        self._lines, self._positions = lines, positions

    def _mark_long(self, position: Position, head: bytes, length: int) -> None:
        detail = (
            f"a line of {length} bytes exceeds the limit of {self._max_line}; split the event or raise max_line_bytes"
        )
        self._too_long[position] = BadRecord(position, head[:KEPT_OF_A_LONG_LINE], EventProblem("too-large", detail))

    def _pass_over(self, block: bytes) -> None:
        """Go on within a line that is too long, keeping its beginning only."""
        if self._long is None:
            self._long = (self._at, b"")
        start, head = self._long
        self._long = (start, (head + block)[:KEPT_OF_A_LONG_LINE])
        self._at += len(block)

    def _finish_file(self, rest: bytes, successor: OpenFile) -> None:
        """Take the last line of a file that has a successor, newline or not, and go on with that."""
        self._at += len(rest)
        position = (self._number, self._at)
        if self._long is not None:
            start, head = self._long
            self._long = None
            self._mark_long(position, head, self._at - start)
            rest = _PLACEHOLDER
        elif self._at == len(rest):
            rest = rest.removeprefix(_BOM)
        rest = rest.removesuffix(b"\r")
        self._file.close()
        self._file, self._number, self._at = successor, self._number + 1, 0
        self._identity = self._identities[self._number] = successor.identity(self._number)
        self._learned(self._identity)
        self._block_through = (self._number, 0)
        self._set([rest], [position])
        self._block_through = (self._number, 0) if self._until is None else min((self._number, 0), self._until)

    def _successor(self) -> OpenFile | None:
        """Open the file that follows the one just read to its end; None while there is none with anything in it."""
        mine = self._file.status()
        try:
            named = self._path.stat()
        except FileNotFoundError:
            named = None
        if named is not None and (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev):
            return None
        chain = chain_of(self._path)
        if not chain:
            return None
        follower: Path | None = None
        for index, path in enumerate(chain):
            status = path.stat()
            if (status.st_ino, status.st_dev) == (mine.st_ino, mine.st_dev):
                if index + 1 == len(chain):
                    return None
                follower = chain[index + 1]
        if follower is None:
            follower = self._by_head(chain)
        # A new file is waited for until something stands in it: its writer may still be at the old one.
        if follower is None or (follower == self._path and follower.stat().st_size == 0):
            return None
        if not self._follow_rotation:
            detail = f"{self._path} was replaced by another file after {self._at} bytes, and follow_rotation is off"
            raise LogLost(f"{detail}; switch it on, or {_REMEDY}")
        successor = OpenFile(follower)
        try:
            self._begins(successor)
        except BaseException:
            successor.close()
            raise
        return successor

    def _by_head(self, chain: list[Path]) -> Path | None:
        """Return what follows this file where it was compressed; the newest file where it is gone altogether."""
        for path, follower in pairwise(chain):
            candidate = OpenFile(path)
            try:
                if candidate.matches(self._identity):
                    return follower
            finally:
                candidate.close()
        return self._path if chain[-1] == self._path else None


def _fitting(lines: Sequence[bytes], max_events: int, max_bytes: int) -> int:
    """Return how many of the next lines one read may give: at least one."""
    given = lines[:max_events]
    if sum(map(len, given)) <= max_bytes:
        return len(given)
    return max(1, bisect_right(list(accumulate(map(len, given))), max_bytes))
