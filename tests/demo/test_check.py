import ast
import json
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daemon.demo import check as package
from daemon.demo.check import MODELS, CannotCheck, Report, check
from daemon.demo.check.__main__ import main
from daemon.demo.check.found import open_database
from daemon.demo.flights import Flight, read_flights
from daemon.demo.log import write_logs
from tests.demo.conftest import SLICE, Logs, Models, fold

FLIGHT = "UA1545-2013-01-01T10Z"
CARRIER = "UA#2013-01"
AIRPORT = "EWR#2013-01-01"

type Save = Callable[[Models], Path]


@pytest.fixture(scope="module")
def slice_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every eighth flight of the slice, 251 in all: enough for what is written, folded and checked dozens of times."""
    header, *lines = SLICE.read_text(encoding="utf-8").splitlines()
    path = tmp_path_factory.mktemp("few") / "flights.csv"
    path.write_text("\n".join([header, *lines[::8]]) + "\n", encoding="utf-8")
    return path


def wrong(report: Report) -> dict[str, tuple[int, int, int]]:
    """Rows missing, unexpected and different, of each model that has any."""
    return {model.model: (model.missing, model.unexpected, model.different) for model in report.models if model.wrong}


# -- what passes ----------------------------------------------------------------------------------------------------


def test_right_rows_pass(models: Models, save: Save, slice_csv: Path) -> None:
    """Every row that plain code folds from the logs equals what the CSV says, and each one was compared."""
    report = check(slice_csv, save(models))
    assert report.right
    assert wrong(report) == {}
    for model in report.models:
        assert model.expected == model.found == model.right == len(models[model.model]) > 0
    assert report.rows == sum(len(rows) for rows in models.values())
    assert report.text().count("all right") == 3


@pytest.fixture(scope="module")
def slice_models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The read models of the whole slice."""
    directory = tmp_path_factory.mktemp("slice") / "logs"
    return fold(Logs(directory, write_logs(directory, read_flights(SLICE), seed=1)))


def test_every_odd_flight_passes(slice_models: Models, save: Save) -> None:
    """The whole slice, with its clocks at 24:00, longest delays and nights on which the clocks change."""
    assert check(SLICE, save(slice_models)).right


def test_a_flight_row_holds_what_is_documented(models: Models) -> None:
    """The rows that pass are of the documented shape: the landed flight, its carrier's month, its airport's day."""
    assert models["flight"][FLIGHT] == {
        "status": "landed",
        "carrier": "UA",
        "flight": 1545,
        "tailnum": "N14228",
        "origin": "EWR",
        "dest": "IAH",
        "sched_dep": "2013-01-01T05:15",
        "sched_arr": "2013-01-01T08:19",
        "distance": 1400,
        "fare": Decimal("214.90"),
        "dep_time": "2013-01-01T05:17",
        "dep_delay": 2,
        "arr_time": "2013-01-01T08:30",
        "arr_delay": 11,
        "air_time": 227,
    }
    assert models["punctuality"][CARRIER].keys() >= {"scheduled", "fares", "departed", "late_departures", "landed"}
    assert models["board"][AIRPORT].keys() >= {"departures", "delay_minutes", "delayed"}


def test_amounts_of_whole_dollars_may_be_integers(slice_models: Models, save: Save) -> None:
    """A store may write 1234.00 as 1234: the same amount."""
    rows = slice_models["punctuality"].items()
    whole = {key: {**row, "fares": int(row["fares"])} for key, row in rows if row["fares"] == int(row["fares"])}
    assert whole
    assert check(SLICE, save(slice_models | {"punctuality": slice_models["punctuality"] | whole})).right


def test_an_archive_is_checked_like_the_file_in_it(models: Models, save: Save, slice_csv: Path, tmp_path: Path) -> None:
    """The data package's .zip need not be unpacked."""
    packed = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(slice_csv, "flights.csv")
    assert check(packed, save(models)).right


@pytest.mark.parametrize(
    "selection", [{"months": ["2013-12", "2013-02"]}, {"limit": 100}, {"months": ["2013-07"], "limit": 20}]
)
def test_a_selection_is_checked_as_it_was_written(
    flights: list[Flight], save: Save, slice_csv: Path, tmp_path: Path, selection: dict[str, Any]
) -> None:
    """The same months and limit as given to the logs ask for their rows, all and no others."""
    manifest = write_logs(tmp_path / "logs", flights, seed=1, **selection)
    database = save(fold(Logs(tmp_path / "logs", manifest)))
    assert check(slice_csv, database, **selection).right
    assert not check(slice_csv, database).right


def test_rows_of_a_killed_writer_are_read(models: Models, save: Save, slice_csv: Path) -> None:
    """What was committed but still stands in the write-ahead log counts, and the check writes nothing."""
    row = models["flight"].pop(FLIGHT)
    database = save(models)
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        values = (FLIGHT, json.dumps({**row, "fare": 214.90}))
        writer.execute("INSERT INTO \"flight-g1\" VALUES (?, 'main', ?, 1, '')", values)
        writer.commit()
        before = database.read_bytes()
        assert check(slice_csv, database).right
        assert database.read_bytes() == before


def test_the_database_is_opened_read_only(models: Models, save: Save) -> None:
    """A check cannot change what it checks."""
    with (
        closing(open_database(save(models))) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute('DELETE FROM "flight-g1"')


# -- what does not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "key", "change", "message"),
    [
        ("flight", FLIGHT, {"arr_delay": 12}, "arr_delay is 12, expected 11"),
        ("flight", FLIGHT, {"arr_delay": "11"}, 'arr_delay is "11", expected 11'),
        ("flight", FLIGHT, {"arr_delay": Decimal("11.0")}, "arr_delay is 11.0, expected 11"),
        ("flight", FLIGHT, {"status": "departed"}, 'status is "departed", expected "landed"'),
        ("flight", FLIGHT, {"fare": Decimal("214.91")}, "fare is 214.91, expected 214.9"),
        ("flight", FLIGHT, {"fare": Decimal("214.9000000000000057")}, "fare is 214.9000000000000057, expected 214.9"),
        ("flight", FLIGHT, {"tailnum": None}, 'tailnum is null, expected "N14228"'),
        ("flight", FLIGHT, {"air_time": ...}, "air_time is absent, expected 227"),
        ("flight", FLIGHT, {"gate": "A1"}, 'gate is "A1", expected to be absent'),
        ("flight", FLIGHT, {"dep_time": "2013-01-01T05:17:00"}, 'dep_time is "2013-01-01T05:17:00", expected'),
        ("punctuality", "AA#2013-01", {"scheduled": True}, "scheduled is true, expected"),
        ("punctuality", "AA#2013-01", {"late_arrivals": ...}, "late_arrivals is absent, expected"),
        ("punctuality", "AA#2013-01", {"cancelled": 0}, "cancelled is 0, expected to be absent"),
        ("board", AIRPORT, {"delay_minutes": 0, "delayed": 9}, "delay_minutes is 0, expected"),
    ],
)
def test_a_wrong_attribute_is_found(
    models: Models, save: Save, slice_csv: Path, model: str, key: str, change: dict[str, Any], message: str
) -> None:
    """One attribute wrong in value, type or presence makes its row, and no other, different."""
    row = models[model][key]
    assert any(row.get(name) != value or type(row.get(name)) is not type(value) for name, value in change.items())
    row |= change
    models[model][key] = {name: value for name, value in row.items() if value is not ...}
    report = check(slice_csv, save(models))
    assert not report.right
    assert wrong(report) == {model: (0, 0, 1)}
    assert f"{key}: " in report.text()
    assert message in report.text()


@pytest.mark.parametrize("model", ["flight", "punctuality", "board"])
def test_a_missing_row_is_found(models: Models, save: Save, slice_csv: Path, model: str) -> None:
    """A row that the CSV asks for and the database lacks is named."""
    key, _ = models[model].popitem()
    report = check(slice_csv, save(models))
    assert wrong(report) == {model: (1, 0, 0)}
    assert f"{key}: missing" in report.text()


@pytest.mark.parametrize("model", ["flight", "punctuality", "board"])
def test_a_row_too_many_is_found(models: Models, save: Save, slice_csv: Path, model: str) -> None:
    """A row that the CSV does not ask for is named, also a right one under another view."""
    models[model]["XX#2013"] = {}
    database = save(models)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            f'INSERT INTO "{model}-g1" SELECT key, \'daily\', attributes, v, src FROM "{model}-g1" LIMIT 1'
        )
    report = check(slice_csv, database)
    assert wrong(report) == {model: (0, 2, 0)}
    assert "XX#2013: in the database, but not in the CSV" in report.text()
    assert "(view daily): in the database, but not in the CSV" in report.text()


@pytest.mark.parametrize("attributes", ["", "[]", "{", '{"status":NaN', "{} {}", None, b"{}"])
def test_attributes_that_are_no_object_are_a_difference(
    models: Models, save: Save, slice_csv: Path, attributes: str | bytes | None
) -> None:
    """A damaged row is reported like a wrong one; the others are still checked."""
    database = save(models)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute('UPDATE "flight-g1" SET attributes = ? WHERE key = ?', (attributes, FLIGHT))
    report = check(slice_csv, database)
    assert wrong(report) == {"flight": (0, 0, 1)}
    assert f"{FLIGHT}: attributes are no JSON object" in report.text()


def test_duplicates_that_were_not_stopped_are_found(logs: Logs, save: Save, slice_csv: Path) -> None:
    """Folding every line, duplicates and all, makes counters wrong: the check would notice a layer that leaks."""
    report = check(slice_csv, save(fold(logs, once=False)))
    assert {"punctuality", "board"} <= wrong(report).keys()


def test_only_the_first_differences_are_spelled_out(models: Models, save: Save, slice_csv: Path) -> None:
    """Ten examples of each model, and the number of the rest."""
    for row in models["flight"].values():
        row["status"] = "lost"
    report = check(slice_csv, save(models))
    assert wrong(report) == {"flight": (0, 0, 251)}
    assert report.text().count('status is "lost"') == 10
    assert "and 241 more" in report.text()


def test_no_rows_expected_is_not_right(models: Models, save: Save, slice_csv: Path) -> None:
    """An empty database against a selection without flights proves nothing."""
    assert not check(slice_csv, save({model: {} for model in models}), months=["2014-01"]).right


def test_models_checked_apart_come_to_the_whole_report(models: Models, save: Save, slice_csv: Path) -> None:
    """Each model alone, in any order, put together from plain data: what a check of all says, wrong rows and all."""
    models["board"][AIRPORT]["delayed"] = -1
    models["flight"]["XX#2013"] = {}
    del models["punctuality"][CARRIER]
    database = save(models)
    whole = check(slice_csv, database)
    parts = [check(slice_csv, database, models=[model]) for model in reversed(MODELS)]
    assert [wrong(part) for part in parts] == [{"board": (0, 0, 1)}, {"punctuality": (1, 0, 0)}, {"flight": (0, 1, 0)}]
    assert Report.merged([json.loads(json.dumps(part.document())) for part in parts]) == whole
    assert not whole.right


# -- what cannot be checked -----------------------------------------------------------------------------------------


def test_a_database_that_is_none_cannot_be_checked(slice_csv: Path, tmp_path: Path) -> None:
    """No file, a file of another kind, a database without the tables: each is told apart from wrong rows."""
    with pytest.raises(CannotCheck, match="no database at"):
        check(slice_csv, tmp_path / "absent.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.db").write_text("not a database, but long enough to look at" * 100)
    with pytest.raises(CannotCheck, match="cannot be read: file is not a database"):
        check(slice_csv, tmp_path / "text.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(CannotCheck, match=r"table 'flight-g1' cannot be read: no such table.*has the daemon run"):
        check(slice_csv, tmp_path / "empty.db")


def test_a_key_that_is_there_twice_cannot_be_checked(models: Models, save: Save, slice_csv: Path) -> None:
    """Two rows under one key and view: the store's tables can't hold that, so this is none of them."""
    database = save(models)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute('INSERT INTO "board-g1" SELECT * FROM "board-g1" LIMIT 1')
    with pytest.raises(CannotCheck, match=r"table 'board-g1' holds \w+#[-\d]+ twice"):
        check(slice_csv, database)


def test_another_generation_is_read_from_its_own_table(models: Models, save: Save, slice_csv: Path) -> None:
    """The rows of generation 2 are not those of generation 1."""
    with pytest.raises(CannotCheck, match="flight-g2"):
        check(slice_csv, save(models), generation=2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("533,529,4,", "534,529,4,", "clock 534 contradicts schedule and delay"),
        ("533,529,4,", "533,529,,", "flight 2 of .* is not as expected"),
        ("533,529,4,850,830,20,", "2133,529,9604,850,830,20,", "flight 2 of .* is not as expected"),
        ("year,", "jahr,", "cannot be read as the flights' CSV"),
        ("533,529,4,850,830,20,UA,1714,N24211,LGA,IAH,227,1416,5,29,2013-01-01T10:00:00Z", "533", "cannot be read"),
    ],
)
def test_a_csv_that_contradicts_itself_cannot_be_checked(
    models: Models, save: Save, tmp_path: Path, slice_csv: Path, old: str, new: str, message: str
) -> None:
    """What is expected comes from the CSV alone, so the CSV has to be consistent."""
    header, first, *rest = slice_csv.read_text().splitlines()
    second = "2013,1,1,533,529,4,850,830,20,UA,1714,N24211,LGA,IAH,227,1416,5,29,2013-01-01T10:00:00Z"
    text = "\n".join([header, first, second, *rest])
    assert old in text
    bad = tmp_path / "flights.csv"
    bad.write_text(text.replace(old, new, 1))
    with pytest.raises(CannotCheck, match=message):
        check(bad, save(models))


@pytest.mark.parametrize(
    ("selection", "message"), [({"months": ["January"]}, "'January' is none"), ({"limit": 0}, "a limit of 0")]
)
def test_a_selection_that_is_none_cannot_be_checked(
    models: Models, save: Save, slice_csv: Path, selection: dict[str, Any], message: str
) -> None:
    """A mistyped selection is an error, not a check of nothing."""
    with pytest.raises(CannotCheck, match=message):
        check(slice_csv, save(models), **selection)


# -- the command, and its independence ------------------------------------------------------------------------------


def test_the_exit_status_tells_right_wrong_and_unchecked_apart(
    models: Models, save: Save, slice_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 with all rows right, 1 with any wrong, 2 when nothing could be checked."""
    database = save(models)
    arguments = ["--csv", str(slice_csv), "--database", str(database)]
    assert main(arguments) == 0
    assert "flight: 251 rows expected, 251 found, 251 right: all right" in capsys.readouterr().out
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute('DELETE FROM "flight-g1" WHERE key = ?', (FLIGHT,))
    assert main(arguments) == 1
    assert "1 missing, 0 unexpected, 0 different" in capsys.readouterr().out
    decembers = sum(row["sched_dep"].startswith("2013-12") for row in models["flight"].values())
    assert main([*arguments, "--months", "2013-12"]) == 1
    assert f"flight: {decembers} rows expected" in capsys.readouterr().out
    assert main([*arguments, "--limit", "3"]) == 1
    assert "flight: 3 rows expected" in capsys.readouterr().out
    assert main(["--csv", str(tmp_path / "absent.csv"), "--database", str(database)]) == 2
    assert "error: " in capsys.readouterr().err


def test_the_check_runs_as_a_module_and_loads_no_daemon(models: Models, save: Save, slice_csv: Path) -> None:
    """Run as documented, it loads the two empty packages around it and nothing of the project but itself."""
    database = save(models)
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['check', '--csv', {str(slice_csv)!r}, '--database', {str(database)!r}]\n"
        "try:\n"
        "    runpy.run_module('daemon.demo.check', run_name='__main__')\n"
        "except SystemExit as exit:\n"
        "    ours = [name for name in sys.modules if name.split('.')[0] in {'daemon', 'projections'}]\n"
        "    print(exit.code, *ours)\n"
    )
    root = Path(package.__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    code, *ours = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert {"daemon", "daemon.demo", "daemon.demo.check"} <= set(ours)
    assert {name for name in ours if not name.startswith("daemon.demo.check")} == {"daemon", "daemon.demo"}


def test_the_check_imports_the_standard_library_only() -> None:
    """Nothing of the daemon, nothing of the log writer and no package, at any depth of its files."""
    imported: set[str] = set()
    files = list(Path(package.__file__).parent.glob("*.py"))
    assert len(files) > 1
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Import():
                    imported |= {name.name for name in node.names}
                case ast.ImportFrom():
                    assert node.level == 0
                    imported.add(node.module or "")
                case _:
                    pass
    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert all(f"{name}.".startswith("daemon.demo.check.") for name in foreign)
    assert "importlib" not in imported
