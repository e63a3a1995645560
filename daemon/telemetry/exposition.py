"""The exposition: all metrics as the text that Prometheus reads.

Owns the text. What happened comes from the recorder, what is true now from whom it is told to look at. The client
library would spend twenty times as long on the numbers of many shards, so these lines are written here, from label
texts that are made once; a test holds them equal to what the library makes of them. The process's own metrics are the
library's.

Invariants: all samples of a family stand together; a piece of text (`chunks`) is so short that no commit waits for it;
names that came from outside are escaped; shards that others run now have no gauges here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest

from daemon.core.cursor import Redelivery
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.ports.vitals import BudgetVitals, ShardVitals, SourceVitals
from daemon.telemetry.backlog import Lag
from daemon.telemetry.catalog import FAMILIES, GENERATION, SHARD, Bounds, Family, Kind
from daemon.telemetry.recorder import GENERATION_SLOTS, NOBODYS, SHARD_SLOTS, Recorder

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CHUNK_LINES = 500
"""Lines written at once; about half a millisecond."""

type Labels = tuple[str, ...]
type Sample = tuple[Labels, float]
"""The values of a family's labels and its extra labels, and the number."""


@dataclass(frozen=True, slots=True)
class Sights:
    """What is true now; called at each scrape. `generations`: those that run here, and their code's version."""

    shards: Callable[[], Sequence[ShardVitals]] = tuple
    lag: Callable[[ShardVitals], Lag | None] = lambda _: None
    behind_since: Callable[[ShardVitals], datetime | None] = lambda shard: shard.watermark
    budgets: Callable[[], Sequence[BudgetVitals]] = tuple
    sources: Callable[[], Sequence[SourceVitals]] = tuple
    generations: Mapping[Generation, int] = field(default_factory=dict[Generation, int])


@dataclass(frozen=True, slots=True)
class Process:
    """What is told of the process. `reachable`: store ("") and sources by name, None while nobody has asked them."""

    now: Callable[[], datetime]
    loop_delay: list[float]
    reachable: Callable[[], Mapping[str, bool]]
    ready: Callable[[], bool]
    scrapes: Mapping[str, int]
    build: Labels


@dataclass(slots=True)
class _Looked:
    """What was true when a scrape began."""

    shards: Sequence[ShardVitals]
    lags: Sequence[tuple[ShardVitals, Lag]]
    budgets: Sequence[BudgetVitals]
    sources: Sequence[SourceVitals]


class Exposition:
    """See the module."""

    def __init__(self, recorder: Recorder, process: Process) -> None:
        """Look at nothing but `recorder` and `process` yet."""
        self.sights = Sights()
        self._recorder, self._process = recorder, process
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._texts: dict[Scope | Generation, str] = {}

    def chunks(self, *, process: bool = True) -> Iterator[str]:
        """Iterate the text, in pieces that are each written in well under a millisecond.

        `process`: with the library's own metrics of the process.
        """
        sights = self.sights
        shards = sights.shards()
        lags = [(shard, lag) for shard in shards if (lag := sights.lag(shard)) is not None]
        looked = _Looked(shards, lags, sights.budgets(), sights.sources())
        for family in FAMILIES:
            lines = self._lines(family, looked)
            head = f"# HELP {family.full_name} {family.help}\n# TYPE {family.full_name} {family.kind}\n"
            while piece := "".join(islice(lines, CHUNK_LINES)):
                yield head + piece
                head = ""
            if head:
                yield head
        if process:
            yield generate_latest(self._registry).decode()

    # -------------------------------------------------------------------------------------------------------- lines

    def _lines(self, family: Family, looked: _Looked) -> Iterator[str]:
        if family.name in SHARD_SLOTS:
            return _recorded(family, SHARD_SLOTS[family.name], self._owners(SHARD, self._recorder.shards))
        if family.name in GENERATION_SLOTS:
            return _recorded(
                family, GENERATION_SLOTS[family.name], self._owners(GENERATION, self._recorder.generations)
            )
        if family.name == "shard_state":
            return self._states(family.full_name, looked)
        if family.name == "event_loop_delay_seconds":
            return _recorded(family, 0, [("", self._process.loop_delay)])
        if family.name in _SHARD_GAUGES:
            look = _SHARD_GAUGES[family.name]
            return self._gauges(family, ((shard.scope, look(shard)) for shard in looked.shards))
        if family.name in _LAG_GAUGES:
            behind = _LAG_GAUGES[family.name]
            return self._gauges(family, ((shard.scope, behind(lag)) for shard, lag in looked.lags))
        return (
            f"{family.full_name}{_braced(_pairs(family.labels + family.extra, values))} {_number(value)}\n"
            for values, value in _OTHERS[family.name](self, looked)
        )

    def _owners[O: Scope | Generation](
        self, labels: Labels, numbers: Mapping[O, list[float]]
    ) -> Iterator[tuple[str, list[float]]]:
        for owner, its in list(numbers.items()):
            yield self._text_of(owner, labels), its

    def _text_of(self, owner: Scope | Generation, labels: Labels) -> str:
        """Return an owner's labels, written once."""
        text = self._texts.get(owner)
        if text is None:
            values = ("", "") if owner == NOBODYS else tuple(map(str, owner))
            text = self._texts[owner] = _pairs(labels, values)
        return text

    def _gauges(self, family: Family, values: Iterable[tuple[Scope, float | None]]) -> Iterator[str]:
        name = family.full_name
        for scope, value in values:
            if value is not None:
                yield f"{name}{{{self._text_of(scope, SHARD)}}} {_number(value)}\n"

    def _states(self, name: str, looked: _Looked) -> Iterator[str]:
        for shard in looked.shards:
            text, here = self._text_of(shard.scope, SHARD), shard.state
            for state in ShardState:
                yield f'{name}{{{text},state="{state}"}} {int(state is here)}\n'

    # ---------------------------------------------------------------------------------------- families of few numbers

    def lag_seconds(self, looked: _Looked) -> Iterator[Sample]:
        """How far every shard is behind in time that is not caught up."""
        now = self._process.now()
        for shard in looked.shards:
            since = None if shard.at_end else self.sights.behind_since(shard)
            if shard.at_end or since is not None:
                yield tuple(map(str, shard.scope)), 0 if since is None else max(0.0, (now - since).total_seconds())

    def progress(self, looked: _Looked) -> Iterator[Sample]:
        """Share that is settled, of each generation whose shards' lags are all known in events."""
        settled: dict[Generation, float] = {}
        behind: dict[Generation, float] = {}
        lags = {shard.scope: lag.events for shard, lag in looked.lags}
        for shard in looked.shards:
            lag = lags.get(shard.scope)
            settled[shard.scope.of] = settled.get(shard.scope.of, 0) + shard.settled
            behind[shard.scope.of] = behind.get(shard.scope.of, 0) + (math.nan if lag is None else lag)
        for generation, done in settled.items():
            whole = done + behind[generation]
            if not math.isnan(whole):
                yield (generation.projection, str(generation.number)), done / whole if whole else 1

    def redelivery(self, looked: _Looked, look: Callable[[Redelivery], float | None]) -> Iterator[Sample]:
        """The second cursors of the shards that are here."""
        for shard in looked.shards:
            cursor = self._recorder.redeliveries.get(shard.scope)
            value = None if cursor is None else look(cursor)
            if value is not None:
                yield tuple(map(str, shard.scope)), value

    def of_generations(self, _looked: _Looked) -> Iterator[Sample]:
        """What runs here."""
        for generation, version in self.sights.generations.items():
            yield (generation.projection, str(generation.number), str(version)), 1

    def not_run(self, _looked: _Looked) -> Iterator[Sample]:
        """What does not."""
        return (((generation.projection, str(generation.number)), 1) for generation in sorted(self._recorder.not_run))

    def reasons(self, _looked: _Looked) -> Iterator[Sample]:
        """Dead letters."""
        for generation, reasons in list(self._recorder.dead_letters.items()):
            for values, count in list(reasons.items()):
                yield (generation.projection, str(generation.number), *values), count

    def commands(self, _looked: _Looked) -> Iterator[Sample]:
        """Commands answered."""
        return iter(list(self._recorder.commands.items()))

    def reachable(self, *, store: bool) -> Iterator[Sample]:
        """Return whether the store, or each source, answers."""
        for name, up in self._process.reachable().items():
            if store is (name == ""):
                yield ((), int(up)) if store else ((name,), int(up))

    def scrapes(self, _looked: _Looked) -> Iterator[Sample]:
        """Requests for metrics."""
        return (((result,), count) for result, count in self._process.scrapes.items())

    def ready(self, _looked: _Looked) -> Iterator[Sample]:
        """Readiness."""
        yield (), int(self._process.ready())

    def build(self, _looked: _Looked) -> Iterator[Sample]:
        """What runs."""
        yield self._process.build, 1


def _budgets(look: Callable[[BudgetVitals], float]) -> Callable[[Exposition, _Looked], Iterator[Sample]]:
    return lambda _, looked: (((budget.projection,), look(budget)) for budget in looked.budgets)


def _sources(look: Callable[[SourceVitals], Mapping[str, int]]) -> Callable[[Exposition, _Looked], Iterator[Sample]]:
    return lambda _, looked: (
        ((source.source, shard), count) for source in looked.sources for shard, count in look(source).items()
    )


def _share_done(cursor: Redelivery) -> float | None:
    """Return how much of the range lies behind, where its ends differ in the last part of their positions alone."""
    if not cursor.active:
        return 1
    places = (cursor.after, cursor.position, cursor.until)
    if not all(places) or len({place[:-1] for place in places}) > 1:
        return None
    after, at, until = (place[-1] for place in places)
    return min(1.0, max(0.0, (at - after) / (until - after))) if until > after else 1


_SHARD_GAUGES: dict[str, Callable[[ShardVitals], float | None]] = {
    "shard_epoch": lambda shard: shard.epoch or None,
    "parked_keys": lambda shard: shard.parked_keys,
    "watermark_timestamp_seconds": lambda shard: None if shard.watermark is None else shard.watermark.timestamp(),
    "settled_events": lambda shard: None if shard.position is None else shard.settled,
    "queue_events": lambda shard: shard.waiting,
    "queue_bytes": lambda shard: shard.waiting_bytes,
    "queue_batches": lambda shard: shard.batches,
    "row_cache_rows": lambda shard: shard.cached_rows,
    "marker_window_ids": lambda shard: shard.window_ids,
}
_LAG_GAUGES: dict[str, Callable[[Lag], float | None]] = {
    "lag_events": lambda lag: lag.events,
    "lag_bytes": lambda lag: lag.bytes,
    "held_events": lambda lag: lag.held,
    "time_to_catch_up_seconds": lambda lag: lag.catch_up,
    "time_to_data_loss_seconds": lambda lag: lag.loss,
}
_OTHERS: dict[str, Callable[[Exposition, _Looked], Iterator[Sample]]] = {
    "lag_seconds": Exposition.lag_seconds,
    "generation_progress_ratio": Exposition.progress,
    "generation_info": Exposition.of_generations,
    "generation_not_run": Exposition.not_run,
    "dead_letters_total": Exposition.reasons,
    "redelivery_active": lambda exposition, looked: exposition.redelivery(looked, lambda cursor: int(cursor.active)),
    "redelivery_progress_ratio": lambda exposition, looked: exposition.redelivery(looked, _share_done),
    "control_commands_total": Exposition.commands,
    "store_up": lambda exposition, _: exposition.reachable(store=True),
    "source_up": lambda exposition, _: exposition.reachable(store=False),
    "scrapes_total": Exposition.scrapes,
    "ready": Exposition.ready,
    "build_info": Exposition.build,
    "budget_write_units_per_second": _budgets(lambda budget: budget.units_per_second),
    "budget_debt_seconds": _budgets(lambda budget: budget.debt_seconds),
    "budget_slowed_commits_total": _budgets(lambda budget: budget.slowed),
    "source_client_restarts_total": _sources(lambda source: source.hung),
    "source_withheld_positions_total": _sources(lambda source: source.withheld),
}


# ------------------------------------------------------------------------------------------------------------- text


def _recorded(family: Family, start: int, owners: Iterable[tuple[str, list[float]]]) -> Iterator[str]:
    """Write the numbers that begin at `start` in each owner's list."""
    if family.kind is Kind.HISTOGRAM:
        return _histograms(family.full_name, family.bounds, start, owners)
    name = family.full_name
    if not family.sets:
        return (f"{name}{{{text}}} {numbers[start]}\n" for text, numbers in owners)
    sets = [_pairs(family.extra, values) for values in family.sets]
    return (
        f"{name}{{{text},{extra}}} {numbers[at]}\n" for text, numbers in owners for at, extra in enumerate(sets, start)
    )


def _histograms(name: str, bounds: Bounds, start: int, owners: Iterable[tuple[str, list[float]]]) -> Iterator[str]:
    places = [f'le="{float(bound)}"' for bound in bounds] + ['le="+Inf"']
    for text, numbers in owners:
        counts = numbers[start : start + len(bounds) + 2]
        head = f"{text}," if text else ""
        total = 0.0
        for place, count in zip(places, counts, strict=False):
            total += count
            yield f"{name}_bucket{{{head}{place}}} {total:.0f}\n"
        yield f"{name}_sum{_braced(text)} {counts[-1]}\n"
        yield f"{name}_count{_braced(text)} {total:.0f}\n"


def _braced(text: str) -> str:
    return f"{{{text}}}" if text else ""


def _pairs(labels: Labels, values: Labels) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))


def _escaped(value: str) -> str:
    """Return a label's value as it stands between quotes; what is no Unicode (a file's name may not be) is replaced."""
    text = value.encode(errors="replace").decode()
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else str(value)
