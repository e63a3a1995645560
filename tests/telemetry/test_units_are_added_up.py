"""What generations consume: counted once, logged from time to time, priced."""

import io
import json
from typing import Any

from daemon.core.identity import Scope
from daemon.ports.observer import BatchCommitted, KeysParked, UnitsConsumed
from daemon.telemetry.logs import configure_logging
from daemon.telemetry.units import Bill, Prices, UnitsMeter

SCOPE = Scope("orders", 1, "log", "s0")
PRICES = Prices(write=1.0, read=0.1)


class Metered:
    """A meter, its clock and what it logged."""

    def __init__(self) -> None:
        """Begin at 0 seconds, to log each 60."""
        self.stream = io.StringIO()
        logger = configure_logging(
            level="info", form="json", max_field_characters=2000, stream=self.stream, is_terminal=False
        )
        self.now = 0.0
        self.meter = UnitsMeter(logger, PRICES, lambda: self.now, 60.0)

    def commit(self, scope: Scope = SCOPE, **consumed: float) -> None:
        """Settle a commit that consumed so much."""
        units = {name.replace("_", ":"): count for name, count in consumed.items()}
        self.meter.see(BatchCommitted(scope, (1,), 1, {}, 1, 0.1, None, units))

    @property
    def told(self) -> list[dict[str, Any]]:
        """The records so far, without their times and levels."""
        records = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [{name: value for name, value in record.items() if name not in _ALWAYS} for record in records]


_ALWAYS = ("timestamp", "level", "event")


def test_every_unit_is_counted_once_under_its_generation_and_kind() -> None:
    """Units of commits and of reads add up by generation, kind of table, and read or write; each has a price."""
    metered = Metered()
    metered.commit(wcu_rows=10.0, wcu_state=4.0)
    metered.commit(wcu_rows=1.0, rcu_state=0.5)
    metered.commit(SCOPE._replace(generation=2), wcu_rows=7.0)
    metered.meter.see(UnitsConsumed(SCOPE.of, {"rcu:rows": 20.0}))
    metered.meter.see(UnitsConsumed(None, {"rcu:state": 1.0}))
    metered.meter.see(KeysParked(SCOPE, 1))
    assert metered.meter.bills() == [
        Bill("", 0, {"rcu:state": 1.0}, 0.1 / 1e6),
        Bill(
            "orders",
            1,
            {"rcu:rows": 20.0, "rcu:state": 0.5, "wcu:rows": 11.0, "wcu:state": 4.0},
            PRICES.of({"wcu:any": 15.0, "rcu:any": 20.5}),
        ),
        Bill("orders", 2, {"wcu:rows": 7.0}, 7.0 / 1e6),
    ]


def test_sums_are_logged_once_an_interval() -> None:
    """Nothing is logged before the interval is over; then what came since, and the price of all."""
    metered = Metered()
    metered.commit(wcu_rows=1_000_000.0)
    metered.now = 59.9
    metered.commit(wcu_rows=1.0)
    assert metered.told == []
    metered.now = 61.0
    metered.commit(wcu_rows=2.0)
    assert metered.told == [
        {
            "projection": "orders",
            "generation": 1,
            "seconds": 61.0,
            "wcu:rows": 1_000_003.0,
            "usd_since": 1.000003,
            "usd_in_all": 1.000003,
        }
    ]
    metered.now = 130.0
    metered.commit(wcu_rows=5.0)
    assert metered.told[1:] == [
        {
            "projection": "orders",
            "generation": 1,
            "seconds": 69.0,
            "wcu:rows": 5.0,
            "usd_since": 0.000005,
            "usd_in_all": 1.000008,
        }
    ]


def test_the_end_tells_what_is_left_and_nothing_twice() -> None:
    """Telling at the end logs what was not logged yet, only for generations that consumed something since."""
    metered = Metered()
    metered.commit(wcu_rows=1.0)
    metered.meter.tell()
    metered.commit(SCOPE._replace(projection="late"), wcu_rows=2.0)
    metered.meter.tell()
    metered.meter.tell()
    assert [(record["projection"], record["wcu:rows"]) for record in metered.told] == [("orders", 1.0), ("late", 2.0)]


def test_a_store_that_bills_nothing_is_never_mentioned() -> None:
    """Commits that consume nothing leave neither bills nor records."""
    metered = Metered()
    metered.commit()
    metered.now = 100.0
    metered.commit()
    metered.meter.tell()
    assert metered.meter.bills() == []
    assert metered.told == []
