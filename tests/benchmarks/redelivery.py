"""Re-delivery: how fast a rewind suppresses what was applied, and how true a plan comes.

The rewind is of the log that the live rate was measured over, in the same process, once that has caught up. The plan is
held against its outcome on the strict DynamoDB in this process, which bills as AWS does: a replay of a log is planned
and carried out right after, a new log each round, and no round is left out.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median

import anyio

from daemon.core.again import PlanReport, ReplayApply, ReplayPlan, Rewind
from daemon.core.commands import Actor, Target
from daemon.core.cursor import Redelivery
from daemon.core.events import Event
from daemon.core.identity import Generation
from daemon.core.projection import Handler
from daemon.core.view import View
from daemon.ports.observer import BatchCommitted, UnitsConsumed
from daemon.ports.store import Store
from daemon.testing.dynamodb import StrictDynamoDb
from daemon.testing.memory_source import MemorySource
from tests.benchmarks.daemons import Spent, Stopwatch, built, settings_for
from tests.benchmarks.end_to_end import write_flights
from tests.benchmarks.figures import Figure, Sizes, figure
from tests.support.dynamodb import inside, store_on
from tests.support.engine import FAST, START_OF_TIME, counting, engine, event

_BY = Actor(0, "bench", "here")
_POISON_EVERY = 20
_LOOK_SECONDS = 0.002
_PLAN_FACTOR = 2
"""A replay of a second or more: of less, the machine's mood decides."""


def redelivery(sizes: Sizes) -> Iterator[Figure]:
    """Measure a rewind against the live rate, and a plan against what came of it."""
    found: list[tuple[Spent, Spent]] = []
    read = 0
    for _ in range(sizes.fold_rounds):
        with tempfile.TemporaryDirectory(prefix="projectiond-bench-") as scratch:
            directory = Path(scratch)
            read = write_flights(directory / "log.jsonl", sizes.log_lines)
            anyio.run(_rewound, directory, found)
    lives, agains = [live for live, _ in found], [again for _, again in found]
    live, again = (min(spent.wall for spent in side) for side in (lives, agains))
    name = f"rewind of {read:,} events on SQLite, suppressed by position (wall)"
    yield figure(name, read / again, "events/s", baseline=read / live, goal="ratio >= 3")
    micro = 1e6 / read
    live, again = (min(spent.cpu for spent in side) * micro for side in (lives, agains))
    yield figure("  the same (CPU)", again, "µs/event", baseline=live)
    outcomes: list[_Outcome] = []
    for _ in range(sizes.dynamodb_rounds):
        anyio.run(_planned, _PLAN_FACTOR * sizes.strict_events, outcomes)
    exact = sum(one.planned_events == one.events and one.planned_duplicates == one.duplicates for one in outcomes)
    name = "plan of a replay on DynamoDB: events and duplicates came out exactly"
    yield figure(name, 100 * exact / len(outcomes), "% of plans", goal="value >= 100")
    off = max(abs(one.planned_units / one.units - 1) for one in outcomes)
    yield figure("  write units, plan against outcome (most off)", off * 100, "%", goal="value <= 15")
    off = median(abs(one.planned_seconds / one.seconds - 1) for one in outcomes)
    title = f"  duration, plan against outcome (median of {len(outcomes)} plans, each carried out next)"
    yield figure(title, off * 100, "%", goal="value <= 15")


async def _rewound(directory: Path, found: list[tuple[Spent, Spent]]) -> None:
    """Fold a log, then rewind it whole; note what either took."""
    settings = settings_for(directory / "rows.db", "projections.punctuality", "flights", str(directory / "log.jsonl"))
    async with built(settings) as daemon, anyio.create_task_group() as tasks:
        watch = Stopwatch()
        tasks.start_soon(daemon.supervisor.run)
        await daemon.supervisor.caught_up()
        live = watch.read()
        watch = Stopwatch()
        await daemon.control.run(Rewind(Target("punctuality"), "earliest"), _BY, "bench", lambda _: None, 60.0)
        cursor = await _ended(daemon.runtime.store, Generation("punctuality", 1))
        found.append((live, watch.read()))
        assert cursor.suppressed["position"] == cursor.counters["read"]
        await daemon.supervisor.drain(10.0)
        tasks.cancel_scope.cancel()


async def _ended(store: Store, generation: Generation) -> Redelivery:
    """Wait until the only shard's re-delivery has ended."""
    while True:
        for checkpoint in (await store.checkpoints(generation)).values():
            if checkpoint.redelivery is not None and not checkpoint.redelivery.active:
                return checkpoint.redelivery
        await anyio.sleep(_LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class _Outcome:
    planned_events: int
    planned_duplicates: int
    planned_units: float
    planned_seconds: float
    events: int
    duplicates: int
    units: float
    seconds: float


async def _planned(events: int, outcomes: list[_Outcome]) -> None:
    """Dead-letter one event in twenty, mend the handler, plan a replay of everything, and carry it out."""
    broken = {f"e({at},)" for at in range(_POISON_EVERY, events + 1, _POISON_EVERY)}

    def added(view: View, event: Event) -> None:
        if event.id in broken:
            raise ValueError("broken")
        row = view.row or {"n": 0}
        view.put(n=row["n"] + event.data["amount"], last=event.id)

    spec = counting(handlers={"Added": (Handler("added", added),)})
    source = MemorySource("memory")
    source.add_shard("s0")
    source.append(
        "s0", *[event(at, f"k{at % 300}", moment=START_OF_TIME + timedelta(seconds=at)) for at in range(1, events + 1)]
    )
    store = store_on(inside(StrictDynamoDb()), "bench")
    policy = replace(FAST, circuit=replace(FAST.circuit, max_in_a_row=events, max_share=1.0))
    async with engine(spec, store, source, policy=policy) as running:
        await running.caught_up()
        broken.clear()
        target = Target("counting")
        plan = await running.control.run(ReplayPlan(target, "earliest", str(events)), _BY, "plan", lambda _: None)
        assert isinstance(plan, PlanReport)
        facts = len(running.observer.facts)
        command = ReplayApply(target, "earliest", str(events), plan.plan)
        await running.control.run(command, _BY, "apply", lambda _: None)
        cursor = await _ended(store, running.scope().of)
        billed = [
            fact.consumed for fact in running.observer.facts[facts:] if isinstance(fact, BatchCommitted | UnitsConsumed)
        ]
        units = sum(count for one in billed for name, count in one.items() if name.startswith("wcu"))
        seconds = (cursor.ended - cursor.began).total_seconds() if cursor.ended is not None else 0.0
        done = (cursor.counters["read"], sum(cursor.suppressed.values()), units, seconds)
        outcomes.append(_Outcome(plan.events, plan.duplicates, plan.units, plan.duration.total_seconds(), *done))
