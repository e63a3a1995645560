"""Metrics, settings, commands, reasons and exit codes: what pages name is there, and what can happen has an entry."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from daemon.cli.ctl.main import app as projectionctl
from daemon.cli.exit_codes import ExitCode
from daemon.cli.main import app as projectiond
from daemon.core.dedup import Verdict
from daemon.core.lifecycle import ShardState
from daemon.stores.dynamodb.rights import ACTIONS
from tests.docs.pages import ROOT, Page, all_pages

PAGES = [page for page in all_pages() if page.path.is_relative_to(ROOT / "docs")]
RUNBOOK = ROOT / "docs" / "runbook"
SECTIONS = "daemon|store|coordination|engine|control|metrics|health|tracing|logging"
_REASON = re.compile(r"""\b(?:EventProblem|Failure|\w*fail|\w*bad|\w*refuse)\(\s*"([a-z0-9]+(?:-[a-z0-9]+)+)\"""")


def named(page: Page) -> str:
    """Name a page in test reports."""
    return str(page.path.relative_to(ROOT))


def text(page: Page) -> str:
    """Read a page."""
    return page.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_metric_that_is_named_exists(page: Page):
    """Each `projectiond_...` on a page is a metric of the reference."""
    known = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    found = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bprojectiond_[a-z_]+", text(page))}
    assert sorted(name for name in found if f"`{name}" not in known) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_setting_that_is_named_exists(page: Page):
    """Each `section.key` in code on a page is a key of the reference of settings."""
    known = (ROOT / "config" / "reference.toml").read_text(encoding="utf-8")
    found = re.findall(rf"`((?:{SECTIONS})(?:\.[a-z_]+)+)(?: = [^`]*)?`", text(page))
    found = [key for key in found if key not in {"daemon.api", "daemon.testing"}]
    assert [key for key in found if not re.search(rf"(?m)^#*{key.rpartition('.')[2]} = |^#*\[{key}\]", known)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_is_named_exists(page: Page):
    """Each `projectiond ...` and `projectionctl ...` in code on a page is a command, with the options it is given."""
    wrong: list[str] = []
    for program, app in (("projectiond", projectiond), ("projectionctl", projectionctl)):
        for words in re.findall(rf"(?m)(?:^ *|`){program} ([a-z-][^`\n|]*)", text(page)):
            wrong += [
                f"{program} {words}: {problem}" for problem in _problems(typer.main.get_command(app), words.split())
            ]
    assert wrong == []


def _problems(command: Any, words: list[str]) -> Iterator[str]:
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        found = command.commands.get(words[0])
        if found is None:
            yield f"no command {words[0]}"
            return
        command, words = found, words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    for word in words:
        if word in {"2>", ">", "&", "&&"}:
            return
        if word.startswith("--") and word.partition("=")[0] not in options:
            yield f"no option {word}"


def test_the_policy_holds_every_right_that_is_tried_and_no_other():
    """dynamodb-rights.md allows, by kind of table, what the store tries of itself."""
    (policy,) = Page(ROOT / "docs" / "how-to" / "dynamodb-rights.md").unproven()
    statements = json.loads(policy.text)["Statement"]
    allowed = {each["Sid"].lower(): tuple(each["Action"]) for each in statements}
    assert allowed == {kind: tuple(f"dynamodb:{action}" for action in actions) for kind, actions in ACTIONS.items()}
    assert [each["Resource"].rpartition("/projectiond-")[2] for each in statements] == [*(list(ACTIONS)[:-1]), "*-g*"]


def test_the_rights_of_who_makes_the_tables_are_those_it_uses():
    """dynamodb-rights.md names each operation by which tables are made and mended."""
    text = (ROOT / "docs" / "how-to" / "dynamodb-rights.md").read_text(encoding="utf-8")
    modules = [ROOT / "daemon" / "stores" / "dynamodb" / name for name in ("admin.py", "upkeep.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in modules)
    used = set(re.findall(r'"((?:Create|Describe|Update)[A-Z][A-Za-z]+)"', code))
    assert len(used) > 5
    assert sorted(action for action in used if f"`dynamodb:{action}`" not in text) == []


def test_every_reason_of_a_dead_letter_is_explained():
    """Each reason that the code can give stands in the runbook's table."""
    modules = [
        path for path in (ROOT / "daemon").rglob("*.py") if not {"demo", "testing", "cli", "api.py"} & {*path.parts}
    ]
    found = {reason for path in modules for reason in _REASON.findall(path.read_text(encoding="utf-8"))}
    found |= {Verdict.CONFLICT.value, Verdict.LATE.value}
    page = (RUNBOOK / "dead-letters.md").read_text(encoding="utf-8")
    assert len(found) > 15
    assert sorted(reason for reason in found if f"`{reason}`" not in page) == []


@pytest.mark.parametrize("state", [ShardState.PARKED, ShardState.PAUSED, ShardState.RETRYING, ShardState.FENCED])
def test_every_state_that_needs_somebody_has_an_entry(state: ShardState):
    """The runbook's index names each state in which a shard does not fold."""
    assert f"`{state.value}`" in (RUNBOOK / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "code", [code for code in ExitCode if code is not ExitCode.DONE], ids=lambda code: str(int(code))
)
def test_every_exit_code_has_an_entry(code: ExitCode):
    """The runbook says what to do about each exit code of the daemon."""
    pages = "".join(path.read_text(encoding="utf-8") for path in RUNBOOK.glob("*.md"))
    assert re.search(rf"(?:\b[Cc]ode|\|) {int(code)}\b|\({int(code)}\)", pages)


def test_every_entry_is_in_the_index():
    """No entry of the runbook can only be found by its file name."""
    index = (RUNBOOK / "index.md").read_text(encoding="utf-8")
    entries = [path.name for path in Path(RUNBOOK).glob("*.md") if path.name != "index.md"]
    assert [name for name in entries if f"({name})" not in index] == []
