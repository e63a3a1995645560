"""The image's tests need root on Linux and three Debian packages; elsewhere they are left out, which one line tells.

In CI nothing is left out: there the tests fail for what is missing.
"""

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.container.docker_words import PAGE, Built, Docker, commands, docker
from tests.container.tools import obstacle
from tests.docs.pages import ROOT

collect_ignore_glob = ["test_the_*.py"] if obstacle() and not os.environ.get("CI") else []

PLANTED = (".env", "credentials", "daemon.pem", "rows.db", "tests/data/flights.csv", ".git/config", "config/local.toml")
"""What may lie about in a checkout and must not get into an image."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell why the image's tests are left out."""
    if collect_ignore_glob:
        terminalreporter.write_line(f"the image was not tested: {obstacle()}")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Docker]:
    """What does the page's commands."""
    reason = obstacle()
    assert reason is None, f"the image cannot be built: {reason}"
    with docker(tmp_path_factory.mktemp("docker")) as made:
        yield made


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which much lies about."""
    context = tmp_path_factory.mktemp("context")
    for name in ("daemon", "projections", "requirements", "config"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml"):
        shutil.copyfile(ROOT / name, context / name)
    for name in PLANTED:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("a planted secret", encoding="utf-8")
    return context


@pytest.fixture(scope="session")
def image(engine: Docker, checkout: Path) -> Built:
    """The image of this checkout, built once, by the command that the page shows."""
    verb, *words = commands(PAGE)[0]
    assert verb == "build"
    return engine.build(words, checkout)
