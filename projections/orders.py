"""Effects and other rows: an order's state, what a day shipped, and a mail to be sent.

`emit` records the mail in the same transaction as the row, to be relayed by whatever reads the effects. With
`replay=False` the handler does not even run when history is folded again: nobody gets a second mail.
"""

from daemon.api import Event, Index, View, on, projection


@projection(
    name="order-summary",
    version=1,
    source="orders",
    key="data.order_id",
    indexes=(Index("by-status", "status"),),
)
class OrderSummary:
    """One row per order; one row per day in the view `daily`."""

    @on("OrderPlaced")
    def placed(self, view: View, event: Event) -> None:
        view.put(status="placed", total=event.data["total"], items=len(event.data["lines"]))

    @on("OrderShipped")
    def shipped(self, view: View, event: Event) -> None:
        view.patch(status="shipped")
        view.at("daily", event.time.date()).add(shipped=1)

    @on("OrderCancelled")
    def cancelled(self, view: View, event: Event) -> None:
        view.delete()

    @on("OrderShipped", replay=False)
    def notify(self, view: View, event: Event) -> None:
        view.emit("mail", template="shipped", order_id=event.key)
