"""What the CSV says that the rows must be.

Owns reading the CSV, and working out from each flight what the three read models have to hold. Must not know the
database.
"""

import csv
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from daemon.demo.check.outcome import CannotCheck

type Row = dict[str, Any]

_UNKNOWN = ("NA", "")
_DAY = 24 * 60
_LATE = 15

_COLUMNS = (
    *("year", "month", "day", "hour", "minute", "time_hour", "carrier", "flight", "tailnum", "origin", "dest"),
    *("distance", "dep_time", "dep_delay", "sched_arr_time", "arr_time", "arr_delay", "air_time"),
)


def chosen_flights(csv_file: Path, months: Collection[str], limit: int | None) -> Iterator[tuple[str, ...]]:
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


def flight_row(cells: tuple[str, ...]) -> tuple[str, Row]:
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


class SharedRows:
    """The two read models whose rows many flights share."""

    def __init__(self) -> None:
        """Begin without flights."""
        self._months: defaultdict[str, _Month] = defaultdict(_Month)
        self._days: defaultdict[str, _AirportDay] = defaultdict(_AirportDay)

    def take(self, flight: Row) -> None:
        """Take one flight, given its row, into account."""
        planned: str = flight["sched_dep"]
        month = self._months[f"{flight['carrier']}#{planned[:7]}"]
        month.fares.append(flight["fare"])
        status = flight["status"]
        if status == "cancelled":
            month.cancelled += 1
            return
        delay: int = flight["dep_delay"]
        month.dep_delays.append(delay)
        self._days[f"{flight['origin']}#{planned[:10]}"].departures.append(delay)
        if status == "diverted":
            month.diverted += 1
            return
        delay = flight["arr_delay"]
        month.arr_delays.append(delay)
        self._days[f"{flight['dest']}#{flight['sched_arr'][:10]}"].arrivals.append(delay)

    def rows(self) -> Mapping[str, Iterator[tuple[str, Row]]]:
        """Return keys and attributes of each read model's rows."""
        return {
            "punctuality": ((key, month.row()) for key, month in self._months.items()),
            "board": ((key, day.row()) for key, day in self._days.items()),
        }
