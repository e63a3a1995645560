"""A process that dies while it delivers a range again, or carries wishes out: nothing is lost, nothing doubled."""

import os
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed
from daemon.core.events import Event
from daemon.core.identity import Scope
from daemon.core.projection import Handler, OnError
from daemon.core.view import View
from daemon.core.waiting import SkippedRange
from tests.support.engine import START_OF_TIME
from tests.support.ledger import Line
from tests.support.operating import operate
from tests.support.trial import Deadly, Moment, Trial

pytestmark = pytest.mark.anyio

ACCOUNTS = 5
LINES = 40


def lines_of(count: int, first: int = 1) -> list[Line]:
    """Return so many lines, spread over the accounts, each account numbered from 1."""
    return [Line(f"e{at}", f"a{at % ACCOUNTS}", (at - 1) // ACCOUNTS + 1, at) for at in range(first, first + count)]


class Site:
    """A log, and a projection that fails on `broken` ids until it is mended."""

    def __init__(self, mode: str, broken: set[str], on_error: OnError, seed: int = 0, count: int = LINES) -> None:
        self.broken = broken

        def moved(view: View, event: Event) -> None:
            if event.id in broken:
                raise ValueError("broken")
            row = view.row or {"balance": 0, "seen": []}
            view.put(balance=row["balance"] + event.data["amount"], seen=[*row["seen"], event.id])

        spec: dict[str, Any] = {"handlers": {"Moved": (Handler("moved", moved),)}, "on_error": on_error}
        self.trial = Trial({"s0": lines_of(count)}, mode=mode, seed=seed, spec=spec)
        self.scope = Scope(self.trial.spec.name, 1, "ledger", "s0")

    async def operate(self, name: str, /, **arguments: Any) -> None:
        """Have an operation accepted while nobody runs the shard."""
        store = self.trial.store()
        await store.open()
        await operate(store, self.scope.of, name, **arguments)
        await store.aclose()

    async def skip(self, through: int) -> None:
        """Move the position past lines that are there, uncounted."""
        store = self.trial.store()
        await store.open()
        held = await store.take(self.scope, f"operator-{through}", Checkpoint())
        after = replace(held.next(f"skip-{through}"), position=(through,), owner=None)
        ranges = (SkippedRange(held.position, (through,), START_OF_TIME, "skipped by alice"),)
        assert isinstance(await store.commit(Commit(self.scope, held.fence, after, skips=ranges), 1), Committed)
        await store.aclose()

    def check(self, *, whole: bool = True) -> None:
        """Hold everything that remains against the log: each line once in its row, or listed where it waits, once."""
        trial = self.trial
        rows = {key: row for (_, key), row in trial.rows().items()}
        state = trial.items("state")
        waiting = [item["event_id"] for item in state if item["sk"].startswith(("dead#", "parked#"))]
        ranges = [(int(item["after"]), int(item["through"])) for item in state if item["sk"].startswith("skipped#")]
        lines = trial.lines["s0"]
        skipped = [lines[at - 1].id for low, high in ranges for at in range(low + 1, high + 1)]
        seen = Counter(name for row in rows.values() for name in row["seen"])
        found = seen + Counter(waiting) + Counter(skipped)
        assert found == Counter(line.id for line in lines)
        amounts = {line.id: line.amount for line in lines}
        for key, row in rows.items():
            assert row["balance"] == sum(amounts[name] for name in row["seen"]), key
        counters = {name: int(count) for name, count in trial.checkpoint()["counters"].items()}
        assert counters["applied"] == seen.total()
        assert counters["read"] == len(lines) - len(skipped)
        assert counters.get("dead_lettered", 0) + counters.get("parked", 0) == len(waiting)
        if trial.mode == "event":
            label = f"{trial.generation.label}/"
            marked = Counter(item["pk"].removeprefix(label) for item in trial.items("markers"))
            assert marked == Counter(line.id for line in lines) - Counter(skipped)
        if whole:
            assert not waiting
            assert not skipped


async def prepared(mode: str, on_error: OnError) -> Site:
    """Return a site with dead letters or parked keys, and a skipped range, whose projection was mended since."""
    site = Site(mode, {"e7", "e8", "e22", "e33"}, on_error)
    await site.trial.settle()
    site.trial.append("s0", *lines_of(12, LINES + 1))
    await site.skip(LINES + 9)
    site.broken.clear()
    return site


def at_request(number: int, moment: Moment) -> Deadly:
    """Die at a request."""

    def deadly(request: int, _operation: str, _connection: str) -> Moment | None:
        return moment if request == number else None

    return deadly


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize(
    ("mode", "on_error", "operation", "arguments"),
    [
        ("event", OnError.DEAD_LETTER, "rewind", {"to": "earliest"}),
        ("shard", OnError.PARK_KEY, "rewind", {"to": "earliest"}),
    ],
)
async def test_a_rewind_resumes_after_death_at_any_request(
    moment: Moment, mode: str, on_error: OnError, operation: str, arguments: dict[str, Any]
) -> None:
    """Killed at each request of a rewind, the next process goes on with it, and every event is in its row once."""
    number = 0
    while True:
        number += 1
        site = await prepared(mode, on_error)
        await site.operate(operation, **arguments)
        survived = await site.trial.live(at_request(number, moment))
        await site.trial.settle()
        cursor = site.trial.checkpoint()["redelivery"]
        assert cursor["state"] == "done", number
        assert cursor["counters"]["read"] == sum(
            count
            for name, count in cursor["counters"].items()
            if name.startswith(("dup", "late")) or name in {"failed", "left"}
        )
        site.check()
        if survived:
            assert number > 15
            return


@pytest.mark.parametrize(
    ("on_error", "operation", "moment"),
    [
        (OnError.DEAD_LETTER, "dead-letters.retry", Moment.DURING),
        (OnError.PARK_KEY, "keys.release", Moment.AFTER),
    ],
)
async def test_wishes_are_carried_out_once_whenever_death_comes(
    on_error: OnError, operation: str, moment: Moment
) -> None:
    """Killed at each request of a retry or a release, the next process goes on with it, though it reads torn first."""
    number = 0
    while True:
        number += 1
        site = await prepared("event", on_error)
        site.trial.tear(5.0)
        await site.operate(operation, every=True)
        survived = await site.trial.live(at_request(number, moment))
        await site.trial.settle()
        site.check(whole=False)
        assert not [item for item in site.trial.items("state") if item["sk"].startswith(("dead#", "parked#"))]
        if survived:
            return


places = st.sampled_from(["earliest", "3", "10", "17", "25", "40"])
steps = st.one_of(
    st.tuples(st.just("lines"), st.integers(1, 8), st.sets(st.integers(0, 7), max_size=3)),
    st.tuples(st.just("skip"), st.integers(1, 5)),
    st.tuples(st.just("mend"), st.booleans()),
    st.tuples(st.just("rewind"), places),
    st.tuples(st.just("replay"), places, places),
    st.tuples(st.just("wish"), st.sampled_from(["dead-letters.retry", "keys.release", "replay.abort"])),
    st.tuples(st.just("live"), st.integers(1, 45), st.sampled_from(list(Moment))),
)


@pytest.mark.parametrize("mode", ["event", "shard"])
@pytest.mark.parametrize("on_error", [OnError.DEAD_LETTER, OnError.PARK_KEY])
@settings(
    max_examples=int(os.environ.get("REDELIVERY_EXAMPLES", "5")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(script=st.lists(steps, min_size=3, max_size=14), seed=st.integers(0, 3))
async def test_whatever_is_asked_for_and_whenever_it_dies_rows_are_the_fold(
    mode: str, on_error: OnError, script: list[tuple[Any, ...]], seed: int
) -> None:
    """Random logs, poison, skips, rewinds, replays, retries, releases and deaths: each event is there once, always."""
    site = Site(mode, {"e3", "e9"}, on_error, seed, 12)
    length, number = 12, 0
    for name, *given_ in script:
        match name:
            case "lines":
                count, bad = given_
                site.broken.update(f"e{length + 1 + at}" for at in bad if at < count)
                site.trial.append("s0", *lines_of(count, length + 1))
                length += count
            case "skip":
                await site.trial.settle()
                site.trial.append("s0", *lines_of(given_[0], length + 1))
                length += given_[0]
                await site.skip(length)
            case "mend":
                site.broken.clear() if given_[0] else site.broken.discard("e9")
            case "rewind":
                await site.operate("rewind", to=given_[0])
            case "replay":
                await site.operate("replay.apply", from_=given_[0], to=given_[1])
            case "wish":
                await site.operate(given_[0], every=True)
            case _:
                number += 1
                await site.trial.live(at_request(given_[0], given_[1]))
    await site.trial.settle()
    site.check(whole=False)
    site.broken.clear()
    for name, arguments in (("keys.release", {"every": True}), ("rewind", {"to": "earliest"})):
        await site.operate(name, **arguments)
        await site.trial.settle()
    site.check()
