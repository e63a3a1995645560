"""The commands on DynamoDB: settings, tables, rights, a run; against a real server in another process."""

import json

import pytest

from daemon.demo.services.dynoxide import Dynoxide
from tests.support.commands import Workplace

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "us-east-1"}
PREFIX = "PROJECTIOND__STORE__"


@pytest.fixture
def shop(shop: Workplace, table_prefix: str) -> Workplace:
    """A shop whose store is in DynamoDB, on tables of its own."""
    shop.replace("projectiond.toml", 'path = "var/shop.db"', f'kind = "dynamodb"\nprefix = "{table_prefix}"')
    return shop


@pytest.fixture
def there(dynoxide: Dynoxide) -> dict[str, str]:
    """Variables that lead to the server, and allow it."""
    return KEYS | {f"{PREFIX}ENDPOINT_URL": dynoxide.endpoint, f"{PREFIX}ALLOW_TEST_ENDPOINT": "true"}


@pytest.mark.parametrize("command", [("run", "--once"), ("init", "--plan"), ("check",)], ids=lambda words: words[0])
@pytest.mark.parametrize("variable", [f"{PREFIX}ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"])
def test_a_stand_in_is_refused_unless_asked_for(
    shop: Workplace, dynoxide: Dynoxide, command: tuple[str, ...], variable: str
):
    """An endpoint that is not AWS ends every command with 2 and the setting that would allow it, whoever named it."""
    ended = shop.run(*command, "--json", **KEYS, **{variable: dynoxide.endpoint})
    assert ended.code == 2
    assert "store.allow_test_endpoint = true" in ended.err
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in ended.out + ended.err


def test_init_makes_tables_once_agreed_to(shop: Workplace, there: dict[str, str], table_prefix: str):
    """Without --yes a script is refused and nothing is made; with it all is made, and a second time nothing is left."""
    refused = shop.run("init", "--json", **there)
    assert refused.code == 2
    assert "--yes" in refused.err
    made = shop.run("init", "--yes", "--json", **there).document
    assert [(part["what"], part["name"], part["state"]) for part in made["plan"]] == [
        ("table", f"{table_prefix}-state", "make"),
        ("table", f"{table_prefix}-markers", "make"),
        ("table", f"{table_prefix}-effects", "make"),
        ("table", f"{table_prefix}-order-summary-g1", "make"),
        ("generation", "order-summary-g1", "make"),
    ]
    assert made["made"] == 5
    again = shop.run("init", "--json", **there)
    assert again.code == 0
    assert {part["state"] for part in again.document["plan"]} == {"exists"}
    assert ("index", f"{table_prefix}-order-summary-g1/by-status") in {
        (part["what"], part["name"]) for part in again.document["plan"]
    }


def test_tables_of_a_generation_are_made_ahead(shop: Workplace, there: dict[str, str], table_prefix: str):
    """`--generation 2` makes the table of the next generation's rows and no record of it; 1 is gone by then."""
    assert shop.run("init", "--yes", **there).code == 0
    ahead = shop.run("init", "--yes", "--generation", "2", "--json", **there).document
    assert [part["name"] for part in ahead["plan"] if part["state"] == "make"] == [f"{table_prefix}-order-summary-g2"]
    after = shop.run("init", "--plan", "--json", **there).document["plan"]
    assert [part["name"] for part in after if part["what"] == "generation"] == ["order-summary-g1"]


def test_the_template_needs_no_account(shop: Workplace, table_prefix: str):
    """`init --print` prints CloudFormation and nothing else, without credentials, region or network."""
    shop.replace("projectiond.toml", 'kind = "dynamodb"', 'kind = "dynamodb"\npoint_in_time_recovery = true')
    template = shop.run("init", "--print").document
    properties = [resource["Properties"] for resource in template["Resources"].values()]
    assert [one["TableName"] for one in properties] == [
        f"{table_prefix}-{name}" for name in ("state", "markers", "effects", "order-summary-g1")
    ]
    assert all(one["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] for one in properties)
    later = shop.run("init", "--print", "--generation", "7").document["Resources"].values()
    assert [resource["Properties"]["TableName"] for resource in later] == [f"{table_prefix}-order-summary-g7"]


def test_check_looks_at_tables_and_prices(shop: Workplace, there: dict[str, str], table_prefix: str):
    """`check` shows what is to be made, refuses where it may not be, and reckons with the price that is set."""
    found = shop.run("check", "--json", **there, **{f"{PREFIX}USD_PER_MILLION_WRITE_UNITS": "2.0"}).document
    assert [part["state"] for part in found["store"][:4]] == ["make"] * 4
    cost = found["projections"][0]["cost_per_million_events"]
    units = cost["marker_units"] + cost["checkpoint_units"] + cost["row_units_at_most"]
    assert cost["usd_at_most"] == pytest.approx(units * 2.0 / 1e6)
    refused = shop.run("check", **there, **{f"{PREFIX}CREATE_TABLES": "false"})
    assert refused.code == 3
    assert f"{table_prefix}-state" in refused.err
    assert shop.run("check", "--offline", "--json").document["store"] is None


def test_a_run_tells_what_it_consumed(shop: Workplace, there: dict[str, str]):
    """A run folds into DynamoDB, and its result and its log hold the units and their price by table."""
    shop.append(("e1", "OrderPlaced", {"order_id": "a", "total": 1}), ("e2", "OrderShipped", {"order_id": "a"}))
    ended = shop.run("run", "--once", "--json", **there)
    assert ended.code == 0
    assert ended.document["counts"]["applied"] == 2
    (bill,) = [bill for bill in ended.document["consumed"] if bill["projection"] == "order-summary"]
    assert bill["units"]["wcu:rows"] >= 2
    assert bill["units"]["wcu:state"] >= 4
    assert bill["usd"] > 0
    records = [json.loads(line) for line in ended.err.splitlines()]
    (told,) = [record for record in records if record["event"] == "units consumed" and "wcu:rows" in record]
    assert (told["projection"], told["wcu:rows"]) == ("order-summary", bill["units"]["wcu:rows"])
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in ended.err
