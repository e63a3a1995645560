"""The budget of units: a token bucket with debt, for every sequence of spending."""

from hypothesis import given
from hypothesis import strategies as st

from daemon.actors.spending import Spending
from daemon.core.budget import Budget, after_spending, full_purse, seconds_to_wait

UNITS = st.floats(0.5, 500.0)
SPENDING = st.lists(st.tuples(UNITS, st.floats(0.0, 5.0)), min_size=1, max_size=40)


@given(rate=UNITS, burst=st.floats(0.1, 10.0), steps=SPENDING)
def test_nobody_spends_more_than_the_budget(rate: float, burst: float, steps: list[tuple[float, float]]) -> None:
    """Who waits as long as he is told has, at any moment he may go on, spent at most the budget and its burst."""
    budget = Budget(rate, burst)
    purse, now, spent = full_purse(budget, 0.0), 0.0, 0.0
    for units, pause in steps:
        now += pause
        now += seconds_to_wait(purse, budget, now)
        assert spent <= rate * now + budget.burst + rate * 1e-4
        purse = after_spending(purse, budget, units, now)
        spent += units


@given(rate=UNITS, steps=SPENDING)
def test_a_wait_is_as_short_as_it_can_be(rate: float, steps: list[tuple[float, float]]) -> None:
    """A wait ends just when the debt is worked off, and asking again then asks for no more."""
    budget = Budget(rate)
    purse, now = full_purse(budget, 0.0), 0.0
    for units, pause in steps:
        purse = after_spending(purse, budget, units, now)
        wait = seconds_to_wait(purse, budget, now)
        assert wait == 0.0 or abs(after_spending(purse, budget, 0.0, now + wait).level) <= 1e-6 * max(1.0, rate)
        assert seconds_to_wait(purse, budget, now + wait) == 0.0
        now += wait + pause


def test_who_spends_less_never_waits() -> None:
    """Spending below the budget, in portions of up to a burst, is never held up."""
    budget = Budget(100.0)
    purse = full_purse(budget, 0.0)
    for second in range(1, 50):
        assert seconds_to_wait(purse, budget, float(second)) == 0.0
        purse = after_spending(purse, budget, 99.0, float(second))


def test_what_is_unused_is_kept_for_the_burst_alone() -> None:
    """After a long pause there is one burst, not the budget of the whole pause."""
    budget = Budget(10.0, burst_seconds=2.0)
    purse = after_spending(full_purse(budget, 0.0), budget, 30.0, 1000.0)
    assert purse.level == -10.0
    assert seconds_to_wait(purse, budget, 1000.0) == 1.0


def test_write_units_alone_are_paid_for() -> None:
    """Of what a commit consumed, write units count, whatever the table; projections without a budget never wait."""
    spending = Spending({"orders": Budget(10.0)})
    spending.charge("orders", {"wcu:rows": 15.0, "wcu:state": 5.0, "rcu:rows": 1000.0}, 0.0)
    spending.charge("others", {"wcu:rows": 1e9}, 0.0)
    assert spending.wait("orders", 0.0) == 1.0
    assert spending.wait("orders", 1.0) == 0.0
    assert spending.wait("others", 0.0) == 0.0
