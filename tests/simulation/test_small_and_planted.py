"""Failures are made small, and planted bugs are what the table says: texts that the daemon holds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.mutants import changed, plant
from tests.simulation.plan import Plan, plan_of
from tests.simulation.shrink import cut, groups, kind_of, read, shrink, told

ROOT = Path(__file__).parents[2]


def test_what_a_failure_does_not_need_goes():
    """A failure that needs one kind of fault and three events keeps these alone."""
    plan = next(plan for plan in map(plan_of, range(1, 200)) if "dropped" in plan.rates and plan.mode == "event")

    def fails(smaller: Plan) -> bool:
        return "dropped" in smaller.rates and len(smaller.arrivals) >= 3

    small = cut(plan, shrink(plan, fails, tries=500))
    assert set(small.rates) == {"dropped"}
    assert (len(small.arrivals), small.replicas, small.disasters, small.asks) == (3, 1, (), ())


def test_a_budget_ends_the_search():
    """No more runs are spent than allowed, and what was found by then holds."""
    plan, asked = plan_of(1), list[Plan]()

    def fails(smaller: Plan) -> bool:
        asked.append(smaller)
        return len(asked) % 2 == 1

    assert shrink(plan, fails, tries=7)
    assert len(asked) == 7


@pytest.mark.parametrize("seed", range(1, 20))
def test_cuts_are_read_as_they_are_told(seed: int):
    """What was left out is named in a word, from which the same small plan comes."""
    plan = plan_of(seed)
    cuts = frozenset(name for group in groups(plan) for name in group[: len(group) // 2 + 1])
    assert read(told(cuts)) == cuts
    assert cut(plan, read(told(cuts))) == cut(plan, cuts)
    assert cut(plan, ()) == plan


def test_a_cut_that_means_nothing_is_refused():
    """A name that the plan does not hold is told of, with names that it does."""
    with pytest.raises(ValueError, match="fault:sunshine: not in the plan of seed 1; names are like skews"):
        cut(plan_of(1), {"fault:sunshine"})


def test_failures_are_alike_whatever_their_numbers():
    """Two failures are of one kind where only names and numbers differ."""
    assert kind_of("s0: commit_seq went from 13 to 13; before") == kind_of("s2: commit_seq went from 1 to 7; before")
    assert kind_of("s0: its position went back") != kind_of("s0: commit_seq went from 13 to 13")


@pytest.mark.timeout(300)
def test_a_planted_bug_is_told_of_small_and_can_be_replayed(tmp_path: Path):
    """The simulation finds a planted bug, and the command that it prints replays the small run, which fails alike."""
    command = [sys.executable, "-m", "tests.simulation", "--json", str(tmp_path / "sim.json")]
    options = ["--seeds", "5", "--stop", "--short", "--plant", "take-keeps-epoch", "--shrink", "4"]
    found = subprocess.run([*command, *options], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stdout + found.stderr
    replay = re.findall(r"replay: \.venv/bin/python -m tests\.simulation (.*--cut .*)", found.stdout)
    assert len(replay) == 1, found.stdout
    again = subprocess.run(
        [*command, *replay[0].split()], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert again.returncode == 1, again.stdout + again.stderr
    before = json.loads((tmp_path / "sim.json").read_text())
    assert kind_of(before["failed"][0]["problems"][0]) in {kind_of(line) for line in _wrong(found.stdout)}


def _wrong(text: str) -> list[str]:
    return re.findall(r"wrong: (.*)", text)


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_fit_the_daemon(name: str):
    """Each bug exchanges texts that its module holds once, and what comes of it is Python."""
    source = (ROOT / BUGS[name].module.replace(".", "/")).with_suffix(".py").read_text()
    compile(changed(source, BUGS[name]), name, "exec", dont_inherit=True)


def test_there_are_bugs_of_every_kind():
    """At least 25 bugs are planted."""
    assert len(BUGS) >= 25


def test_a_bug_comes_before_what_it_changes():
    """A bug in a module that is imported already is refused: it would not be there."""
    with pytest.raises(RuntimeError, match="plant it first"):
        plant("take-keeps-epoch")
