"""The demonstration's DynamoDB: how it is reached, watched and checked."""

import ast
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daemon.core.errors import SettingsProblem, StoreUnavailable
from daemon.core.identity import Scope
from daemon.demo import check_dynamodb, dynamodb
from daemon.demo.check import CannotCheck, Report, check_rows
from daemon.demo.check_dynamodb import json_of, main, read_tables
from daemon.demo.dynamodb import DynamoDbDemo, given, started
from daemon.demo.place import DemoDirectory, opened
from daemon.demo.report import DemoReport, Phases
from daemon.demo.services.cache import ServiceMissing
from daemon.demo.services.ports import Port
from daemon.demo.services.strict import StrictDynamoDB
from daemon.demo.stores import months_of, store_of
from daemon.demo.watch import Look
from daemon.stores.dynamodb.tables import Tables
from daemon.stores.dynamodb.values import typed
from tests.demo.conftest import Logs, Models

FLIGHT = "UA1545-2013-01-01T10Z"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DemoDirectory]:
    """A directory of the demonstration's."""
    with opened(tmp_path / "demo") as made:
        yield made


@pytest.fixture
def demo(
    strict_dynamodb: StrictDynamoDB, directory: DemoDirectory, table_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> DynamoDbDemo:
    """A store on the strict server, with no keys of a person's around."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-the-test")
    return DynamoDbDemo(directory, strict_dynamodb.endpoint, table_prefix, "us-east-1", any_keys=True)


def put(demo: DynamoDbDemo, model: str, rows: dict[str, dict[str, Any]], view: str = "main") -> None:
    """Write rows as the daemon does, bookkeeping included."""
    client, table = demo.client(), f"{demo.prefix}-{model}-g1"
    if table not in client.list_tables()["TableNames"]:
        make(client, table, "key", "view")
    for key, row in rows.items():
        own = {name: typed(value) for name, value in row.items()}
        client.put_item(
            TableName=table,
            Item={"key": {"S": key}, "view": {"S": view}, "_v": {"N": "1"}, "_src": {"S": "a"}, **own},
        )


def make(client: Any, table: str, *keys: str) -> None:
    """Make a table with these two keys."""
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": keys[0], "KeyType": "HASH"}, {"AttributeName": keys[1], "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
    )
    client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1})


def checked(demo: DynamoDbDemo, csv: Path, model: str = "board") -> Report:
    """Check one read model."""
    found = read_tables(demo.endpoint, demo.region, {model: f"{demo.prefix}-{model}-g1"})
    return check_rows(csv, found)


# -- the check ------------------------------------------------------------------------------------------------------


def test_right_rows_pass(demo: DynamoDbDemo, models: Models, slice_csv: Path) -> None:
    """Every row in a table equals what the CSV says, exact amounts too, and each one was compared."""
    put(demo, "punctuality", models["punctuality"])
    report = checked(demo, slice_csv, "punctuality")
    assert report.right, report.text()
    assert report.models[0].found == report.rows == len(models["punctuality"])


def test_wrong_missing_and_strange_rows_are_found(demo: DynamoDbDemo, models: Models, slice_csv: Path) -> None:
    """One attribute changed, one row removed, one row in another view: each is told."""
    rows = models["punctuality"]
    _, (_, strange) = rows.popitem(), rows.popitem()
    changed = next(iter(rows))
    rows[changed]["fares"] += Decimal("0.01")
    put(demo, "punctuality", rows)
    put(demo, "punctuality", {changed: strange}, view="daily")
    (model,) = checked(demo, slice_csv, "punctuality").models
    assert (model.missing, model.unexpected, model.different) == (2, 1, 1)
    assert f"{changed}: fares is" in "\n".join(model.lines())


def test_the_command_ends_with_what_it_found(
    demo: DynamoDbDemo, models: Models, slice_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 where all rows are right, 1 where one is not, 2 where there are none to read."""
    words = ["--csv", str(slice_csv), "--models", "punctuality", "--json", *demo.check_command()[1:]]
    assert main(words) == 2
    assert "has the daemon run there?" in capsys.readouterr().err
    put(demo, "punctuality", models["punctuality"])
    assert main(words) == 0
    put(demo, "punctuality", {next(iter(models["punctuality"])): {}})
    assert main(words) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["models"][0]["different"] == 1


def test_numbers_keep_their_digits() -> None:
    """An item becomes JSON without its bookkeeping, and no number passes through a float."""
    item = {
        "key": {"S": "k"}, "view": {"S": "main"}, "_v": {"N": "7"}, "fare": {"N": "0.1000000000000000055"},
        "note": {"S": 'a "b"'}, "tail": {"NULL": True}, "late": {"BOOL": False}, "odd": {"SS": ["x"]},
    }  # fmt: skip
    assert json.loads(json_of(item), parse_float=Decimal) == {
        "fare": Decimal("0.1000000000000000055"), "note": 'a "b"', "tail": None, "late": False, "odd": "SS ['x']",
    }  # fmt: skip


def test_a_server_that_is_away_is_no_right_row() -> None:
    """What cannot be read is an error, never an empty table."""
    port = Port()
    try:
        with pytest.raises(CannotCheck, match="cannot be read from http://127"):
            read_tables(f"http://127.0.0.1:{port.number}", "us-east-1", {"board": "x-board-g1"})
    finally:
        port.release()


def test_the_check_uses_the_sdk_and_the_other_check_alone() -> None:
    """Nothing of the daemon reads the rows."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(Path(check_dynamodb.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    foreign = {
        name for name in imported if name.partition(".")[0] not in {*sys.stdlib_module_names, "boto3", "botocore"}
    }
    assert foreign
    assert all(f"{name}.".startswith("daemon.demo.check.") for name in foreign)


# -- the store ------------------------------------------------------------------------------------------------------


def test_a_look_shows_what_is_committed(demo: DynamoDbDemo, logs: Logs) -> None:
    """No table, no checkpoint, one of twelve: each look tells what stands there; a server away changes nothing."""
    with demo.watcher(logs.manifest) as watcher:
        assert watcher.look() == Look()
        client, table = demo.client(), Tables(demo.prefix).state
        make(client, table, "pk", "sk")
        assert watcher.look().shards == []
        item = {
            "pk": "board-g1:movements/movements-0.jsonl", "sk": "checkpoint", "position": "7", "origin": "0",
            "epoch": 1, "commit_seq": 2, "commit_id": "c", "state": "running", "caught_up": False, "segment": -1,
            "segment_seq": 0, "parked_seq": 0, "dead_run": 0, "operation_seq": 0, "code_digest": "",
            "counters": {"read": 9},
        }  # fmt: skip
        client.put_item(TableName=table, Item={name: typed(value) for name, value in item.items()})
        watcher.close()
        look = watcher.look()
    assert [(shard.scope, shard.position) for shard in look.shards] == [
        (Scope("board", 1, "movements", "movements-0.jsonl"), "7")
    ]
    assert look.read == 9


def test_a_given_server_is_left_as_it_was(strict_dynamodb: StrictDynamoDB, directory: DemoDirectory) -> None:
    """The tables have a name of their own and are gone at the end; a stranger's stay."""
    said: list[str] = []
    with given(strict_dynamodb.endpoint, directory, said.append) as store:
        client = store.client()
        make(client, "stranger-state", "pk", "sk")
        make(client, f"{store.prefix}-state", "pk", "sk")
        make(client, f"{store.prefix}-board-g1", "key", "view")
    assert [name for name in client.list_tables()["TableNames"] if name.startswith(store.prefix)] == []
    assert "stranger-state" in client.list_tables()["TableNames"]
    assert len(said) == 1


def test_an_endpoint_where_nothing_answers_is_told(directory: DemoDirectory) -> None:
    """Before anything is written, with the URL and what to do."""
    port = Port()
    endpoint = f"http://127.0.0.1:{port.number}"
    try:
        with pytest.raises(StoreUnavailable, match=f"no DynamoDB answers at {endpoint} .*or correct --endpoint"):
            given(endpoint, directory, print).__enter__()
    finally:
        port.release()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8000", "ftp://somewhere", "http://", ""])
def test_what_is_no_url_is_refused(directory: DemoDirectory, endpoint: str) -> None:
    """The words of --endpoint are a URL of a server."""
    with pytest.raises(SettingsProblem, match="is no URL of a server"):
        given(endpoint, directory, print).__enter__()


def test_a_server_that_cannot_be_fetched_is_told(directory: DemoDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dynoxide it says how to get it, and that another server will do."""

    def missing(*_: object) -> None:
        raise ServiceMissing("npm is missing")

    monkeypatch.setattr(dynamodb, "fetch_dynoxide", missing)
    with pytest.raises(SettingsProblem, match=r"npm is missing\. `make fetched` .* --endpoint"):
        started(directory, print).__enter__()


def test_keys_of_a_person_reach_no_server_of_ours(demo: DynamoDbDemo) -> None:
    """Keys, profile and endpoints of the shell stay out, the rest passes; the settings name the tables."""
    shell = {"AWS_ACCESS_KEY_ID": "real", "AWS_ENDPOINT_URL": "https://real", "AWS_PROFILE": "real", "PATH": "/bin"}
    passed = demo.environment(shell)
    assert "real" not in " ".join(passed.values())
    assert passed["PATH"] == "/bin"
    section = json.loads(demo.settings()["PROJECTIOND__STORE"])
    assert (section["prefix"], section["endpoint_url"]) == (demo.prefix, demo.endpoint)


def test_an_earlier_servers_files_are_removed(directory: DemoDirectory) -> None:
    """Results of either store go, with the write-ahead log; the event logs stay."""
    names = ("dynamodb.db", "dynamodb.db-wal", "projectiond.db", "daemon.log", "dynoxide.log")
    for name in (*names, "logs"):
        (directory.path / name).touch()
    directory.forget_results()
    assert sorted(path.name for path in directory.path.iterdir()) == ["demo.json", "logs"]


# -- what is asked --------------------------------------------------------------------------------------------------


def test_dynamodb_folds_january_unless_told_otherwise() -> None:
    """SQLite the year, DynamoDB January; months and --full say otherwise, but not both."""
    assert months_of("sqlite", (), full=False) == ()
    assert months_of("dynamodb", (), full=False) == ("2013-01",)
    assert months_of("dynamodb", (), full=True) == ()
    assert months_of("dynamodb", ("2013-03",), full=False) == ("2013-03",)
    with pytest.raises(SettingsProblem, match="leave one of them out"):
        months_of("dynamodb", ("2013-03",), full=True)


def test_an_endpoint_is_for_dynamodb(directory: DemoDirectory) -> None:
    """It is refused where rows go to a file."""
    with pytest.raises(SettingsProblem, match="add --store dynamodb"):
        store_of("sqlite", "http://127.0.0.1:1", directory, print).__enter__()


def test_write_units_are_told_per_event_applied(logs: Logs) -> None:
    """Writes of every table over the events of the daemons that told them; nothing where there are none."""
    bill = {"units": {"wcu:rows": 30.0, "wcu:state": 10.0, "rcu:rows": 99.0}}
    ended = [{"counts": {"applied": 20}, "consumed": [bill]}, {"counts": {"applied": 5}, "consumed": [bill]}]

    def report(*documents: dict[str, Any]) -> DemoReport:
        return DemoReport(
            manifest=logs.manifest, logs_reused=False, kills_asked=0, kills=(), look=Look(), checked=Report(()),
            phases=Phases(1, 1, 1), ended=documents,
        )  # fmt: skip

    assert report(*ended).write_units_per_event == pytest.approx(3.2)
    assert report(*ended).document()["write_units_per_event"] == 3.2
    assert report({"counts": {"applied": 5}, "consumed": []}).write_units_per_event is None
    assert "write_units_per_event" not in report().document()
