"""All that a projection imports.

    from daemon.api import Event, View, on, projection

    @projection(name="order-summary", version=1, source="orders", key="data.order_id")
    class OrderSummary:
        @on("OrderPlaced")
        def placed(self, view: View, event: Event) -> None:
            view.put(status="placed", total=event.data["total"])

Handlers are pure: the row and the event in, intents on the view out. A handler that reads the clock, draws randomness
or does I/O is wrong: a batch may be folded several times before it is committed, and again by a re-delivery, a repair
or a rebuild, and each time it must come to the same rows. Time is `event.time`; what must happen outside is
`view.emit`. The class is made once, without arguments: attributes set in `__init__` are constants.

`EventProblem("too-late", "closed accounts take no deposits")`, raised by a handler, gives its dead letter a reason of
its own; any other exception is reported as `handler-raised`.

A command side that wants to read what it wrote looks at the checkpoint item: `checkpoint_key` says where it is,
`has_settled` whether it has come that far, `pointer_key` where the number of the live generation stands.
"""

from daemon.core.errors import EventProblem
from daemon.core.events import Event
from daemon.core.projection import Index
from daemon.core.reading_writes import checkpoint_key, has_settled, pointer_key
from daemon.core.view import View
from daemon.loading.declare import on, projection, upcast
from daemon.loading.partials import sum_partials

__all__ = [
    "Event",
    "EventProblem",
    "Index",
    "View",
    "checkpoint_key",
    "has_settled",
    "on",
    "pointer_key",
    "projection",
    "sum_partials",
    "upcast",
]
