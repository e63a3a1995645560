"""The command `python -m daemon.demo.check`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from daemon.demo.check import MODELS, CannotCheck, Report, check


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print the report and return the exit status."""
    parser = parser_of("python -m daemon.demo.check")
    parser.add_argument("--database", type=Path, required=True, metavar="FILE", help="the SQLite file with the rows")
    options = parser.parse_args(arguments)
    return told(
        lambda: check(
            options.csv,
            options.database,
            models=options.models,
            months=options.months,
            limit=options.limit,
            generation=options.generation,
        ),
        as_json=options.json,
    )


def parser_of(program: str) -> argparse.ArgumentParser:
    """Return the options of a check, wherever the rows are."""
    parser = argparse.ArgumentParser(program, description="Checks every row against the CSV.")
    option = parser.add_argument
    option("--csv", type=Path, required=True, metavar="FILE", help="the flights' CSV, plain or in a .zip")
    option("--models", nargs="+", default=MODELS, choices=MODELS, metavar="MODEL", help="only these read models")
    option("--months", nargs="+", default=[], metavar="YYYY-MM", help="only the flights of these months")
    option("--limit", type=int, metavar="N", help="only the first N flights")
    option("--generation", type=int, default=1, metavar="N", help="the generation of the rows (default: 1)")
    option("--json", action="store_true", help="print the report as one JSON document")
    return parser


def told(checked: Callable[[], Report], *, as_json: bool) -> int:
    """Check, print the report and return the exit status."""
    try:
        report = checked()
    except CannotCheck as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write((json.dumps(report.document()) if as_json else report.text()) + "\n")
    return 0 if report.right else 1


if __name__ == "__main__":
    sys.exit(main())
