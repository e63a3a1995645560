"""The independent check: every row of the demonstration's read models against a plain pass over the flights' CSV.

Owns what the read models have to hold, worked out from the CSV alone. It uses the standard library only and shares no
code with the daemon or the log writer: what both got wrong together would not be found. It reads no event and knows no
duplicate: a flight happened once. Where the log adds a delay to a schedule, this reads the clock in the CSV; where the
log rounds a Decimal, this counts cents as integers.

Run it as `python -m daemon.demo.check --csv flights.csv --database rows.db`. Exit status: 0 all rows are right, 1 some
row is wrong, missing or unexpected, 2 it could not be checked.

Invariants: the database is opened read-only. Every expected row is looked for and every found row must be expected.
Numbers are compared exactly, and a whole number that became a decimal, a text or a truth value is a difference.
"""

import argparse
import csv
import io
import json
import re
import sqlite3
import sys
import zipfile
from collections import defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

type Row = dict[str, Any]
type _Key = str | tuple[str, str]
"""The key of a row in the view "main", where all of these belong; or key and view of another one."""

MODELS = ("flight", "punctuality", "board")
SHOWN = 10
"""Differences of each read model that a report spells out."""

_UNKNOWN = ("NA", "")
_DAY = 24 * 60
_LATE = 15


class CannotCheck(Exception):
    """The CSV or the database cannot be read as what it should be."""


@dataclass(slots=True)
class ModelReport:
    """What was found out about one read model."""

    model: str
    expected: int = 0
    """Rows that the CSV asks for."""
    found: int = 0
    """Rows in the database."""
    right: int = 0
    """Rows equal to the expected ones in every attribute."""
    missing: int = 0
    unexpected: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list[str])
    """The first differences, in words."""

    @property
    def wrong(self) -> int:
        """Rows that differ, lack or should not be there."""
        return self.missing + self.unexpected + self.different

    def note(self, difference: str) -> None:
        """Keep a difference for the report, unless it has enough of them."""
        if len(self.examples) < SHOWN:
            self.examples.append(difference)

    def lines(self) -> list[str]:
        """Return the report in words: a line on all rows, then one for each example."""
        verdict = (
            "all right"
            if not self.wrong
            else (f"{self.missing:,} missing, {self.unexpected:,} unexpected, {self.different:,} different")
        )
        head = f"{self.model}: {self.expected:,} rows expected, {self.found:,} found, {self.right:,} right: {verdict}"
        more = [f"  and {self.wrong - len(self.examples):,} more"] if self.wrong > len(self.examples) else []
        return [head, *(f"  {example}" for example in self.examples), *more]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found out about all read models."""

    models: tuple[ModelReport, ...]

    @property
    def right(self) -> bool:
        """Whether every row is as the CSV says, and at least one was expected."""
        return all(model.wrong == 0 and model.expected > 0 for model in self.models)

    @property
    def rows(self) -> int:
        """Rows that the CSV asked for, all of which were looked for."""
        return sum(model.expected for model in self.models)

    def text(self) -> str:
        """Return the whole report in words."""
        return "\n".join(line for model in self.models for line in model.lines())


def check(
    csv_file: Path, database: Path, *, months: Collection[str] = (), limit: int | None = None, generation: int = 1
) -> Report:
    """Compare all rows of the three read models with what the CSV (plain or in a .zip) says of the chosen flights.

    `months` such as `2013-01` (all when empty) and `limit` (the first so many flights of those) have to be the ones
    that the logs were written with. Raises CannotCheck when a file or table is missing or damaged.
    """
    reports = {model: ModelReport(model) for model in MODELS}
    with closing(_open_database(database)) as connection:
        found = {model: _read_table(connection, model, generation) for model in MODELS}
    for model, rows in found.items():
        reports[model].found = len(rows)
    shared = _Shared()
    for number, cells in enumerate(_chosen(csv_file, months, limit), start=1):
        try:
            key, row = _flight(cells)
            shared.take(row)
        except (KeyError, ValueError) as error:
            raise CannotCheck(f"flight {number} of {csv_file} is not as expected: {error!r}") from error
        _compare(reports["flight"], key, row, found["flight"])
    for key, month in shared.punctuality.items():
        _compare(reports["punctuality"], key, month.row(), found["punctuality"])
    for key, day in shared.board.items():
        _compare(reports["board"], key, day.row(), found["board"])
    for model, rows in found.items():  # what was compared has been taken out
        for key in rows:
            reports[model].unexpected += 1
            reports[model].note(f"{_named(key)}: in the database, but not in the CSV")
    return Report(tuple(reports.values()))


# -- what the CSV says ----------------------------------------------------------------------------------------------


_COLUMNS = (
    *("year", "month", "day", "hour", "minute", "time_hour", "carrier", "flight", "tailnum", "origin", "dest"),
    *("distance", "dep_time", "dep_delay", "sched_arr_time", "arr_time", "arr_delay", "air_time"),
)


def _chosen(csv_file: Path, months: Collection[str], limit: int | None) -> Iterator[tuple[str, ...]]:
    """Yield the cells of `_COLUMNS` of each chosen flight."""
    for month in months:
        if not re.fullmatch(r"\d{4}-\d\d", month):
            raise CannotCheck(f"month {month!r} is none; write it as 2013-01")
    if limit is not None and limit < 1:
        raise CannotCheck(f"a limit of {limit} flights leaves nothing to check; give 1 or more, or none at all")
    try:
        with _text(csv_file) as text:
            rows = csv.reader(text)
            header = next(rows)
            flights = map(itemgetter(*map(header.index, _COLUMNS)), rows)
            if months:
                flights = (cells for cells in flights if f"{cells[0]}-{cells[1]:0>2}" in months)
            yield from islice(flights, limit)
    except (OSError, ValueError, LookupError, StopIteration, csv.Error, zipfile.BadZipFile) as error:
        raise CannotCheck(f"{csv_file} cannot be read as the flights' CSV: {error!r}") from error


@contextmanager
def _text(csv_file: Path) -> Generator[io.TextIOBase]:
    if csv_file.suffix == ".zip":
        with zipfile.ZipFile(csv_file) as archive, archive.open("flights.csv") as packed:
            yield io.TextIOWrapper(packed, encoding="utf-8", newline="")
    else:
        with csv_file.open(encoding="utf-8", newline="") as plain:
            yield plain


def _flight(cells: tuple[str, ...]) -> tuple[str, Row]:
    """Return the key and the attributes of a flight's row."""
    year, month, day, hour, minute, time_hour, carrier, flight, tailnum, origin, dest, *measures = cells
    distance, dep_time, dep_delay, sched_arr_time, arr_time, arr_delay, air_time = measures
    dates = _dates(year, month, day)
    sched_dep = int(hour) * 60 + int(minute)
    sched_arr = _minute(sched_arr_time)
    if sched_arr < sched_dep:
        sched_arr += _DAY  # the clock has passed midnight
    row: Row = {
        "status": "cancelled",
        "carrier": carrier,
        "flight": int(flight),
        "tailnum": None if tailnum in _UNKNOWN else tailnum,
        "origin": origin,
        "dest": dest,
        "sched_dep": f"{dates[0]}T{_clock(sched_dep)}",
        "sched_arr": f"{dates[sched_arr // _DAY]}T{_clock(sched_arr)}",
        "distance": int(distance),
        "fare": _fare(distance),
    }
    if dep_time not in _UNKNOWN:
        row["status"] = "diverted"
        row["dep_delay"] = delay = int(dep_delay)
        row["dep_time"] = f"{dates[(sched_dep + delay) // _DAY]}T{_confirmed(dep_time, sched_dep + delay)}"
        if arr_delay not in _UNKNOWN and air_time not in _UNKNOWN:
            row["status"] = "landed"
            row["arr_delay"] = delay = int(arr_delay)
            row["arr_time"] = f"{dates[(sched_arr + delay) // _DAY]}T{_confirmed(arr_time, sched_arr + delay)}"
            row["air_time"] = int(air_time)
    return f"{carrier}{flight}-{time_hour.partition(':')[0]}Z", row


def _confirmed(clock: str, expected: int) -> str:
    """Return what a clock showed, which has to be what schedule and delay led to expect."""
    minutes = _minute(clock)
    if (minutes - expected) % _DAY:
        raise ValueError(f"clock {clock} contradicts schedule and delay")
    return _clock(minutes)


@cache
def _minute(clock: str) -> int:
    return int(clock[:-2] or "0") * 60 + int(clock[-2:])


@cache
def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"


@cache
def _dates(year: str, month: str, day: str) -> Mapping[int, str]:
    """Return a day, the one before (-1) and three after (1 to 3): no flight is later than that."""
    today = date(int(year), int(month), int(day))
    return {days: (today + timedelta(days=days)).isoformat() for days in range(-1, 4)}


@cache
def _fare(miles: str) -> Decimal:
    """Return 39.90 and 12.5 cents a mile; half a cent is rounded up."""
    cents = 3990 + (int(miles) * 125 + 5) // 10
    return Decimal(cents) / 100


@dataclass(slots=True)
class _Month:
    """What one carrier's flights of a month came to."""

    fares: list[Decimal] = field(default_factory=list[Decimal])
    dep_delays: list[int] = field(default_factory=list[int])
    arr_delays: list[int] = field(default_factory=list[int])
    cancelled: int = 0
    diverted: int = 0

    def row(self) -> Row:
        """Return the counters; one exists once something was added to it, even 0."""
        row: Row = {"scheduled": len(self.fares), "fares": sum(self.fares)}
        if delays := self.dep_delays:
            row |= {"departed": len(delays), "dep_delay_minutes": sum(delays), "late_departures": _late(delays)}
        if delays := self.arr_delays:
            row |= {"landed": len(delays), "arr_delay_minutes": sum(delays), "late_arrivals": _late(delays)}
        return row | _present(cancelled=self.cancelled, diverted=self.diverted)


@dataclass(slots=True)
class _AirportDay:
    """The delays of one airport's departures and arrivals, on the day for which they were scheduled."""

    departures: list[int] = field(default_factory=list[int])
    arrivals: list[int] = field(default_factory=list[int])

    def row(self) -> Row:
        """Return the counters; one exists once something was added to it, even 0."""
        delays = self.departures + self.arrivals
        row: Row = {"delay_minutes": sum(delay for delay in delays if delay > 0), "delayed": _late(delays)}
        return row | _present(departures=len(self.departures), arrivals=len(self.arrivals))


def _late(delays: Sequence[int]) -> int:
    return sum(delay > _LATE for delay in delays)


def _present(**counts: int) -> Row:
    return {name: count for name, count in counts.items() if count}


class _Shared:
    """The two read models whose rows many flights share."""

    def __init__(self) -> None:
        self.punctuality: defaultdict[str, _Month] = defaultdict(_Month)
        self.board: defaultdict[str, _AirportDay] = defaultdict(_AirportDay)

    def take(self, flight: Row) -> None:
        """Take one flight, given its row, into account."""
        planned: str = flight["sched_dep"]
        month = self.punctuality[f"{flight['carrier']}#{planned[:7]}"]
        month.fares.append(flight["fare"])
        status = flight["status"]
        if status == "cancelled":
            month.cancelled += 1
            return
        delay: int = flight["dep_delay"]
        month.dep_delays.append(delay)
        self.board[f"{flight['origin']}#{planned[:10]}"].departures.append(delay)
        if status == "diverted":
            month.diverted += 1
            return
        delay = flight["arr_delay"]
        month.arr_delays.append(delay)
        self.board[f"{flight['dest']}#{flight['sched_arr'][:10]}"].arrivals.append(delay)


# -- what the database says -----------------------------------------------------------------------------------------


def _open_database(database: Path) -> sqlite3.Connection:
    if not database.is_file():
        raise CannotCheck(f"no database at {database}; give the file that the daemon wrote its rows to")
    try:
        return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise CannotCheck(f"{database} cannot be opened: {error}") from error


def _read_table(connection: sqlite3.Connection, model: str, generation: int) -> dict[_Key, str]:
    """Return the attributes (JSON text) of each row."""
    table = f"{model}-g{generation:d}"
    found: dict[_Key, str] = {}
    try:
        # The name is one of three of ours and a whole number.
        for key, view, attributes in connection.execute(f'SELECT key, view, attributes FROM "{table}"'):  # noqa: S608
            name = key if view == "main" else (key, view)
            if name in found:
                raise CannotCheck(f"table {table!r} holds {_named(name)} twice; it is no table of the daemon's")
            found[name] = attributes
    except sqlite3.Error as error:
        raise CannotCheck(f"table {table!r} cannot be read: {error}; has the daemon run with this database?") from error
    return found


def _named(key: _Key) -> str:
    return key if isinstance(key, str) else f"{key[0]} (view {key[1]})"


_decode = json.JSONDecoder(parse_float=Decimal).raw_decode


def _compare(report: ModelReport, key: str, expected: Row, found: dict[_Key, str]) -> None:
    """Compare one row, and take it out of those found."""
    report.expected += 1
    if key not in found:
        report.missing += 1
        report.note(f"{key}: missing")
        return
    text = found.pop(key)
    try:
        row, end = _decode(text)
    except (ValueError, TypeError):
        row, end = None, 0
    if not isinstance(row, dict) or end != len(text):
        report.different += 1
        report.note(f"{key}: attributes are no JSON object: {text!r}")
        return
    row = cast("Row", row)
    # One comparison settles the common case; True equals 1 and a Decimal an integer, hence the types.
    if row == expected and [*map(type, map(row.get, expected))] == [*map(type, expected.values())]:
        report.right += 1
    elif differences := list(_differences(expected, row)):
        report.different += 1
        report.note(f"{key}: {'; '.join(differences)}")
    else:
        report.right += 1


def _differences(expected: Row, found: Row) -> Iterator[str]:
    for name, value in expected.items():
        if name not in found:
            yield f"{name} is absent, expected {_shown(value)}"
        elif not _same(value, found[name]):
            yield f"{name} is {_shown(found[name])}, expected {_shown(value)}"
    for name in found.keys() - expected.keys():
        yield f"{name} is {_shown(found[name])}, expected to be absent"


def _same(expected: object, found: object) -> bool:
    if type(expected) is Decimal:  # an amount of whole dollars may be written as an integer
        return type(found) in {Decimal, int} and expected == found
    return type(found) is type(expected) and expected == found


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)


# -- the command ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print the report and return the exit status."""
    parser = argparse.ArgumentParser("python -m daemon.demo.check", description="Checks every row against the CSV.")
    option = parser.add_argument
    option("--csv", type=Path, required=True, metavar="FILE", help="the flights' CSV, plain or in a .zip")
    option("--database", type=Path, required=True, metavar="FILE", help="the SQLite file with the rows")
    option("--months", nargs="+", default=[], metavar="YYYY-MM", help="only the flights of these months")
    option("--limit", type=int, metavar="N", help="only the first N flights")
    option("--generation", type=int, default=1, metavar="N", help="the generation of the rows (default: 1)")
    options = parser.parse_args(arguments)
    try:
        report = check(
            options.csv, options.database, months=options.months, limit=options.limit, generation=options.generation
        )
    except CannotCheck as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(report.text() + "\n")
    return 0 if report.right else 1


if __name__ == "__main__":
    sys.exit(main())
