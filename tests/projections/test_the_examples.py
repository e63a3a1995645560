"""Each worked example: rows as its docstring promises, however its log is delivered."""

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from daemon.core.projection import ProjectionSpec
from daemon.loading import load_projections
from daemon.testing import effect, event, spec
from projections.accounts import AccountOpened, Accounts, MoneyMoved
from projections.board import Board
from projections.flight import FlightLife
from projections.orders import OrderSummary
from projections.punctuality import Punctuality
from projections.shipments import Shipments
from tests.support.folding import Rows
from tests.support.folding import event as folded_event

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
KEY = "UA1-2013-01-01"
SCHEDULED = event("FlightScheduled", {**FLIGHT, "seq": 1, **DETAILS})
DEPARTED = event("FlightDeparted", {**FLIGHT, "seq": 2, "dep_time": "2013-01-01T05:17", "dep_delay": 2})
LANDED = event("FlightLanded", {**FLIGHT, "seq": 3, "arr_time": "2013-01-01T08:30", "arr_delay": 11, "air_time": 227})


def test_a_flight_lives_from_schedule_to_landing():
    """A flight's row holds its schedule, then what came of it; another flight's steps are its own."""
    other = {**FLIGHT, "flight_id": "UA2-2013-01-01"}
    others = [event("FlightScheduled", {**other, "seq": 1, **DETAILS}), event("FlightCancelled", {**other, "seq": 2})]
    spec(FlightLife).given(SCHEDULED, others, DEPARTED, LANDED).then({
        KEY: {
            "status": "landed",
            "carrier": "UA",
            **DETAILS,
            "dep_time": "2013-01-01T05:17",
            "dep_delay": 2,
            "arr_time": "2013-01-01T08:30",
            "arr_delay": 11,
            "air_time": 227,
        },
        "UA2-2013-01-01": {"status": "cancelled", "carrier": "UA", **DETAILS},
    })  # fmt: skip


@pytest.mark.parametrize(("kind", "status"), [("FlightCancelled", "cancelled"), ("FlightDiverted", "diverted")])
def test_a_flight_may_end_otherwise(kind: str, status: str):
    """A cancelled or diverted flight keeps its schedule and says so."""
    spec(FlightLife).given(SCHEDULED, event(kind, {**FLIGHT, "seq": 2})).then({
        KEY: {"status": status, "carrier": "UA", **DETAILS}
    })  # fmt: skip


def test_a_flight_told_again_stays_as_it_is():
    """A repeated or stale step is stopped by the flight's own number, at once or much later."""
    again = [event("FlightScheduled", {**FLIGHT, "seq": 1, **DETAILS, "tailnum": "?"}, id=f"again-{n}") for n in (1, 2)]
    given = spec(FlightLife).given(SCHEDULED, again[0], event("FlightDiverted", {**FLIGHT, "seq": 2}), again[1])
    given.then({KEY: {"status": "diverted", "carrier": "UA", **DETAILS}})


def test_a_flight_with_a_missing_step_is_parked():
    """A step that jumps ahead parks the flight's key and leaves its row."""
    given = spec(FlightLife).given(SCHEDULED, LANDED)
    given.then({KEY: {"status": "scheduled", "carrier": "UA", **DETAILS}}).parked({KEY: "gap"})


def counted(kind: str, /, **data: Any) -> Any:
    """An event as the counters read it."""
    return event(kind, {**FLIGHT, **data})


def test_punctuality_counts_by_carrier_and_month():
    """Flights are counted under carrier and month; no delay counts as none, and late begins above 15 minutes."""
    spec(Punctuality).given(
        counted("FlightScheduled", fare=Decimal("214.90")),
        counted("FlightScheduled", fare=Decimal("0.10")),
        [counted("FlightDeparted", dep_delay=delay) for delay in (15, None, 16)],
        [counted("FlightLanded", arr_delay=delay) for delay in (16, -4)],
        counted("FlightScheduled", month="2013-02", fare=Decimal("214.90")),
        counted("FlightCancelled"),
        counted("FlightDiverted"),
    ).then({
        ("UA", "2013-01"): {
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
        },
        ("UA", "2013-02"): {"scheduled": 1, "fares": Decimal("214.90")},
    })  # fmt: skip


def test_punctuality_only_adds():
    """No handler reads or writes a row whole, so several shards may share it."""
    kinds: tuple[dict[str, Any], ...] = ({"fare": 1}, {"dep_delay": 1}, {"arr_delay": 1}, {})
    names = ("FlightScheduled", "FlightDeparted", "FlightLanded", "FlightCancelled")
    events = [folded_event(name, {**FLIGHT, **data}) for name, data in zip(names, kinds, strict=True)]
    assert {view.touch.name for view in Rows(SPECS["punctuality"]).fold(*events).views} == {"ADDED"}


TRIP: dict[str, Any] = {
    "origin": "EWR", "day": "2013-01-01", "dep_delay": 20, "dest": "IAH", "dest_day": "2013-01-02", "arr_delay": 15,
}  # fmt: skip


def test_the_board_counts_a_trip_at_both_its_airports():
    """One event adds to two rows, each of its own day, in any order; early movements take nothing off the delays."""
    spec(Board).given(
        event("TripFlown", TRIP),
        event("TripFlown", {**TRIP, "dep_delay": -5, "arr_delay": 16}),
        event("TripFlown", {**TRIP, "origin": "IAH", "day": "2013-01-02", "dest": "EWR"}, shard="1"),
    ).then({
        ("EWR", "2013-01-01"): {"departures": 2, "delay_minutes": 20, "delayed": 1},
        ("IAH", "2013-01-02"): {"arrivals": 2, "departures": 1, "delay_minutes": 51, "delayed": 2},
        ("EWR", "2013-01-02"): {"arrivals": 1, "delay_minutes": 15, "delayed": 0},
    })  # fmt: skip


def test_the_board_counts_no_arrival_of_a_trip_that_was_diverted():
    """It left, and that is all that the board knows."""
    diverted = event("TripDiverted", {"origin": "EWR", "day": "2013-01-01", "dep_delay": 15})
    spec(Board).given(diverted).then({("EWR", "2013-01-01"): {"departures": 1, "delay_minutes": 15, "delayed": 0}})


def test_the_board_only_adds():
    """Neither of an event's two rows is read or written whole, so several shards may share them."""
    folded = Rows(SPECS["board"]).fold(folded_event("TripFlown", TRIP))
    assert [view.touch.name for view in folded.views] == ["ADDED", "ADDED"]


def test_the_board_counts_an_id_once():
    """The same trip, told again in another shard, is not counted twice."""
    trips = [event("TripFlown", TRIP, id="d1"), event("TripFlown", TRIP, id="d1", shard="1")]
    spec(Board).given(trips).then({
        ("EWR", "2013-01-01"): {"departures": 1, "delay_minutes": 20, "delayed": 1},
        ("IAH", "2013-01-02"): {"arrivals": 1, "delay_minutes": 15, "delayed": 0},
    })  # fmt: skip


def test_an_order_ships_counts_its_day_and_sends_a_mail():
    """A shipped order changes its row, adds to its day's row and emits one mail; a rebuild comes to the same rows."""
    spec(OrderSummary).given(
        event("OrderPlaced", order_id="o1", total=Decimal("9.90"), lines=[1, 2]),
        event("OrderPlaced", order_id="o2", total=1, lines=[]),
        event("OrderShipped", order_id="o1", at=datetime(2026, 3, 1, 23, 59, tzinfo=UTC)),
        event("OrderCancelled", order_id="o2"),
    ).then(
        {"o1": {"status": "shipped", "total": Decimal("9.90"), "items": 2}},
        daily={date(2026, 3, 1): {"shipped": 1}},
    ).then_effects(effect("mail", template="shipped", order_id="o1"))  # fmt: skip


def test_history_sends_no_mail():
    """A re-delivery folds the rows without the effect."""
    rows = Rows(SPECS["order-summary"])
    rows.fold(folded_event("OrderShipped", order_id="o1"), redelivery=True)
    assert rows.row("o1") == {"status": "shipped"}
    assert rows.effects == []


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
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHIPPED = {
    "boxes": 2,
    "weight_kg": Decimal("3.5"),
    "packed_at": NOON,
    "handed_over_at": NOON,
    "last_seen": "Lille",
    "scans": 2,
    "delivered_at": NOON,
    "signed_by": "A. Moreau",
}


def test_a_shipment_is_the_same_in_any_interleaving():
    """However the two logs interleave, and however often an event is told, the row comes to the same."""
    told = [
        event(kind, {"shipment_id": "s1", **data}, source=source, at=NOON)
        for source, log in (("warehouse", WAREHOUSE), ("carrier", CARRIER))
        for kind, data in log
    ]
    spec(Shipments, seeds=20).given(told).then({"s1": SHIPPED})


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(name[0] for name in order))
def test_a_shipment_keeps_a_version_vector(order: tuple[str, ...]):
    """Number 1 of the carrier is new although number 1 of the warehouse was seen; the row keeps both sources' last."""
    told = {"warehouse": iter(WAREHOUSE), "carrier": iter(CARRIER)}
    rows = Rows(SPECS["shipments"])
    for source in order:
        kind, data = next(told[source])
        rows.fold(folded_event(kind, {"shipment_id": "s1", **data}), source=source)
    (stored,) = rows.rows.values()
    assert stored.sequences == {"warehouse": 2, "carrier": 3}


def test_an_account_adds_deposits_of_every_shape():
    """The three shapes a deposit has had come to one exact balance."""
    spec(Accounts).given(
        AccountOpened(account_id="a1", owner="Ines"),
        event("Deposit", account_id="a1", cents=1010),
        event("MoneyDeposited.v2", account_id="a1", amount=Decimal("0.20")),
        event(MoneyMoved(account_id="a1", amount=Decimal("0.10"), currency="EUR"), type="MoneyDeposited"),
        event(MoneyMoved(account_id="a2", amount=Decimal("7.5"), currency="EUR"), type="MoneyDeposited"),
        event("MoneyWithdrawn", account_id="a1", amount=Decimal("0.30"), currency="EUR"),
        event("MoneyDeposited", account_id="a1", amount=5, currency="CHF"),
    ).then({
        "a1": {
            "owner": "Ines",
            "balance_EUR": Decimal("10.10"),
            "balance_CHF": Decimal(5),
            "deposits": 4,
            "withdrawals": 1,
        },
        "a2": {"balance_EUR": Decimal("7.50"), "deposits": 1},
    })  # fmt: skip


def test_a_balance_keeps_every_digit():
    """A sum that no float could hold stays exact."""
    amounts = [Decimal("99999999999999999999.99"), Decimal("0.01")]
    deposits = [event("MoneyDeposited", account_id="a1", amount=amount, currency="EUR") for amount in amounts]
    spec(Accounts).given(deposits).then({"a1": {"balance_EUR": Decimal("100000000000000000000.00"), "deposits": 2}})


def test_a_bad_amount_parks_the_account():
    """A payload that does not validate parks the account as configured, and what follows waits behind it."""
    bad = event("MoneyDeposited", account_id="a1", amount=Decimal("0.001"), currency="eur")
    good = [event("MoneyDeposited", account_id=name, amount=1, currency="EUR") for name in ("a1", "a2")]
    given = spec(Accounts).given(bad, good)
    given.then({"a2": {"balance_EUR": 1, "deposits": 1}}).parked({"a1": "invalid-payload"}).dead_letters()


def test_a_refused_payload_names_its_fields():
    """The reason of a payload that does not validate says which field is wrong."""
    rows = Rows(SPECS["accounts"])
    rows.fold(folded_event("MoneyDeposited", account_id="a1", amount=Decimal("0.001"), currency="eur"))
    (failure,) = rows.failures
    assert (failure.reason, failure.handler) == ("invalid-payload", "deposited")
    assert "data.amount: " in failure.detail
    assert "data.currency: " in failure.detail


def test_the_examples_are_all_loaded():
    """The examples load together, each under a name of its own."""
    assert sorted(SPECS) == ["accounts", "board", "flight", "order-summary", "punctuality", "shipments"]
    assert all(isinstance(spec, ProjectionSpec) for spec in SPECS.values())
