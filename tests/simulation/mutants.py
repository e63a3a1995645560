"""`python -m tests.simulation.mutants [NAME…]`: plant known bugs, one at a time, and tell how many seeds each needs.

A bug is planted as its module is imported, in a process of its own; no file is changed. The table goes to
`build/sim.json` too, beside what the last run of seeds left there. Must not know what the bugs are.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.simulation.bugs import BUGS, Bug

LIMIT = 500
"""Seeds after which a bug counts as not found."""


class _Planter(MetaPathFinder):
    """Changes one module as it is imported."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._bug.module:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Planting(name, spec.origin, self._bug)
        return spec


class _Planting(SourceFileLoader):
    def __init__(self, name: str, path: str, bug: Bug) -> None:
        super().__init__(name, path)
        self._bug = bug

    def get_code(self, fullname: str) -> Any:
        source = self.get_data(self.path).decode()
        return compile(changed(source, self._bug), self.path, "exec", dont_inherit=True)


def changed(source: str, bug: Bug) -> str:
    """Return a module's text with a bug in it."""
    for old, new in bug.edits:
        if source.count(old) != 1:
            raise LookupError(
                f"{bug.module} holds {old!r} {source.count(old)} times, not once; mend tests.simulation.bugs"
            )
        source = source.replace(old, new)
    return source


def plant(name: str) -> None:
    """Have a bug in this process from now on. Nothing of the daemon may be imported yet."""
    early = BUGS[name].module
    if early in sys.modules:
        raise RuntimeError(f"{early} is imported already, so that {name} cannot be planted; plant it first")
    sys.meta_path.insert(0, _Planter(BUGS[name]))


def seeds_needed(name: str, limit: int) -> dict[str, Any]:
    """Plant a bug and run seeds until one fails; tell which and why. To be called first, in a process of its own."""
    plant(name)
    from tests.simulation.world import run_seed

    began = time.process_time()
    for seed in range(1, limit + 1):
        problems = run_seed(seed).problems
        if problems:
            return {"seeds": seed, "problem": problems[0][:300], "cpu_seconds": round(time.process_time() - began, 1)}
    return {"seeds": None, "problem": "", "cpu_seconds": round(time.process_time() - began, 1)}


def _look_for(name: str, limit: int) -> dict[str, Any]:
    """Look for one bug, in a process of its own."""
    command = [sys.executable, "-m", "tests.simulation.mutants", "--one", "--limit", str(limit), name]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"seeds": None, "problem": f"broken: {done.stderr.strip()[-300:]}", "cpu_seconds": 0.0}
    return json.loads(done.stdout)


def _keep(results: Path, table: Mapping[str, Any]) -> None:
    """Write what was found beside what is there."""
    held: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps({**held, "mutants": {**held.get("mutants", {}), **table}}, indent=2) + "\n")


def main() -> int:
    """Print the table; 1 where a bug is not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="bugs to look for (default: all)")
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"seeds to try for each (default {LIMIT})")
    parser.add_argument("--json", type=Path, default=Path("build/sim.json"), help="where the table goes")
    parser.add_argument("--one", action="store_true", help="look for one in this very process")
    arguments = parser.parse_args()
    if arguments.one:
        sys.stdout.write(json.dumps(seeds_needed(arguments.names[0], arguments.limit)))
        return 0
    missed = 0
    for name in arguments.names or BUGS:
        found = _look_for(name, arguments.limit)
        missed += found["seeds"] is None
        needed = found["seeds"] or f"not in {arguments.limit}"
        sys.stdout.write(
            f"{name:<38} {needed!s:>10}  {found['problem'].splitlines()[0][:110] if found['problem'] else ''}\n"
        )
        sys.stdout.flush()
        _keep(arguments.json, {name: found})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
