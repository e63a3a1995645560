"""Three projections for on-call people to steer: what they do with an event that fails differs, the rows are the same.

Which events fail stands in a file, so that a test mends a handler, as a deploy would, without starting daemons anew;
that a handler reads it is what no projection of a user's may do.
"""

import os
import signal
from pathlib import Path

from daemon.api import Event, View, on, projection

FAULTS = "STEERED_FAULTS"
"""Names the file: one fault a line, `poison ID` (the handler raises) or `deadly ID` (its process dies)."""
PROJECTIONS = ("tally", "queued", "strict")


class _Steered:
    """What the three have in common: a row says how much came of its key, and from which events, in order."""

    @on("Moved")
    def moved(self, view: View, event: Event) -> None:
        faults = Path(os.environ[FAULTS]).read_text(encoding="ascii").splitlines()
        if f"deadly {event.id}" in faults:
            os.kill(os.getpid(), signal.SIGKILL)
        if f"poison {event.id}" in faults:
            raise ValueError("poison")
        row = view.row or {"amount": 0, "seen": []}
        view.put(amount=row["amount"] + event.data["amount"], seen=[*row["seen"], event.id])


@projection(name="tally", version=1, source="log", key="data.key", dedup="event")
class Tally(_Steered):
    """What fails becomes a dead letter."""


@projection(name="queued", version=1, source="log", key="data.key", dedup="shard", on_error="park-key")
class Queued(_Steered):
    """What fails parks its key, and what comes later of the key queues behind it."""


@projection(name="strict", version=1, source="log", key="data.key", dedup="event", on_error="park-shard")
class Strict(_Steered):
    """What fails parks its shard."""
