"""Each worked example, folded through the core: rows as its docstring promises."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from daemon.api import Event
from daemon.core.projection import ProjectionSpec
from daemon.loading import load_projections
from tests.support.folding import Rows, event

SOURCES = ("accounts", "carrier", "flights", "movements", "orders", "warehouse")
MODULES = tuple(f"projections.{name}" for name in ("accounts", "board", "flight", "orders", "punctuality", "shipments"))
SPECS = {spec.name: spec for spec in load_projections(MODULES, SOURCES)}

FLIGHT: dict[str, Any] = {"flight_id": "UA1-2013-01-01", "carrier": "UA", "month": "2013-01"}
DETAILS: dict[str, Any] = {
    "flight": 1545,
    "tailnum": "N14228",
    "origin": "EWR",
    "dest": "IAH",
    "sched_dep": "2013-01-01T05:15",
    "sched_arr": "2013-01-01T08:19",
    "distance": 1400,
    "fare": Decimal("214.90"),
}


def rows_of(name: str) -> Rows:
    """An empty read model of an example."""
    return Rows(SPECS[name])


def scheduled(**changes: Any) -> Event:
    """The first event of a flight."""
    return event("FlightScheduled", {**FLIGHT, "seq": 1, **DETAILS, **changes})


def departed(delay: int | None = 2, **changes: Any) -> Event:
    """The second."""
    return event("FlightDeparted", {**FLIGHT, "seq": 2, "dep_time": "2013-01-01T05:17", "dep_delay": delay, **changes})


def landed(delay: int | None = 11, **changes: Any) -> Event:
    """The third."""
    times = {"arr_time": "2013-01-01T08:30", "arr_delay": delay, "air_time": 227}
    return event("FlightLanded", {**FLIGHT, "seq": 3, **times, **changes})


def test_a_flight_lives_from_schedule_to_landing():
    """A flight's row holds its schedule, then what came of it."""
    rows = rows_of("flight")
    rows.fold(scheduled())
    assert rows.row("UA1-2013-01-01") == {"status": "scheduled", "carrier": "UA", **DETAILS}
    rows.fold(departed(), landed())
    assert rows.row("UA1-2013-01-01") == {
        "status": "landed",
        "carrier": "UA",
        **DETAILS,
        "dep_time": "2013-01-01T05:17",
        "dep_delay": 2,
        "arr_time": "2013-01-01T08:30",
        "arr_delay": 11,
        "air_time": 227,
    }


@pytest.mark.parametrize(("kind", "status"), [("FlightCancelled", "cancelled"), ("FlightDiverted", "diverted")])
def test_a_flight_may_end_otherwise(kind: str, status: str):
    """A cancelled or diverted flight keeps its schedule and says so."""
    rows = rows_of("flight")
    rows.fold(scheduled(), event(kind, {**FLIGHT, "seq": 2}))
    assert rows.row("UA1-2013-01-01") == {"status": status, "carrier": "UA", **DETAILS}


def test_a_flight_told_again_stays_as_it_is():
    """A repeated or stale step is stopped by the flight's own number, at once or much later."""
    rows = rows_of("flight")
    rows.fold(scheduled(), scheduled(), departed(), scheduled(), landed())
    before = rows.row("UA1-2013-01-01")
    rows.fold(departed(), scheduled())
    assert rows.row("UA1-2013-01-01") == before
    assert before is not None
    assert before["status"] == "landed"


def test_a_flight_with_a_missing_step_is_parked():
    """A step that jumps ahead parks the flight's key and leaves its row."""
    rows = rows_of("flight")
    rows.fold(scheduled(), landed())
    assert rows.parked == {"UA1-2013-01-01"}
    assert (rows.row("UA1-2013-01-01") or {})["status"] == "scheduled"


def test_punctuality_counts_by_carrier_and_month():
    """Flights are counted under carrier and month; no delay counts as none, and late begins above 15 minutes."""
    rows = rows_of("punctuality")
    rows.fold(scheduled(), departed(15), landed(16))
    rows.fold(scheduled(fare=Decimal("0.10")), departed(None), landed(-4), departed(16))
    rows.fold(scheduled(month="2013-02"), event("FlightCancelled", FLIGHT), event("FlightDiverted", FLIGHT))
    assert rows.row("UA#2013-01") == {
        "scheduled": 2,
        "fares": Decimal("215.00"),
        "departed": 3,
        "dep_delay_minutes": 31,
        "late_departures": 1,
        "landed": 2,
        "arr_delay_minutes": 12,
        "late_arrivals": 1,
        "cancelled": 1,
        "diverted": 1,
    }
    assert rows.row("UA#2013-02") == {"scheduled": 1, "fares": Decimal("214.90")}


def test_punctuality_only_adds():
    """No handler reads or writes a row whole, so several shards may share it."""
    folded = rows_of("punctuality").fold(scheduled(), departed(), landed(), event("FlightCancelled", FLIGHT))
    assert {view.touch.name for view in folded.views} == {"ADDED"}


TRIP: dict[str, Any] = {
    "origin": "EWR", "day": "2013-01-01", "dep_delay": 20, "dest": "IAH", "dest_day": "2013-01-02", "arr_delay": 15,
}  # fmt: skip


def test_the_board_counts_a_trip_at_both_its_airports():
    """One event adds to two rows, each of its own day; early movements take nothing off the delays."""
    rows = rows_of("board")
    rows.fold(event("TripFlown", TRIP), event("TripFlown", {**TRIP, "dep_delay": -5, "arr_delay": 16}))
    assert rows.row("EWR#2013-01-01") == {"departures": 2, "delay_minutes": 20, "delayed": 1}
    assert rows.row("IAH#2013-01-02") == {"arrivals": 2, "delay_minutes": 31, "delayed": 1}
    rows.fold(event("TripFlown", {**TRIP, "origin": "IAH", "day": "2013-01-02", "dest": "EWR"}))
    assert rows.row("IAH#2013-01-02") == {"arrivals": 2, "departures": 1, "delay_minutes": 51, "delayed": 2}


def test_the_board_counts_no_arrival_of_a_trip_that_was_diverted():
    """It left, and that is all that the board knows."""
    rows = rows_of("board")
    rows.fold(event("TripDiverted", {"origin": "EWR", "day": "2013-01-01", "dep_delay": 15}))
    assert rows.row("EWR#2013-01-01") == {"departures": 1, "delay_minutes": 15, "delayed": 0}
    assert len(rows.rows) == 1


def test_the_board_only_adds():
    """Neither of an event's two rows is read or written whole, so several shards may share them."""
    folded = rows_of("board").fold(event("TripFlown", TRIP))
    assert [view.touch.name for view in folded.views] == ["ADDED", "ADDED"]


def test_the_board_counts_an_id_once():
    """The same trip, told again in another batch, is not counted twice."""
    rows = rows_of("board")
    rows.fold(event("TripFlown", TRIP, event_id="d1"), event("TripFlown", TRIP, event_id="d1"))
    rows.fold(event("TripFlown", TRIP, event_id="d1"))
    assert (rows.row("EWR#2013-01-01") or {})["departures"] == (rows.row("IAH#2013-01-02") or {})["arrivals"] == 1


def test_an_order_ships_counts_its_day_and_sends_a_mail():
    """A shipped order changes its row, adds to its day's row and emits one mail."""
    rows = rows_of("order-summary")
    rows.fold(event("OrderPlaced", order_id="o1", total=Decimal("9.90"), lines=[1, 2]))
    rows.fold(event("OrderShipped", order_id="o1", at=datetime(2026, 3, 1, 23, 59, tzinfo=UTC)))
    assert rows.row("o1") == {"status": "shipped", "total": Decimal("9.90"), "items": 2}
    assert rows.row("2026-03-01", "daily") == {"shipped": 1}
    assert [(effect.name, effect.payload, effect.key) for effect in rows.effects] == [
        ("mail", {"template": "shipped", "order_id": "o1"}, "o1")
    ]


def test_history_sends_no_mail():
    """A re-delivery folds the rows without the effect."""
    rows = rows_of("order-summary")
    rows.fold(event("OrderShipped", order_id="o1"), redelivery=True)
    assert rows.row("o1") == {"status": "shipped"}
    assert rows.effects == []


def test_a_cancelled_order_is_gone():
    """Cancelling deletes the row."""
    rows = rows_of("order-summary")
    rows.fold(event("OrderPlaced", order_id="o1", total=1, lines=[]), event("OrderCancelled", order_id="o1"))
    assert rows.row("o1") is None


def _shipment_rows(order: tuple[str, ...]) -> Rows:
    told = {"warehouse": iter(WAREHOUSE), "carrier": iter(CARRIER)}
    rows = Rows(SPECS["shipments"])
    for source in order:
        kind, data = next(told[source])
        rows.fold(event(kind, {"shipment_id": "s1", **data}), source=source)
    return rows


WAREHOUSE = (
    ("ShipmentPacked", {"seq": 1, "boxes": 2, "weight_kg": Decimal("3.5")}),
    ("ShipmentHandedOver", {"seq": 2}),
)
CARRIER = (
    ("ParcelScanned", {"seq": 1, "place": "Gent"}),
    ("ParcelScanned", {"seq": 2, "place": "Lille"}),
    ("ParcelDelivered", {"seq": 3, "signed_by": "A. Moreau"}),
)
ORDERS = sorted(set(permutations(("warehouse",) * 2 + ("carrier",) * 3)))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(name[0] for name in order))
def test_a_shipment_is_the_same_in_any_interleaving(order: tuple[str, ...]):
    """However the two logs interleave, the row and its version vector come to the same."""
    rows = _shipment_rows(order)
    assert rows.row("s1") == {
        "boxes": 2,
        "weight_kg": Decimal("3.5"),
        "packed_at": "2026-01-01T12:00:00+00:00",
        "handed_over_at": "2026-01-01T12:00:00+00:00",
        "last_seen": "Lille",
        "scans": 2,
        "delivered_at": "2026-01-01T12:00:00+00:00",
        "signed_by": "A. Moreau",
    }
    (stored,) = rows.rows.values()
    assert stored.sequences == {"warehouse": 2, "carrier": 3}


def test_a_shipment_knows_each_source_s_repetitions():
    """Number 1 of the carrier is new although number 1 of the warehouse was seen, and stale the second time."""
    rows = _shipment_rows(ORDERS[-1])
    before = rows.row("s1")
    rows.fold(event("ParcelScanned", shipment_id="s1", seq=1, place="Gent"), source="carrier")
    rows.fold(event("ShipmentHandedOver", shipment_id="s1", seq=2), source="warehouse")
    assert rows.row("s1") == before
    assert rows.failures == []


def test_an_account_adds_deposits_of_every_shape():
    """The three shapes a deposit has had come to one exact balance."""
    rows = rows_of("accounts")
    rows.fold(
        event("AccountOpened", account_id="a1", owner="Ines"),
        event("Deposit", account_id="a1", cents=1010),
        event("MoneyDeposited.v2", account_id="a1", amount=Decimal("0.20")),
        event("MoneyDeposited", account_id="a1", amount=Decimal("0.10"), currency="EUR"),
        event("MoneyWithdrawn", account_id="a1", amount=Decimal("0.30"), currency="EUR"),
        event("MoneyDeposited", account_id="a1", amount=5, currency="CHF"),
    )
    assert rows.failures == []
    assert rows.row("a1") == {
        "owner": "Ines",
        "balance_EUR": Decimal("10.10"),
        "balance_CHF": Decimal(5),
        "deposits": 4,
        "withdrawals": 1,
    }


def test_a_balance_keeps_every_digit():
    """A sum that no float could hold stays exact."""
    rows = rows_of("accounts")
    amounts = [Decimal("99999999999999999999.99"), Decimal("0.01")]
    rows.fold(*(event("MoneyDeposited", account_id="a1", amount=amount, currency="EUR") for amount in amounts))
    assert (rows.row("a1") or {})["balance_EUR"] == Decimal("100000000000000000000.00")


def test_a_bad_amount_parks_the_account():
    """A payload that does not validate says which field, and parks the account as configured."""
    rows = rows_of("accounts")
    rows.fold(event("MoneyDeposited", account_id="a1", amount=Decimal("0.001"), currency="eur"))
    assert rows.parked == {"a1"}
    (failure,) = rows.failures
    assert failure.reason == "invalid-payload"
    assert failure.handler == "deposited"
    assert "data.amount: " in failure.detail
    assert "data.currency: " in failure.detail


def test_the_examples_are_all_loaded():
    """The examples load together, each under a name of its own."""
    assert sorted(SPECS) == ["accounts", "board", "flight", "order-summary", "punctuality", "shipments"]
    assert all(isinstance(spec, ProjectionSpec) for spec in SPECS.values())
