"""What SQLite's errors mean: each result code mapped once, at this edge, to the error tree.

Must not know tables or commits. Invariant: whatever leaves the store is of our tree, names the file, and says what to
do; an error code not listed here stays a bug.
"""

import sqlite3
from pathlib import Path

from daemon.core.errors import StoreDamaged, StoreFull, StoreRefused, StoreUnavailable


class NoAnswer(StoreUnavailable):
    """The COMMIT itself failed half way: only the checkpoint can say, later, whether it holds."""


class BadItem(StoreRefused):
    """One item of one job can't be stored; the other jobs of its transaction are unharmed."""


class TooBig(BadItem):
    """One value exceeds what SQLite holds in a field (1 GB)."""


_PRIMARY = 0xFF
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REFUSED = frozenset({
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN,
})  # fmt: skip
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PASSING = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL})
_ITEM = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE})


def code_of(error: sqlite3.Error) -> int:
    """Return the primary result code, 0 where the module itself raised."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY


def item_error(error: Exception) -> Exception | None:
    """Return what an error means that concerns one job alone, None when it concerns the whole transaction."""
    if isinstance(error, OverflowError | UnicodeError | TypeError | ValueError):
        return BadItem(f"a value cannot be stored: {error}; store it as a string")
    if not isinstance(error, sqlite3.Error):
        return None
    code = code_of(error)
    if code == sqlite3.SQLITE_TOOBIG or (code == 0 and isinstance(error, sqlite3.DataError)):
        return TooBig(f"a value exceeds SQLite's limit of 1,000,000,000 bytes in one field ({error}); split the row")
    if code in _ITEM:
        return BadItem(f"SQLite refuses an item: {error}; correct the event or the projection")
    if code == sqlite3.SQLITE_ERROR:
        return StoreRefused(f"SQLite refuses: {error}; was a table dropped by hand? restore it or rebuild")
    return None


def problem_of(error: sqlite3.Error, path: Path, busy_timeout_ms: int) -> Exception:
    """Return the error of our tree for one that concerns the whole file; `error` itself when it can only be a bug."""
    code, said = code_of(error), f"{error} [{getattr(error, 'sqlite_errorname', type(error).__name__)}]"
    if code in _LOCKED:
        return StoreUnavailable(
            f"{path}: locked by another connection for longer than busy_timeout = {busy_timeout_ms} ms; "
            f"end what holds it (an open sqlite3 shell, a backup) or raise the timeout: {said}"
        )
    if code == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(f"{path}: no space left; nothing was lost: free space on its disk or raise the quota: {said}")
    if code in _REFUSED:
        return StoreRefused(
            f"{path}: cannot be opened or written; the daemon's user needs read and write rights on the file and on "
            f"its directory {path.parent}: {said}"
        )
    if code in _DAMAGED:
        return StoreDamaged(
            f"{path}: is damaged, or no SQLite database; nothing was written: restore a backup, or move the file away "
            f"and fold the read models again: {said}"
        )
    if code in _PASSING:
        return StoreUnavailable(f"{path}: the disk or memory failed a request; tried again with back-off: {said}")
    if code == sqlite3.SQLITE_ERROR:
        return StoreRefused(f"{path}: SQLite refuses: {said}; was a table changed by hand? restore it or rebuild")
    return error


def failed_commit(error: sqlite3.Error, path: Path, busy_timeout_ms: int) -> Exception:
    """Return what a failed COMMIT means: only a disk that failed a request leaves it open whether it holds."""
    if code_of(error) == sqlite3.SQLITE_IOERR:
        return NoAnswer(f"{path}: the disk failed while committing ({error}); the checkpoint will tell what holds")
    return problem_of(error, path, busy_timeout_ms)
