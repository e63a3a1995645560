"""`python -m tests.simulation --seeds N --first-seed K`: run so many seeds; print what fails, and how to replay it.

A failing run is made smaller before it is told of (`tests.simulation.shrink`). Results go to `build/sim.json`.
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
    parser.add_argument("--short", action="store_true", help="fewer replicas, shards and events in each")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of each seed")
    parser.add_argument("--stop", action="store_true", help="end with the first seed that fails")
    parser.add_argument("--cut", default="", metavar="NAMES", help="leave these parts out, as a small failing run does")
    parser.add_argument("--shrink", type=int, default=120, help="runs to make a failing one smaller (default 120)")
    parser.add_argument("--plant", default="", metavar="BUG", help="with one of tests.simulation.bugs in the daemon")
    parser.add_argument("--json", type=Path, default=Path("build/sim.json"), help="where the results go")
    return parser.parse_args()


def _tell(result: Any, arguments: argparse.Namespace) -> None:
    """Print a failed run: what happened, what was wrong, how to replay it, whole and as small as it gets."""
    from tests.simulation.shrink import cut, kind_of, shrink, told
    from tests.simulation.world import run_plan

    print(f"\nFAILED {result.plan.told()}")
    print(result.trace.text(None if arguments.trace else _TAIL))
    for problem in result.problems[:_SHOWN]:
        print(f"  wrong: {problem}")
    replay = f"  replay: .venv/bin/python -m tests.simulation --seeds 1 --first-seed {result.plan.seed}"
    replay += f"{' --short' * arguments.short}{f' --plant {arguments.plant}' if arguments.plant else ''} --trace"
    print(replay + (f" --cut {arguments.cut}" if arguments.cut else ""))
    if not arguments.shrink or arguments.cut:
        return
    kinds = {kind_of(problem) for problem in result.problems}

    def fails(plan: Any) -> bool:
        return any(kind_of(problem) in kinds for problem in run_plan(plan).problems)

    cuts = shrink(result.plan, fails, arguments.shrink)
    small = run_plan(cut(result.plan, cuts))
    print(f"\nsmaller: {small.plan.told()}")
    print(small.trace.text(_TAIL))
    for problem in small.problems[:_SHOWN]:
        print(f"  wrong: {problem}")
    print(f"{replay} --cut {told(cuts)}")


def _main() -> int:
    arguments = _arguments()
    if arguments.plant:
        from tests.simulation.mutants import plant

        plant(arguments.plant)
    from tests.simulation.plan import plan_of
    from tests.simulation.shrink import cut, read
    from tests.simulation.world import run_plan

    began, worked = time.perf_counter(), time.process_time()
    faults: Counter[str] = Counter()
    failed: list[dict[str, Any]] = []
    changes, virtual, ran = 0, 0.0, 0
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        result = run_plan(cut(plan_of(seed, short=arguments.short), read(arguments.cut)))
        ran += 1
        faults.update(result.faults)
        changes += result.changes
        virtual += result.seconds
        if result.problems:
            failed.append({"seed": seed, "plan": result.plan.told(), "problems": result.problems[:_SHOWN]})
            if len(failed) <= _SHOWN or arguments.trace:
                _tell(result, arguments)
            if arguments.stop:
                break
        elif arguments.trace:
            print(result.trace.text())
            print(f"{result.plan.told()}\n{result.fingerprint}")
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    held: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    summary = {
        "seeds": ran, "first_seed": arguments.first_seed, "short": arguments.short, "failed": failed,
        "seconds": round(seconds, 2),
        "seeds_per_second": round(ran / seconds, 1), "seeds_per_cpu_second": round(ran / cpu, 1),
        "virtual_hours": round(virtual / 3600, 2),
        "commits": changes, "faults": dict(sorted(faults.items())),
        **{name: held[name] for name in ("mutants",) if name in held},
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
