"""A running daemon tells whether it is alive, started and ready, and what it counted."""

import json
import signal
import time
from http.client import HTTPConnection
from typing import Any

from daemon.demo.services.dynoxide import Dynoxide
from tests.support.commands import PATIENCE_SECONDS, Running, Workplace

OPEN = {
    "PROJECTIOND__METRICS__ENABLED": "true",
    "PROJECTIOND__METRICS__PORT": "0",
    "PROJECTIOND__HEALTH__CHECK_INTERVAL_SECONDS": "0.1",
    "PROJECTIOND__METRICS__BACKLOG_INTERVAL_SECONDS": "0.1",
}
NOBODY = """
[sources.orders]
kind = "kafka"
servers = ["127.0.0.1:1"]
topics = ["orders"]
envelope = "cloudevents"

[sources.orders.security]
protocol = "plaintext"
"""
RAISES = """\
    @on("OrderShipped")
    def shipped(self, view: View, event: Event) -> None:
        raise ValueError("no")
"""


class Asked:
    """The listener of a running daemon."""

    def __init__(self, daemon: Running) -> None:
        record = daemon.wait_for_log(event="metrics and health can be asked for")
        self._host, _, port = record["address"].rpartition(":")
        self._port = int(port)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a page."""
        connection = HTTPConnection(self._host, self._port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def until(self, path: str, status: int) -> str:
        """Ask until a page has this status; return its text."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.get(path))[0] != status:
            assert time.monotonic() < deadline, f"in vain: {path} says {found}"
            time.sleep(0.01)
        return found[1]

    def detail(self) -> Any:
        """Return what readiness rests on."""
        return json.loads(self.get("/readyz?detail")[1])

    def number(self, name: str, labels: str = "") -> float | None:
        """Return one number of the shop's only shard."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"projectiond_{name}{{") and labels in line:
                return float(line.rpartition(" ")[2])
        return None


def test_a_daemon_that_folds_is_ready_and_shows_what_it_did(shop: Workplace):
    """Alive, started, ready; its counters are those of its log; a parked shard changes none of that; then it drains."""
    shop.replace("readmodels/orders.py", _shipped(shop), RAISES)
    shop.append(*((f"e{number}", "OrderPlaced", {"order_id": str(number), "total": 1}) for number in range(20)))
    with shop.running("run", **OPEN) as daemon:
        asked = Asked(daemon)
        assert asked.until("/readyz", 200) == "ok\n"
        asked.until("/startupz", 200)
        assert asked.get("/healthz") == (200, "ok\n")
        _until(lambda: asked.number("events_read_total") == 20 and asked.number("lag_events") == 0)
        assert asked.number("rows_written_total") == 20
        assert asked.number("batch_bytes_sum") != 0
        assert asked.number("shard_state", 'state="running"') == 1
        shop.append(*((f"s{number}", "OrderShipped", {"order_id": str(number)}) for number in range(10, 25)))
        _until(lambda: asked.number("shard_state", 'state="parked"') == 1)
        assert asked.get("/healthz")[0] == asked.get("/readyz")[0] == 200
        assert asked.detail()["shards"] == {"parked": 1}
        _until(lambda: asked.number("lag_bytes") not in {None, 0})
        assert daemon.end(signal.SIGTERM).code == 0


def test_a_shard_parked_on_its_first_event_is_behind(shop: Workplace):
    """It settled nothing: its lag in seconds is the age of that event, months, and survives a restart."""
    shop.replace("readmodels/orders.py", 'dedup="shard"', 'dedup="shard", on_error="park-shard"')
    event = {"specversion": "1.0", "id": "e1", "type": "OrderPlaced", "source": "shop", "time": "2020-01-01T00:00:00Z"}
    shop.write("orders-0.jsonl", json.dumps(event | {"data": {"order_id": "a"}}) + "\n")
    for _ in range(2):
        with shop.running("run", **OPEN) as daemon:
            asked = Asked(daemon)
            _until(lambda asked=asked: asked.number("shard_state", 'state="parked"') == 1)
            _until(lambda asked=asked: (asked.number("lag_seconds") or 0) > 86_400)
            _until(lambda asked=asked: asked.number("lag_events") == 1)
            assert daemon.end(signal.SIGTERM).code == 0


def test_a_shard_that_cannot_settle_its_first_event_is_behind(shop: Workplace):
    """The store is locked before the first commit: the shard has a lag in seconds all the same, and 0 afterwards."""
    shop.replace("projectiond.toml", "[sources.orders]", "busy_timeout_ms = 20\n[sources.orders]")
    with shop.running("run", **OPEN) as daemon:
        asked = Asked(daemon)
        daemon.wait_for_log(shard="orders-0.jsonl", state="running")
        with shop.store() as other:
            other.execute("BEGIN IMMEDIATE")
            event = {"specversion": "1.0", "id": "e1", "type": "OrderPlaced", "source": "shop"}
            event |= {"time": "2020-01-01T00:00:00Z", "data": {"order_id": "a", "total": 1}}
            shop.write("orders-0.jsonl", json.dumps(event) + "\n")
            _until(lambda: (asked.number("lag_seconds") or 0) > 86_400)
            other.execute("ROLLBACK")
        _until(lambda: asked.number("lag_seconds") == 0)
        assert daemon.end(signal.SIGTERM).code == 0


def test_a_log_that_is_away_is_named_and_nothing_dies_of_it(shop: Workplace):
    """Nobody answers at the broker's address: the log says so; alive and started, but not ready, and /readyz says which
    source.
    """
    text = (shop.path / "projectiond.toml").read_text(encoding="utf-8")
    before, _, after = text.partition("[sources.orders]")
    shop.write("projectiond.toml", f"{before}{NOBODY}\n[engine]{after.partition('[engine]')[2]}")
    with shop.running("run", **OPEN) as daemon:
        asked = Asked(daemon)
        told = daemon.wait_for_log(event="the source is away; waiting for it")
        assert (told["source"], told["attempt"]) == ("orders", 1)
        assert "127.0.0.1:1" in told["reason"]
        asked.until("/startupz", 200)
        reason = asked.until("/readyz", 503)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "not asked" in reason or "starting" in reason:
            assert time.monotonic() < deadline
            reason = asked.until("/readyz", 503)
        assert reason.startswith("source 'orders' is not reachable: "), reason
        assert asked.get("/healthz")[0] == 200
        assert asked.number("source_up") == 0
        detail = asked.detail()
        assert detail["store"]["reachable"]
        assert not detail["sources"]["orders"]["reachable"]
        daemon.end(signal.SIGTERM)


def test_a_daemon_that_lost_its_shard_says_so(shop: Workplace):
    """A second daemon takes the shard: the first counts a fenced commit and a lost shard, the second what it folds."""
    with shop.running("run", **OPEN) as first, shop.running("run", **OPEN) as second:
        lost, won = Asked(first), Asked(second)
        for asked in (lost, won):
            _until(lambda asked=asked: asked.number("epoch_changes_total") == 1)
        shop.append(("e1", "OrderPlaced", {"order_id": "a", "total": 1}))
        _until(lambda: (lost.number("shard_fenced_total") or 0) + (won.number("shard_fenced_total") or 0) == 1)
        if won.number("shard_fenced_total"):
            lost, won = won, lost  # whichever was slower to take it
        _until(lambda: won.number("events_applied_total") == 1)
        assert lost.number("commits_total", 'outcome="fenced"') == 1
        assert lost.number("shard_epoch") is None
        assert lost.number("events_applied_total") == 0
        assert won.number("shard_epoch") == 2


def test_units_of_a_store_that_bills_them_are_what_the_run_tells(
    shop: Workplace, dynoxide: Dynoxide, table_prefix: str
):
    """On DynamoDB the units of rows are, by kind, those of the result; bytes of transactions are counted too."""
    shop.replace("projectiond.toml", 'path = "var/shop.db"', f'kind = "dynamodb"\nprefix = "{table_prefix}"')
    there = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "us-east-1"}
    store = {"ENDPOINT_URL": dynoxide.endpoint, "ALLOW_TEST_ENDPOINT": "true"}
    there |= {f"PROJECTIOND__STORE__{name}": value for name, value in store.items()}
    shop.append(*((f"e{number}", "OrderPlaced", {"order_id": str(number), "total": 1}) for number in range(30)))
    with shop.running("run", "--json", **OPEN, **there) as daemon:
        asked = Asked(daemon)
        _until(lambda: asked.number("events_applied_total") == 30)
        shop_s = 'projection="order-summary",generation="1",operation="write",kind="rows"'
        rows = asked.number("store_units_total", shop_s)
        assert asked.number("commit_bytes_total") not in {None, 0}
        ended = daemon.end(signal.SIGTERM)
    (bill,) = [bill for bill in ended.document["consumed"] if bill["projection"] == "order-summary"]
    assert rows == bill["units"]["wcu:rows"] > 30


def _shipped(shop: Workplace) -> str:
    text = (shop.path / "readmodels/orders.py").read_text(encoding="utf-8")
    return text[text.index('    @on("OrderShipped")') :]


def _until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)
