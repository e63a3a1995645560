"""Waiting for a store that is away when a daemon starts: an outage is nobody's mistake, and passes.

Owns how a start meets an outage. Must not know which store it is.
"""

from daemon.core.errors import StoreUnavailable
from daemon.core.recovery import RetryPolicy, backoff
from daemon.ports.clock import Clock
from daemon.ports.observer import Observer, StoreAwaited
from daemon.ports.store import Store

_POLICY = RetryPolicy(initial_backoff=1.0, max_backoff=30.0)
"""On top of the store's own patience with each request."""


async def opened_in_time(store: Store, clock: Clock, observer: Observer) -> None:
    """Open a store, for as long as it takes it to come back. Raises StoreProblem for what a person must mend."""
    tries = 0
    while True:
        try:
            await store.open()
        except StoreUnavailable as problem:
            tries += 1
            wait = backoff(tries, _POLICY, clock.draw())
            observer.see(StoreAwaited(str(problem), tries, wait))
            await clock.sleep(wait)
        else:
            return
