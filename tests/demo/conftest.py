"""What the demonstration's tests share: a slice of the flights, its logs, and rows folded from them by plain code."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from daemon.demo.flights import Flight, read_flights
from daemon.demo.log import write_logs
from daemon.demo.manifest import Manifest

SLICE = Path(__file__).parent.parent / "data" / "flights.csv"

type Rows = dict[str, dict[str, Any]]
type Models = dict[str, Rows]


@dataclass(frozen=True)
class Logs:
    directory: Path
    manifest: Manifest

    def lines(self, file: str) -> list[str]:
        return (self.directory / file).read_text(encoding="ascii").splitlines()

    def events(self, source: str) -> Iterator[dict[str, Any]]:
        """Every line of a source, decoded, shard after shard, duplicates and all."""
        for shard in self.manifest.shards:
            if shard.source == source:
                for line in self.lines(shard.file):
                    yield json.loads(line, parse_float=Decimal)


@pytest.fixture(scope="module")
def slice_csv() -> Path:
    """The CSV of 2,004 flights."""
    return SLICE


@pytest.fixture(scope="module")
def flights(slice_csv: Path) -> list[Flight]:
    """The slice's flights."""
    return read_flights(slice_csv)


@pytest.fixture(scope="module")
def logs(flights: list[Flight], tmp_path_factory: pytest.TempPathFactory) -> Logs:
    """The slice's logs; not to be changed."""
    directory = tmp_path_factory.mktemp("demo") / "logs"
    return Logs(directory, write_logs(directory, flights, seed=1))


@pytest.fixture(scope="module")
def folded(logs: Logs) -> Models:
    """The three read models, as a right fold of the slice's logs leaves them; not to be changed."""
    return fold(logs)


@pytest.fixture
def models(folded: Models) -> Models:
    """The three read models, as a right fold of the slice's logs leaves them; the test's own."""
    return {model: {key: dict(row) for key, row in rows.items()} for model, rows in folded.items()}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Models], Path]:
    """Writes rows into a database of the store's layout and gives its path."""

    def saved(models: Models) -> Path:
        database = tmp_path / "rows.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("PRAGMA synchronous = off")
            for model, rows in models.items():
                connection.execute(
                    f'CREATE TABLE "{model}-g1" (key TEXT, view TEXT, attributes TEXT, v INTEGER, src TEXT)'
                )
                connection.executemany(
                    f"INSERT INTO \"{model}-g1\" VALUES (?, 'main', ?, 1, '')",
                    ((key, encoded(row)) for key, row in rows.items()),
                )
        return database

    return saved


def encoded(row: dict[str, Any]) -> str:
    """A row as JSON in which a Decimal keeps its digits."""
    return orjson.dumps(row, default=lambda amount: orjson.Fragment(str(amount))).decode()


def fold(logs: Logs, *, once: bool = True) -> Models:
    """Fold both logs by plain code; each event id once, or every line as it comes."""
    flight: Rows = {}
    punctuality: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    board: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    seen: set[str] = set()
    for event in logs.events("flights"):
        if not once or event["id"] not in seen:
            seen.add(event["id"])
            data = event["data"]
            _live(flight.setdefault(data["flight_id"], {}), event["type"], data)
            _count(punctuality[f"{data['carrier']}#{data['month']}"], event["type"], data)
    for event in logs.events("movements"):
        if not once or event["event_id"] not in seen:
            seen.add(event["event_id"])
            _move(board[f"{event['origin']}#{event['day']}"], "departures", event["dep_delay"])
            if event["kind"] == "TripFlown":
                _move(board[f"{event['dest']}#{event['dest_day']}"], "arrivals", event["arr_delay"])
    return {"flight": flight, "punctuality": dict(punctuality), "board": dict(board)}


def _live(row: dict[str, Any], kind: str, data: dict[str, Any]) -> None:
    row["status"] = kind.removeprefix("Flight").lower()
    row |= {name: value for name, value in data.items() if name not in {"flight_id", "seq", "month"}}


def _count(row: dict[str, Any], kind: str, data: dict[str, Any]) -> None:
    match kind:
        case "FlightScheduled":
            _add(row, scheduled=1, fares=data["fare"])
        case "FlightDeparted":
            delay = data["dep_delay"] or 0
            _add(row, departed=1, dep_delay_minutes=delay, late_departures=int(delay > 15))
        case "FlightLanded":
            _add(row, landed=1, arr_delay_minutes=data["arr_delay"], late_arrivals=int(data["arr_delay"] > 15))
        case "FlightCancelled":
            _add(row, cancelled=1)
        case _:
            _add(row, diverted=1)


def _move(row: dict[str, Any], kind: str, delay: int) -> None:
    _add(row, **{kind: 1}, delay_minutes=max(delay, 0), delayed=int(delay > 15))


def _add(row: dict[str, Any], **amounts: int | Decimal) -> None:
    for name, amount in amounts.items():
        row[name] = row.get(name, 0) + amount
