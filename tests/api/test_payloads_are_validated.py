"""Handlers registered with a class get an instance of it; decimals come through exactly."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from daemon.api import Event, View, on, projection
from tests.support.folding import Rows, event, spec_of

EXACT = Decimal("12345678901234567890.123456789")


@dataclass
class Line:
    sku: str
    price: Decimal


@dataclass
class PlacedData:
    order_id: str
    total: Decimal
    day: date
    lines: list[Line]
    weight: float = 0.0


class PlacedDict(TypedDict):
    order_id: str
    total: Decimal
    day: date
    lines: list[Line]
    weight: float


class PlacedModel(BaseModel):
    order_id: str
    total: Decimal
    day: date
    lines: list[Line]
    weight: float = 0.0


PAYLOAD: dict[str, Any] = {
    "order_id": "o1",
    "total": EXACT,
    "day": "2026-01-02",
    "lines": [{"sku": "a", "price": Decimal("0.10")}],
    "weight": Decimal("1.5"),
    "more": "than the class knows",
}


@projection(name="by-data", version=1, source="orders", key="data.order_id")
class ByData:
    @on(PlacedData, type="OrderPlaced")
    def placed(self, view: View, event: Event[PlacedData]) -> None:
        data = event.data
        assert isinstance(data, PlacedData)
        view.put(total=data.total, day=data.day, price=data.lines[0].price, weight=data.weight)


@projection(name="by-dict", version=1, source="orders", key="data.order_id")
class ByDict:
    @on(PlacedDict, type="OrderPlaced")
    def placed(self, view: View, event: Event[PlacedDict]) -> None:
        data = event.data
        view.put(total=data["total"], day=data["day"], price=data["lines"][0].price, weight=data["weight"])


@projection(name="by-model", version=1, source="orders", key="data.order_id")
class ByModel:
    @on(PlacedModel, type="OrderPlaced")
    def placed(self, view: View, event: Event[PlacedModel]) -> None:
        data = event.data
        view.put(total=data.total, day=data.day, price=data.lines[0].price, weight=data.weight)


@pytest.mark.parametrize("cls", [ByData, ByDict, ByModel])
def test_a_payload_becomes_an_instance(cls: type):
    """Dataclass, TypedDict and model: text becomes a date, decimals stay exact, unknown fields are let through."""
    rows = Rows(spec_of(cls))
    rows.fold(event("OrderPlaced", PAYLOAD))
    assert rows.failures == []
    row = rows.row("o1")
    assert row == {"total": EXACT, "day": "2026-01-02", "price": Decimal("0.10"), "weight": Decimal("1.5")}
    assert str((row or {})["total"]) == str(EXACT)


@pytest.mark.parametrize("cls", [ByData, ByDict, ByModel])
def test_an_invalid_payload_is_the_event_s_problem(cls: type):
    """What does not validate fails the event, naming each field's path and what was expected; other events go on."""
    rows = Rows(spec_of(cls))
    bad = {**PAYLOAD, "order_id": "o2", "total": "much", "lines": [{"sku": "a"}], "day": None, "weight": "x"}
    rows.fold(event("OrderPlaced", bad, event_id="bad"), event("OrderPlaced", PAYLOAD))
    (failure,) = rows.failures
    assert failure.reason == "invalid-payload"
    assert failure.handler == "placed"
    assert failure.detail.startswith("event 'bad' is no Placed")
    assert "data.total: Input should be a valid decimal" in failure.detail
    assert "data.day: Input should be a valid date" in failure.detail
    assert "data.lines.0.price: Field required" in failure.detail
    assert failure.detail.endswith("and 1 more")
    assert rows.row("o1") is not None
    assert rows.row("o2") is None


def test_a_payload_of_another_shape_is_invalid():
    """A payload that is no object is no instance."""

    @projection(name="lists", version=1, source="orders", key="id")
    class Lists:
        @on(PlacedModel, type="OrderPlaced")
        def placed(self, view: View, event: Event[PlacedModel]) -> None: ...

    rows = Rows(spec_of(Lists))
    rows.fold(event("OrderPlaced", [1, 2]))
    assert [failure.reason for failure in rows.failures] == ["invalid-payload"]


def test_the_class_names_the_event_type():
    """Without type= the class's own name is the event type."""

    @projection(name="named", version=1, source="orders", key="data.order_id")
    class Named:
        @on(PlacedModel)
        def placed(self, view: View, event: Event[PlacedModel]) -> None: ...

    assert list(spec_of(Named).handlers) == ["PlacedModel"]


def test_other_handlers_see_the_payload_as_it_came():
    """The instance is the one handler's own: the event is not changed for the others."""
    seen: list[object] = []

    @projection(name="both", version=1, source="orders", key="data.order_id")
    class Both:
        @on(PlacedModel, type="OrderPlaced")
        def model(self, view: View, event: Event[PlacedModel]) -> None:
            seen.append(type(event.data))

        @on("OrderPlaced")
        def plain(self, view: View, event: Event) -> None:
            seen.append(event.data)

    Rows(spec_of(Both)).fold(event("OrderPlaced", PAYLOAD))
    assert seen == [PlacedModel, PAYLOAD]
