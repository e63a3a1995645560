"""The world's own rules: the same seed is the same run, nothing real is touched, and what is wrong is seen."""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from tests.simulation.loop import REPLICA, RealWorld, SimLoop, Stuck, sealed
from tests.simulation.order import Order, Waits
from tests.simulation.plan import COMMANDS, KINDS, plan_of
from tests.simulation.watch import Stand, Watch
from tests.simulation.world import run_seed
from tests.support.ledger import Line

ROOT = Path(__file__).parents[2]


def in_simulation[T](main: Callable[[], Any], seed: int = 0) -> Any:
    """Run something on a loop of its own."""
    return anyio.run(main, backend_options={"loop_factory": lambda: SimLoop(Random(seed))})


@pytest.mark.parametrize("seed", range(1, 21))
def test_same_seed_is_the_same_run(seed: int):
    """A seed gives the same trace byte for byte, the same steps and the same end, as often as it is run."""
    one, two = run_seed(seed, short=True), run_seed(seed, short=True)
    assert one.trace.text() == two.trace.text()
    assert one.fingerprint == two.fingerprint
    assert not one.problems


@pytest.mark.timeout(600)
def test_short_campaign_finds_nothing(tmp_path: Path):
    """A handful of seeds, as `make sim` runs them, ends without a violation; the figures are written down."""
    results = tmp_path / "sim.json"
    command = [
        sys.executable,
        "-m",
        "tests.simulation",
        "--seeds",
        "25",
        "--first-seed",
        "1000",
        "--json",
        str(results),
    ]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert json.loads(results.read_text())["seeds"] == 25
    assert json.loads(results.read_text())["failed"] == []


def test_every_kind_of_fault_is_drawn():
    """A few hundred plans hold every kind of fault, both stores, every mode, and some hold no fault at all."""
    plans = [plan_of(seed) for seed in range(300)]
    assert {kind for plan in plans for kind in plan.rates} == set(KINDS)
    assert {(plan.store, plan.mode) for plan in plans} == {
        (store, mode) for store in ("dynamodb", "memory") for mode in ("event", "shard", "sequence")
    }
    assert any(not plan.rates for plan in plans)
    assert {ask.name for plan in plans for ask in plan.asks} == set(COMMANDS)
    assert {plan.solo for plan in plans} == {True, False}
    assert {len(parents) for plan in plans for parents in plan.parents.values()} == {1, 2}


def test_virtual_hour_passes_at_once():
    """Time jumps to the next timer, however far it is."""

    async def main() -> float:
        await anyio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert in_simulation(main) == 3600


def test_order_is_drawn_from_the_seed():
    """What is ready at once runs in another order under another seed, and in the same under the same."""

    async def main() -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            await anyio.sleep(1)
            order.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(one, number)
        return order

    orders = [tuple(in_simulation(main, seed)) for seed in range(5)]
    assert len(set(orders)) == 5
    assert tuple(in_simulation(main, 3)) == orders[3]


def test_frozen_replica_does_not_run():
    """What runs on behalf of a frozen replica stands still, timers too, and goes on when it is thawed."""

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        woke = loop.create_future()

        async def replica() -> None:
            REPLICA.set("r")
            await asyncio.sleep(1)
            woke.set_result(loop.time())

        task = asyncio.create_task(replica())
        await asyncio.sleep(0.5)
        loop.freeze("r")
        await asyncio.sleep(60)
        assert not woke.done()
        loop.thaw("r")
        await task
        return woke.result(), loop.time()

    assert in_simulation(main) == (60.5, 60.5)


def test_waiting_for_nothing_is_found():
    """A run in which nothing can ever happen again ends, and says so."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        in_simulation(main)


TOUCHES: dict[str, Callable[[], Any]] = {
    "time": lambda: time.time() + 1,
    "monotonic": lambda: time.monotonic() + 1,
    "perf_counter": lambda: time.perf_counter() + 1,
    "sleep": lambda: time.sleep(0),
    "random": lambda: random.random() + 1,
    "uuid": lambda: str(uuid.uuid4()),
    "urandom": lambda: os.urandom(1),
    "socket": lambda: socket.socket(socket.AF_INET),
    "thread": lambda: threading.Thread(target=print).start(),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_real_world_is_sealed_off(touch: str):
    """A real clock, sleep, thread, socket or source of chance fails the run."""
    with sealed(), pytest.raises(RealWorld):
        TOUCHES[touch]()


def test_executor_is_refused():
    """No thread stands behind the loop."""

    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RealWorld):
        in_simulation(main)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"commit_seq": 7}, "commit_seq went"),
        ({"position": (1,)}, "position went back"),
        ({"owner": "b"}, "another owner"),
        ({"epoch": 1}, "an old owner wrote"),
        ({"epoch": 3, "position": (9,)}, "changed more than its owner"),
        ({"counters": {"read": 2, "applied": 1}}, "is not the sum"),
    ],
)
def test_wrong_step_of_a_checkpoint_is_seen(change: dict[str, Any], found: str):
    """A checkpoint that moves otherwise than one step under one owner is a violation."""
    watch = Watch(lambda _who, _what: None)
    before = Stand((5,), 2, 3, "c", "a", "running", {"read": 1, "applied": 1}, caught_up=False)
    watch.moved("s0", before, {}, Waits())
    watch.moved("s0", before._replace(commit_seq=4, position=(6,)), {}, Waits())
    assert not watch.broken
    watch.moved("s0", before._replace(**{"commit_seq": 5, "position": (7,)} | change), {}, Waits())
    assert any(found in problem for problem in watch.broken)


LINES = [((place,), Line(f"e{place}", "s0-a", place, 1)) for place in range(1, 7)]


@pytest.mark.parametrize(
    ("before", "now", "ids", "found"),
    [
        ((2,), (4,), ["e3", "e4"], None),
        ((2,), (4,), ["e4", "e3"], "not after"),
        ((2,), (4,), ["e3", "e5"], "not after"),
        ((2,), (4,), ["e3", "e3"], "not after"),
        ((5,), (5,), ["e3"], None),
        ((5,), (5,), ["e4"], "did not wait"),
    ],
)
def test_commit_applies_what_it_settled(before: Any, now: Any, ids: list[str], found: str | None):
    """A live commit applies its own stretch in order, each once; one beside it applies only what waited."""
    broken: list[str] = []
    order = Order({"s0": LINES}, broken.append, {"s0": Waits(dead=frozenset({((3,), "e3")}))})
    order.committed("s0", before, now, {"s0-a": ids}, Waits(), redelivers=False)
    assert [found] == [None if not broken else next((one for one in [found] if one and one in broken[0]), broken[0])]


def test_child_that_begins_before_its_parents_end_is_seen():
    """A shard that continues another may be taken once that one is done, and not before."""
    for state, found in (("running", 1), ("done", 0)):
        watch = Watch(lambda _who, _what: None, {"s0": LINES, "s1": LINES}, {"s1": ("s0",)})
        stand = Stand((6,), 1, 1, "c", "a", state, {}, caught_up=True)
        watch.moved("s0", stand, {}, Waits())
        watch.moved("s1", stand._replace(position=()), {}, Waits())
        assert len(watch.broken) == found


def test_event_that_passes_a_parked_one_of_its_key_is_seen():
    """While an event of a key is parked, nothing of that key that came later is applied."""
    for parked, found in ((3, 1), (5, 0)):
        broken: list[str] = []
        waits = Waits(parked=frozenset({((parked,), f"e{parked}")}))
        order = Order({"s0": LINES}, broken.append, {"s0": waits})
        order.committed("s0", (3,), (4,), {"s0-a": ["e4"]}, waits, redelivers=False)
        assert len(broken) == found


def test_what_the_store_never_held_is_seen():
    """A replica that takes something for committed which the store never held is a violation."""
    watch = Watch(lambda _who, _what: None)
    watch.moved("s0", Stand((5,), 2, 3, "c", "a", "running", {}, caught_up=False), {}, Waits())
    watch.told("r0", "s0", 2, (5,))
    assert not watch.broken
    watch.told("r0", "s0", 2, (6,))
    assert "never held" in watch.broken[0]


def test_row_that_forgets_is_seen():
    """An account's row only grows."""
    broken: list[str] = []
    order = Order({"s0": LINES}, broken.append)
    order.committed("s0", (), (2,), {"s0-a": ["e1", "e2"]}, Waits(), redelivers=False)
    order.committed("s0", (2,), (3,), {"s0-a": ["e2", "e3"]}, Waits(), redelivers=False)
    assert "held" in broken[0]
