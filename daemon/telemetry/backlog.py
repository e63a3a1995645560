"""How far each shard is behind: the log's own answer, asked for from time to time, and what follows from two of them.

Owns the newest answers. Must not know metrics.

Invariants: a shard that is caught up is not asked about; an answer that does not come in time, or an error, leaves its
shard without a lag until the next time, and harms nothing else: each source is asked by a task of its own, about a few
shards at once, and one that answers nothing is left alone until the next look.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import anyio

from daemon.core.events import Event
from daemon.core.identity import Scope
from daemon.core.lifecycle import ShardState
from daemon.ports.clock import Clock
from daemon.ports.source import Backlog, Source
from daemon.ports.vitals import ShardVitals

_SMOOTHING = 0.5
_AT_ONCE = 8
"""Shards of one source that are asked about at once."""
_PEEKED_BYTES = 65_536
_STANDING = frozenset({ShardState.PARKED, ShardState.PAUSED})
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
    oldest: datetime | None = None
    """The time of the first event that waits; asked for where nothing was settled yet."""


CAUGHT_UP = Lag(events=0, bytes=0, catch_up=0)


@dataclass(slots=True)
class _Seen:
    at: float
    amount: float
    speed: float | None = None
    """By how much the lag shrinks a second."""


class BacklogWatch:
    """Asks. `look_seconds` between two looks, `answer_seconds` for one answer.

    `untold` is told, once for each source and reason, that nobody can say how long the log keeps what waits.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        vitals: Callable[[], Iterable[ShardVitals]],
        clock: Clock,
        *,
        look_seconds: float,
        answer_seconds: float,
        untold: Callable[[str, str], None] = lambda _source, _why: None,
    ) -> None:
        """Know nothing yet."""
        self._sources, self._vitals, self._clock = sources, vitals, clock
        self._look_seconds, self._answer_seconds = look_seconds, answer_seconds
        self._untold = untold
        self._told: set[tuple[str, str]] = set()
        self._lags: dict[Scope, Lag] = {}
        self._seen: dict[Scope, _Seen] = {}
        self._sizes: dict[Scope, float] = {}
        self._oldest: dict[Scope, datetime | None] = {}

    def lag(self, vitals: ShardVitals) -> Lag | None:
        """Return how far a shard is behind, as far as it is known."""
        return CAUGHT_UP if vitals.at_end else self._lags.get(vitals.scope)

    def behind_since(self, vitals: ShardVitals) -> datetime | None:
        """Return the time that a shard is at; of one that settled nothing, that of what it is to settle first.

        Where that event has no time that can be read, since when the shard stands still.
        """
        if vitals.watermark is not None:
            return vitals.watermark
        lag = self._lags.get(vitals.scope)
        return vitals.since if lag is None or lag.oldest is None else lag.oldest

    async def run(self) -> None:
        """Look until cancelled."""
        async with anyio.create_task_group() as tasks:
            for source in self._sources:
                tasks.start_soon(self._follow, source)

    async def _follow(self, source: str) -> None:
        while True:
            await self._look_at(source)
            await self._clock.sleep(self._look_seconds)

    async def look(self) -> None:
        """Ask once about every shard that is not caught up, each source beside the others."""
        async with anyio.create_task_group() as tasks:
            for source in self._sources:
                tasks.start_soon(self._look_at, source)

    async def _look_at(self, source: str) -> None:
        """Ask a source; once as many shards as are asked at once got no answer, no more are asked in this look."""
        shards = [shard for shard in self._vitals() if shard.scope.source == source]
        self._forget(source, {shard.scope for shard in shards})
        waiting, silent = iter(shards), 0

        async def ask() -> None:
            nonlocal silent
            for shard in waiting:
                if shard.at_end or shard.position is None:
                    self._seen.pop(shard.scope, None)
                    self._lags.pop(shard.scope, None)
                elif silent >= _AT_ONCE:
                    self._lags.pop(shard.scope, None)
                elif not await self._ask(shard):
                    silent += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(min(_AT_ONCE, len(shards))):
                tasks.start_soon(ask)

    async def _ask(self, shard: ShardVitals) -> bool:
        """Ask about one shard; tell whether an answer came in time."""
        backlog: Backlog | None = None
        scope, position = shard.scope, shard.position
        if position is None:
            return True
        source = self._sources[scope.source]
        with anyio.move_on_after(self._answer_seconds) as limit:
            try:
                backlog = await source.backlog(scope.shard, position)
                if shard.watermark is None and shard.state in _STANDING and scope not in self._oldest:
                    self._oldest[scope] = await self._peeked(source, shard)
            except Exception:  # noqa: BLE001 - whatever it is, looking ends no daemon
                self._oldest.pop(scope, None)
        if backlog is None:
            self._lags.pop(scope, None)
        else:
            self._lags[scope] = replace(self._lag(shard, backlog), oldest=self._oldest.get(scope))
        return not limit.cancelled_caught

    async def _peeked(self, source: Source, shard: ShardVitals) -> datetime | None:
        """Return the time of the first event that a shard which stands still has not settled; note its size."""
        if shard.position is None or not source.traits.positioned:
            return None
        reader = await source.open(shard.scope.shard, shard.position, None)
        try:
            chunk = await reader.read(1, _PEEKED_BYTES)
            while not (chunk.records or chunk.at_end or chunk.ends_shard):
                chunk = await reader.read(1, _PEEKED_BYTES)
        finally:
            with anyio.CancelScope(shield=True):
                await reader.aclose()
        if not chunk.records:
            return None
        first = chunk.records[0]
        self._sizes.setdefault(shard.scope, len(first.raw) + _LINE_END)
        return first.moment if isinstance(first, Event) else None

    def _forget(self, source: str, here: set[Scope]) -> None:
        """Drop what was known of a source's shards that are run here no more."""
        for known in (self._lags, self._seen, self._sizes, self._oldest):
            for gone in [scope for scope in known if scope.source == source and scope not in here]:
                del known[gone]

    def _lag(self, shard: ShardVitals, backlog: Backlog) -> Lag:
        if backlog.untold and (shard.scope.source, backlog.untold) not in self._told:
            self._told.add((shard.scope.source, backlog.untold))
            self._untold(shard.scope.source, backlog.untold)
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
