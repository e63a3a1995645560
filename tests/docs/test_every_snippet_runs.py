"""What the pages tell people to run is run, on what the pages are about, with what a reader has."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from daemon.control.frames import decode_answer, decode_request
from daemon.settings import page as settings_page
from tests.docs import reader
from tests.docs.pages import ENVIRONMENT, ROOT, Page, all_pages
from tests.docs.stages import SECONDS, STAGES, empty_log, fold

PAGES = all_pages()
DRAWING = "a drawing"
ELSEWHERE = {
    ("DESIGN.md", "text"): DRAWING,
    ("DESIGN.md", "mermaid"): "tests/core/test_design_page.py",
    ("DESIGN.md", "sql"): "tests/docs/test_every_snippet_runs.py",
    ("docs/how-to/compose.md", "console"): "tests/deploy/test_compose.py",
    ("docs/how-to/container.md", "console"): "tests/container/test_the_page_of_the_image.py",
    ("docs/how-to/container.md", "dockerfile"): "tests/container/test_the_page_of_the_image.py",
    ("docs/how-to/dynamodb-rights.md", "json"): "tests/docs/test_what_pages_name_exists.py",
    ("docs/reference/control.md", "json"): "tests/docs/test_every_snippet_runs.py",
    ("docs/reference/metrics.md", "promql"): "tests/e2e/test_prometheus_scrapes_the_demo.py",
}
"""Which test runs what this one does not, by page and language."""
SAYS_SO = {"docs/reference/metrics.md": "QUESTIONS"}
"""What such a test names, where that is not the page itself: the page is written from it."""


def named(page: Page) -> str:
    """Name a page in test reports."""
    return str(page.path.relative_to(ROOT))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's Python, which each page gets a copy of."""
    place = tmp_path_factory.mktemp("reader") / ENVIRONMENT
    reader.make(place)
    return place


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_it_is(page: Page):
    """Each block names its language, what claims to be TOML, JSON or YAML is, and the page's stage is known."""
    assert list(page.problems()) == []
    assert page.stage in STAGES


def test_no_block_is_run_by_nothing():
    """Each block is run or compared here, or by the test that is named for it, which names the page."""
    left = {(named(page), block.language) for page in PAGES for block in page.unproven()}
    assert left == set(ELSEWHERE)
    for (page, _), test in ELSEWHERE.items():
        name = SAYS_SO.get(page, page.rpartition("/")[2])
        assert test == DRAWING or name in (ROOT / test).read_text(encoding="utf-8"), (page, test)


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("page", [page for page in PAGES if page.runs], ids=named)
def test_every_snippet_runs(page: Page, tmp_path: Path, environment: Path):
    """Run from top to bottom, as a reader would who has nothing but the project, the page's commands succeed and print
    what it says they do.
    """
    shutil.copytree(environment, tmp_path / ENVIRONMENT, symlinks=True)
    with STAGES[page.stage](tmp_path):
        assert "\n".join(page.run(tmp_path)) == ""


def test_the_pages_are_found():
    """The pages that a reader begins with are among those that are run."""
    assert {"README.md", "docs/tutorial.md"} <= {named(page) for page in PAGES if page.runs}


def test_a_reader_has_what_the_project_requires_and_nothing_else(environment: Path):
    """The daemon and the SDK it requires can be imported; pytest cannot before `pip install pytest`, but then."""
    python = environment / "bin" / "python"

    def imports(module: str) -> bool:
        return not subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode

    assert imports("daemon.app")
    assert imports("boto3")
    assert not imports("pytest")
    assert not imports("hypothesis")
    other = environment.with_name("other")
    shutil.copytree(environment, other, symlinks=True)
    reader.install(other, ["pytest"])
    python = other / "bin" / "python"
    assert imports("pytest")
    assert not imports("hypothesis")


def test_the_frames_of_the_protocol_are_frames():
    """Each frame that control.md shows is read as a request or as an answer."""
    page = Page(ROOT / "docs" / "reference" / "control.md")
    lines = [line for block in page.unproven() if block.language == "json" for line in block.text.splitlines()]
    kinds = [json.loads(line).get("kind", "request") for line in lines]
    assert {"request", "progress", "error"} <= set(kinds)
    for line, kind in zip(lines, kinds, strict=True):
        assert (decode_request if kind == "request" else decode_answer)(line.encode()).id == "a1"


def test_the_rows_are_read_as_the_design_says(tmp_path: Path):
    """The statement that DESIGN.md shows reads the rows of the projection that it names."""
    (statement,) = (block.text for block in Page(ROOT / "DESIGN.md").unproven() if block.language == "sql")
    database = empty_log(tmp_path)
    fold(tmp_path)
    with closing(sqlite3.connect(database)) as connection:
        asked = connection.execute(statement)
        assert [column[0] for column in asked.description] == ["key", "attributes"]
        assert asked.fetchall() == []


def test_the_settings_page_is_what_the_code_says():
    """The committed page is the one that the models give now."""
    assert (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8") == settings_page.render(), (
        "docs/reference/settings.md is out of date: `python -m daemon.settings.page > docs/reference/settings.md`"
    )
