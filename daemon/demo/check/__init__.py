"""The independent check: every row of the demonstration's read models against a plain pass over the flights' CSV.

Owns what the read models have to hold, worked out from the CSV alone (`expected`), and its comparison (`comparison`)
with what the database holds (`found`). It uses the standard library only and shares no code with the daemon or the log
writer: what both got wrong together would not be found. It reads no event and knows no duplicate: a flight happened
once. Where the log adds a delay to a schedule, this reads the clock in the CSV; where the log rounds a Decimal, this
counts cents as integers.

Run it as `python -m daemon.demo.check --csv flights.csv --database rows.db`. Exit status: 0 all rows are right, 1 some
row is wrong, missing or unexpected, 2 it could not be checked. Rows from elsewhere are read by others and given to
`check_rows`.

Invariants: nothing is imported from outside this package and the standard library. Every expected row is looked for
and every found row must be expected.
"""

from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path

from daemon.demo.check.comparison import compare
from daemon.demo.check.expected import SharedRows, chosen_flights, flight_row
from daemon.demo.check.found import Key, named, open_database, read_table
from daemon.demo.check.outcome import MODELS, CannotCheck, ModelReport, Report

__all__ = ["MODELS", "CannotCheck", "ModelReport", "Report", "check", "check_rows"]


def check(
    csv_file: Path,
    database: Path,
    *,
    models: Collection[str] = MODELS,
    months: Collection[str] = (),
    limit: int | None = None,
    generation: int = 1,
) -> Report:
    """Compare all rows of these read models with what the CSV (plain or in a .zip) says of the chosen flights.

    `months` such as `2013-01` (all when empty) and `limit` (the first so many flights of those) have to be the ones
    that the logs were written with. Raises CannotCheck when a file or table is missing or damaged.
    """
    with closing(open_database(database)) as connection:
        found = {model: read_table(connection, model, generation) for model in MODELS if model in models}
    return check_rows(csv_file, found, months=months, limit=limit)


def check_rows(
    csv_file: Path, found: Mapping[str, dict[Key, str]], *, months: Collection[str] = (), limit: int | None = None
) -> Report:
    """Compare these rows, attributes as JSON by key, of each read model that is to be checked; takes them out.

    The rest as for `check`.
    """
    reports = {model: ModelReport(model) for model in MODELS if model in found}
    for model, rows in found.items():
        reports[model].found = len(rows)
    flights = reports.get("flight")
    shared = SharedRows() if reports.keys() - {"flight"} else None
    for number, cells in enumerate(chosen_flights(csv_file, months, limit), start=1):
        try:
            key, row = flight_row(cells)
            if shared is not None:
                shared.take(row)
        except (KeyError, ValueError) as error:
            raise CannotCheck(f"flight {number} of {csv_file} is not as expected: {error!r}") from error
        if flights is not None:
            compare(flights, key, row, found["flight"])
    if shared is not None:
        for model, expected in shared.rows().items():
            for key, row in expected if model in reports else ():
                compare(reports[model], key, row, found[model])
    for model, rows in found.items():  # what was compared has been taken out
        for key in rows:
            reports[model].unexpected += 1
            reports[model].note(f"{named(key)}: in the database, but not in the CSV")
    return Report(tuple(reports.values()))
