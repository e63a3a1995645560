"""What a figure is, how two ways of doing the same are timed side by side, and how the figures are shown and kept.

Must not know what is measured. Every ratio is taken in one run, interleaved with its baseline (A B A B ...): the least
time of all rounds stands for each side, since whatever else the machine does can only add to it.
"""

import gc
import operator
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
PACKAGES = ("aioboto3", "aiohttp", "anyio", "botocore", "orjson", "pydantic", "uvloop")
MICRO = 1e6
_HOLDS = {"<=": operator.le, ">=": operator.ge}

type Clock = Callable[[], float]
type Prepared = Callable[[], object]
type Prepare = Callable[[], Prepared]
"""Makes ready what is not timed and returns what is."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything is measured."""

    decode_lines: int = 2_000
    fold_keys: int = 100
    rounds: int = 60
    """Of the core's figures, a few milliseconds each."""
    log_lines: int = 150_000
    fold_rounds: int = 5
    """Of end to end, and of many shards: seconds each."""
    shards: int = 256
    shard_events: int = 128_000
    window_ids: int = 200_000
    wire_calls: int = 20
    """In one round, of which each takes about 0.2 s."""
    wire_rounds: int = 12
    dynamodb_rounds: int = 5
    dynamodb_keys: int = 1_000
    dynamodb_events: int = 40_000
    """Of one round of ours and of the bare loop, after a warm-up that loads every row."""
    sdk_events: int = 4_000
    """Of one round of the batched loops on the stock client; the naive one takes a tenth."""
    strict_events: int = 10_000
    """Of runs on the strict server, which costs more than what is measured."""
    hot_shards: int = 8
    scrapes: int = 20
    telling_rounds: int = 9
    """Of each side; a few seconds each."""


QUICK = Sizes(
    rounds=20, log_lines=30_000, fold_rounds=2, shard_events=51_200, wire_rounds=4, dynamodb_rounds=2,
    dynamodb_events=20_000, sdk_events=2_000, strict_events=4_000, scrapes=5, telling_rounds=3,
)  # fmt: skip
TINY = Sizes(
    decode_lines=20, fold_keys=2, rounds=1, log_lines=300, fold_rounds=1, shards=3, shard_events=60, window_ids=500,
    wire_calls=1, wire_rounds=1, dynamodb_rounds=1, dynamodb_keys=100, dynamodb_events=400, sdk_events=100,
    strict_events=400, hot_shards=2, scrapes=1, telling_rounds=1,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    `value` is in `unit`, and so is `baseline`, which was measured beside it; `ratio` is the quotient that the goal is
    about. `goal` reads like "ratio <= 2.5" or "value <= 200"; without one, `holds` is None.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    goal: str | None = None
    holds: bool | None = None


def figure(
    name: str, value: float, unit: str, *, baseline: float | None = None, ratio: float | None = None, goal: str = ""
) -> Figure:
    """Make a figure. `ratio` is `value / baseline` unless given; `goal` as in `Figure`."""
    if ratio is None and baseline:
        ratio = value / baseline
    holds = None
    if goal:
        what, compared, limit = goal.split()
        measured = value if what == "value" else ratio
        holds = measured is not None and _HOLDS[compared](measured, float(limit))
    return Figure(name, value, unit, baseline, ratio, goal or None, holds)


def seconds_of(prepare: Prepare, clock: Clock = time.process_time) -> float:
    """Time what `prepare` returns, the end of its results included."""
    run = prepare()
    gc.collect()
    start = clock()
    run()
    return clock() - start


def side_by_side(first: Prepare, second: Prepare, rounds: int) -> tuple[float, float]:
    """Return the least seconds of CPU that each of the two took, in turns."""
    seconds = [(seconds_of(first), seconds_of(second)) for _ in range(rounds)]
    return min(mine for mine, _ in seconds), min(other for _, other in seconds)


def document(figures: Sequence[Figure]) -> dict[str, Any]:
    """Return the figures with what they were taken on."""
    return {
        "machine": {"cpu": _cpu_model(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "figures": [asdict(each) for each in figures],
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def show(content: dict[str, Any]) -> None:
    """Print a document's figures as a table."""
    machine = content["machine"]
    title = f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f}, Python {content['python']}"
    table = Table(title=title)
    table.add_column("figure")
    for column in ("value", "unit", "baseline", "ratio", "goal", "holds"):
        table.add_column(column, justify="left" if column == "unit" else "right")
    for each in content["figures"]:
        holds = {True: "[green]yes", False: "[red]no", None: ""}[each["holds"]]
        ratio = "" if each["ratio"] is None else f"{each['ratio']:.2f}"
        value, baseline = _number(each["value"]), _number(each["baseline"])
        table.add_row(each["name"], value, each["unit"], baseline, ratio, each["goal"] or "", holds)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str | None:
    command = ("git", "-C", str(ROOT), "rev-parse", "HEAD")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
