"""The independent check as child processes of the demonstration."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon.core.errors import SettingsProblem
from daemon.demo import checking
from daemon.demo.check import MODELS, Report, check
from daemon.demo.checking import check_side_by_side
from daemon.demo.interrupts import Interrupts
from daemon.demo.place import opened
from tests.demo.conftest import Models


def side_by_side(database: Path, csv: Path, told: list[int] | None = None) -> Report:
    """Check a copy of a database in a directory of the demonstration's."""
    with opened(database.parent / "demo") as directory:
        database.rename(directory.database)
        said = told if told is not None else list[int]()
        try:
            return check_side_by_side(csv, directory, Interrupts(), progress=said.append)
        finally:
            directory.database.rename(database)


def test_two_processes_report_what_one_would(models: Models, save: Callable[[Models], Path], slice_csv: Path) -> None:
    """The report is that of a check in one process, on rows right and wrong; progress never falls."""
    models["board"].popitem()
    database = save(models)
    told: list[int] = []
    assert side_by_side(database, slice_csv, told) == check(slice_csv, database)
    assert told == sorted(told)
    assert set(told) <= set(range(len(MODELS) + 1))


def test_rows_that_cannot_be_checked_are_an_error(
    models: Models, save: Callable[[Models], Path], slice_csv: Path
) -> None:
    """What a child cannot check is told in its words, though the other child could."""
    database = save(models)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute('DROP TABLE "board-g1"')
    with pytest.raises(SettingsProblem, match=r"cannot be checked: table 'board-g1' cannot be read: no such table"):
        side_by_side(database, slice_csv)


def test_a_check_that_fails_itself_is_an_error(
    models: Models, save: Callable[[Models], Path], slice_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end without a report is never taken for rows that are right."""
    monkeypatch.setattr(checking.sys, "executable", "/bin/true")
    with pytest.raises(SettingsProblem, match="the check ended with 0"):
        side_by_side(save(models), slice_csv)
