import signal
import sqlite3
from contextlib import closing

import pytest

from tests.support.commands import Workplace

PLACED = ("e1", "OrderPlaced", {"order_id": "a", "total": 12.5})
SHIPPED = ("e2", "OrderShipped", {"order_id": "a"})
SCOPE = "order-summary-g1:orders/orders-0.jsonl"

RAISES = """\
    @on("OrderShipped")
    def shipped(self, view: View, event: Event) -> None:
        raise ValueError("no")
"""

BROKEN_OUTSIDE = """\
from daemon import app
def build(*args, **named):
    raise RuntimeError("wires crossed")
app.build = build
"""
"""Nothing that a user writes breaks the daemon outside every shard; this takes its composition root apart."""


def test_once_folds_what_the_logs_hold(shop: Workplace):
    """`run --once` folds the log into rows, tells the counts, and goes on from there the next time."""
    shop.append(PLACED, PLACED, SHIPPED)
    first = shop.run("run", "--once", "--json")
    assert first.code == 0, first.err
    counts = first.document["counts"]
    assert (counts["read"], counts["applied"], counts["duplicate_marker"]) == (3, 2, 1)
    assert (first.document["drained"], first.document["parked"]) == (True, [])
    assert shop.rows() == {"a": {"status": "shipped", "total": 12.5}}
    shop.append(("e3", "OrderPlaced", {"order_id": "b", "total": 1}))
    second = shop.run("run", "--once", "--json")
    assert second.document["counts"]["read"] == 1
    assert set(shop.rows()) == {"a", "b"}


def test_a_parked_shard_is_told_with_the_way_out(shop: Workplace):
    """`run --once` ends with 1 while a shard is parked, names it, why, and the command that resumes it once mended."""
    shop.replace("readmodels/orders.py", 'dedup="shard"', 'dedup="shard", on_error="park-shard"')
    whole = (shop.path / "readmodels/orders.py").read_text(encoding="utf-8")
    shop.write("readmodels/orders.py", whole.partition('    @on("OrderShipped")')[0] + RAISES)
    shop.append(PLACED, SHIPPED)
    parked = shop.run("run", "--once", "--json")
    assert parked.code == 1, parked.err
    (shard,) = parked.document["parked"]
    assert shard["scope"] == SCOPE
    assert (shard["projection"], shard["generation"]) == ("order-summary", 1)
    assert (shard["source"], shard["shard"]) == ("orders", "orders-0.jsonl")
    assert "handler-raised" in shard["reason"]
    assert shard["command"] == f"projectiond run --config projectiond.toml --resume {SCOPE}"
    again = shop.run("run", "--once")
    assert again.code == 1
    assert f"Parked: {SCOPE}" in again.out
    assert shard["command"] in again.out
    shop.write("readmodels/orders.py", whole)
    with shop.running(*shard["command"].split()[1:]) as daemon:
        daemon.wait_for_log(shard="orders-0.jsonl", state="running")
        assert daemon.end(signal.SIGTERM).code == 0
    assert shop.run("run", "--once").code == 0
    assert shop.rows()["a"]["status"] == "shipped"


@pytest.mark.parametrize("label", ["orders", "order-summary-g1:elsewhere/x"])
def test_a_label_that_names_no_shard_is_refused(shop: Workplace, label: str):
    """`--resume` with a label that could never be found is a mistake of the command line, not a silent wait."""
    ended = shop.run("run", "--resume", label, "--json")
    assert ended.code == 2
    assert label in ended.document["error"]["message"]
    assert "projections: order-summary; sources: orders" in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(shop: Workplace, number: signal.Signals):
    """A first signal drains and leaves with 0, and the result still is one JSON document."""
    shop.append(PLACED)
    with shop.running("run", "--json") as daemon:
        daemon.wait_for_log(shard="orders-0.jsonl", state="running")
        ended = daemon.end(number)
    assert ended.code == 0, ended.err
    assert ended.document["drained"] is True
    assert '"state": "done"' in ended.err


def test_a_second_signal_ends_at_once_and_loses_nothing(shop: Workplace):
    """A second signal, sent while draining waits for a locked store, ends it with 130; a later run goes on."""
    shop.replace("projectiond.toml", "[sources.orders]", "busy_timeout_ms = 20\n[sources.orders]")
    shop.replace("projectiond.toml", "[daemon]", "[daemon]\ngrace_period_seconds = 3600")
    shop.append(PLACED)
    assert shop.run("run", "--once").code == 0
    with shop.running("run") as daemon:
        daemon.wait_for_log(shard="orders-0.jsonl", state="running")
        with shop.store() as other:
            other.execute("BEGIN IMMEDIATE")
            shop.append(SHIPPED)
            daemon.wait_for_log(event="commit not settled yet")
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_for_log(shard="orders-0.jsonl", state="draining")
            assert daemon.end(signal.SIGTERM).code == 130
            other.execute("ROLLBACK")
    assert shop.rows()["a"]["status"] == "placed"
    assert shop.run("run", "--once").code == 0
    assert shop.rows()["a"]["status"] == "shipped"


def test_a_locked_store_is_unreachable(shop: Workplace):
    """A store that another process locks ends a start with 5: the same command may work later, and then does."""
    shop.replace("projectiond.toml", "[sources.orders]", "busy_timeout_ms = 20\n[sources.orders]")
    shop.run("init")
    with shop.store() as other:
        other.execute("BEGIN EXCLUSIVE")
        ended = shop.run("run", "--once", "--json")
    assert ended.code == 5
    assert ended.document["error"]["code"] == "store-unavailable"
    assert ended.document["error"]["remedy"] == "wait"
    assert "busy_timeout = 20 ms" in ended.err
    assert "Traceback" not in ended.err


def test_a_newer_store_is_refused(shop: Workplace):
    """A store that a newer release wrote ends every command that opens it with 3 and a message, no traceback."""
    shop.run("init")
    with closing(sqlite3.connect(shop.path / "var/shop.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    for command in (("run", "--once", "--json"), ("init", "--json")):
        ended = shop.run(*command)
        assert ended.code == 3
        assert ended.document["error"]["code"] == "store-too-new"
        assert "schema version 99 is newer" in ended.err
        assert "Traceback" not in ended.err


def test_a_bug_outside_every_shard_shows_its_report(shop: Workplace):
    """An error outside the tree ends with 70: the traceback on stderr, the one document on stdout."""
    shop.replace("readmodels/orders.py", "from daemon.api", f"{BROKEN_OUTSIDE}\nfrom daemon.api")
    ended = shop.run("run", "--once", "--json")
    assert ended.code == 70
    assert ended.document == {
        "error": {"code": "bug", "message": "RuntimeError: wires crossed", "remedy": "report"}
    }  # fmt: skip
    assert "Traceback" in ended.err
    assert "please report it" in ended.err


def test_what_handlers_print_stays_off_stdout(shop: Workplace):
    """A handler that prints does not spoil the document."""
    shop.replace("readmodels/orders.py", 'view.put(status="placed"', 'print("noise")\n        view.put(status="placed"')
    shop.append(PLACED)
    ended = shop.run("run", "--once", "--json")
    assert ended.document["counts"]["applied"] == 1
    assert "noise" in ended.err


def test_logs_go_to_stderr_as_the_settings_say(shop: Workplace):
    """The result alone is on stdout; the level and the daemon's name of the settings hold for stderr."""
    shop.append(PLACED)
    chatty = shop.run("run", "--once")
    assert '"daemon": "shop"' in chatty.err
    assert " ".join(chatty.out.split()).startswith("This run events read 1 applied 1 rows written 1 commits")
    assert shop.run("run", "--once", PROJECTIOND__LOGGING__LEVEL="error").err == ""


SLEEPS = """\
import sys, threading
print('{"event": "importing"}', file=sys.stderr, flush=True)
threading.Event().wait()
"""
"""A module whose import takes for ever."""

OPENS_FOR_EVER = """\
import sys, anyio
from daemon import app
async def opened_in_time(*args):
    print('{"event": "opening"}', file=sys.stderr, flush=True)
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()
app.opened_in_time = opened_in_time
"""

ENDS = """\
from daemon.actors.supervisor import Supervisor
async def run(self):
    pass
Supervisor.run = run
"""

PANICS = """\
from daemon import app
class Panic(BaseException):
    pass
def store_of(*args):
    raise Panic("at the disco")
app.store_of = store_of
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_store_is_away_ends_the_wait(shop: Workplace, number: signal.Signals):
    """A first signal while a locked store is waited for leaves with 0: nothing is run yet that could be drained."""
    shop.replace("projectiond.toml", "[sources.orders]", "busy_timeout_ms = 20\n[sources.orders]")
    shop.run("init")
    with shop.store() as other:
        other.execute("BEGIN EXCLUSIVE")
        with shop.running("run", "--json") as daemon:
            daemon.wait_for_log(event="the store is away; waiting for it")
            ended = daemon.end(number)
    assert ended.code == 0, ended.err
    assert ended.document["drained"] is True
    assert '"event": "stopped"' in ended.err
    assert "Traceback" not in ended.err


def test_a_second_signal_ends_a_start_at_once(shop: Workplace):
    """A second signal, while a store that cannot be let go of is still opened, ends the start with 130."""
    shop.replace("readmodels/orders.py", "from daemon.api", f"{OPENS_FOR_EVER}\nfrom daemon.api")
    with shop.running("run") as daemon:
        daemon.wait_for_log(event="opening")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.end(signal.SIGINT).code == 130  # of another kind: two of one that come together are one


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_amid_imports_ends_them(shop: Workplace, number: signal.Signals):
    """A first signal while a user's module is imported leaves with 0 and the one document on stdout."""
    shop.replace("readmodels/orders.py", "from daemon.api", f"{SLEEPS}\nfrom daemon.api")
    with shop.running("run", "--json") as daemon:
        daemon.wait_for_log(event="importing")
        ended = daemon.end(number)
    assert ended.code == 0, ended.err
    assert ended.document["drained"] is True
    assert '"event": "stopped"' in ended.err


def test_a_supervisor_that_ends_by_itself_has_drained_nothing(shop: Workplace):
    """Where the supervisor returns although nobody asked it to, that is a bug, and no drained run."""
    shop.replace("readmodels/orders.py", "from daemon.api", f"{ENDS}\nfrom daemon.api")
    ended = shop.run("run", "--json")
    assert ended.code == 70
    assert "although nobody asked it to" in ended.document["error"]["message"]


def test_what_is_no_exception_is_a_bug_too(shop: Workplace):
    """What leaves every shard and is no Exception ends with 70 and a report, like any other bug."""
    shop.replace("readmodels/orders.py", "from daemon.api", f"{PANICS}\nfrom daemon.api")
    ended = shop.run("run", "--once", "--json")
    assert ended.code == 70
    assert ended.document["error"]["message"] == "Panic: at the disco"
    assert "please report it" in ended.err
