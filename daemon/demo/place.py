"""The demonstration's directory: whose it is, who uses it now, and what an earlier run left in it.

Owns the names of the files in it, the lock and the record of what its logs were made from. Must not know the daemon.

Invariants: a directory that holds anything and was not made by a demonstration is refused and left as it is; only files
whose names stand here are ever removed. The lock is held by whoever holds its descriptor, a daemon started by the
demonstration too: while one that outlived its demonstration still writes, no other run takes its database away.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from daemon.core.errors import SettingsProblem, StoreUnavailable

RECORD = "demo.json"
_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DemoDirectory:
    """A directory of the demonstration's, locked. `lock` is the descriptor that holds the lock."""

    path: Path
    lock: int

    @property
    def logs(self) -> Path:
        """Where the event logs are."""
        return self.path / "logs"

    @property
    def database(self) -> Path:
        """The daemon's store."""
        return self.path / "projectiond.db"

    @property
    def daemon_log(self) -> Path:
        """What the daemon logged, over all its starts."""
        return self.path / "daemon.log"

    @property
    def dynamodb(self) -> Path:
        """What the DynamoDB server that the demonstration starts keeps."""
        return self.path / "dynamodb.db"

    def forget_results(self) -> None:
        """Remove what an earlier run folded; the event logs stay."""
        for database in (self.database, self.dynamodb):
            for name in ("", "-wal", "-shm", "-journal"):
                database.with_name(database.name + name).unlink(missing_ok=True)
        self.daemon_log.unlink(missing_ok=True)
        (self.path / "dynoxide.log").unlink(missing_ok=True)

    def fold_in(self) -> None:
        """Fold the write-ahead log into the database, as the last writer to close it does.

        The daemon was watched when it closed, and who only reads cannot.
        """
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def made_from(self) -> "CsvIdentity | None":
        """Return which CSV the logs were made from; None when no logs were finished."""
        try:
            record: dict[str, Any] = json.loads(self._record.read_bytes())
            return CsvIdentity(**record["csv"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, csv: "CsvIdentity | None") -> None:
        """Write down which CSV the logs were made from; None while they are being made."""
        record = {
            "note": "made by `projectiond demo`, which removes and replaces its files here",
            "csv": None if csv is None else {"size": csv.size, "checksum": csv.checksum},
        }
        self._record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")  # in place: it holds the lock

    @property
    def _record(self) -> Path:
        return self.path / RECORD


@dataclass(frozen=True, slots=True)
class CsvIdentity:
    """What tells one CSV from another."""

    size: int
    checksum: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file's identity. Raises OSError."""
        size = checksum = 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                size += len(block)
                checksum = crc32(block, checksum)
        return cls(size, checksum)


@contextmanager
def opened(path: Path) -> Generator[DemoDirectory]:
    """Take the directory for the time of the block, making it where it is missing.

    Raises SettingsProblem for a directory that is not the demonstration's or cannot be used, StoreUnavailable while
    another run uses it.
    """
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        strangers = [] if (path / RECORD).is_file() else sorted(entry.name for entry in path.iterdir())
        if strangers:
            raise SettingsProblem(
                f"{path} holds {strangers[0]!r} and was not made by a demonstration, which removes files; "
                "name a directory that is new, empty, or an earlier demonstration's"
            )
        lock = os.open(path / RECORD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SettingsProblem(f"{path} cannot be used ({error}); name another directory") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnavailable(
                f"another demonstration, or a daemon that it left behind, uses {path}; wait for its end, "
                "or name another directory with --directory"
            ) from error
        directory = DemoDirectory(path, lock)
        if directory.made_from() is None:
            directory.remember(None)
        yield directory
    finally:
        os.close(lock)
