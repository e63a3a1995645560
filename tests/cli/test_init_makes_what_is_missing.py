import json
import sqlite3
from pathlib import Path

from tests.support.commands import Workplace

GOLDEN = Path(__file__).parent / "goldens/init.json"


def test_the_plan_is_the_golden_one(shop: Workplace):
    """`init --json` prints the plan, and how many things it made of it."""
    ended = shop.run("init", "--json")
    assert ended.document == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert ended.code == 0


def test_printing_the_plan_makes_nothing(shop: Workplace):
    """`init --print` tells what would be made and leaves no file behind."""
    before = shop.files()
    ended = shop.run("init", "--print")
    assert ended.code == 0
    assert "would make 4 of 4" in ended.out
    assert shop.files() == before


def test_a_second_init_changes_nothing(shop: Workplace):
    """Everything exists after one `init`; the next says so, and database and rows stay as they are."""
    shop.append(("e1", "OrderPlaced", {"order_id": "a", "total": 1}))
    shop.run("init")
    assert shop.run("run", "--once").code == 0
    rows, schema = shop.rows(), _schema(shop)
    ended = shop.run("init", "--json")
    assert {step["state"] for step in ended.document["plan"]} == {"exists"}
    assert ended.document["made"] == 0
    assert (shop.rows(), _schema(shop)) == (rows, schema)


def test_only_what_is_missing_is_made(shop: Workplace):
    """A projection that joins later gets its generation; the one that was there keeps its rows."""
    shop.append(("e1", "OrderPlaced", {"order_id": "a", "total": 1}))
    assert shop.run("run", "--once").code == 0
    text = (shop.path / "readmodels/orders.py").read_text(encoding="utf-8")
    shop.write("readmodels/more.py", text.replace("order-summary", "more"))
    shop.replace("projectiond.toml", '["readmodels.orders"]', '["readmodels.orders", "readmodels.more"]')
    plan = shop.run("init", "--json").document["plan"]
    assert {step["name"]: step["state"] for step in plan if step["what"] == "generation"} == {
        "more-g1": "make",
        "order-summary-g1": "exists",
    }
    assert shop.rows("more-g1") == {}
    assert set(shop.rows()) == {"a"}


def test_a_newer_version_is_left_to_a_rebuild(shop: Workplace):
    """`init` makes no second generation: a new version, and a generation without code, wait for a person."""
    shop.run("init")
    shop.replace("readmodels/orders.py", "version=1", "version=2")
    ended = shop.run("init", "--json")
    generations = [step for step in ended.document["plan"] if step["what"] == "generation"]
    assert [(step["name"], step["state"], step["detail"]) for step in generations] == [
        ("order-summary-g1", "waits", "version 1, live, no code here"),
        ("order-summary", "waits", "version 2 waits for a rebuild to be started"),
    ]
    assert ended.document["made"] == 0


def test_anothers_database_is_refused_and_untouched(shop: Workplace):
    """A database that another application made ends `init` and `run` with 3, and stays byte for byte."""
    (shop.path / "var").mkdir()
    with shop.store() as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = (shop.path / "var/shop.db").read_bytes()
    for command in (("init", "--json"), ("init", "--print", "--json"), ("run", "--json")):
        ended = shop.run(*command)
        assert ended.code == 3
        assert ended.document["error"]["code"] == "store-refused"
        assert "give the store a file of its own" in ended.err
    assert (shop.path / "var/shop.db").read_bytes() == before


def test_an_empty_file_becomes_a_store(shop: Workplace):
    """An empty file under the store's name, as `touch` makes it, exists and gets its tables."""
    shop.write("var/shop.db", "")
    plan = shop.run("init", "--json").document["plan"]
    assert [(step["what"], step["state"]) for step in plan] == [
        ("database file", "exists"),
        ("state tables", "make"),
        ("generation", "make"),
    ]
    assert shop.rows() == {}


def _schema(shop: Workplace) -> list[tuple[str, str]]:
    with shop.store() as connection:
        connection.row_factory = sqlite3.Row
        return [tuple(row) for row in connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name")]
