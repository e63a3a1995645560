import signal
import sqlite3
import subprocess
import time
from contextlib import suppress

from tests.support.commands import COMMAND, PATIENCE_SECONDS, Workplace

COUNTING = '''\
from daemon.api import Event, View, on, projection


@projection(name="order-summary", version=1, source="orders", key="data.order_id", dedup="shard")
class OrderSummary:
    """One row per order."""

    @on("OrderPlaced")
    def placed(self, view: View, event: Event) -> None:
        view.add(placed=1)
'''
PLACED = [(f"e{number}", "OrderPlaced", {"order_id": "a"}) for number in range(3)]


def counting(shop: Workplace) -> None:
    """Count the orders of every file that begins like the log."""
    shop.write("readmodels/orders.py", COUNTING)
    shop.replace("projectiond.toml", "orders-*.jsonl", "orders-*")


def until_counted(shop: Workplace, count: int) -> None:
    """Wait until a running daemon has committed `count` orders."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(sqlite3.OperationalError):  # its tables are not there yet
            if shop.rows().get("a") == {"placed": count}:
                return
        assert time.monotonic() < deadline, "the daemon did not get there"
        time.sleep(0.05)


def test_a_rename_while_stopped(shop: Workplace):
    """A log that was renamed while the daemon was stopped, its new file not there yet, adds nothing but its rest."""
    counting(shop)
    shop.append(*PLACED[:2])
    assert shop.run("run", "--once").code == 0
    shop.append(PLACED[2])
    (shop.path / "orders-0.jsonl").rename(shop.path / "orders-0.jsonl.1")
    second = shop.run("run", "--once", "--json")
    assert (second.code, second.document["counts"]["read"]) == (0, 1), second.err
    shop.append(("e3", "OrderPlaced", {"order_id": "a"}))
    third = shop.run("run", "--once", "--json")
    assert (third.code, third.document["counts"]["read"]) == (0, 1), third.err
    assert shop.rows() == {"a": {"placed": 4}}


def test_a_rename_to_a_strange_name_while_stopped(shop: Workplace):
    """A log under a name that is no rotation's stops as a shard, with what to do, and adds nothing."""
    counting(shop)
    shop.append(*PLACED)
    assert shop.run("run", "--once").code == 0
    (shop.path / "orders-0.jsonl").rename(shop.path / "orders-kept.jsonl")
    second = shop.run("run", "--once", "--json")
    assert second.code == 1, second.err
    (shard,) = second.document["parked"]
    assert "is the log of shard 'orders-0.jsonl' under a new name" in shard["reason"]
    assert shop.rows() == {"a": {"placed": 3}}


def test_a_rename_while_running(shop: Workplace):
    """Live, a pause between the renaming and the new file makes no shard of the renamed one."""
    counting(shop)
    shop.replace("projectiond.toml", "[engine]", "[coordination]\nlook_for_shards_ms = 10\n\n[engine]")
    shop.append(*PLACED)
    words = [COMMAND, "run", "--config", "projectiond.toml"]
    with subprocess.Popen(words, cwd=shop.path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            until_counted(shop, 3)
            (shop.path / "orders-0.jsonl").rename(shop.path / "orders-0.jsonl.1")
            shop.append(("f0", "OrderPlaced", {"order_id": "a"}), log="orders-0.jsonl.1")
            until_counted(shop, 4)
            shop.append(("f1", "OrderPlaced", {"order_id": "a"}))
            until_counted(shop, 5)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=PATIENCE_SECONDS)
    assert daemon.returncode == 0
    assert shop.rows() == {"a": {"placed": 5}}
