"""Health: alive, started and ready, each for its own reasons; and what is measured by a clock."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NoReturn

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from daemon.core.errors import SourceUnavailable, StoreUnavailable
from daemon.core.events import Event
from daemon.core.identity import Scope
from daemon.core.lifecycle import ShardState
from daemon.core.positions import Position
from daemon.ports.observer import StoreAwaited, StoreReached
from daemon.ports.source import Backlog
from daemon.ports.vitals import ShardVitals
from daemon.telemetry.backlog import CAUGHT_UP, BacklogWatch, Lag
from daemon.telemetry.catalog import BY_NAME
from daemon.telemetry.health import STORE, Health, Phase, Thresholds
from daemon.telemetry.loop_delay import TICK_SECONDS, LoopDelay
from daemon.testing.clock import VirtualClock
from daemon.testing.memory_source import MemorySource

pytestmark = pytest.mark.anyio

SCOPE = Scope("orders", 1, "log", "s0")


class Site:
    """Health with a clock in hand, and a store and a source that answer or do not."""

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self.clock = VirtualClock(manual=True)
        self.delay = 0.0
        self.shards: Sequence[ShardVitals] = ()
        self.away: dict[str, Exception] = {}
        self.silent: set[str] = set()
        self.health = Health(
            self.clock,
            thresholds or Thresholds(answer=0.01),
            lambda: self.delay,
            lambda: self.shards,
            phase=Phase.RUNNING,
        )

    def _check(self, name: str) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            if name in self.silent:
                await anyio.sleep_forever()
            if name in self.away:
                raise self.away[name]

        return ask

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Have store and source asked, first at once."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.health.watch, {STORE: self._check(STORE), "log": self._check("log")})
            await wait_all_tasks_blocked()
            yield
            tasks.cancel_scope.cancel()

    async def wait(self, seconds: float) -> None:
        """Let time go by."""
        await self.clock.advance(seconds)
        await anyio.sleep(0.03)  # silent checks run into their own time limit, of real time
        await wait_all_tasks_blocked()


async def test_a_process_whose_loop_turns_is_alive_whatever_its_shards_do():
    """Parked, lagging and retrying shards, an unreachable store and source: alive all the same."""
    site = Site()
    site.away = {STORE: StoreUnavailable("gone"), "log": SourceUnavailable("gone")}
    behind = site.clock.now() - timedelta(days=400)
    site.shards = [ShardVitals(SCOPE, state, watermark=behind) for state in ShardState]
    async with site.watched():
        await site.wait(1_000)
        assert site.health.not_alive() == []
        assert site.health.not_started() == []
        assert len(site.health.not_ready()) == 2


async def test_a_loop_that_came_back_too_late_is_not_alive():
    """Beyond the threshold the answer is no, and says by how much and which setting."""
    site = Site()
    site.delay = 30.0
    assert site.health.not_alive() == []
    site.delay = 31.5
    (reason,) = site.health.not_alive()
    assert reason == "the event loop came back 31.5 s late (at most 30: health.max_loop_delay_seconds)"


async def test_it_is_started_once_and_ready_while_everything_answers():
    """Starting, then running with an answer of each part, then draining."""
    site = Site()
    site.health.phase = Phase.STARTING
    assert site.health.not_started() == ["it is starting"]
    assert site.health.not_ready() == ["it is starting"]
    async with site.watched():
        site.health.phase = Phase.RUNNING
        assert site.health.not_started() == []
        assert site.health.not_ready() == []
        assert site.health.reachable() == {STORE: True, "log": True}
        site.health.phase = Phase.DRAINING
        assert site.health.not_ready() == ["it is draining"]
        assert site.health.not_started() == []


async def test_a_store_that_is_away_at_the_start_is_named_from_the_first_try():
    """Starting, alive, not ready and not started, with the store's place and words; the newest reason counts, and a
    store that came back is named no more.
    """
    site = Site()
    site.health.phase = Phase.STARTING
    site.health.see(StoreAwaited("DynamoDB does not answer: refused", 1, 1.0, "DynamoDB at http://x:1", 0.1))
    named = "the store is not reachable: DynamoDB at http://x:1: DynamoDB does not answer: refused"
    assert site.health.not_ready() == site.health.not_started() == ["it is starting", named]
    assert site.health.not_alive() == []
    assert site.health.reachable() == {STORE: False}
    assert site.health.detail()["store"]["error"] == named.partition(": ")[2]
    site.health.see(StoreAwaited("SQLite at shop.db is locked", 2, 2.0, "SQLite at shop.db", 1.1))
    assert site.health.not_ready()[1] == "the store is not reachable: SQLite at shop.db is locked"
    site.health.see(StoreReached("SQLite at shop.db", 2, 3.0))
    assert site.health.not_ready() == ["it is starting"]
    assert site.health.reachable() == {STORE: True}


async def test_an_outage_counts_after_its_silence_and_names_who_is_away():
    """A short outage leaves it ready; a longer one does not, until the part answers again."""
    site = Site()
    async with site.watched():
        site.away["log"] = SourceUnavailable("no broker answers at b:9092")
        await site.wait(10)
        assert site.health.reachable() == {STORE: True, "log": False}
        assert site.health.not_ready() == []
        await site.wait(10)
        await site.wait(10)
        await site.wait(10)
        assert site.health.not_ready() == ["source 'log' is not reachable: no broker answers at b:9092"]
        site.away = {}
        await site.wait(10)
        assert site.health.not_ready() == []


async def test_a_store_that_never_answers_is_named():
    """Silence is bounded, and a bug inside a check is told without its words, which may quote anything."""
    site = Site()
    site.silent = {STORE}
    site.away = {"log": ValueError("secret payload")}
    async with site.watched():
        await site.wait(1)
        assert site.health.not_ready() == [
            "the store is not reachable: no answer within 0.01 s (health.check_timeout_seconds)",
            "source 'log' is not reachable: asking failed with ValueError",
        ]


async def test_lag_and_parked_shards_count_only_where_thresholds_say_so():
    """Without thresholds a shard's state is no reason; with them, beyond them, it is."""
    site = Site(Thresholds(lag=60.0, parked=1))
    old = site.clock.now() - timedelta(seconds=61)
    parked = ShardVitals(SCOPE, ShardState.PARKED)
    site.shards = [parked, ShardVitals(SCOPE, ShardState.RUNNING, watermark=old, at_end=True)]
    assert site.health.not_ready() == []
    site.shards = [parked, parked, ShardVitals(SCOPE, ShardState.RUNNING, watermark=old)]
    assert site.health.not_ready() == [
        "2 shards are parked (at most 1: health.max_parked_shards)",
        "a shard lags 61 s behind (at most 60: health.max_lag_seconds)",
    ]
    lenient = Site()
    lenient.shards = site.shards
    assert lenient.health.not_ready() == []


async def test_the_detail_says_what_the_answers_rest_on():
    """Phase, delay, each part with its age and error, and how many shards are in which state."""
    site = Site()
    site.shards = [ShardVitals(SCOPE, ShardState.PARKED), ShardVitals(SCOPE, ShardState.RUNNING)]
    site.away = {"log": SourceUnavailable("gone")}
    async with site.watched():
        await site.clock.advance(3)
        assert site.health.detail() == {
            "phase": "running",
            "loop_delay_seconds": 0.0,
            "store": {"reachable": True, "answered_seconds_ago": 3.0, "error": None},
            "sources": {"log": {"reachable": False, "answered_seconds_ago": None, "error": "gone"}},
            "shards": {"parked": 1, "running": 1},
        }


# ------------------------------------------------------------------------------------------ measured by a clock


class LateClock(VirtualClock):
    """A clock in which each sleep takes `late` seconds longer than asked."""

    late = 0.0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds + self.late)


async def test_the_loop_s_delay_is_what_a_tick_was_late():
    """Each tick adds one observation of how much later than asked it came; a tick that is overdue counts by now."""
    clock = LateClock(manual=True)
    clock.late = 2.0
    delay = LoopDelay(clock)
    assert delay.now() == 0.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delay.run)
        await wait_all_tasks_blocked()
        await clock.advance(TICK_SECONDS + 1.5)
        assert delay.now() == 1.5
        await clock.advance(0.5)
        await wait_all_tasks_blocked()
        assert delay.now() == 2.0
        tasks.cancel_scope.cancel()
    bounds = BY_NAME["event_loop_delay_seconds"].bounds
    assert delay.numbers[bounds.index(5.0)] == 1
    assert delay.numbers[-1] == 2.0


class Log(MemorySource):
    """A source whose backlog is what a test says."""

    answer: Backlog | Exception | None = None
    asked = 0

    async def backlog(self, shard: str, after: Position) -> Backlog:
        self.asked += 1
        if self.answer is None:
            await anyio.sleep_forever()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer


class Watched:
    """A watch over one shard of one log."""

    def __init__(self) -> None:
        self.clock = VirtualClock(manual=True)
        self.log = Log("log")
        self.shard = ShardVitals(SCOPE, ShardState.RUNNING, 1, (5,))
        self.watch = BacklogWatch(
            {"log": self.log}, lambda: [self.shard], self.clock, look_seconds=15.0, answer_seconds=0.01
        )

    async def after(self, seconds: float, answer: Backlog | Exception | None) -> Lag | None:
        """Look again when so much time went by, and return the lag."""
        await self.clock.advance(seconds)
        self.log.answer = answer
        await self.watch.look()
        return self.watch.lag(self.shard)


async def test_the_time_to_catch_up_follows_from_how_the_lag_shrinks():
    """No speed from one look; then what the lag shrank by, smoothed; no end while it grows."""
    watched = Watched()
    first = await watched.after(0, Backlog(events=1_000, seconds_to_loss=60.0))
    assert first == Lag(events=1_000, loss=60.0)
    second = await watched.after(10, Backlog(events=800))
    assert second is not None
    assert second.catch_up == 40
    third = await watched.after(10, Backlog(events=700))
    assert third is not None
    assert third.catch_up == pytest.approx(700 / 15)
    growing = await watched.after(10, Backlog(events=1_700))
    assert growing is not None
    assert growing.catch_up == math.inf
    done = await watched.after(10, Backlog(events=0))
    assert done is not None
    assert done.catch_up == 0


async def test_events_are_estimated_where_the_log_only_knows_bytes():
    """Bytes are divided by the mean size of what was read and its line's end, and that is remembered."""
    watched = Watched()
    assert await watched.after(0, Backlog(bytes=10_000)) == Lag(bytes=10_000)
    watched.shard = ShardVitals(SCOPE, ShardState.RUNNING, 1, (5,), event_bytes=99.0)
    lag = await watched.after(1, Backlog(bytes=10_000))
    assert lag is not None
    assert lag.events == 100
    watched.shard = ShardVitals(SCOPE, ShardState.PARKED, 1, (5,))
    lag = await watched.after(1, Backlog(bytes=5_000))
    assert lag is not None
    assert lag.events == 50


async def test_a_shard_that_is_caught_up_is_not_asked_about():
    """Its lag is none, without a question to its log."""
    watched = Watched()
    watched.shard = ShardVitals(SCOPE, ShardState.RUNNING, 1, (5,), at_end=True)
    assert await watched.after(0, Backlog(events=5)) == CAUGHT_UP
    assert watched.log.asked == 0


@pytest.mark.parametrize(
    "answer", [SourceUnavailable("away"), ValueError("a bug"), None], ids=["an error", "a bug", "silence"]
)
async def test_a_log_that_does_not_answer_leaves_its_lag_unknown(answer: Exception | None):
    """Neither an old lag nor an invented one is shown; the next answer is."""
    watched = Watched()
    assert await watched.after(0, Backlog(events=5)) is not None
    assert await watched.after(1, answer) is None
    assert await watched.after(1, Backlog(events=5)) is not None


async def test_one_hung_source_keeps_no_other_s_figures():
    """A source that never answers is asked by itself: the others' lags are there at once, and stay fresh."""
    clock = VirtualClock(manual=True)
    hung, answering = Log("hung"), Log("log")
    answering.answer = Backlog(events=5)
    stuck = [ShardVitals(Scope("orders", 1, "hung", f"s{number}"), ShardState.RUNNING, 1, (5,)) for number in range(20)]
    shard = ShardVitals(SCOPE, ShardState.RUNNING, 1, (5,))
    watch = BacklogWatch(
        {"hung": hung, "log": answering}, lambda: [*stuck, shard], clock, look_seconds=15.0, answer_seconds=1e9
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await wait_all_tasks_blocked()
        assert watch.lag(shard) == Lag(events=5)
        answering.answer = Backlog(events=4)
        await clock.advance(15)
        await wait_all_tasks_blocked()
        lag = watch.lag(shard)
        assert lag is not None
        assert (lag.events, answering.asked) == (4, 2)
        assert [watch.lag(one) for one in stuck] == [None] * 20
        assert hung.asked == 8
        tasks.cancel_scope.cancel()


async def test_a_source_that_does_not_answer_is_left_alone_until_the_next_look():
    """After as many silences as are waited for at once, a look asks no more; the next look asks again."""
    clock, hung = VirtualClock(manual=True), Log("log")
    shards = [ShardVitals(Scope("orders", 1, "log", f"s{number}"), ShardState.RUNNING, 1, (5,)) for number in range(40)]
    watch = BacklogWatch({"log": hung}, lambda: shards, clock, look_seconds=15.0, answer_seconds=0.01)
    await watch.look()
    assert 8 <= hung.asked < 16
    hung.answer = Backlog(events=5)
    await watch.look()
    assert all(watch.lag(shard) == Lag(events=5) for shard in shards)


async def test_that_nobody_can_tell_a_loss_is_told_once():
    """Whatever the number of shards and looks: one source, one reason, one warning."""
    clock, log, told = VirtualClock(manual=True), Log("log"), list[tuple[str, str]]()
    log.answer = Backlog(events=5, untold="settings may not be read")
    shards = [ShardVitals(Scope("orders", 1, "log", f"s{number}"), ShardState.RUNNING, 1, (5,)) for number in range(3)]
    watch = BacklogWatch(
        {"log": log}, lambda: shards, clock, look_seconds=15.0, answer_seconds=1.0,
        untold=lambda source, why: told.append((source, why)),
    )  # fmt: skip
    await watch.look()
    await watch.look()
    assert told == [("log", "settings may not be read")]
    assert watch.lag(shards[0]) == Lag(events=5)


# -------------------------------------------------------------------------------- shards that have settled nothing


def _event(moment: datetime | None) -> Event:
    return Event("e1", "T", "/s", None, moment, {}, {}, (1,), b"", b"x" * 99)


@pytest.mark.parametrize("known", [True, False], ids=["the event's time", "since it stands still"])
async def test_a_shard_parked_on_its_first_event_is_behind(known: bool):
    """It settled nothing, so it has no watermark: its lag is the age of the event that it cannot settle, and where that
    has no time, how long it stands still; its size stands for those that wait.
    """
    clock = VirtualClock(manual=True)
    log = MemorySource("log")
    log.add_shard("s0")
    log.append("s0", _event(clock.now() - timedelta(days=2) if known else None))
    parked = ShardVitals(SCOPE, ShardState.PARKED, 1, (), since=clock.now() - timedelta(hours=1))
    watch = BacklogWatch({"log": log}, lambda: [parked], clock, look_seconds=15.0, answer_seconds=10.0)
    assert watch.behind_since(parked) == clock.now() - timedelta(hours=1)
    await watch.look()
    assert watch.behind_since(parked) == clock.now() - (timedelta(days=2) if known else timedelta(hours=1))
    settled = replace(parked, watermark=clock.now())
    assert watch.behind_since(settled) == clock.now()


async def test_a_log_that_cannot_be_read_leaves_the_lag_of_standing_still():
    """What fails while the first event is looked for harms neither the events' count nor the next look."""

    class Unreadable(Log):
        async def open(self, *_: object, **__: object) -> NoReturn:
            raise SourceUnavailable("gone")

    clock, log = VirtualClock(manual=True), Unreadable("log")
    log.answer = Backlog(events=5)
    parked = ShardVitals(SCOPE, ShardState.PARKED, 1, (), since=clock.now())
    watch = BacklogWatch({"log": log}, lambda: [parked], clock, look_seconds=15.0, answer_seconds=10.0)
    await watch.look()
    assert watch.lag(parked) == Lag(events=5)
    assert watch.behind_since(parked) == clock.now()
