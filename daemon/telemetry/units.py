"""The store units that each generation consumes, added up and logged from time to time: what a projection costs.

Owns the sums and their price. Must not know why anything was consumed.

Invariant: every unit that an observer is told of is counted once, under its generation, its table's kind and whether it
was read or written; units of no generation (tables, replicas) stand under an empty name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from daemon.core.identity import Generation
from daemon.ports.observer import BatchCommitted, Fact, UnitsConsumed
from daemon.telemetry.logs import Logger

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars of a million units."""

    write: float
    read: float

    def of(self, units: Mapping[str, float]) -> float:
        """Return the price of units, `wcu:KIND` or `rcu:KIND` to their count."""
        dollars = {"wcu": self.write, "rcu": self.read}
        return sum(count * dollars.get(name.partition(":")[0], 0.0) for name, count in units.items()) / MILLION


@dataclass(frozen=True, slots=True)
class Bill:
    """What one generation consumed: `wcu:KIND` or `rcu:KIND` to units, and their price in US dollars."""

    projection: str
    generation: int
    units: Mapping[str, float]
    usd: float


class UnitsMeter:
    """An observer that adds units up, and logs every generation's sums once `interval` seconds have gone by.

    `monotonic` gives seconds. Nothing is logged while nothing is consumed.
    """

    def __init__(self, logger: Logger, prices: Prices, monotonic: Callable[[], float], interval: float) -> None:
        """Begin at nothing."""
        self._logger, self._prices = logger, prices
        self._monotonic, self._interval = monotonic, interval
        self._totals: dict[Generation, dict[str, float]] = {}
        self._told: dict[Generation, Mapping[str, float]] = {}
        self._told_at = monotonic()

    def see(self, fact: Fact) -> None:
        """Add what a commit or another call consumed."""
        if isinstance(fact, BatchCommitted):
            self._add(fact.scope.of, fact.consumed)
        elif isinstance(fact, UnitsConsumed):
            self._add(fact.generation or NOBODY, fact.consumed)

    def _add(self, generation: Generation, consumed: Mapping[str, float]) -> None:
        if not consumed:
            return
        totals = self._totals.get(generation)
        if totals is None:
            totals = self._totals[generation] = {}
        for name, units in consumed.items():
            totals[name] = totals.get(name, 0.0) + units
        if self._monotonic() - self._told_at >= self._interval:
            self.tell()

    def tell(self) -> None:
        """Log what was consumed since it was last told, and in all."""
        now = self._monotonic()
        seconds, self._told_at = now - self._told_at, now
        for bill in self.bills():
            generation = Generation(bill.projection, bill.generation)
            before = self._told.get(generation, {})
            gained = {name: count - before.get(name, 0.0) for name, count in bill.units.items()}
            since = {name: count for name, count in gained.items() if count > 0}
            self._told[generation] = bill.units
            if since:
                self._logger.info(
                    "units consumed",
                    projection=bill.projection,
                    generation=bill.generation,
                    seconds=round(seconds, 1),
                    **{name: round(count, 1) for name, count in since.items()},
                    usd_since=round(self._prices.of(since), 6),
                    usd_in_all=round(bill.usd, 6),
                )

    def bills(self) -> Sequence[Bill]:
        """Return what each generation consumed in all, by name."""
        return [
            Bill(*generation, dict(sorted(units.items())), self._prices.of(units))
            for generation, units in sorted(self._totals.items())
        ]


NOBODY = Generation("", 0)
"""Whom units are counted for that are no generation's."""
