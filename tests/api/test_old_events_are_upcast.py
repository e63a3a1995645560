"""Upcasters turn old shapes into new ones before the key is read and handlers run."""

from typing import Any

import pytest

from daemon.api import Event, View, on, projection, upcast
from tests.api.conftest import Refused
from tests.support.folding import Rows, event, spec_of


@projection(name="chained", version=1, source="orders", key="data.order_id")
class Chained:
    """Three shapes of one event, and one that changed without changing its type."""

    @on("Placed.v3")
    def placed(self, view: View, event: Event) -> None:
        view.put(event.data)

    @on("Paid")
    def paid(self, view: View, event: Event) -> None:
        view.patch(paid=event.data["amount"])

    @upcast("Placed.v1", to="Placed.v2")
    def name_the_order(self, event: Event) -> dict[str, Any]:
        return {"order_id": event.data["id"]}

    @upcast("Placed.v2", to="Placed.v3")
    def add_the_lines(self, event: Event) -> dict[str, Any]:
        return {"lines": 0, **event.data}

    @upcast("Paid")
    @staticmethod
    def in_cents(event: Event) -> dict[str, Any]:
        return event.data if "amount" in event.data else {**event.data, "amount": event.data["cents"] / 100}

    @upcast("Settled")
    def told_by_the_payload(self, event: Event) -> tuple[str, dict[str, Any]]:
        return event.data["as"], event.data


@pytest.mark.parametrize(
    "old", [event("Placed.v1", id="o1"), event("Placed.v2", order_id="o1"), event("Placed.v3", order_id="o1", lines=0)]
)
def test_every_shape_comes_to_the_newest(old: Event):
    """v1, v2 and v3 of an event come to one row, keyed by a field that v1 did not have."""
    rows = Rows(spec_of(Chained))
    rows.fold(old)
    assert rows.row("o1") == {"order_id": "o1", "lines": 0}


def test_a_type_may_change_without_a_new_name():
    """An upcaster without `to` gives the new payload of the same type, once."""
    rows = Rows(spec_of(Chained))
    rows.fold(event("Paid", order_id="o1", cents=100), event("Paid", order_id="o2", amount=2))
    assert rows.row("o1") == {"paid": 1}
    assert rows.row("o2") == {"paid": 2}


def test_the_function_may_tell_the_type():
    """An upcaster may return type and payload; the chain goes on from there."""
    rows = Rows(spec_of(Chained))
    rows.fold(event("Settled", {"as": "Paid", "order_id": "o1", "cents": 300}))
    assert rows.row("o1") == {"paid": 3}


def test_a_circle_found_late_is_the_event_s_problem():
    """A circle through returned types cannot be seen at load: it fails the event, not the shard."""
    rows = Rows(spec_of(Chained))
    rows.fold(event("Settled", {"as": "Settled", "order_id": "o1"}), event("Paid", order_id="o2", amount=1))
    assert rows.failures == []  # the same type again is the end of the chain

    @projection(name="circle", version=1, source="orders", key="data.order_id")
    class Circle:
        @on("C")
        def c(self, view: View, event: Event) -> None: ...

        @upcast("A")
        def a(self, event: Event) -> tuple[str, object]:
            return "B", event.data

        @upcast("B")
        def b(self, event: Event) -> tuple[str, object]:
            return "A", event.data

    rows = Rows(spec_of(Circle))
    rows.fold(event("A", order_id="o1"))
    (failure,) = rows.failures
    assert failure.reason == "bad-upcast"
    assert "run in a circle" in failure.detail


@pytest.mark.parametrize("result", [None, ("B",), ("", {}), (1, {})])
def test_a_wrong_result_is_the_event_s_problem(result: object):
    """None and a pair that is none fail the event, naming the upcaster."""

    @projection(name="wrong", version=1, source="orders", key="data.order_id")
    class Wrong:
        @on("B")
        def b(self, view: View, event: Event) -> None: ...

        @upcast("A", to="B")
        def broken(self, event: Event) -> object:
            return result

    rows = Rows(spec_of(Wrong))
    rows.fold(event("A", order_id="o1"))
    (failure,) = rows.failures
    assert failure.reason == "bad-upcast"
    assert "upcaster 'broken' returned" in failure.detail


HEAD = '@projection(name="orders", version=1, source="orders", key="data.id")\nclass Orders:\n'
HANDLER = '    @on("C")\n    def c(self, view, event): ...\n'


def _upcaster(old: str, to: str) -> str:
    return f'    @upcast("{old}", to="{to}")\n    def from_{old.lower()}(self, event): return event.data\n'


@pytest.mark.parametrize(
    ("upcasters", "messages"),
    [
        (_upcaster("A", "B") + _upcaster("B", "A"), ["upcasters run in a circle: A -> B -> A"]),
        (
            _upcaster("C", "A") + _upcaster("A", "B") + _upcaster("B", "C"),
            [
                "handlers of 'C' never run: 'from_c' upcasts every 'C' to 'A'",
                "upcasters run in a circle: C -> A -> B -> C",
            ],
        ),
        (_upcaster("A", "D"), ["upcaster 'from_a' leads to 'D', which nothing handles"]),
        (
            _upcaster("A", "C") + '    @upcast("A")\n    def again(self, event): ...\n',
            ["type 'A' is upcast by 'from_a' (line 6) and by 'again'"],
        ),
        ('    @upcast("A")\n    def a(self, view, event): ...\n', ["upcaster 'a' takes (self, view, event)"]),
        (
            '    @upcast("A")\n    async def a(self, event): ...\n',
            ["upcaster 'a' is async; it must be pure and never waits"],
        ),
        ('    @upcast("")\n    def a(self, event): ...\n', ["upcaster 'a': '' is no event type"]),
        ('    @upcast("A", to=3)\n    def a(self, event): ...\n', ["upcaster 'a': to=3 is no event type"]),
        ("    @upcast\n    def a(self, event): ...\n", ["'a': @upcast without an event type"]),
        ("    @upcast()\n    def a(self, event): ...\n", ["'a': @upcast: missing a required argument: 'old'"]),
    ],
)
def test_wrong_upcasters_are_told_at_load(refused: Refused, upcasters: str, messages: list[str]):
    """Circles, dead ends and wrong forms are found before any event is read."""
    problems = refused(upcasting=HEAD + HANDLER + upcasters)
    assert [problem.message[: len(message)] for problem, message in zip(problems, messages, strict=True)] == messages
