"""Upcasting, validated payloads and exact money: one row per account.

A deposit has had three shapes. The handlers know the newest; the upcasters turn the older ones into it, one step each:
`Deposit` (cents) to `MoneyDeposited.v2` (an amount, no currency) to `MoneyDeposited`. Amounts are `Decimal` from the
log's text to the row: never a float.
"""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field

from daemon.api import Event, View, on, projection, upcast

type Money = Annotated[Decimal, Field(gt=0, decimal_places=2)]


class AccountOpened(BaseModel):
    """The payload of `AccountOpened`."""

    account_id: str
    owner: str


class MoneyMoved(BaseModel):
    """The payload of `MoneyDeposited` and `MoneyWithdrawn`: a positive amount in a currency."""

    account_id: str
    amount: Money
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]


@projection(name="accounts", version=1, source="accounts", key="data.account_id", on_error="park-key")
class Accounts:
    """The balance of each account, by currency."""

    @on(AccountOpened)
    def opened(self, view: View, event: Event[AccountOpened]) -> None:
        view.patch(owner=event.data.owner)

    @on(MoneyMoved, type="MoneyDeposited")
    def deposited(self, view: View, event: Event[MoneyMoved]) -> None:
        view.add({f"balance_{event.data.currency}": event.data.amount}, deposits=1)

    @on(MoneyMoved, type="MoneyWithdrawn")
    def withdrawn(self, view: View, event: Event[MoneyMoved]) -> None:
        view.add({f"balance_{event.data.currency}": -event.data.amount}, withdrawals=1)

    @upcast("Deposit", to="MoneyDeposited.v2")
    def cents_to_amount(self, event: Event) -> dict[str, Any]:
        rest = {name: value for name, value in event.data.items() if name != "cents"}
        return {**rest, "amount": Decimal(event.data["cents"]) / 100}

    @upcast("MoneyDeposited.v2", to="MoneyDeposited")
    def with_currency(self, event: Event) -> dict[str, Any]:
        return {"currency": "EUR", **event.data}
