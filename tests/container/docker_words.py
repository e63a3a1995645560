"""The `docker` commands that a page shows, done by what this machine has: buildah builds, runc runs.

Owns what each word of such a command means. A command or an option that is not known here is an error, so what a page
tells people to type is what was tried. What stands in: a tag is this process's own, a published port a free one, a
volume a directory that belongs, as Docker would have it, to whom the image's own belongs.

Invariant: what was run is ended, and what was built removed, when the block is left.
"""

import argparse
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.demo.services.ports import Port
from tests.container import buildah
from tests.container.container import Run, running
from tests.docs.pages import ROOT, Page

PAGE = Page(ROOT / "docs" / "how-to" / "container.md")
REVISION = "abc"
"""What stands in for the newest commit, which the page's command asks git for."""
_HARDENED = (["ALL"], ["no-new-privileges"])
"""How pages drop capabilities, and which option of security they set: what `container.py` does, and nothing less."""


def commands(page: Page) -> Sequence[Sequence[str]]:
    """Return the words of every command that a page's `console` blocks show, without `docker`."""
    assert {program for program, *_ in page.console()} == {"docker"}
    return [words for _, *words in page.console()]


@dataclass(frozen=True, slots=True)
class Built:
    """A built image: what it says of itself, and its files."""

    tag: str
    root: Path
    described: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """How it is run."""
        return self.described["config"]


@dataclass
class Docker:
    """What the commands left behind so far."""

    place: Path
    images: dict[str, Built] = field(default_factory=dict[str, Built])
    """By the tag that the page gives."""
    containers: dict[str, Run] = field(default_factory=dict[str, Run])
    ports: dict[str, int] = field(default_factory=dict[str, int])
    """The port that stands in for each container's published one."""
    _stack: ExitStack = field(default_factory=ExitStack)

    def build(self, words: Sequence[str], context: Path) -> Built:
        """Do `docker build WORDS` in a directory; a base that was built here before is taken from here."""
        parser = argparse.ArgumentParser("docker build")
        parser.add_argument("--tag", required=True)
        parser.add_argument("--target")
        parser.add_argument("--build-arg", action="append", default=[])
        parser.add_argument("context", choices=["."])
        asked = parser.parse_args(words)
        dockerfile = context / "Dockerfile"
        text = dockerfile.read_text(encoding="utf-8")
        for known, built in self.images.items():
            text = text.replace(f"FROM {known}\n", f"FROM {built.tag}\n")
        dockerfile.write_text(text, encoding="utf-8")
        given = [
            f"{name}={REVISION if value.startswith('$(git') else value}"
            for name, value in map(_parted, asked.build_arg)
        ]
        options = [word for each in given for word in ("--build-arg", each)]
        options += ["--target", asked.target] if asked.target else []
        tag = f"{re.sub('[^a-z0-9]+', '-', asked.tag)}:test-{os.getpid()}"
        buildah.build(context, tag, *options)
        self._stack.callback(buildah.remove, tag)
        root = self._stack.enter_context(buildah.mounted(tag))
        self.images[asked.tag] = Built(tag, root, buildah.inspect(tag))
        return self.images[asked.tag]

    def run(self, words: Sequence[str], *, more: Sequence[str] = (), binds: Mapping[str, Path] | None = None) -> Run:
        """Do `docker run WORDS`, the image's own command with `more` words, and more directories of the host."""
        parser = argparse.ArgumentParser("docker run")
        for flag in ("--detach", "--read-only"):
            parser.add_argument(flag, action="store_true", required=True)
        for option in ("--cap-drop", "--security-opt", "--tmpfs", "--volume", "--publish"):
            parser.add_argument(option, action="append", default=[])
        parser.add_argument("--name", required=True)
        parser.add_argument("--stop-timeout", type=float)
        parser.add_argument("image", choices=list(self.images))
        asked = parser.parse_args(words)
        assert (asked.cap_drop, asked.security_opt) == _HARDENED
        image = self.images[asked.image]
        run = self._stack.enter_context(
            running(
                self.place / asked.name,
                image.root,
                image.config,
                [*image.config["Cmd"], *more],
                variables=self._published(asked.name, asked.publish, image.config),
                binds={at: self._volume(name, image.root / at[1:]) for name, at in _pairs(asked.volume)}
                | dict(binds or {}),
                tmpfs=dict(_pairs(asked.tmpfs, first_is_place=True)),
            )
        )
        self.containers[asked.name] = run
        return run

    def until_healthy(self, name: str) -> None:
        """Wait until the image's own health check finds a container healthy."""
        run = self.containers[name]
        (check,) = {tuple(each.config["Healthcheck"]["Test"][1:]) for each in self.images.values()}
        run.until(lambda: run.execute(*check).returncode == 0)

    def execute(self, words: Sequence[str]) -> str:
        """Do `docker exec NAME COMMAND ...`; return what it printed. Raises AssertionError when it fails."""
        done = self.containers[words[0]].execute(*words[1:])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logs(self, words: Sequence[str]) -> str:
        """Do `docker logs NAME`."""
        (name,) = words
        return self.containers[name].out.read_text(encoding="utf-8") + self.containers[name].said()

    def stop(self, words: Sequence[str]) -> int:
        """Do `docker stop NAME`; return the exit status."""
        (name,) = words
        self.containers[name].signal("TERM")
        return self.containers[name].wait()

    def _published(self, name: str, ports: Sequence[str], config: Mapping[str, Any]) -> Mapping[str, str]:
        for given in ports:
            host, _, inner = given.split(":")
            assert host == "127.0.0.1", given
            assert f"{inner}/tcp" in config["ExposedPorts"], given
        port = self._stack.enter_context(_free_port())
        self.ports[name] = port
        return {"PROJECTIOND__METRICS__PORT": str(port)}

    def _volume(self, name: str, original: Path) -> Path:
        place = self.place / "volumes" / name
        place.mkdir(parents=True)
        standing = original.stat()
        os.chown(place, standing.st_uid, standing.st_gid)
        place.chmod(standing.st_mode & 0o777)
        return place


@contextmanager
def docker(place: Path) -> Generator[Docker]:
    """Give a Docker that keeps what it does below `place`, which others than its user may enter."""
    for at in (place, *place.parents[:2]):
        at.chmod(0o755)
    engine = Docker(place)
    with engine._stack:
        yield engine


@contextmanager
def _free_port() -> Generator[int]:
    port = Port()
    try:
        yield port.number
    finally:
        port.release()


def _parted(given: str) -> tuple[str, str]:
    name, _, value = given.partition("=")
    return name, value


def _pairs(given: Sequence[str], *, first_is_place: bool = False) -> Sequence[tuple[str, Any]]:
    """Part `NAME:PLACE` or `PLACE:OPTIONS`."""
    parted = [each.partition(":") for each in given]
    return [(first, second.split(",") if first_is_place and second else second or []) for first, _, second in parted]
