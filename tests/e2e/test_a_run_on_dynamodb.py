"""`projectiond run --once` from a file into a durable DynamoDB server, killed in the middle: the user's own path."""

from pathlib import Path

import pytest

from daemon.core.identity import Generation, RowKey
from daemon.core.inventory import PartState
from daemon.demo.services.dynoxide import Dynoxide
from tests.support.commands import Workplace
from tests.support.dynamodb import over_http, store_on

pytestmark = pytest.mark.anyio

EVENTS, KEYS = 3_000, 40
COUNTING = '''\
from daemon.api import Event, View, on, projection


@projection(name="totals", version=1, source="orders", key="data.order_id", dedup="event")
class Totals:
    """How often each order was seen, and the sum of its amounts."""

    @on("Seen")
    def seen(self, view: View, event: Event) -> None:
        row = view.row or {"seen": 0, "sum": 0, "last": 0}
        view.put(seen=row["seen"] + 1, sum=row["sum"] + event.data["amount"], last=event.data["amount"])
'''


def laid_out(path: Path) -> Workplace:
    """A shop on DynamoDB, and a log in which every tenth event comes twice."""
    shop = Workplace(path)
    shop.write("readmodels/orders.py", COUNTING)
    shop.replace("projectiond.toml", 'path = "var/shop.db"', 'kind = "dynamodb"\nprefix = "shop"\nregion = "us-east-1"')
    shop.replace("projectiond.toml", "linger_ms = 0", "linger_ms = 0\nbatch_max_events = 20")
    events = [(f"e{n}", "Seen", {"order_id": f"k{n % KEYS}", "amount": n}) for n in range(EVENTS)]
    shop.append(*(event for n, event in enumerate(events) for _ in range(2 if n % 10 == 0 else 1)))
    return shop


async def test_a_run_killed_in_the_middle_goes_on_and_every_row_is_right(tmp_path: Path) -> None:
    """SIGKILL amid the commits loses nothing and doubles nothing: the next run settles the rest, duplicates are told,
    and every row is what the log says.
    """
    shop = laid_out(tmp_path)
    with Dynoxide(tmp_path / "dynamodb/db") as server:
        there = {
            "AWS_ACCESS_KEY_ID": "AKIDTEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "PROJECTIOND__STORE__ENDPOINT_URL": server.endpoint,
            "PROJECTIOND__STORE__ALLOW_TEST_ENDPOINT": "true",
        }
        assert shop.run("init", "--yes", **there).code == 0
        with shop.running("run", "--once", **there, PROJECTIOND__LOGGING__LEVEL="debug") as killed:
            for _ in range(10):
                killed.wait_for_log(event="committed")
            killed.process.kill()
            killed.process.wait()
        ended = shop.run("run", "--once", "--json", **there)
        assert ended.code == 0, ended.err[-2000:]
        store = store_on(over_http(server.endpoint), "shop")
        await store.open()
        keys = [RowKey("main", f"k{n}") for n in range(KEYS)]
        rows = await store.load_rows(Generation("totals", 1), keys)
        (checkpoint,) = (await store.checkpoints(Generation("totals", 1))).values()
        parts = await store.survey({Generation("totals", 1): ()})
        await store.aclose()
    assert {key.key: row.attributes for key, row in rows.items() if row is not None} == {
        f"k{k}": {"seen": EVENTS // KEYS, "sum": sum(range(k, EVENTS, KEYS)), "last": EVENTS - KEYS + k}
        for k in range(KEYS)
    }
    counted = checkpoint.counters
    assert (counted["applied"], counted["read"]) == (EVENTS, EVENTS + EVENTS // 10)
    assert counted["duplicate_marker"] == EVENTS // 10
    assert 0 < ended.document["counts"]["applied"] < EVENTS
    assert {part.state for part in parts if part.what == "table"} == {PartState.EXISTS}
