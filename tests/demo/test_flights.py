import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from daemon.demo import flights as module
from daemon.demo.flights import DAY, Flight, FlightDataProblem, Outcome, find_csv, read_flights, select_flights


def test_each_row_of_the_file_is_one_flight(flights: list[Flight]) -> None:
    """The slice holds 2,004 flights under as many ids, of every outcome."""
    assert len({flight.flight_id for flight in flights}) == len(flights) == 2004
    assert Counter(flight.outcome for flight in flights) == {
        Outcome.LANDED: 1941,
        Outcome.CANCELLED: 47,
        Outcome.DIVERTED: 16,
    }


def test_the_first_flight_is_read_in_every_field(flights: list[Flight]) -> None:
    """Times are minutes: UTC by the data's hour, local by its clocks."""
    first = flights[0]
    day = 15706 * DAY  # 2013-01-01
    assert first == Flight(
        flight_id="UA1545-2013-01-01T10Z",
        carrier="UA",
        flight=1545,
        tailnum="N14228",
        origin="EWR",
        dest="IAH",
        distance=1400,
        scheduled=day + 10 * 60 + 15,
        sched_dep=day + 5 * 60 + 15,
        sched_arr=day + 8 * 60 + 19,
        dep_delay=2,
        arr_delay=11,
        air_time=227,
    )
    assert first.month == "2013-01"


def test_no_flight_is_to_arrive_before_it_leaves(flights: list[Flight]) -> None:
    """A clock that passes midnight has moved to the next day, and never by a whole day more."""
    assert all(0 < flight.sched_arr - flight.sched_dep < 12 * 60 for flight in flights)
    assert any(flight.sched_arr // DAY > flight.sched_dep // DAY for flight in flights)


def test_an_archive_reads_like_the_file_in_it(slice_csv: Path, flights: list[Flight], tmp_path: Path) -> None:
    """The package ships the CSV in a .zip; it need not be unpacked."""
    packed = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(slice_csv, "flights.csv")
    assert read_flights(packed) == flights


def test_the_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the data package would import pandas, which is not installed."""
    package = tmp_path / "a_package_of_flights"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('imported')")
    (package / "data" / "flights.csv.zip").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(module, "PACKAGE", package.name)
    assert find_csv() == package / "data" / "flights.csv.zip"
    assert package.name not in sys.modules


def test_a_missing_package_is_one_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the data, the message says what installs it."""
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_of_flights")
    with pytest.raises(FlightDataProblem, match=r"make run.*pip install --no-deps"):
        find_csv()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("533,529", "533,five", "line 3: invalid literal"),
        ("533,529", "533,570", "line 3: '570' is no clock from 0000 to 2400"),
        ("533,529", "NA,529", "line 3: departed at NA, 4 late"),
        ("529,4,", "529,NA,", "line 3: departed at 533, NA late"),
        (",UA,", ',U"A,', "line 3: 'U\"A' is no code of letters and digits"),
        ("2013,1,1", "2013,2,30", "line 3: day"),
        ("2013-01-01T10:00:00Z", "soon", "line 3: Invalid isoformat"),
        ("2013-01-01T10:00:00Z", "2013-01-01T10:00:00", "line 3: '2013-01-01T10:00:00' names no zone"),
        (",1714,", ",1545,", "line 3: flight UA1545-2013-01-01T10Z is there twice"),
        ("2013,1,1,533,529,4,", "2013,1,1,", "line 3: "),
    ],
)
def test_a_bad_row_is_named_by_its_line(slice_csv: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    """A row that is not what it should be stops the reading, with its line, the value and the remedy."""
    text = slice_csv.read_text(encoding="utf-8").splitlines()
    lines = [
        text[0],
        text[1],
        "2013,1,1,533,529,4,850,830,20,UA,1714,N24211,LGA,IAH,227,1416,5,29,2013-01-01T10:00:00Z",
    ]
    assert old in lines[2]
    bad = tmp_path / "flights.csv"
    bad.write_text("\n".join([*lines[:2], lines[2].replace(old, new, 1), *text[3:]]), encoding="utf-8")
    with pytest.raises(FlightDataProblem, match=f"{message}.*install it again"):
        read_flights(bad)


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Missing columns are all named at once; what is no CSV or archive at all is refused as well."""
    other = tmp_path / "other.csv"
    other.write_text("year,month,day,time_hour\n2013,1,1,2013-01-01T10:00:00Z\n")
    with pytest.raises(FlightDataProblem, match=r"no column sched_dep_time, carrier, .*air_time"):
        read_flights(other)
    torn = tmp_path / "torn.zip"
    torn.write_bytes(b"PK")
    with pytest.raises(FlightDataProblem, match="cannot be read"):
        read_flights(torn)
    with zipfile.ZipFile(torn, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(FlightDataProblem, match="holds 0 CSV files, not 1"):
        read_flights(torn)
    with pytest.raises(FlightDataProblem, match="cannot be read"):
        read_flights(tmp_path / "absent.csv")


def test_months_and_a_limit_choose_flights(flights: list[Flight]) -> None:
    """A selection keeps the data's order: the flights of the months, and of those the first ones."""
    chosen = select_flights(flights, months=["2013-12", "2013-02"])
    assert Counter(flight.month for flight in chosen) == {"2013-02": 146, "2013-12": 169}
    assert select_flights(flights, months=["2013-12", "2013-02"], limit=7) == chosen[:7]
    assert select_flights(flights) == flights


@pytest.mark.parametrize(
    ("months", "limit", "message"),
    [
        (["2014-01"], None, "month 2014-01 has no flight; the data holds 2013-01 to 2013-12"),
        (["January"], None, "month 'January' is none; write it as 2013-01"),
        ([], 0, "a limit of 0 flights leaves nothing"),
    ],
)
def test_a_selection_of_nothing_is_refused(
    flights: list[Flight], months: list[str], limit: int | None, message: str
) -> None:
    """A demonstration without events would show nothing, and would hold every row right."""
    with pytest.raises(FlightDataProblem, match=message):
        select_flights(flights, months=months, limit=limit)
