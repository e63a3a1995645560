"""The file source: JSON lines in files, a shard per file, that grow and are rotated.

Owns which files there are, how shards are named, and where an opening begins. Must not know what a line holds.

Invariants: a shard's name depends on the settings and the file's path only; a position is (file number, offset), the
number counting the shard's rotations; an opening at a checkpoint begins in the very file that was read, found again by
its head whatever it is called now, or stops with what to do.
"""

import glob
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Lock

from anyio import CapacityLimiter, to_thread

from daemon.core.errors import LogLost, SourceUnavailable
from daemon.core.events import Event, Record
from daemon.core.positions import START, Position, position_text
from daemon.ports.clock import Clock
from daemon.ports.source import Backlog, ShardInfo, SourceTraits
from daemon.sources.envelopes import Envelope, check_max_depth
from daemon.sources.file_identity import FileIdentity, OpenFile, chain_of, head_digest, rotated_from
from daemon.sources.file_reader import FileReader

EARLIEST, LATEST = "earliest", "latest"
_THREADS = 2
_LOOKING_THREADS = 2
_TAIL_BYTES = 64 * 1024
_SCAN_EVENTS, _SCAN_BYTES = 2_000, 1024 * 1024
_MAGIC = frozenset("*?[")
_RENAMED = (
    "let `paths` leave it out, or rename it as rotation does (`app.log.1`, `app.log-20260301`, `app-20260301.log`); "
    "a log of its own is read by a source of its own"
)
_REMEDY = "rewind or rebuild the projection from what is there, put the file back, or skip to a position that you know"


class FileSource:
    """Follows the files that `paths` (paths or globs) name.

    A rotated file (`app.log.1`, `app-20260301.log.gz`) belongs to the shard it was renamed from, where that is there or
    known. A shard opened at its start begins with the oldest file that an opening of this process has numbered, or else
    with the current file, unless that is another shard's log under a new name.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        envelope: Envelope,
        *,
        clock: Clock,
        poll_interval: float = 0.2,
        max_line_bytes: int = 1024 * 1024,
        max_depth: int = 64,
        follow_rotation: bool = True,
    ) -> None:
        """Keep the settings; nothing is opened yet. Times in seconds. Raises ValueError for a depth out of range."""
        self._name, self._patterns, self._envelope, self._clock = name, [str(path) for path in paths], envelope, clock
        self._poll_interval, self._max_line, self._follow = poll_interval, max_line_bytes, follow_rotation
        self._max_depth = check_max_depth(max_depth)
        self._base = Path(os.path.commonpath([_fixed_directory(pattern) for pattern in self._patterns]))
        self._newest: dict[str, FileIdentity] = {}
        self._known: set[str] = set()
        """Paths of the shards that were listed, opened or have a checkpoint."""
        self._heads: dict[tuple[int, str], dict[str, FileIdentity]] = {}
        self._lock = Lock()
        self._noted: dict[tuple[str, int], FileIdentity] = {}
        self._limiter: CapacityLimiter | None = None
        self._looking: CapacityLimiter | None = None
        self._listed: tuple[float, Sequence[ShardInfo]] | None = None
        """When the files were listed last, on the monotonic clock, and what was found."""
        self._readers: list[FileReader] = []

    @property
    def name(self) -> str:
        """The name projections follow it by."""
        return self._name

    @property
    def traits(self) -> SourceTraits:
        """Positions, order, and any range again."""
        return SourceTraits()

    def remember(self, shard: str, incarnation: str | None) -> None:
        """Take note of a shard that has a checkpoint, and of the file that it was in."""
        self._known.add(str(self._path(shard)))
        if incarnation is not None:
            with suppress(ValueError):  # the source was of another kind then
                self._note(shard, FileIdentity.parse(incarnation))

    async def shards(self, within: float = 0.0) -> Sequence[ShardInfo]:
        """List a shard for each file there is, or was `within` seconds ago. Raises SourceUnavailable."""
        began = self._clock.monotonic()
        if self._listed is None or within <= 0.0 or began - self._listed[0] > within:
            self._listed = began, await to_thread.run_sync(self._list, limiter=self._lookers())
        return self._listed[1]

    async def open(
        self, shard: str, after: Position, incarnation: str | None, until: Position | None = None
    ) -> FileReader:
        """Open `shard` strictly after `after`. Raises LogLost, SourceUnavailable."""
        self._known.add(str(self._path(shard)))
        file, place = await to_thread.run_sync(self._find, shard, after, incarnation, limiter=self._threads())
        reader = FileReader(
            self._path(shard),
            file,
            place,
            until=until,
            envelope=self._envelope,
            clock=self._clock,
            limiter=self._threads(),
            poll_interval=self._poll_interval,
            max_line_bytes=self._max_line,
            max_depth=self._max_depth,
            follow_rotation=self._follow,
            learned=lambda identity: self._learn(shard, identity),
            begins=lambda file: self._check_new(shard, file),
        )
        self._readers = [*(known for known in self._readers if not known.closed), reader]
        return reader

    async def locate(self, shard: str, start: datetime | str) -> Position:
        """Return the position before `start`: `earliest`, `latest` (the last whole line), or an aware time.

        A time is found by reading from the beginning. Raises ValueError for another word, SourceUnavailable.
        """
        if isinstance(start, datetime):
            return await self._scan(shard, start)
        if start == EARLIEST:
            return START
        if start == LATEST:
            return await to_thread.run_sync(self._latest, shard, limiter=self._threads())
        raise ValueError(f"start {start!r} is not {EARLIEST!r}, {LATEST!r} or a time; give one of them")

    async def restore(self, shard: str, kept: Sequence[tuple[Position, bytes]]) -> Sequence[Record | None]:
        """Decode lines that were kept."""
        del shard
        return self._envelope.decode_many([raw for _, raw in kept], [place for place, _ in kept], self._max_depth)

    async def backlog(self, shard: str, after: Position) -> Backlog:
        """Return the bytes after a position; None where a compressed file hides its length."""
        return await to_thread.run_sync(self._measure, shard, after, limiter=self._lookers())

    async def aclose(self) -> None:
        """Close every reader."""
        for reader in self._readers:
            await reader.aclose()
        self._readers = []

    # ------------------------------------------------------------------------------------------------ which files

    def _threads(self) -> CapacityLimiter:
        if self._limiter is None:
            self._limiter = CapacityLimiter(_THREADS)
        return self._limiter

    def _lookers(self) -> CapacityLimiter:
        """Return the threads for what is asked about the files: it waits behind no shard's reading."""
        if self._looking is None:
            self._looking = CapacityLimiter(_LOOKING_THREADS)
        return self._looking

    def _path(self, shard: str) -> Path:
        return self._base / shard

    def _list(self) -> list[ShardInfo]:
        try:
            found = {path for pattern in self._patterns for path in glob.glob(pattern, recursive=True)}  # noqa: PTH207 - absolute patterns
        except OSError as error:
            raise SourceUnavailable(
                f"files of source {self._name!r} cannot be listed ({error}); mend the rights"
            ) from error
        found = frozenset(os.path.abspath(path) for path in found)  # noqa: PTH100 - links stay as they are named
        begin = len(os.path.join(self._base, ""))  # noqa: PTH118 - text: a path object for each file costs too much
        files = [path for path in found if os.path.isfile(path)]  # noqa: PTH113 - as above
        bases = found | self._known.copy()  # one step: readers open meanwhile
        logs = {rotated_from(path, bases) or path for path in files}
        self._known |= logs
        return [ShardInfo(path[begin:]) for path in sorted(logs)]

    def _learn(self, shard: str, identity: FileIdentity) -> None:
        known = self._newest.get(shard)
        if known is None or identity.number >= known.number:
            self._newest[shard] = identity
        self._note(shard, identity)

    def _note(self, shard: str, identity: FileIdentity) -> None:
        """Keep a head under which a shard's file was known; the empty one tells nothing."""
        if not identity.length:
            return
        with self._lock:
            grown = self._noted.get((shard, identity.inode))
            if grown is not None:
                self._heads[grown.length, grown.digest].pop(shard, None)
                if not self._heads[grown.length, grown.digest]:
                    del self._heads[grown.length, grown.digest]
            self._noted[shard, identity.inode] = identity
            self._heads.setdefault((identity.length, identity.digest), {})[shard] = identity

    def _check_new(self, shard: str, file: OpenFile) -> None:
        """Raise LogLost where a file that is new to `shard` is what another shard follows, under a new name."""
        head = file.head()
        with self._lock:
            lengths = {length for length, _ in self._heads if length <= len(head)}
            alike = [self._heads.get((length, head_digest(head[:length])), {}).copy() for length in lengths]
        for known in alike:
            for other, identity in known.items():
                if other != shard and self._is_same(file, identity, self._path(other)):
                    detail = f"{file.path} is the log of shard {other!r} under a new name, and would be applied twice"
                    raise LogLost(f"{detail}; {_RENAMED}")

    @staticmethod
    def _is_same(file: OpenFile, identity: FileIdentity, path: Path) -> bool:
        """Tell whether `file`, which has the head of `identity`, is that file, not one beside it that begins alike."""
        if file.status().st_ino == identity.inode:
            return True
        for candidate in chain_of(path):
            beside = OpenFile(candidate)
            try:
                if beside.status().st_ino != file.status().st_ino and beside.matches(identity):
                    return False
            finally:
                beside.close()
        return True

    # -------------------------------------------------------------------------------------- where an opening begins

    def _find(self, shard: str, after: Position, incarnation: str | None) -> tuple[OpenFile, Position]:
        path = self._path(shard)
        try:
            if incarnation is None or not after:
                found = self._by_number(shard, path, after)
                try:
                    self._check_new(shard, found[0])
                except BaseException:
                    found[0].close()
                    raise
                return found
            return self._by_identity(path, after, FileIdentity.parse(incarnation))
        except FileNotFoundError as error:
            raise SourceUnavailable(f"{path} does not exist; it is waited for, or remove its shard") from error
        except OSError as error:
            raise SourceUnavailable(f"{path} cannot be opened ({error}); mend its rights or disk") from error

    def _by_identity(self, path: Path, after: Position, identity: FileIdentity) -> tuple[OpenFile, Position]:
        """Open the file that had `identity`: under its own name, or among what rotation renamed."""
        current = path if os.path.lexists(path) else None
        reused = False
        if current is not None:
            file = OpenFile(current)
            if file.matches(identity):
                return self._checked(file, after)
            reused = file.status().st_ino == identity.inode
            file.close()
            if not self._follow and not reused:
                detail = f"{path} was replaced by another file after {position_text(after)}, and follow_rotation is off"
                raise LogLost(f"{detail}; switch it on, or {_REMEDY}")
        chain = chain_of(path)
        # A new file may get the inode of one that was compressed and removed, but not of one that still exists.
        for sibling in reversed([each for each in chain if each != path and (not reused or each.suffix == ".gz")]):
            file = OpenFile(sibling)
            if file.matches(identity):
                return self._checked(file, after)
            file.close()
        if reused:
            detail = f"{path} was truncated or written anew in place after {position_text(after)} was applied"
            raise LogLost(f"{detail} (rotate by renaming, not by copytruncate); {_REMEDY}")
        if current is None and not chain:
            raise SourceUnavailable(f"{path} does not exist, nor any file rotated from it; it is waited for")
        detail = (
            f"the file that held {position_text(after)} of {path} is gone: neither it nor any rotated sibling is it"
        )
        raise LogLost(f"{detail}; {_REMEDY}")

    def _by_number(self, shard: str, path: Path, after: Position) -> tuple[OpenFile, Position]:
        """Open the file with the number of `after`, or the oldest one whose number is known."""
        numbers = self._numbers(shard, path, after)
        if not after:
            if not numbers:
                raise FileNotFoundError(path)
            number = min(numbers)
            return OpenFile(numbers[number]), (number, 0)
        if after[0] not in numbers:
            known = ", ".join(map(str, sorted(numbers))) or "none"
            raise LogLost(f"file {after[0]} of {path} is not known (known: {known}); {_REMEDY}")
        return self._checked(OpenFile(numbers[after[0]]), after)

    def _numbers(self, shard: str, path: Path, after: Position) -> dict[int, Path]:
        """Return the files of a shard by number, as far as an opening has numbered one of them."""
        known = self._newest.get(shard)
        if known is not None:
            chain = chain_of(path)
            for index, candidate in enumerate(chain):
                file = OpenFile(candidate)
                try:
                    if file.matches(known):
                        first = known.number - index
                        return {first + step: each for step, each in enumerate(chain) if first + step >= 0}
                finally:
                    file.close()
        if not os.path.lexists(path) and not after:
            # Renamed and not made again yet: the newest is the log still.
            return dict(enumerate(chain_of(path)[-1:]))
        return {after[0] if after else 0: path} if os.path.lexists(path) else {}

    @staticmethod
    def _checked(file: OpenFile, after: Position) -> tuple[OpenFile, Position]:
        if after[1] and not file.read_at(after[1] - 1, 1):
            file.close()
            detail = f"{file.path} is shorter than the {after[1]} bytes that were applied from it: it was truncated"
            raise LogLost(f"{detail} (rotate by renaming, not by copytruncate); {_REMEDY}")
        return file, after

    # ------------------------------------------------------------------------------------------- how far, and where

    def _latest(self, shard: str) -> Position:
        file, (number, _) = self._newest_file(shard)
        try:
            end = file.size()
            if end is None:
                offset = 0
                while block := file.read_at(offset, _TAIL_BYTES):
                    offset += len(block)
                end = offset
            while end:
                begin = max(0, end - _TAIL_BYTES)
                cut = file.read_at(begin, end - begin).rfind(b"\n")
                if cut >= 0:
                    return number, begin + cut + 1
                end = begin
            return number, 0
        finally:
            file.close()

    def _newest_file(self, shard: str) -> tuple[OpenFile, Position]:
        path = self._path(shard)
        try:
            numbers = self._numbers(shard, path, START)
            if not numbers:
                raise SourceUnavailable(f"{path} does not exist; it is waited for, or remove its shard")
            return OpenFile(numbers[max(numbers)]), (max(numbers), 0)
        except OSError as error:
            raise SourceUnavailable(f"{path} cannot be opened ({error}); mend its rights or disk") from error

    def _measure(self, shard: str, after: Position) -> Backlog:
        path = self._path(shard)
        try:
            numbers = self._numbers(shard, path, after)
            sizes = {number: each.stat().st_size for number, each in numbers.items() if not after or number >= after[0]}
        except OSError as error:
            raise SourceUnavailable(f"{path} cannot be measured ({error}); mend its rights or disk") from error
        if not sizes or any(numbers[number].suffix == ".gz" for number in sizes):
            return Backlog()
        newest = max(sizes)
        return Backlog(bytes=max(0, sum(sizes.values()) - (after[1] if after else 0)), end=(newest, sizes[newest]))

    async def _scan(self, shard: str, start: datetime) -> Position:
        reader = await self.open(shard, START, None)
        try:
            place = START
            while True:
                chunk = await reader.read(_SCAN_EVENTS, _SCAN_BYTES)
                for record in chunk.records:
                    if isinstance(record, Event) and record.moment is not None and record.moment >= start:
                        return place
                    place = record.position
                if chunk.at_end:
                    return place
        finally:
            await reader.aclose()


def _fixed_directory(pattern: str) -> str:
    """Return the directory below which a pattern's files lie, as an absolute path."""
    parts = Path(os.path.abspath(pattern)).parts  # noqa: PTH100 - links stay as they are named
    fixed = list(parts[:-1])
    for index, part in enumerate(parts[:-1]):
        if _MAGIC & set(part):
            fixed = list(parts[:index])
            break
    return str(Path(*fixed))
