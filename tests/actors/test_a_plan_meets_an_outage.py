"""A plan is told of an outage as anything else is: by the error itself."""

import pytest

from daemon.core.again import ReplayPlan
from daemon.core.commands import Target
from daemon.core.errors import StoreUnavailable
from daemon.core.identity import Scope
from daemon.core.waiting import Waiting
from daemon.testing.memory_store import MemoryStore
from tests.actors.test_ranges_are_delivered_again import fragile, log_of
from tests.support.engine import ALICE, engine

pytestmark = pytest.mark.anyio


class Away(MemoryStore):
    """Answers everything but what waits, from a moment on."""

    away = False

    async def waiting(self, scope: Scope) -> Waiting:
        """Refuse while away."""
        if self.away:
            raise StoreUnavailable("away (scripted)")
        return await super().waiting(scope)


async def test_a_store_that_goes_away_during_a_plan_is_told_of_as_itself() -> None:
    """The store's own error reaches whoever asked for a plan, not a group that holds it."""
    store = Away()
    async with engine(fragile({"e(5,)"}), store, log_of(20)) as running:
        await running.caught_up()
        store.away = True
        with pytest.raises(StoreUnavailable, match="away"):
            await running.control.run(ReplayPlan(Target("counting"), "earliest"), ALICE, "plan", lambda _: None)
        store.away = False
