"""`python -m tests.simulation --seeds N --first-seed K`: run so many seeds; print what fails, and how to replay it.

Results go to `build/sim.json`.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

_HASH_SEED = "PYTHONHASHSEED"
_SHOWN = 3
_TAIL = 60


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds (default 300)")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of each seed")
    parser.add_argument("--stop", action="store_true", help="end with the first seed that fails")
    parser.add_argument("--json", type=Path, default=Path("build/sim.json"), help="where the results go")
    return parser.parse_args()


def _tell(result: Any, *, whole: bool) -> None:
    print(f"\nFAILED {result.plan.told()}")
    print(result.trace.text(None if whole else _TAIL))
    for problem in result.problems[:_SHOWN]:
        print(f"  wrong: {problem}")
    print(f"  replay: .venv/bin/python -m tests.simulation --seeds 1 --first-seed {result.plan.seed} --trace")


def _main() -> int:
    from tests.simulation.world import run_seed

    arguments = _arguments()
    began, worked = time.perf_counter(), time.process_time()
    faults: Counter[str] = Counter()
    failed: list[dict[str, Any]] = []
    changes, virtual, ran = 0, 0.0, 0
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        result = run_seed(seed)
        ran += 1
        faults.update(result.faults)
        changes += result.changes
        virtual += result.seconds
        if result.problems:
            failed.append({"seed": seed, "plan": result.plan.told(), "problems": result.problems[:_SHOWN]})
            if len(failed) <= _SHOWN or arguments.trace:
                _tell(result, whole=arguments.trace)
            if arguments.stop:
                break
        elif arguments.trace:
            print(result.trace.text())
            print(f"{result.plan.told()}\n{result.fingerprint}")
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    summary = {
        "seeds": ran, "first_seed": arguments.first_seed, "failed": failed, "seconds": round(seconds, 2),
        "seeds_per_second": round(ran / seconds, 1), "seeds_per_cpu_second": round(ran / cpu, 1),
        "virtual_hours": round(virtual / 3600, 2),
        "commits": changes, "faults": dict(sorted(faults.items())),
    }  # fmt: skip
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(summary, indent=2) + "\n")
    struck = ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items()))
    print(
        f"{ran} seeds from {arguments.first_seed}: {len(failed)} failed; {seconds:.1f} s "
        f"({ran / seconds:.1f} seeds/s, {ran / cpu:.1f} per s of CPU), "
        f"{virtual / 3600:.1f} virtual hours, {changes} changes of checkpoints"
    )
    print(f"faults: {struck}")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get(_HASH_SEED) != "0":  # sets of strings are walked in the order of their hashes
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], os.environ | {_HASH_SEED: "0"}
        )
    sys.exit(_main())
