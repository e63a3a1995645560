"""What each projection has spent of its budget of store units: shared by its shards in this process.

Owns the purses. Must not know what a unit is the price of.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.core.budget import Budget, Purse, after_spending, full_purse, seconds_to_wait
from daemon.ports.vitals import BudgetVitals

WRITE_UNITS = "wcu:"
"""What names of write units begin with."""


@dataclass(slots=True)
class Spending:
    """`budgets` by projection; one that is not in it spends as it needs."""

    budgets: Mapping[str, Budget] = field(default_factory=dict[str, Budget])
    _purses: dict[str, Purse] = field(default_factory=dict[str, Purse])
    _slowed: Counter[str] = field(default_factory=Counter[str])

    def wait(self, projection: str, now: float) -> float:
        """Return the seconds until the projection may begin another batch."""
        purse = self._purses.get(projection)
        return 0.0 if purse is None else seconds_to_wait(purse, self.budgets[projection], now)

    def charge(self, projection: str, consumed: Mapping[str, float], now: float) -> None:
        """Pay for a commit: its write units."""
        budget = self.budgets.get(projection)
        if budget is not None:
            units = sum(count for name, count in consumed.items() if name.startswith(WRITE_UNITS))
            purse = self._purses.get(projection) or full_purse(budget, now)
            self._purses[projection] = after_spending(purse, budget, units, now)
            self._slowed[projection] += self._purses[projection].level < 0

    def vitals(self, now: float) -> list[BudgetVitals]:
        """List how every budget stands."""
        return [
            BudgetVitals(name, budget.units_per_second, self.wait(name, now), self._slowed[name])
            for name, budget in self.budgets.items()
        ]
