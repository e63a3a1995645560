"""The independent check as child processes, side by side: one for the flights' own rows, one for the rows they share.

Owns how they are started, ended and understood. Must not know what is right; `check` does.

Invariant: what was started has ended when the block of `checking` is left.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from daemon.core.errors import SettingsProblem
from daemon.demo.check import Report
from daemon.demo.interrupts import Interrupts
from daemon.demo.place import DemoDirectory

_SHARES = (("flight",), ("punctuality", "board"))
"""What each child checks: together every read model."""
_CHECKED = {0, 1}
"""Exit statuses with a report: all rows are right, some are wrong."""
_LOOK_SECONDS = 0.01


def check_side_by_side(
    csv: Path,
    directory: DemoDirectory,
    interrupts: Interrupts,
    *,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    months: Sequence[str] = (),
    limit: int | None = None,
    progress: Callable[[int], None] = lambda _models: None,
) -> Report:
    """Check every row and return the report on all read models. `progress` is told of how many there is one.

    `command`: the module that checks, and the options that lead it to the rows; None for the directory's database.
    `environment`: None for this process's own. Raises SettingsProblem when they cannot be checked.
    """
    words = [*(command or ("daemon.demo.check", "--database", str(directory.database)))]
    words += ["--json", "--csv", str(csv.absolute())]
    words += ["--months", *months] if months else []
    words += ["--limit", str(limit)] if limit is not None else []
    with ExitStack() as stack:
        children = [
            stack.enter_context(_checking((*words, "--models", *models), models, directory, interrupts, environment))
            for models in _SHARES
        ]
        while not all(child.ended for child in children):
            progress(sum(len(child.models) for child in children if child.ended))
            time.sleep(_LOOK_SECONDS)
        return Report.merged([child.document() for child in children])


@dataclass(frozen=True, slots=True)
class _Child:
    models: Sequence[str]
    process: subprocess.Popen[bytes]
    out: IO[bytes]

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def document(self) -> dict[str, Any]:
        self.out.seek(0)
        said = self.out.read()
        try:
            document: dict[str, Any] = json.loads(said) if self.process.returncode in _CHECKED else {}
        except ValueError:  # it ended by an error of its own
            document = {}
        if not document:
            words = said.decode(errors="replace").strip() or f"the check ended with {self.process.returncode}"
            raise SettingsProblem(f"the rows cannot be checked: {words.removeprefix('error: ')}")
        return document


@contextmanager
def _checking(
    words: Sequence[str],
    models: Sequence[str],
    directory: DemoDirectory,
    interrupts: Interrupts,
    environment: Mapping[str, str] | None,
) -> Generator[_Child]:
    """Start a check for the time of the block; it is killed at the end if it still runs: it only reads."""
    child: _Child | None = None
    with tempfile.TemporaryFile() as out:
        try:
            with interrupts.held():
                process = subprocess.Popen(
                    [sys.executable, "-m", *words],
                    cwd=directory.path,  # modules beside a user's shell must not be taken for ours
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    pass_fds=(directory.lock,),
                    process_group=0,  # Ctrl-C is for the demonstration, which then ends this
                )
                child = _Child(models, process, out)
            yield child
        finally:
            if child is not None:
                child.process.kill()
                child.process.wait()
