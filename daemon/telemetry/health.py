"""Health: whether the process is alive, has started, and is ready, and why not.

Owns the three answers and what they rest on. Must not know how they are asked for.

Invariants: alive means that the event loop turns, and nothing else: no parked, lagging or rebuilding shard, no store
that is away, has a process killed that only needs to wait. Whoever asks gets what is known: stores and sources are
asked by a clock, never by a probe. A check that fails harms nothing but readiness. While the daemon starts, a store
that is away is told as a fact, from the first try that failed.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import anyio

from daemon.core.errors import ProjectiondError
from daemon.core.lifecycle import ShardState
from daemon.ports.clock import Clock
from daemon.ports.observer import Fact, StoreAwaited, StoreReached
from daemon.ports.vitals import ShardVitals

type Check = Callable[[], Awaitable[object]]
STORE = ""
"""Under which the store's check stands beside those of sources, which have names."""
_REASON_CHARACTERS = 300


class Phase(StrEnum):
    """How far the process is."""

    STARTING = "starting"
    """Opening the store, loading projections."""
    RUNNING = "running"
    DRAINING = "draining"
    """Was asked to stop: shards are being finished and given back."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the answer is no. Seconds, shards; None: whatever the number.

    `silence`: how long after its last answer a part counts as reachable. `answer`: how long it may take.
    """

    loop_delay: float = 30.0
    every: float = 10.0
    answer: float = 5.0
    silence: float = 30.0
    lag: float | None = None
    parked: int | None = None


@dataclass(slots=True)
class Part:
    """A store or source as it was found; monotonic seconds."""

    answered_at: float | None = None
    error: str = "it was not asked yet"


@dataclass(slots=True)
class Health:
    """See the module. `loop_delay` and `vitals` are looked at; lag is by `behind_since` and the wall clock."""

    clock: Clock
    thresholds: Thresholds
    loop_delay: Callable[[], float]
    vitals: Callable[[], Sequence[ShardVitals]] = tuple
    behind_since: Callable[[ShardVitals], datetime | None] = lambda shard: shard.watermark
    phase: Phase = Phase.STARTING
    parts: dict[str, Part] = field(default_factory=dict[str, Part])

    def see(self, fact: Fact) -> None:
        """Take note of a store that is away as the daemon starts, and of its return."""
        if type(fact) is StoreAwaited:
            where = f"{fact.where}: " if fact.where and fact.where not in fact.detail else ""
            self.parts.setdefault(STORE, Part()).error = f"{where}{fact.detail}"[:_REASON_CHARACTERS]
        elif type(fact) is StoreReached:
            self.parts[STORE] = Part(self.clock.monotonic(), "")

    async def watch(self, checks: Mapping[str, Check]) -> None:
        """Ask every part again and again, until cancelled. `checks` by the source's name, or STORE."""
        for name in checks:
            self.parts.setdefault(name, Part())
        while True:
            async with anyio.create_task_group() as tasks:
                for name, check in checks.items():
                    tasks.start_soon(self._ask, self.parts[name], check)
            await self.clock.sleep(self.thresholds.every)

    async def _ask(self, part: Part, check: Check) -> None:
        seconds = self.thresholds.answer
        try:
            with anyio.move_on_after(seconds) as scope:
                await check()
        except ProjectiondError as error:
            part.error = str(error)[:_REASON_CHARACTERS]
            return
        except Exception as error:  # noqa: BLE001 - a bug in a check ends no daemon; its message may quote anything
            part.error = f"asking failed with {type(error).__name__}"
            return
        if scope.cancelled_caught:
            part.error = f"no answer within {seconds:g} s (health.check_timeout_seconds)"
            return
        part.answered_at, part.error = self.clock.monotonic(), ""

    def reachable(self) -> dict[str, bool]:
        """Tell of every part whether it answered when it was asked last."""
        return {name: not part.error for name, part in self.parts.items()}

    # ------------------------------------------------------------------------------------------------- the answers

    def not_alive(self) -> list[str]:
        """List why the process is not alive; empty when it is."""
        delay, most = self.loop_delay(), self.thresholds.loop_delay
        if delay <= most:
            return []
        return [f"the event loop came back {delay:.1f} s late (at most {most:g}: health.max_loop_delay_seconds)"]

    def not_started(self) -> list[str]:
        """List why it has not started yet; empty once it has."""
        return ["it is starting", *self._unreachable()] if self.phase is Phase.STARTING else []

    def not_ready(self) -> list[str]:
        """List why it is not ready; empty when it is."""
        if self.phase is Phase.RUNNING:
            return [*self._unreachable(), *self._behind()]
        return self.not_started() or [f"it is {self.phase}"]

    def _unreachable(self) -> list[str]:
        now, silence = self.clock.monotonic(), self.thresholds.silence
        return [
            f"{_name(name)} is not reachable: {part.error or 'it does not answer'}"
            for name, part in self.parts.items()
            if part.answered_at is None or now - part.answered_at > silence
        ]

    def _behind(self) -> list[str]:
        found: list[str] = []
        most, parked = self.thresholds.lag, self.thresholds.parked
        shards = self.vitals()
        if parked is not None:
            count = sum(shard.state is ShardState.PARKED for shard in shards)
            if count > parked:
                found.append(f"{count} shards are parked (at most {parked}: health.max_parked_shards)")
        if most is not None:
            now = self.clock.now()
            ages = [
                (now - since).total_seconds()
                for shard in shards
                if not shard.at_end and (since := self.behind_since(shard)) is not None
            ]
            if max(ages, default=0.0) > most:
                found.append(f"a shard lags {max(ages):.0f} s behind (at most {most:g}: health.max_lag_seconds)")
        return found

    def detail(self) -> dict[str, Any]:
        """Return what the answers rest on, for people and scripts: no payloads, ids or keys."""
        now = self.clock.monotonic()
        parts = {
            name: {
                "reachable": not part.error,
                "answered_seconds_ago": None if part.answered_at is None else round(now - part.answered_at, 1),
                "error": part.error or None,
            }
            for name, part in self.parts.items()
        }
        return {
            "phase": self.phase,
            "loop_delay_seconds": round(self.loop_delay(), 3),
            "store": parts.get(STORE),
            "sources": {name: part for name, part in parts.items() if name != STORE},
            "shards": dict(sorted(Counter(str(shard.state) for shard in self.vitals()).items())),
        }


def _name(part: str) -> str:
    return f"source {part!r}" if part else "the store"
