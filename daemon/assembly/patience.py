"""Waiting for a store or a source that is away when a daemon starts: an outage is nobody's mistake, and passes.

Owns how a start meets an outage, and how often it is told: at the first failed try, then at growing intervals, up to
half a minute. Must not know which store or source it is.
"""

import anyio

from daemon.core.errors import ProjectiondError, StoreUnavailable
from daemon.ports.clock import Clock
from daemon.ports.observer import Observer, SourceAwaited, SourceReached, StoreAwaited, StoreReached
from daemon.ports.source import Source
from daemon.ports.store import Store

_FIRST_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
_JITTER = 0.25
"""Share of a wait that chance takes away: replicas that start together do not ask together, and waits still grow."""


async def opened_in_time(
    store: Store, clock: Clock, observer: Observer, where: str = "", limit: float | None = None
) -> None:
    """Open a store, for as long as it takes it to come back, or `limit` seconds. `where` names it for people.

    Each failed try is told at once. Raises StoreUnavailable when the limit is over, StoreProblem for what a person must
    mend.
    """
    began, tries = clock.monotonic(), 0
    while True:
        try:
            await store.open()
        except StoreUnavailable as problem:
            tries += 1
            seconds, wait = clock.monotonic() - began, _wait(tries, clock)
            if limit is not None and seconds >= limit:
                raise
            observer.see(StoreAwaited(str(problem), tries, wait, where, seconds))
            await clock.sleep(wait if limit is None else min(wait, limit - seconds))
        else:
            if tries:
                observer.see(StoreReached(where, tries, clock.monotonic() - began))
            return


async def heard_of(source: Source, clock: Clock, observer: Observer, answer: float) -> None:
    """Ask a source until it has answered once; each question waits at most `answer` seconds, and is told if in vain.

    Before its first answer no shard is known that could tell it; afterwards each shard tells its own troubles.
    """
    began, tries = clock.monotonic(), 0
    while detail := await _asked(source, answer):
        tries += 1
        wait = _wait(tries, clock)
        observer.see(SourceAwaited(source.name, detail, tries, wait, clock.monotonic() - began))
        await clock.sleep(wait)
    if tries:
        observer.see(SourceReached(source.name, tries, clock.monotonic() - began))


async def _asked(source: Source, answer: float) -> str:
    """Return why a source does not answer; empty when it does."""
    try:
        with anyio.move_on_after(answer):
            await source.shards()
            return ""
    except ProjectiondError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whoever runs the shards meets it too; its words may quote anything
        return f"asking failed with {type(error).__name__}"
    return f"no answer within {answer:g} s (health.check_timeout_seconds)"


def _wait(tries: int, clock: Clock) -> float:
    ceiling = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(tries - 1, 30))
    return ceiling * (1 - _JITTER * clock.draw())
