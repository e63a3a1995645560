"""Images without an engine: buildah, and a base image made of Debian's packages.

Owns where images and what they are built from are kept: below the cache of the other fetched servers, so that a second
run fetches nothing. The base image stands in for the one that the Dockerfile names by digest, and nothing is ever
pulled. It is what the real one is (Debian's slim files with that Python), but for who compiled Python.

Invariants: of what a host needs to reach its package index (certificates, pip's own settings) nothing gets into a
layer: it is mounted while a step runs.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.demo.services.cache import cache_directory

BASE = "python:3.13-slim-trixie"
"""What stands in for the image that the Dockerfile builds upon."""
SUITE = "trixie"
PACKAGES = ("ca-certificates", "netbase", "python3", "python3-venv", "tzdata")
_NEEDLESS = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_KEYS = ("extra-index-url", "index-url", "proxy", "timeout", "trusted-host")
SECONDS = 600.0
"""How long one step may take."""


def buildah(*words: str) -> str:
    """Run buildah and return what it prints. Raises AssertionError with its own words."""
    place = _place()
    stores = ("--root", str(place / "storage"), "--runroot", str(place / "run"), "--storage-driver", place.name)
    done = subprocess.run(
        ["buildah", *stores, *words],
        env=os.environ | {"TMPDIR": str(place / "tmp")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"buildah {' '.join(words)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def make_base() -> None:
    """Make the base image where it is not there yet."""
    if any(name.endswith(f"/{BASE}") for name in _names()):
        return
    container = buildah("from", "scratch").strip()
    root = buildah("mount", container).strip()
    done = subprocess.run(
        [
            "mmdebstrap", "--quiet", "--mode=root", "--variant=essential", f"--include={','.join(PACKAGES)}",
            *(f"--dpkgopt=path-exclude={needless}/*" for needless in _NEEDLESS), SUITE, root,
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"mmdebstrap:\n{done.stdout[-1000:]}{done.stderr[-3000:]}"
    buildah("commit", "--quiet", "--rm", container, BASE)


def build(context: Path, tag: str, *words: str) -> None:
    """Build the image of a directory's Dockerfile and call it `tag`."""
    make_base()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write(_pip_settings())
        settings.flush()
        mounts = [f"{settings.name}:/etc/pip.conf:ro"]
        if _CERTIFICATES.is_file():
            mounts.append(f"{_CERTIFICATES}:{_CERTIFICATES}:ro")
        buildah(
            "build", "--isolation", "chroot", "--pull-never", "--format", "docker", "--quiet",
            *_layers(), *(word for mount in mounts for word in ("--volume", mount)),
            "--build-arg", f"PYTHON={BASE}", "--tag", tag, *words, str(context),
        )  # fmt: skip


def inspect(tag: str) -> Mapping[str, Any]:
    """Return an image's own description: its config and history as Docker knows them."""
    described: Mapping[str, Any] = json.loads(buildah("inspect", "--type", "image", tag))["Docker"]
    return described


@contextmanager
def mounted(tag: str) -> Generator[Path]:
    """Give an image's files as a directory."""
    container = buildah("from", "--pull-never", tag).strip()
    try:
        yield Path(buildah("mount", container).strip())
    finally:
        buildah("rm", container)


def remove(*tags: str) -> None:
    """Remove images, and what building them left behind."""
    buildah("rmi", "--force", *tags)
    buildah("rmi", "--prune", "--force")


def _layers() -> Sequence[str]:
    """Have what two images share built once, where layers are not whole copies."""
    return ("--layers",) if _place().name == "overlay" else ()


def _names() -> Sequence[str]:
    images: list[dict[str, Any]] = json.loads(buildah("images", "--json") or "[]") or []
    return [name for image in images for name in image.get("names") or ()]


def _place() -> Path:
    """Return where images are: in layers where the kernel can lay them over each other, else as whole copies."""
    overlays = Path("/proc/filesystems").read_text(encoding="ascii").split()
    place = cache_directory() / "images" / ("overlay" if "overlay" in overlays else "vfs")
    for name in ("storage", "run", "tmp"):
        (place / name).mkdir(parents=True, exist_ok=True)
    return place


def _pip_settings() -> str:
    """Return pip's settings of this host, as far as they say how the index is reached."""
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found = {"cert": str(_CERTIFICATES)} if _CERTIFICATES.is_file() else {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_KEYS:
            found[key] = value.strip("'\"")
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in found.items())]) + "\n"
