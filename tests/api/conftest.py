"""A user's module, written to a directory of its own and loaded as the daemon would."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from daemon.core.projection import ProjectionSpec
from daemon.loading import Problem, ProjectionProblems, load_projections

type Write = Callable[[str, str], Path]
type Load = Callable[..., list[ProjectionSpec]]
type Refused = Callable[..., tuple[Problem, ...]]

HEADER = "from daemon.api import *\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of projections, importable by its name for this test only."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: list[str] = []

    def module(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(HEADER + dedent(text), encoding="utf-8")
        written.append(name)
        return path

    yield module
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def load(write: Write) -> Load:
    """Write modules (by keyword) and load them with one source, `orders`, and another, `carriers`."""

    def specs(**modules: str) -> list[ProjectionSpec]:
        for name, text in modules.items():
            write(name, text)
        return load_projections(list(modules), {"orders", "carriers"})

    return specs


@pytest.fixture
def refused(load: Load) -> Refused:
    """Load modules that must not load, and return every problem."""

    def problems(**modules: str) -> tuple[Problem, ...]:
        with pytest.raises(ProjectionProblems) as caught:
            load(**modules)
        return caught.value.problems

    return problems


def marked_lines(text: str) -> list[int]:
    """Return the numbers of the lines that carry a mark `# 1`, in order."""
    return [number for number, line in enumerate(text.splitlines(), 1) if re.search(r"# \d", line)]
