"""What can be given and expected, and what a report says."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from daemon.api import Event, View, on, projection
from daemon.loading import ProjectionProblems
from daemon.testing import SpecFailed, effect, event, given, lines_of, spec
from daemon.testing.specs.outcome import same


@dataclass
class Paid:
    """The payload of `Paid`."""

    account: str
    amount: Decimal


@projection(name="balances", version=1, source=("bank", "shop"), key="data.account", on_error="park-key")
@projection(name="balances", version=2, source=("bank", "shop"), key="data.account")
class Balances:
    """What accounts hold."""

    @on(Paid)
    def paid(self, view: View, event: Event[Paid]) -> None:
        if event.data.amount < 0:
            raise ValueError("negative")
        view.add(total=event.data.amount)
        view.at("sums", "all").add(shared=True, total=event.data.amount)
        view.emit("receipt", amount=event.data.amount)


def paid(account: str = "a", amount: object = 1, **more: Any) -> object:
    """An event."""
    return event("Paid", {"account": account, "amount": amount}, **more)


FORMS = {
    "words": event("Paid", account="a", amount=Decimal("1.50")),
    "instance": Paid("a", Decimal("1.50")),
    "told instance": event(Paid("a", Decimal("1.50")), at=datetime(2026, 1, 1, tzinfo=UTC)),
    "pair": ("Paid", {"account": "a", "amount": 1.5}),
    "CloudEvent": {"type": "Paid", "id": "x", "time": "2026-01-01T00:00:00Z", "data": {"account": "a", "amount": 1.5}},
    "line": '{"specversion":"1.0","id":"x","source":"/","type":"Paid","data":{"account":"a","amount":15e-1}}',
}


@pytest.mark.parametrize("form", FORMS)
def test_an_event_has_many_forms(form: str):
    """Each form comes to the same exact row."""
    given(Balances, FORMS[form]).then({"a": {"total": Decimal("1.5")}}, sums={"all": {"total": Decimal("1.50")}})


def test_a_log_s_lines_are_given_as_they_are():
    """A line that is no event becomes a dead letter."""
    log = b'{"specversion":"1.0","id":"x","source":"/","type":"Paid","data":{"account":"a","amount":2}}\n{"no": 1}\n'
    given(Balances, lines_of(log)).then_some({"a": {"total": 2}, "b": None}).dead_letters({"line 2": "bad-field"})


def test_a_failed_event_is_told_with_its_place():
    """What was not applied must be said: otherwise the test fails, with the line that raised."""
    specified = given(Balances, paid(amount=-1, id="p1")).then()
    with pytest.raises(
        SpecFailed, match=r"dead letter p1: handler-raised: ValueError: negative\n.*raised at .*_says\.py:\d+"
    ):
        specified.close()
    specified.dead_letters({"p1": "handler-raised"}).then_effects().close()


def test_a_version_is_chosen():
    """Of several versions the newest is meant, or the one that is named."""
    spec(Balances, version=1).given(paid(amount=-1), paid()).then().parked({"a": "handler-raised"}).dead_letters()
    spec(Balances).given(paid(amount=-1), paid()).then_some({"a": {"total": 1}}).dead_letters({"e1": "handler-raised"})
    with pytest.raises(ValueError, match="has no version 3, only"):
        spec(Balances, version=3).given()


def test_several_sources_are_followed():
    """Events name their source; one that the projection does not follow is refused with those it does."""
    specified = given(Balances, paid(source="bank"), paid(source="shop"))
    specified.then({"a": {"total": 2}}, sums={"all": {"total": 2}})
    with pytest.raises(ValueError, match="follows bank, shop"):
        given(Balances, paid(source="post"))


def test_nothing_expected_fails():
    """Events of which nothing is expected are a mistake in the test."""
    specified = given(Balances, paid())
    with pytest.raises(SpecFailed, match="nothing was expected of them"):
        specified.close()
    specified.then_some()


def test_effects_are_compared_as_they_are():
    """An effect with another number, or too few of them, fails, and both sides are told."""
    specified = given(Balances, paid(), paid(amount=Decimal("2.0")))
    specified.then_effects(effect("receipt", amount=1), ("receipt", {"amount": 2}))
    with pytest.raises(SpecFailed) as failed:
        specified.then_effects(effect("receipt", amount=1))
    assert "emitted, but not expected:\n    receipt(amount=2)" in str(failed.value)


def test_what_is_no_event_is_refused():
    """A value in no known form is refused with the forms that are."""
    with pytest.raises(TypeError, match="is no event; write event"):
        given(Balances, 7)


def test_what_is_no_projection_is_refused():
    """Mistakes in the projection are told as the daemon tells them."""
    with pytest.raises(ValueError, match="is no projection"):
        given(Paid)
    broken = projection(name="Bad Name", version=1, source="log", key="data.id")(type("Broken", (), {}))
    with pytest.raises(ProjectionProblems, match="Bad Name"):
        given(broken)


def test_a_report_is_read_row_by_row():
    """Each row, attribute by attribute, with both values and the events that wrote it."""
    specified = given(Balances, paid(id="p1"), paid("b", Decimal("2.50"), id="p2"), paid(amount=3, id="p3"))
    with pytest.raises(SpecFailed) as failed:
        specified.then(
            {"a": {"total": Decimal("4.01"), "owner": "Ines"}, "c": {"total": 1}}, sums={"all": {"total": 6.5}}
        )
    assert str(failed.value).splitlines() == [
        "Balances (balances v2): the rows are not what is expected.",
        '  row "a"',
        "    total",
        '      expected Decimal("4.01")',
        '      got      Decimal("4")',
        "    owner",
        '      expected "Ines"',
        "      got      nothing",
        "    written by: p1 Paid, p3 Paid",
        '  row "b"',
        "    expected no such row",
        '    got      {"total": Decimal("2.5")}',
        "    written by: p2 Paid",
        '  row "c"',
        '    expected {"total": 1}',
        "    got      no such row",
        "    written by: no event",
    ]


@pytest.mark.anyio
async def test_a_test_may_be_async_itself():
    """Where a loop is running, the events are folded beside it."""
    given(Balances, paid()).then_some({"a": {"total": 1}})


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, Decimal("1.0"), True),
        (True, 1, False),
        ([1, {"a": Decimal(2)}], [Decimal(1), {"a": 2}], True),
        ("1", 1, False),
        (Decimal("0.1"), Decimal("0.10000000000000001"), False),
        (None, 0, False),
    ],
)
def test_values_are_compared_exactly(one: object, other: object, alike: bool):
    """Numbers are the same when they are the same number; nothing else is."""
    assert same(one, other) is alike
