"""`python -m tests.benchmarks`: takes the figures, prints them and writes them to build/bench.json.

Benchmarks measure, tests assert: the exit code says nothing of goals.
"""

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from rich.console import Console

from daemon.app import tune_collector
from tests.benchmarks.control import control
from tests.benchmarks.decoding import decoding
from tests.benchmarks.demonstration import demonstration
from tests.benchmarks.dynamodb.part import dynamodb
from tests.benchmarks.end_to_end import end_to_end
from tests.benchmarks.figures import QUICK, ROOT, Figure, Sizes, document, save, show
from tests.benchmarks.folding import folding
from tests.benchmarks.redelivery import redelivery
from tests.benchmarks.shards import many_shards
from tests.benchmarks.telemetry import telemetry
from tests.benchmarks.wire import wire

_PARTS = {
    "decoding": decoding,
    "folding": folding,
    "end-to-end": end_to_end,
    "shards": many_shards,
    "wire": wire,
    "dynamodb": dynamodb,
    "telemetry": telemetry,
    "redelivery": redelivery,
    "control": control,
}


def measure(sizes: Sizes, parts: Iterable[str], *, full: bool, out: Path) -> None:
    """Take the figures of these parts, show them and write them to `out`."""
    tune_collector()
    told = Console(stderr=True)
    wanted = {name: partial(_PARTS[name], sizes) for name in parts} | ({"demonstration": demonstration} if full else {})
    figures: list[Figure] = []
    for name, part in wanted.items():
        told.print(f"measuring: {name}")
        figures += part()
    content = document(figures)
    save(out, content)
    show(content)


def main(arguments: list[str]) -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="fewer rounds and events: half a minute")
    length.add_argument("--full", action="store_true", help="the whole demonstration as well")
    parser.add_argument("--only", action="append", choices=[*_PARTS], help="measure this part alone; may be repeated")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench.json", help="where the figures are written")
    given = parser.parse_args(arguments)
    measure(QUICK if given.quick else Sizes(), given.only or _PARTS, full=given.full, out=given.out)


if __name__ == "__main__":
    main(sys.argv[1:])
