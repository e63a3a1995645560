"""The digest of a projection's code: the same on every run, another for other code, blind to what changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import Load

ROOT = Path(__file__).parents[2]
CODE = '''
RATE = 2
TABLE = {"a": 1}

def helper(value):
    return value * RATE

class Base:
    LIMIT = 5

@projection(name="orders", version=1, source="orders", key="data.id")
class Orders(Base):
    """What it is."""

    @on("OrderPlaced")
    def placed(self, view, event):
        """What it does."""
        total = sum(helper(line) for line in event.data["lines"])
        if event.data["kind"] in {"web", "shop", "phone", "letter"}:
            view.put(total=total, table=TABLE["a"])

    @on("OrderShipped", replay=False)
    def shipped(self, view, event, ):
        view.patch(shipped=True)
'''
ONE = "from daemon.loading import load_projections; print(load_projections(['one'], ['orders'])[0].code_digest)"


def _digest(load: Load, name: str, code: str) -> str:
    (spec,) = load(**{name: code})
    return spec.code_digest


def test_a_digest_is_the_same_in_every_process(load: Load, tmp_path: Path):
    """Another process, with another hash seed, comes to the same digest."""
    here = _digest(load, "one", CODE)
    found = {
        subprocess.run(
            [sys.executable, "-c", ONE],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert found == {here}
    assert len(here) == 32


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it is."""', '"""What it is, at length."""'),
        ('"""What it does."""', '"""Another word on it."""'),
        ('        """What it does."""\n', ""),
        ("RATE = 2\n", "# a comment\n\n\nRATE = 2\n"),
        ("view, event, )", "view, event)"),
        ("def placed(self, view, event):", "def placed(self, view: View, event: Event) -> None:"),
        ("version=1", "version=2"),
        ("class Base:", "def unused(): ...\n\nclass Base:"),
    ],
)
def test_what_changes_no_row_changes_no_digest(load: Load, old: str, new: str):
    """Docstrings, comments, lines, annotations, the version and unused code leave the digest as it is."""
    assert old in CODE
    assert _digest(load, "one", CODE) == _digest(load, "two", CODE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("total=total", "total=total + 1"),
        ("total=total", "sum=total"),
        ("RATE = 2", "RATE = 3"),
        ('{"a": 1}', '{"a": 2}'),
        ("value * RATE", "value + RATE"),
        ("LIMIT = 5", "LIMIT = 6"),
        ('"phone", ', ""),
        ("def placed", "def was_placed"),
        ('@on("OrderPlaced")', '@on("OrderPlaced", "OrderMoved")'),
        (", replay=False", ""),
        ('key="data.id"', 'key="data.order"'),
        ('key="data.id"', 'key=lambda event: event.data["id"]'),
        ("shipped=True", "shipped=False"),
    ],
)
def test_what_changes_rows_changes_the_digest(load: Load, old: str, new: str):
    """Other code, constants, helpers, types, keys or names give another digest."""
    assert old in CODE
    assert _digest(load, "one", CODE) != _digest(load, "two", CODE.replace(old, new))
