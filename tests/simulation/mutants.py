"""`python -m tests.simulation.mutants [NAME…]`: plant known bugs, one at a time, and tell how many seeds each needs.

A bug is data: a module, a text that it holds once, and another. It is planted as the module is imported, in a process
of its own; no file is changed.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, NamedTuple

LIMIT = 500
"""Seeds after which a bug counts as not found."""


class Mutant(NamedTuple):
    """A bug."""

    module: str
    old: str
    new: str


MUTANTS = {
    "take-unconditioned": Mutant(
        "daemon.stores.dynamodb.taking",
        '"epoch=:e AND commit_seq=:n"',
        '"attribute_exists(pk) OR (epoch=:e AND commit_seq=:n)"',
    ),
    "take-keeps-epoch": Mutant(
        "daemon.core.checkpoint", "epoch=self.epoch + 1, commit", "epoch=max(1, self.epoch), commit"
    ),
    "late-ignores-markers": Mutant(
        "daemon.core.redelivery",
        "elif before is not None or (marked is not None and not own):",
        "elif before is not None:",
    ),
    "late-keeps-cache": Mutant(
        "daemon.actors.late", "                folder.cache.discard(key)\n", "                pass\n"
    ),
    "skip-leaves-no-range": Mutant(
        "daemon.actors.obedience",
        "return Made(obeyed, (SkippedRange(checkpoint.position, through, now, note, counted),))",
        "return Made(obeyed)",
    ),
    "operation-not-noted": Mutant(
        "daemon.actors.obedience", "operation_seq=operation.sequence,", "operation_seq=checkpoint.operation_seq,"
    ),
    "removal-unconditioned": Mutant(
        "daemon.stores.dynamodb.waiting",
        'return {"Delete": {**named, "ConditionExpression": EXISTS}}',
        'return {"Delete": named}',
    ),
    "parks-under-another-owner": Mutant("daemon.actors.shard", "if epoch and now.epoch > epoch:", "if epoch < 0:"),
}


class _Planter(MetaPathFinder):
    """Changes one module as it is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._mutant.module:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Planting(name, spec.origin, self._mutant)
        return spec


class _Planting(SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> Any:
        source = self.get_data(self.path).decode()
        assert source.count(self._mutant.old) == 1, f"{self._mutant.old!r} is not once in {self.path}"
        return compile(source.replace(self._mutant.old, self._mutant.new), self.path, "exec", dont_inherit=True)


def seeds_needed(name: str) -> int | None:
    """Return how many seeds it takes to find a bug, None where none of the first 500 does. To be called first."""
    sys.meta_path.insert(0, _Planter(MUTANTS[name]))
    from tests.simulation.world import run_seed

    return next((seed for seed in range(1, LIMIT + 1) if run_seed(seed).problems), None)


def main() -> int:
    """Print the table; 1 where a bug is not found."""
    if sys.argv[1:2] == ["--one"]:
        sys.stdout.write(f"{seeds_needed(sys.argv[2]) or 'none'}\n")
        return 0
    missed = 0
    for name in sys.argv[1:] or MUTANTS:
        command = [sys.executable, "-m", "tests.simulation.mutants", "--one", name]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False
        )
        found = done.stdout.strip() if done.returncode == 0 else f"broken: {done.stderr.strip()[-200:]}"
        missed += not found.isdigit()
        sys.stdout.write(f"{name:<28} {found}\n")
        sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
