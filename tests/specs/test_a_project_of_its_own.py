"""The test kit in a project of its own: a fresh environment with the built wheel, a projection, and its specifications.

Nothing is fetched: what the wheel depends on is borrowed from this environment by a path.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMODEL = '''\
import random
from datetime import UTC, datetime

from daemon.api import Event, View, on, projection

SERIAL = iter(range(1000))


@projection(name="stock", version=1, source="warehouse", key="data.sku")
class Stock:
    """What is left of each article, and what each day sold."""

    def __init__(self) -> None:
        self.handled = 0

    @on("Delivered")
    def delivered(self, view: View, event: Event) -> None:
        view.add(pieces=event.data["pieces"])

    @on("Sold")
    def sold(self, view: View, event: Event) -> None:
        view.add(pieces=-event.data["pieces"])
        view.at("daily", event.time.date()).add(sold=event.data["pieces"])

    @on("Sold", replay=False)
    def notify(self, view: View, event: Event) -> None:
        view.emit("mail", sku=event.key)
'''
SPECS = """\
from datetime import date

import pytest

from daemon.testing import effect, event
from readmodel import Stock

pytestmark = pytest.mark.projection(of=Stock)


def test_what_is_sold_is_not_left(given):
    given(
        event("Delivered", sku="tea", pieces=10),
        event("Delivered", sku="jam", pieces=4),
        event("Sold", sku="tea", pieces=3),
        event("Sold", sku="jam", pieces=1),
    ).then(
        {"tea": {"pieces": 7}, "jam": {"pieces": 3}},
        daily={date(2026, 1, 1): {"sold": 4}},
    ).then_effects(effect("mail", sku="tea"), effect("mail", sku="jam"))
"""
RIGHT = 'view.add(pieces=-event.data["pieces"])'
WRONG: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nondeterminism": (
        f"{RIGHT}; view.add(n=next(SERIAL))",
        ("`twice` (a second time) comes to something else", 'row "tea"', "as given 0", "got      2"),
    ),
    "state": (
        f"{RIGHT}; self.handled += 1",
        ("state: ", "handler 'sold' keeps something outside the row: self.handled: 0 became 1", "keep it in the row"),
    ),
    "mutation": (
        'view.add(pieces=-event.data.pop("pieces")); return',
        ("mutation: ", "handler 'sold' changed the event: event.data.pieces: 3 became nothing", "build a new value"),
    ),
    "clock": (
        f"{RIGHT}; datetime.now(UTC)",
        ("clock: ", ":22: handler 'sold' calls datetime.now() (at e3 Sold)", "use event.time"),
    ),
    "chance": (
        f"{RIGHT}; random.random()",
        ("randomness: ", ":22: handler 'sold' calls the random module", "derive it from the event"),
    ),
    "files": (
        f'{RIGHT}; open("/etc/hostname").close()',
        ("outside: ", ":22: handler 'sold' calls open()", "view.emit"),
    ),
    "row": (
        'view.add(pieces=event.data["pieces"])',
        ("the rows are not what is expected", 'row "jam"', "expected 3", "got      5",
         "written by: e2 Delivered, e4 Sold", 'row "tea"', "expected 7", "got      13"),
    ),
}  # fmt: skip
"""How the handler is broken, and what the report says."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's interpreter."""
    place = tmp_path_factory.mktemp("fresh")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _done(*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT)
    _done(sys.executable, "-m", "venv", "--without-pip", place / "env")
    python = place / "env" / "bin" / "python"
    (wheel,) = place.glob("*.whl")
    _done(*pip, "--python", python, "install", "--no-index", "--no-deps", "--no-compile", wheel)
    (packages,) = (place / "env").glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return python


def _done(*command: object, place: Path | None = None, code: int = 0) -> str:
    """Run a command to the end that it should come to, and return what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "COV"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=place, env=kept | {"COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def test_its_specifications_pass(python: Path, tmp_path: Path) -> None:
    """With nothing but the installation, pytest knows the fixture, the specification passes, and is counted."""
    (tmp_path / "readmodel.py").write_text(READMODEL, encoding="utf-8")
    (tmp_path / "test_readmodel.py").write_text(SPECS, encoding="utf-8")
    where = _done(python, "-c", "import daemon; print(daemon.__file__)", place=tmp_path)
    assert where.startswith(str(python.parents[1])), "the wheel is what is tested, not the checkout"
    printed = _done(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", place=tmp_path)
    assert "1 passed" in printed
    assert "projections: 1 specifications, run in 1" in printed


def test_each_mistake_has_a_readable_report(python: Path, tmp_path: Path) -> None:
    """The handler broken in each way fails its specification, in words that name the way, the line and the remedy."""
    for way, (handler, _) in WRONG.items():
        (tmp_path / f"readmodel_{way}.py").write_text(READMODEL.replace(RIGHT, handler, 1), encoding="utf-8")
        specs = SPECS.replace("readmodel", f"readmodel_{way}")
        (tmp_path / f"test_{way}.py").write_text(specs, encoding="utf-8")
    printed = _done(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", place=tmp_path, code=1)
    assert f"{len(WRONG)} failed" in printed
    parts = printed.partition("short test summary")[0].split("\n____")
    for way, (_, words) in WRONG.items():
        (report,) = (part for part in parts if f"test_{way}.py:" in part)
        assert not [word for word in words if word not in report], report
        assert "daemon/testing" not in report, report
