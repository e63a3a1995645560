"""How far each shard is behind: the log's own answer, asked for from time to time, and what follows from two of them.

Owns the newest answers. Must not know metrics.

Invariants: a shard that is caught up is not asked about; an answer that does not come in time, or an error, leaves its
shard without a lag until the next time, and harms nothing else.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import anyio

from daemon.core.identity import Scope
from daemon.ports.clock import Clock
from daemon.ports.source import Backlog, Source
from daemon.ports.vitals import ShardVitals

_SMOOTHING = 0.5
_LINE_END = 1
"""Byte behind each record of a log that only knows bytes."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a shard is behind; None where nobody can tell. Times in seconds.

    `events` is estimated where the log only knows bytes. `catch_up` is infinite while the lag grows.
    """

    events: float | None = None
    bytes: float | None = None
    held: float | None = None
    catch_up: float | None = None
    loss: float | None = None


CAUGHT_UP = Lag(events=0, bytes=0, catch_up=0)


@dataclass(slots=True)
class _Seen:
    at: float
    amount: float
    speed: float | None = None
    """By how much the lag shrinks a second."""


class BacklogWatch:
    """Asks. `look_seconds` between two looks, `answer_seconds` for one answer."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        vitals: Callable[[], Iterable[ShardVitals]],
        clock: Clock,
        *,
        look_seconds: float,
        answer_seconds: float,
    ) -> None:
        """Know nothing yet."""
        self._sources, self._vitals, self._clock = sources, vitals, clock
        self._look_seconds, self._answer_seconds = look_seconds, answer_seconds
        self._lags: dict[Scope, Lag] = {}
        self._seen: dict[Scope, _Seen] = {}
        self._sizes: dict[Scope, float] = {}

    def lag(self, vitals: ShardVitals) -> Lag | None:
        """Return how far a shard is behind, as far as it is known."""
        return CAUGHT_UP if vitals.at_end else self._lags.get(vitals.scope)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(self._look_seconds)

    async def look(self) -> None:
        """Ask about every shard that is not caught up, one after the other."""
        shards = list(self._vitals())
        known: dict[Scope, Lag] = {}
        for shard in shards:
            if shard.at_end or shard.position is None:
                self._seen.pop(shard.scope, None)
                continue
            backlog: Backlog | None = None
            try:
                with anyio.move_on_after(self._answer_seconds):
                    backlog = await self._sources[shard.scope.source].backlog(shard.scope.shard, shard.position)
            except Exception:  # noqa: BLE001 - whatever it is, looking ends no daemon
                backlog = None
            if backlog is not None:
                known[shard.scope] = self._lag(shard, backlog)
        self._lags = known
        for scopes in (self._seen, self._sizes):
            for gone in scopes.keys() - {shard.scope for shard in shards}:
                del scopes[gone]

    def _lag(self, shard: ShardVitals, backlog: Backlog) -> Lag:
        events = self._events(shard, backlog)
        amount = backlog.bytes if events is None else events
        return Lag(
            events, backlog.bytes, backlog.held, self._catch_up(shard.scope, amount), backlog.seconds_to_loss
        )  # fmt: skip

    def _events(self, shard: ShardVitals, backlog: Backlog) -> float | None:
        """Return the events behind; where the log only knows bytes, by the mean size of those that were read."""
        if backlog.events is not None or backlog.bytes is None:
            return backlog.events
        if shard.event_bytes is not None:
            self._sizes[shard.scope] = shard.event_bytes + _LINE_END
        size = self._sizes.get(shard.scope)
        return None if size is None else round(backlog.bytes / size)

    def _catch_up(self, scope: Scope, amount: float | None) -> float | None:
        """Return the seconds until the lag is gone, at the speed at which it shrank between the newest looks."""
        if amount is None:
            return None
        now, before = self._clock.monotonic(), self._seen.get(scope)
        seen = self._seen[scope] = _Seen(now, amount)
        if amount == 0:
            return 0.0
        if before is None or now <= before.at:
            return None
        speed = (before.amount - amount) / (now - before.at)
        seen.speed = speed if before.speed is None else before.speed + _SMOOTHING * (speed - before.speed)
        return amount / seen.speed if seen.speed > 0 else math.inf
