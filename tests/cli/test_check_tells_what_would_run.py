import json
from pathlib import Path

import pytest

from daemon.settings import load_settings
from tests.cli.test_a_daemon_is_asked_how_it_is import NOBODY
from tests.support.commands import Workplace

GOLDEN = Path(__file__).parent / "goldens/check.json"

WRONG_SETTINGS = """\
[daemon]
projections = ["readmodels.orders"]
grace_period_seconds = "25"
[store]
paht = "x.db"
[sources.orders]
paths = ["orders-*.jsonl"]
envelope = "clodevents"
[engine]
batch_max_events = 0
[logging]
level = "loud"
"""

WRONG_PROJECTIONS = """\
from daemon.api import View, on, projection


@projection(name="Order Summary", version=0, source="oders", key="data.order_id", dedup="sometimes")
class OrderSummary:
    @on("OrderPlaced")
    def placed(self, view: View) -> None:
        view.put(status="placed")
"""


def test_the_document_is_the_golden_one(shop: Workplace):
    """`check --json` prints the document that scripts rely on (settings at their default, and the digest, apart)."""
    ended = shop.run("check", "--json")
    document = ended.document
    document["settings"] = [value for value in document["settings"] if value["origin"] != "default"]
    for projection in document["projections"]:
        assert len(projection["code_digest"]) == 32
        projection["code_digest"] = "DIGEST"
    assert document == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert ended.code == 0


def test_every_effective_value_and_its_origin_is_told(shop: Workplace):
    """Every key is listed with its value and whether file, environment or default gave it, in both forms."""
    override = {"PROJECTIOND__ENGINE__LINGER_MS": "7"}
    document = shop.run("check", "--json", **override).document
    expected = load_settings(shop.path / "projectiond.toml", override).effective()
    assert [(value["key"], value["origin"].partition(" ")[0]) for value in document["settings"]] == [
        (value.key, value.origin.partition(" ")[0]) for value in expected
    ]
    lines = [line.split() for line in shop.run("check", **override).out.splitlines()]
    assert ["engine.linger_ms", "7", "environment", "PROJECTIOND__ENGINE__LINGER_MS"] in lines
    assert ["store.path", '"var/shop.db"', "file", "projectiond.toml"] in lines
    assert ["engine.batch_max_events", "2000", "default"] in lines


def test_ten_mistakes_are_told_at_once(shop: Workplace):
    """Five mistakes in the settings and five in a projection are ten problems, in one go, each with its place."""
    shop.write("projectiond.toml", WRONG_SETTINGS)
    shop.write("readmodels/orders.py", WRONG_PROJECTIONS)
    ended = shop.run("check", "--json")
    problems = ended.document["error"]["problems"]
    assert [problem["path"] for problem in problems if problem["about"] == "settings"] == [
        "daemon.grace_period_seconds",
        "store.paht",
        "sources.orders.envelope",
        "engine.batch_max_events",
        "logging.level",
    ]
    of_projections = [problem for problem in problems if problem["about"] == "projections"]
    assert len(of_projections) == 5, of_projections
    assert {Path(problem["file"]).name for problem in of_projections} == {"orders.py"}
    for wrong in ("name='Order Summary'", "version=0", "'oders'", "dedup='sometimes'", "placed"):
        assert sum(wrong in problem["message"] for problem in of_projections) == 1, wrong
    assert all(problem["line"] and problem["remedy"] for problem in of_projections)
    assert ended.code == 2
    assert "5 problems in the settings" in ended.err
    assert "5 problems in the projections" in ended.err
    assert "Traceback" not in ended.err


def test_nothing_is_made_and_no_store_is_needed(shop: Workplace):
    """`check` leaves the directory as it was, and does not care for a store that could not be opened."""
    shop.write("var/shop.db", "no database at all, and longer than a header of one hundred bytes has to be" * 3)
    before = shop.files()
    assert shop.run("check").code == 0
    assert shop.files() == before


def test_a_source_named_by_the_environment_alone_is_known(shop: Workplace):
    """Projections are checked with the sources of file and environment although another setting is wrong."""
    shop.replace("readmodels/orders.py", 'source="orders"', 'source="extra"')
    extra = {"PROJECTIOND__SOURCES__EXTRA__PATHS": '["x.jsonl"]', "PROJECTIOND__ENGINE__LINGER_MS": "-1"}
    problems = shop.run("check", "--json", **extra).document["error"]["problems"]
    assert [(problem["about"], problem.get("path")) for problem in problems] == [("settings", "engine.linger_ms")]


def test_settings_without_projections_are_refused(shop: Workplace):
    """A daemon without projections would do nothing: that is a mistake, with the remedy."""
    shop.replace("projectiond.toml", '["readmodels.orders"]', "[]")
    ended = shop.run("check")
    assert ended.code == 2
    assert "daemon.projections" in ended.err
    assert "expected at least one module" in ended.err


def test_what_is_probably_not_meant_is_noted(shop: Workplace):
    """Sources that nobody follows are told, and are no mistakes."""
    shop.replace("projectiond.toml", "[logging]", '[sources.idle]\npaths = ["idle.jsonl"]\n[logging]')
    ended = shop.run("check", "--json")
    assert ended.code == 0
    assert ended.document["notes"] == ["[sources.idle] is followed by no projection"]


def test_a_glob_of_no_file_is_noted(shop: Workplace):
    """Paths that match nothing now are told by `check`, and by `run` where the source has no shard at all."""
    shop.replace("projectiond.toml", '["orders-*.jsonl"]', '["order-*.jsonl", "orders-*.jsonl"]')
    ended = shop.run("check", "--json")
    assert ended.document["notes"] == ['sources.orders.paths[0] = "order-*.jsonl" matches no file now']
    assert "matches no file" not in shop.run("run", "--once").err
    (shop.path / "orders-0.jsonl").unlink()
    (shop.path / "var/shop.db").unlink()
    ended = shop.run("run", "--once")
    assert ended.code == 0
    (record,) = [json.loads(line) for line in ended.err.splitlines() if "matches no file" in line]
    assert (record["level"], record["source"]) == ("warning", "orders")
    assert record["paths"] == "order-*.jsonl, orders-*.jsonl"


STRANGERS = "[projections.order-sumary]\nlinger_ms = 1\n[projections.zoo]\nlate = 'apply'\n[logging]"
STRANGE = [
    {
        "about": "settings",
        "path": f"projections.{name}",
        "value": "a table",
        "expected": "the name of a projection (there are: order-summary)",
        "remedy": remedy,
        "origin": "file projectiond.toml",
    }
    for name, remedy in (
        ("order-sumary", "did you mean projections.order-summary?"),
        ("zoo", "correct it, or remove the table"),
    )
]


@pytest.mark.parametrize("command", ["check", "run"])
def test_overrides_of_no_projection_are_refused(shop: Workplace, command: str):
    """A misspelt [projections.NAME] would silently have no effect: each is a mistake, with the names there are."""
    shop.replace("projectiond.toml", "[logging]", STRANGERS)
    ended = shop.run(command, "--json", PROJECTIOND__PROJECTIONS__ELSE__LINGER_MS="1")
    assert ended.code == 2
    first, *rest = ended.document["error"]["problems"]
    assert (first["path"], first["origin"]) == (
        "projections.else",
        "environment PROJECTIOND__PROJECTIONS__ELSE__LINGER_MS",
    )
    assert rest == STRANGE


def test_overrides_of_no_projection_are_told_with_the_rest(shop: Workplace):
    """They are told beside mistakes in the settings and in projections, where every projection's name is known."""
    shop.replace("projectiond.toml", "[logging]", STRANGERS)
    shop.replace("readmodels/orders.py", 'dedup="shard"', 'dedup="sometimes"')
    problems = shop.run("check", "--json").document["error"]["problems"]
    assert problems[:2] == STRANGE
    assert [problem["about"] for problem in problems[2:]] == ["projections"]
    shop.replace("projectiond.toml", "linger_ms = 0", "linger_ms = -1")
    problems = shop.run("check", "--json").document["error"]["problems"]
    assert problems[0]["path"] == "engine.linger_ms"
    assert problems[1:3] == STRANGE
    assert [problem["about"] for problem in problems[3:]] == ["projections"]
    shop.write("readmodels/orders.py", "import nothing_of_that_name")
    problems = shop.run("check", "--json").document["error"]["problems"]
    assert [problem["about"] for problem in problems] == ["settings", "projections"]


def test_a_second_version_waits(shop: Workplace):
    """Of two versions of one projection, the newer would begin in an empty store, and the older is said to wait."""
    text = (shop.path / "readmodels/orders.py").read_text(encoding="utf-8")
    shop.write("readmodels/older.py", text.replace("version=1", "version=2"))
    shop.replace("projectiond.toml", '["readmodels.orders"]', '["readmodels.orders", "readmodels.older"]')
    projections = shop.run("check", "--json").document["projections"]
    assert [(projection["version"], projection["first_generation"]) for projection in projections] == [
        (1, None),
        (2, "order-summary-g1"),
    ]


def test_what_a_module_prints_stays_off_stdout(shop: Workplace):
    """A module that prints while it is imported does not spoil the document."""
    shop.replace("readmodels/orders.py", "from daemon.api", 'print("hello")\nfrom daemon.api')
    ended = shop.run("check", "--json")
    assert ended.document["config"] == "projectiond.toml"
    assert ended.err == "hello\n"


def test_settings_are_found_by_option_variable_and_place(shop: Workplace):
    """`--config` wins over PROJECTIOND_CONFIG, which wins over ./projectiond.toml."""
    text = (shop.path / "projectiond.toml").read_text(encoding="utf-8")
    for name in ("given", "variable"):
        shop.write(f"{name}.toml", text)
    from_variable = {"PROJECTIOND_CONFIG": "variable.toml"}
    assert shop.run("check", "--json").document["config"] == "projectiond.toml"
    assert shop.run("check", "--json", **from_variable).document["config"] == "variable.toml"
    assert shop.run("check", "--json", "-c", "given.toml", **from_variable).document["config"] == "given.toml"


def test_brokers_that_are_away_are_a_note(shop: Workplace):
    """A check asks brokers what a person should know; those that do not answer are told, and are no mistake."""
    text = (shop.path / "projectiond.toml").read_text(encoding="utf-8")
    before, _, after = text.partition("[sources.orders]")
    shop.write("projectiond.toml", f"{before}{NOBODY}\n[engine]{after.partition('[engine]')[2]}")
    ended = shop.run("check", "--json")
    assert ended.code == 0, ended.err
    (note,) = [note for note in ended.document["notes"] if note.startswith("sources.orders: ")]
    assert "no broker of source 'orders' answers at 127.0.0.1:1" in note
    offline = shop.run("check", "--json", "--offline")
    assert not [note for note in offline.document["notes"] if "broker" in note]
