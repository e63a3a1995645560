"""`python -m tests.faults`: every kind of fault, often, and what became of the events.

Prints a table and writes build/faults.json: a list of fault, number (null: it has none), how, times, lost, doubled,
problems and seconds. Exit status: 0 if nothing was lost, doubled or otherwise wrong, else 1.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from daemon.testing.memory_source import MemoryReader
from tests.faults import connections, lost_and_late, trouble
from tests.faults.kinds import KINDS, Kind
from tests.faults.processes import TROUBLES, Trouble
from tests.support.ledger import MODES
from tests.support.trial import Wrong
from tests.support.virtual_loop import VirtualLoop

ROOT = Path(__file__).parents[2]
LISTED = (lost_and_late, trouble, connections)
"""Importing them lists their kinds of faults."""


@dataclass
class Result:
    """One line of the table."""

    fault: str
    number: int | None
    how: str
    times: int = 0
    lost: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.doubled or self.problems)


def in_process(kind: Kind, seeds: int) -> Result:
    """Run one kind in every dedup mode with so many seeds, each on an event loop of its own."""
    result = Result(kind.fault, kind.number, f"strict server, {'virtual' if kind.virtual else 'real'} time: {kind.how}")
    for mode in MODES:
        for seed in range(1, seeds + 1):
            try:
                with asyncio.Runner(loop_factory=VirtualLoop if kind.virtual else None) as runner:
                    result.times += runner.run(kind.run(mode, seed))
            except Wrong as wrong:
                result.lost += wrong.tally.lost
                result.doubled += wrong.tally.doubled
                result.problems.append(str(wrong)[:500])
            except Exception as error:  # noqa: BLE001 - told as a problem; the other faults are still of interest
                result.problems.append(f"{mode}, seed {seed}: {error!r}"[:500])
    return result


def with_processes(one: Trouble, times: int, seed: int) -> Result:
    """Run one fault against real daemons and a durable Dynoxide."""
    result = Result(one.fault, one.number, f"real daemons, durable Dynoxide: {one.how}")
    with tempfile.TemporaryDirectory(prefix="projectiond-faults-") as path:
        try:
            found = one.run(Path(path), seed, times)
        except AssertionError as error:
            result.problems.append(str(error)[-500:])
        else:
            result.times, result.lost, result.doubled = found.times, found.lost, found.doubled
            result.problems += found.problems
    return result


def campaign(kills: int, seeds: int, seed: int, only: str) -> Iterator[Result]:
    """Run every fault whose name holds `only`."""
    for kind in KINDS:
        if only in kind.fault and seeds:
            yield in_process(kind, seeds)
    for one in TROUBLES:
        if only in one.fault and kills:
            yield with_processes(one, max(1, kills // one.share), seed)


def show(results: list[Result], console: Console) -> None:
    """Print the table."""
    table = Table("fault", "injected how", "times", "lost", "doubled", "seconds")
    for result in results:
        numbers = (f"{result.times:,}", str(result.lost), str(result.doubled), f"{result.seconds:.0f}")
        table.add_row(result.fault if result.right else f"{result.fault} (WRONG)", result.how, *numbers)
    console.print(table)
    for result in results:
        for problem in result.problems[:5]:
            console.print(f"{result.fault}: {problem}", markup=False)


def main(arguments: list[str]) -> int:
    """Read the command line, run the campaign, show and keep what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    option = parser.add_argument
    option("--kills", type=int, default=200, help="SIGKILLs of a real daemon; 0: no real processes (default: 200)")
    option("--seeds", type=int, default=10, help="runs in virtual time of each fault and dedup mode (default: 10)")
    option("--seed", type=int, default=1, help="seed of the runs with real processes (default: 1)")
    option("--only", default="", metavar="WORD", help="only faults whose name holds this")
    option("--out", type=Path, default=ROOT / "build" / "faults.json", help="where the results are written")
    given = parser.parse_args(arguments)
    logging.getLogger("aiobotocore").setLevel(logging.CRITICAL)  # a provider that is away is part of the plan
    MemoryReader.poll_seconds = 5  # virtual hours need not be spent in looking
    console, results, began = Console(), list[Result](), time.monotonic()
    for result in campaign(given.kills, given.seeds, given.seed, given.only):
        result.seconds = round(time.monotonic() - began, 1)
        began = time.monotonic()
        console.print(f"{result.fault}: {result.times:,} times, {result.lost} lost, {result.doubled} doubled")
        results.append(result)
    show(results, console)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    return 0 if all(result.right for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
