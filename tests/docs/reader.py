"""A reader's Python: a virtual environment with what `pip install .` brings, and what a page installs beside it.

Owns which packages a page's commands can see. The environment that runs the tests holds linters, servers and pytest
too; a page that needs one of them without a word would pass there, and fail for everybody else.

Nothing is fetched: a distribution is linked from the environment that runs the tests, with what it requires. So `pip`
is stood in for by this file: `python reader.py ENVIRONMENT install NAME ...`.
"""

import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = "projectiond"
_SCRIPTS = ".."
"""Where a distribution's commands are; they are written anew."""


def make(place: Path) -> None:
    """Make the environment of somebody who installed the project alone."""
    venv.create(place, with_pip=False, symlinks=True)
    install(place, [PROJECT])
    for package in ("daemon", "projections"):  # an editable install names them by a path only
        (_packages(place) / package).symlink_to(ROOT / package)
    bytecode = Path(sysconfig.get_path("purelib")) / "__pycache__"  # of single modules; without it each start is slow
    (_packages(place) / "__pycache__").symlink_to(bytecode)


def install(place: Path, names: Sequence[str]) -> None:
    """Add distributions, each with what it requires. Raises PackageNotFoundError for one that is not here."""
    seen: set[tuple[str, str]] = set()
    for name in names:
        for found in _with_what_it_requires(Requirement(name), seen):
            _link(found, place)


def _with_what_it_requires(wanted: Requirement, seen: set[tuple[str, str]]) -> Iterator[Distribution]:
    found = distribution(wanted.name)
    for extra in ("", *wanted.extras):
        if (wanted.name.lower(), extra) in seen:
            continue
        seen.add((wanted.name.lower(), extra))
        yield found
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                yield from _with_what_it_requires(requirement, seen)


def _link(found: Distribution, place: Path) -> None:
    """Link a distribution's packages, and write its commands."""
    for name in {file.parts[0] for file in found.files or ()} - {_SCRIPTS, "__pycache__"}:
        link = _packages(place) / name
        if not link.exists() and link.suffix != ".pth":
            link.symlink_to(Path(str(found.locate_file(name))))
    for entry in found.entry_points.select(group="console_scripts"):
        script = place / "bin" / entry.name
        script.write_text(
            f"#!/usr/bin/env python\nimport sys\nfrom {entry.module} import {entry.attr}\nsys.exit({entry.attr}())\n",
            encoding="utf-8",
        )
        script.chmod(0o755)


def _packages(place: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)}))


if __name__ == "__main__":
    environment, verb, *asked = sys.argv[1:]
    if verb != "install" or any(word.startswith("-") for word in asked):
        sys.exit(f"error: pip {verb} {' '.join(asked)}: only `pip install NAME ...` is stood in for")
    try:
        install(Path(environment), asked)
    except PackageNotFoundError as error:
        sys.exit(f"error: {error}: not in the environment of the tests")
