"""What it costs to be seen: scraping many shards, and telling observers of every commit."""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median

import anyio
from opentelemetry.sdk.trace import SpanProcessor

from daemon.app import SystemClock
from daemon.cli.run import Totals
from daemon.core.events import Event
from daemon.core.identity import Scope
from daemon.core.lifecycle import ShardState
from daemon.demo.services.strict import StrictDynamoDB
from daemon.ports.observer import BatchCommitted, Fact, Observer
from daemon.ports.vitals import ShardVitals
from daemon.telemetry import configure_logging
from daemon.telemetry.backlog import Lag
from daemon.telemetry.exposition import Sights
from daemon.telemetry.facts import FanOut, LogObserver
from daemon.telemetry.health import Thresholds
from daemon.telemetry.recorder import Recorder
from daemon.telemetry.site import Place, TelemetrySite
from daemon.telemetry.tracing import OtelTracing
from daemon.telemetry.units import Prices, UnitsMeter
from tests.benchmarks.answering import answering
from tests.benchmarks.daemons import fold_all, settings_for
from tests.benchmarks.dynamodb.comparing import EACH
from tests.benchmarks.dynamodb.engine import Lap, fold_moves
from tests.benchmarks.dynamodb.moves import LOG, write_moves
from tests.benchmarks.dynamodb.servers import consumed_body, new_prefix, store_on
from tests.benchmarks.end_to_end import write_flights
from tests.benchmarks.figures import MICRO, Figure, Sizes, figure

_EVERY_SECONDS = 15.0
"""How often Prometheus scrapes by what most people set."""
_PERCENT = 100.0
_STRETCH = 10
"""Commits of one stretch on DynamoDB: a few milliseconds."""
_NOW = datetime(2026, 1, 1, tzinfo=UTC)

_SCRAPER = """
import http.client, sys, time
port, scrapes = int(sys.argv[1]), int(sys.argv[2])
for _ in range(scrapes):
    time.sleep(0.25)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    assert connection.getresponse().read()
"""


def telemetry(sizes: Sizes) -> Iterator[Figure]:
    """Measure scraping, then telling, each against the same without it."""
    yield from _scraping(sizes)
    yield from _telling(sizes)
    yield _tracing(sizes)


def everything() -> FanOut:
    """Return what `projectiond run` tells: logs at their default level, totals, units and metrics."""
    logger = configure_logging(
        level="info", form="json", max_field_characters=2_000, stream=io.StringIO(), is_terminal=False
    )
    meter = UnitsMeter(logger, Prices(1.25, 0.25), time.monotonic, 60.0)
    return FanOut([LogObserver(logger), Totals(), meter, Recorder()])


# ---------------------------------------------------------------------------------------------------------- scraping


def _scraping(sizes: Sizes) -> Iterator[Figure]:
    """A daemon's site over HTTP, scraped by another process; the same time without a scrape is taken off."""
    cpu, longest = anyio.run(_scraped, sizes)
    name = f"scraping {sizes.shards} shards every {_EVERY_SECONDS:g} s (CPU)"
    yield figure(name, cpu / _EVERY_SECONDS * _PERCENT, "% of a core", goal="value <= 1")
    yield figure("  one scrape (CPU)", cpu * 1_000, "ms")
    yield figure("  the longest that it kept the event loop", longest * 1_000, "ms")


async def _scraped(sizes: Sizes) -> tuple[float, float]:
    site = _site(sizes.shards)
    await site.open()
    lateness: list[float] = []

    async def tick() -> None:
        while True:
            begun = time.perf_counter()
            await anyio.sleep(0.001)
            lateness.append(time.perf_counter() - begun - 0.001)

    try:
        await _scrape(site.listener.port, 2)  # imports, threads and texts that are made once
        idle = time.process_time()
        await _scrape(site.listener.port, 0, wait=0.25 * sizes.scrapes)
        begun = time.process_time()
        await _scrape(site.listener.port, sizes.scrapes)
        cpu = (time.process_time() - begun) - (begun - idle)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await _scrape(site.listener.port, sizes.scrapes)
            tasks.cancel_scope.cancel()
    finally:
        await site.aclose()
    return cpu / sizes.scrapes, max(lateness)


async def _scrape(port: int, scrapes: int, wait: float = 0.0) -> None:
    if not scrapes:
        await anyio.sleep(wait)
        return
    await anyio.run_process([sys.executable, "-c", _SCRAPER, str(port), str(scrapes)], stdout=subprocess.DEVNULL)


def _site(shards: int) -> TelemetrySite:
    logger = configure_logging(
        level="error", form="json", max_field_characters=200, stream=io.StringIO(), is_terminal=False
    )
    site = TelemetrySite(Place("127.0.0.1", 0), Thresholds(), SystemClock(), logger)
    scopes = [Scope("order-summary", 1, "orders", f"orders-{number}") for number in range(shards)]
    for fact in map(_commit, scopes):
        site.recorder.see(fact)
    standing = [
        ShardVitals(scope, ShardState.RUNNING, 1, (9,), _NOW, settled=5, waiting=7, waiting_bytes=99)
        for scope in scopes
    ]
    site.exposition.sights = Sights(lambda: standing, lambda _: Lag(100, 9_999, 0, 2.5, 3_600.0))
    return site


def _commit(scope: Scope) -> BatchCommitted:
    counts = {"read": 33, "applied": 32, "duplicate_marker": 1, "rows": 32, "commits": 1}
    units = {"wcu:rows": 64.0, "wcu:markers": 64.0, "wcu:state": 2.0}
    return BatchCommitted(scope, (9,), 1, counts, 66, 0.01, _NOW, units, 20_000, _NOW, _NOW, 32, 1)


# ----------------------------------------------------------------------------------------------------------- telling


class Alternating:
    """An observer that passes facts on for some commits, or looks away for as many, and so on, by a seeded coin.

    What the whole process used is counted for each stretch, so both sides meet the same machine: a few milliseconds
    apart, within one run of one daemon. Taken strictly in turns they would not meet the same batches.
    """

    def __init__(self, observer: Observer, commits: int, seed: int) -> None:
        self._observer, self._commits, self._coin = observer, commits, Random(seed)
        self._seen = self._events = 0
        self._since = time.process_time()
        self._telling = True
        self.told: list[float] = []
        self.untold: list[float] = []
        """Seconds of CPU an event, of each stretch."""

    def see(self, fact: Fact) -> None:
        """Pass a fact on, or not."""
        if self._telling:
            self._observer.see(fact)
        if type(fact) is BatchCommitted:
            self._seen += 1
            self._events += fact.counts.get("read", 0)
            if self._seen == self._commits:
                self._switch()

    def _switch(self) -> None:
        now = time.process_time()
        if self._events:
            (self.told if self._telling else self.untold).append((now - self._since) / self._events)
        self._seen = self._events = 0
        self._telling = self._coin.random() < 0.5
        self._since = time.process_time()


def _telling(sizes: Sizes) -> Iterator[Figure]:
    """The whole daemon with every observer, and with one that looks away, in turns of some commits."""
    with tempfile.TemporaryDirectory(prefix="projectiond-bench-") as scratch:
        directory = Path(scratch)
        log = directory / "log.jsonl"
        write_flights(log, sizes.log_lines)
        rounds = [Alternating(everything(), 1, seed) for seed in range(sizes.telling_rounds)]
        for number, observer in enumerate(rounds):
            fold_all(settings_for(directory / f"{number}.db", "projections.punctuality", "flights", str(log)), observer)
        yield from _compared("everything that is told of commits, file to SQLite (CPU)", rounds)
        yield from _on_dynamodb(sizes, directory)


def _on_dynamodb(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """A transaction holds 33 events here, so each fact weighs sixty times what it does on SQLite."""
    log = directory / "moves" / LOG
    write_moves(log, max(3 * EACH.batch, sizes.dynamodb_events), sizes.dynamodb_keys, EACH.per_key)
    rounds = [Alternating(everything(), _STRETCH, seed) for seed in range(sizes.telling_rounds)]
    with StrictDynamoDB() as strict, answering(consumed_body(new_prefix())) as url:
        for observer in rounds:
            store = store_on(url, strict.endpoint, new_prefix())
            fold_moves(EACH.projection, str(log), store, Lap(0, 0), also=observer)
    yield from _compared("  the same, file to DynamoDB, a marker an event (CPU)", rounds)


def _compared(name: str, rounds: Sequence[Alternating]) -> Iterator[Figure]:
    """Compare both sides within each run, then take the middle of the runs: a run is a few seconds of one machine.

    A run's first stretches are left out: they pay for its beginning.
    """
    sides = [[median(stretches[1:] or stretches or [1.0]) for stretches in (each.told, each.untold)] for each in rounds]
    ratios = sorted(told / untold for told, untold in sides)
    untold = median(untold for _, untold in sides)
    told = untold * median(ratios)
    yield figure(name, told * MICRO, "µs/event", baseline=untold * MICRO, goal="ratio <= 1.05")
    for word, at in (("lower", 0.25), ("upper", 0.75)):
        cost = untold * ratios[round(at * (len(ratios) - 1))]
        yield figure(f"    {word} quartile of {len(ratios)} runs", cost * MICRO, "µs/event", baseline=untold * MICRO)


# ----------------------------------------------------------------------------------------------------------- tracing


class _Dropping(SpanProcessor):
    """Takes spans and lets them go."""


def _tracing(sizes: Sizes) -> Figure:
    """A commit of 33 events, one of which is traced; only paid where tracing is on."""
    tracing = OtelTracing("bench", _Dropping())
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"}
    payload: dict[str, int] = {}
    events = [
        Event(str(n), "Moved", None, None, _NOW, payload, {} if n else headers, (n,), b"", b"")
        for n in range(EACH.batch)
    ]
    scope = Scope("order-summary", 1, "orders", "orders-0")
    least = float("inf")
    for _ in range(sizes.rounds):
        begun = time.process_time()
        for _ in range(20):
            tracing.commit(scope, events, "Committed", 0.01)
        least = min(least, (time.process_time() - begun) / 20)
    return figure("a commit's span, where tracing is on (CPU)", least * MICRO, "µs")
