"""A budget of store units: how long a projection waits before its next batch. Pure; times are monotonic seconds.

A token bucket that may go into debt: what a commit costs is known only once it is answered, so it is paid afterwards,
and the next batch waits until the debt is worked off.

Invariants: over any stretch of time, what is spent exceeds the budget by at most its burst and what was let through
at once; a purse never holds more than the burst; who spends less than the budget never waits.
"""

from dataclasses import dataclass

_NOTHING = 1e-6
"""A shorter wait is none: a clock that stands at the very moment must not be waited for by a rounding error."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Units a second, and for how many seconds unused ones are kept."""

    units_per_second: float
    burst_seconds: float = 1.0

    @property
    def burst(self) -> float:
        """The most that is kept."""
        return self.units_per_second * self.burst_seconds


@dataclass(frozen=True, slots=True)
class Purse:
    """What was left of a budget at a moment; below zero, a debt."""

    level: float
    at: float


def full_purse(budget: Budget, now: float) -> Purse:
    """Return the purse of one who has spent nothing."""
    return Purse(budget.burst, now)


def after_spending(purse: Purse, budget: Budget, units: float, now: float) -> Purse:
    """Return the purse once `units` are paid from it."""
    earned = max(0.0, now - purse.at) * budget.units_per_second
    return Purse(min(budget.burst, purse.level + earned) - units, now)


def seconds_to_wait(purse: Purse, budget: Budget, now: float) -> float:
    """Return the seconds until the debt is worked off; 0 without one."""
    wait = purse.at - purse.level / budget.units_per_second - now if purse.level < 0 else 0.0
    return wait if wait > _NOTHING else 0.0
