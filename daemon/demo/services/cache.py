"""Where fetched servers are kept, and how a file gets there.

Owns the directory: `projectiond` below $XDG_CACHE_HOME, or below ~/.cache. Must not know what is fetched.

Invariants: a file is in the cache under its digest's name or not at all (it is moved there when it is whole and
right), so several processes may fetch at once. What does not have the digest that stands in the project is refused.
"""

import hashlib
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from daemon.core.errors import ProjectiondError, Remedy, SettingsProblem


class ServiceMissing(SettingsProblem):
    """A server, or what it needs, is not installed and cannot be fetched; the message says what to install."""


class WrongDigest(ProjectiondError):
    """What was fetched is not what the project locked: damaged on the way, or another file under the same name."""

    remedy = Remedy.WAIT


def cache_directory() -> Path:
    """Return the directory, made if it was not there. Raises ServiceMissing when it cannot be made."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    path = (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "projectiond"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceMissing(
            f"servers are kept in {path}, which cannot be made ({error}); name another place by XDG_CACHE_HOME"
        ) from error
    return path


@contextmanager
def scratch() -> Generator[Path]:
    """Give a directory on the cache's own file system for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache_directory()) as path:
        yield Path(path)


def digest_of(path: Path, algorithm: str) -> str:
    """Return a file's digest in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def verify(path: Path, algorithm: str, digest: str, what: str) -> None:
    """Raise WrongDigest unless a file has this digest."""
    found = digest_of(path, algorithm)
    if found != digest:
        raise WrongDigest(
            f"{what} has the {algorithm} digest {found}, but {digest} is locked; it was thrown away: fetch it again, "
            "and if it stays so, look at what answers for it (a proxy, a mirror)"
        )
