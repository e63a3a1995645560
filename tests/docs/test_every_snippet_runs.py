"""What the pages tell people to run is run, on what the pages are about."""

from pathlib import Path

import pytest

from daemon.settings import page as settings_page
from tests.docs.pages import ROOT, Page, all_pages
from tests.docs.stages import STAGES

PAGES = all_pages()


def named(page: Page) -> str:
    """Name a page in test reports."""
    return str(page.path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_it_is(page: Page):
    """Each block names its language, what claims to be TOML, JSON or YAML is, and the page's stage is known."""
    assert list(page.problems()) == []
    assert page.stage in STAGES


@pytest.mark.parametrize("page", [page for page in PAGES if page.runs], ids=named)
def test_every_snippet_runs(page: Page, tmp_path: Path):
    """Run from top to bottom, as a reader would, the page's commands succeed and print what it says they do."""
    with STAGES[page.stage](tmp_path):
        assert "\n".join(page.run(tmp_path)) == ""


def test_the_pages_are_found():
    """The pages that a reader begins with are among those that are run."""
    assert {"README.md", "docs/tutorial.md"} <= {named(page) for page in PAGES if page.runs}


def test_the_settings_page_is_what_the_code_says():
    """The committed page is the one that the models give now."""
    assert (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8") == settings_page.render(), (
        "docs/reference/settings.md is out of date: `python -m daemon.settings.page > docs/reference/settings.md`"
    )
