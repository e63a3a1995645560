"""End to end: a file of flights into SQLite through the whole daemon, against a hand-written straight-line loop."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from daemon.demo.flights import Flight, FlightDataProblem, find_csv, read_flights
from daemon.demo.log import write_logs
from daemon.stores.sqlite_schema import Tables, quoted
from tests.benchmarks.daemons import Spent, fold_all, settings_for
from tests.benchmarks.figures import MICRO, ROOT, Figure, Sizes, figure
from tests.benchmarks.straight_line import GENERATION, fold_by_hand

SLICE = ROOT / "tests" / "data" / "flights.csv"
_EVENTS_PER_FLIGHT = 3


def end_to_end(sizes: Sizes) -> Iterator[Figure]:
    """Measure both in turns, over the same lines, and compare their rows."""
    with tempfile.TemporaryDirectory(prefix="projectiond-bench-") as scratch:
        directory = Path(scratch)
        log = directory / "log.jsonl"
        lines = write_flights(log, sizes.log_lines)
        ours: list[Spent] = []
        theirs: list[Spent] = []
        for number in range(sizes.fold_rounds):
            mine, other = directory / f"ours-{number}.db", directory / f"theirs-{number}.db"
            ours.append(fold_all(settings_for(mine, "projections.punctuality", "flights", str(log))))
            theirs.append(fold_by_hand(log, other))
            _compare(mine, other)
        wall, wall_by_hand = (min(spent.wall for spent in side) for side in (ours, theirs))
        cpu, cpu_by_hand = (min(spent.cpu for spent in side) for side in (ours, theirs))
    name = f"file to SQLite, {lines:,} flights' events (wall)"
    yield figure(name, lines / wall, "events/s", baseline=lines / wall_by_hand, goal="ratio >= 0.4")
    yield figure("  the same (CPU)", cpu * MICRO / lines, "µs/event", baseline=cpu_by_hand * MICRO / lines)


def write_flights(log: Path, lines: int) -> int:
    """Write about so many lines of the demonstration's log of flights into one file; return their number."""
    with tempfile.TemporaryDirectory(prefix="projectiond-bench-") as scratch:
        shards = Path(scratch) / "logs"
        write_logs(shards, _flights(max(40, lines // _EVENTS_PER_FLIGHT)), seed=1)
        content = b"".join(path.read_bytes() for path in sorted(shards.glob("flights-*.jsonl")))
    log.write_bytes(content)
    return content.count(b"\n")


def _flights(count: int) -> list[Flight]:
    """Return so many flights: of the year where it is installed, else of the tests' slice, told again as others."""
    flights = read_flights(SLICE)
    if count > len(flights):
        try:
            flights = read_flights(find_csv())
        except FlightDataProblem:
            again = -(-count // len(flights))
            flights = [
                flight._replace(flight_id=f"{flight.flight_id}-{copy}") for copy in range(again) for flight in flights
            ]
    return flights[:count]


def _compare(ours: Path, theirs: Path) -> None:
    """Compare rows, exactly, and the number of markers."""
    assert _read(ours) == _read(theirs)


def _read(database: Path) -> tuple[dict[str, dict[str, Any]], int]:
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute(f"SELECT key, attributes FROM {quoted(GENERATION.label)}").fetchall()
        sizes = f"SELECT sum(length(entries)) FROM {Tables('projectiond').segments}"
        (marks,) = connection.execute(sizes).fetchone()
    return {key: orjson.loads(attributes) for key, attributes in found}, marks
