import os
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import COMMAND, PATIENCE_SECONDS, Workplace


@pytest.mark.parametrize("words", ["check", "check --json", "run --once", "init --plan", "--version"])
def test_a_full_disk_is_one_line_and_code_5(shop: Workplace, words: str):
    """Where stdout cannot be written, the last line says so with the remedy; nothing calls it a bug."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, *words.split()],
            cwd=shop.path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 5, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line == (
        "error: stdout cannot be written (No space left on device); make room there or send it elsewhere, "
        "and run the command again; what was committed stays"
    )


@pytest.mark.parametrize("words", ["check", "check --json", "run --once", "--version"])
def test_a_reader_that_leaves_is_no_failure_to_tell(shop: Workplace, words: str):
    """A broken pipe ends the command without a word, with the code by which a shell shows it of any command: 141."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [COMMAND, *words.split()],
            cwd=shop.path,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    finally:
        os.close(theirs)
    assert done.returncode == 141, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("{")] == []
