"""What a log file is, whatever it is called: the digest of its head, and the order of a log's rotated files.

Owns opening a file (plain or gzip) as a run of bytes with offsets, recognising it again, and listing what rotation left
beside it. Must not know lines, events or positions.

Invariants: the head is kept with its length, so that a file which grew is still the same file; offsets and heads count
decompressed bytes, so that a file compressed by rotation is still the same file.
"""

import gzip
import os
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

HEAD_BYTES = 4096
"""So many bytes of a file's beginning tell it from every other file of the log."""

_DATE = r"(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d[\d.T:Z_-]*"
_AFTER = re.compile(r"[.-](?:(?P<number>\d{1,4})|(?P<date>[\d.T:Z_-]{6,}))|\.(?:old|bak)").fullmatch
_BEFORE = re.compile(
    rf"(?:\.(?P<number>\d{{1,4}})|[.-](?P<date>{_DATE}))(?P<extension>\.[A-Za-z][A-Za-z0-9]*)"
).fullmatch
_CUT = re.compile(r"[.-]").finditer
_SKIP_BYTES = 1024 * 1024
_DIGEST_BYTES = 16
_DATED = 10_000
"""What counts as the number of a dated file: older than any that is numbered."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """The `number` of a file in its shard (rotations before it), its inode, and the digest of `length` head bytes."""

    number: int
    inode: int
    length: int
    digest: str

    def text(self) -> str:
        """Write it as a checkpoint keeps it."""
        return f"{self.number}:{self.inode}:{self.length}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote. Raises ValueError."""
        number, inode, length, digest = text.split(":")
        return cls(int(number), int(inode), int(length), digest)


class OpenFile:
    """One file, held open: it stays readable after it was renamed or removed."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises OSError."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.zipped = path.suffix == ".gz"
        self._packed = os.fdopen(self.descriptor, "rb", closefd=False) if self.zipped else None
        self._stream = gzip.GzipFile(fileobj=self._packed) if self._packed else None
        self._window, self._window_at = b"", 0
        try:
            # A compressed file is complete, so its head is read once.
            self._head = self.read_at(0, HEAD_BYTES) if self.zipped else b""
        except OSError:
            self.close()
            raise

    def status(self) -> os.stat_result:
        """Return what the system says of the open file."""
        return os.fstat(self.descriptor)

    def size(self) -> int | None:
        """Return its length in bytes, None where only reading would tell."""
        return None if self.zipped else self.status().st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`, fewer only at the end. Raises OSError for broken compression too."""
        if self._stream is None:
            return os.pread(self.descriptor, size, offset)
        try:
            return self._read_zipped(self._stream, offset, size)
        except (EOFError, zlib.error) as error:
            raise OSError(
                f"{self.path} is not whole gzip ({error}); wait until it is written, or write it again"
            ) from error

    def _read_zipped(self, stream: gzip.GzipFile, offset: int, size: int) -> bytes:
        window_end = self._window_at + len(self._window)
        if not self._window_at <= offset <= window_end:
            self._window, self._window_at = b"", stream.seek(offset)
            if self._window_at < offset:
                return b""
        window = self._window[offset - self._window_at :]
        while len(window) < size and (more := stream.read(min(size - len(window), _SKIP_BYTES))):
            window += more
        self._window, self._window_at = window, offset
        return window[:size]

    def forget_window(self, offset: int) -> None:
        """Keep nothing of what lies before `offset`."""
        if self._window_at < offset <= self._window_at + len(self._window):
            self._window, self._window_at = self._window[offset - self._window_at :], offset

    def identity(self, number: int) -> FileIdentity:
        """Return what tells this file from others."""
        head = self.head()
        return FileIdentity(number, self.status().st_ino, len(head), head_digest(head))

    def head(self) -> bytes:
        """Return the file's first bytes."""
        return self._head if self.zipped else os.pread(self.descriptor, HEAD_BYTES, 0)

    def matches(self, identity: FileIdentity) -> bool:
        """Tell whether this is the file that had `identity`, grown or not."""
        if identity.length == 0:
            return self.status().st_ino == identity.inode
        head = self.head()[: identity.length]
        return len(head) == identity.length and head_digest(head) == identity.digest

    def close(self) -> None:
        """Give the descriptor back."""
        if self.descriptor >= 0:
            if self._stream is not None and self._packed is not None:
                self._stream.close()
                self._packed.close()
            os.close(self.descriptor)
            self.descriptor = -1


def head_digest(head: bytes) -> str:
    """Return the digest by which a head is kept."""
    return blake2b(head, digest_size=_DIGEST_BYTES).hexdigest()


def chain_of(path: Path) -> list[Path]:
    """Return the files of one log, oldest first: what rotation renamed, then `path` itself where it exists.

    Numbers count backwards (`.1` is the newest, but for `.old` and `.bak`); dates count forwards. Where a file stands
    beside its compressed copy, the file itself counts.
    """
    log = path.name
    try:
        names = {name for name in os.listdir(path.parent) if name.startswith(path.stem)}  # noqa: PTH208 - names are enough
    except FileNotFoundError:
        return []
    ordered: list[tuple[int, str, str]] = []
    for name in names:
        if name.endswith(".gz") and name.removesuffix(".gz") in names:
            continue
        ordered += [(-number, date, name) for base, number, date in _rotations(name) if base == log]
    return [path.with_name(name) for *_, name in sorted(ordered)] + ([path] if log in names else [])


def rotated_from(path: str, others: Collection[str]) -> str | None:
    """Return which of the paths `others` rotation renamed to `path`: the shortest one; None where there is none."""
    begin = path.rfind("/") + 1
    folder = path[:begin]
    return next((folder + base for base, _, _ in _rotations(path[begin:]) if folder + base in others), None)


def _rotations(name: str) -> Iterator[tuple[str, int, str]]:
    """Yield what a log may have been called that is called `name` now, its number, and its date; shortest first."""
    plain = name.removesuffix(".gz")
    for cut in _CUT(plain, 1):
        base, rest = plain[: cut.start()], plain[cut.start() :]
        if (found := _AFTER(rest)) is not None:
            yield base, _DATED if found["date"] else int(found["number"] or 0), found["date"] or ""
        elif (found := _BEFORE(rest)) is not None:
            number = _DATED if found["date"] else int(found["number"])
            yield base + found["extension"], number, found["date"] or ""
    if plain != name:
        yield plain, 0, ""
