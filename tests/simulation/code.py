"""The code that replicas run: the ledger's projections, and the same with a handler to which no event is poison.

Both are versions of one deployment: the same projection, version and rows.
"""

from dataclasses import replace
from functools import cache

from daemon.api import Event, View, on, projection
from daemon.core.projection import OnError, ProjectionSpec
from daemon.loading import compile_class
from tests.simulation.plan import Plan
from tests.support.ledger import PROJECTIONS


class _Mended:
    """What the ledger's handler does to events of the kinds `plain`, `shared` and `poison`, and never fails."""

    @on("Moved")
    def moved(self, view: View, event: Event) -> None:
        data = event.data
        view.at("branch", data["branch"]).add(n=1, amount=data["amount"])
        if data["number"] % 7 == 0:
            _ = view.at("closed", data["account"]).row
        if data["kind"] == "shared":
            return
        row = view.row or {"balance": 0, "seen": []}
        view.put(balance=row["balance"] + data["amount"], seen=[*row["seen"], event.id])
        if data["number"] % 5 == 0:
            view.emit("notice", id=event.id)


@projection(name="by-event", version=1, source="ledger", key="data.account", dedup="event")
class _ByEvent(_Mended):
    pass


@projection(name="by-shard", version=1, source="ledger", key="data.account", dedup="shard")
class _ByShard(_Mended):
    pass


@projection(
    name="by-sequence", version=1, source="ledger", key="data.account", dedup="sequence", sequence="data.number"
)
class _BySequence(_Mended):
    pass


MENDED = {"event": _ByEvent, "shard": _ByShard, "sequence": _BySequence}


@cache
def _compiled(mode: str, *, mended: bool) -> ProjectionSpec:
    return compile_class((MENDED if mended else PROJECTIONS)[mode], ("ledger",))[0]


def specs_of(plan: Plan) -> tuple[ProjectionSpec, ProjectionSpec]:
    """Return the projection before the deployment and after it."""
    both = (_compiled(plan.mode, mended=mended) for mended in (False, True))
    on_error = OnError.PARK_KEY if plan.parks else OnError.DEAD_LETTER
    before, after = (replace(spec, on_error=on_error) for spec in both)
    return before, after
