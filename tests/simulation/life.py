"""A replica as the store's network sees it, and the faults that its requests meet.

Requests travel apart from their senders, on the world's behalf: a crash or a pause of the sender neither stops nor
delays what is under way.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.loop import SimLoop
from tests.simulation.plan import Plan
from tests.simulation.trace import Trace

_PAUSES = (0.5, 12.0, 30.0)
_WITH_A_TAKE = 0.7
"""How likely a commit that is held arrives with the next take."""


def simulated() -> SimLoop:
    """Return the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


@dataclass(slots=True)
class Network:
    """Draws faults until they end, and keeps what is under way. `outside` is the context of nobody's behalf."""

    plan: Plan
    chance: Random
    trace: Trace
    outside: Context
    travelling: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    overtaken: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])
    """Commits that somewhere wait, unanswered: they come when nobody counts on them any more."""
    stalled: dict[str, float] = field(default_factory=dict[str, float])
    """Names of lives to when their commits get through again."""
    faults: dict[str, int] = field(default_factory=dict[str, int])
    """Kinds of faults to how often each struck."""

    def strikes(self, kind: str) -> bool:
        """Draw whether a fault strikes now."""
        rate = self.plan.rates.get(kind, 0.0)
        if not rate or simulated().time() >= self.plan.faults_end or self.chance.random() >= rate:
            return False
        self.count(kind)
        return True

    def count(self, kind: str) -> None:
        """Note that a fault struck."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def send[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start something that goes on whatever becomes of its sender."""
        task = simulated().create_task(work, context=self.outside.copy())
        self.travelling.add(task)
        task.add_done_callback(self.travelling.discard)
        return task

    def stalls(self, name: str) -> bool:
        """Tell whether a life's commits go unanswered now."""
        now = simulated().time()
        if now >= self.stalled.get(name, 0.0):
            if not self.strikes("stall"):
                return False
            self.stalled[name] = now + self.chance.choice((2.0, 20.0, 40.0))
        return True

    def hold(self, arrive: Callable[[], object]) -> None:
        """Let something arrive with a take that overtook it, or after a while."""
        self.overtaken.append(arrive)
        self.send(self._at_last(arrive, self.chance.choice((10.0, 30.0, 60.0))))

    async def _at_last(self, arrive: Callable[[], object], seconds: float) -> None:
        await asyncio.sleep(seconds)
        if arrive in self.overtaken:
            self.overtaken.remove(arrive)
            arrive()

    def let_come(self) -> None:
        """Let some of what was held arrive."""
        for arrive in [one for one in self.overtaken if self.chance.random() < _WITH_A_TAKE]:
            self.overtaken.remove(arrive)
            self.trace.note("network", "a commit that was held comes right before a take")
            arrive()

    def late(self) -> float:
        """Draw how late a duplicate comes."""
        return self.chance.choice(self.plan.late_by)

    def latency(self) -> float:
        """Draw how long a request travels."""
        if self.strikes("delay"):
            return self.chance.choice((0.5, 3.0, 12.0))
        return self.chance.uniform(0, 0.02)


@dataclass(slots=True)
class Life:
    """One start of one replica: until it dies, its requests leave."""

    name: str
    network: Network
    die: Callable[["Life"], None]
    dead: bool = False

    async def request[T](self, what: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Send what `make` makes and wait for it; the sender may crash or stand still before, amid and after."""
        network = self.network
        if network.strikes("pause-at-request"):
            await self._stand_still(what)
        await self._if_alive()
        crashes = network.strikes("crash-at-request")
        if crashes and network.chance.random() < 0.3:
            self.die(self)
            await self._if_alive()
        task = network.send(make())
        if crashes and network.chance.random() < 0.5:
            self.die(self)
            await self._if_alive()
        answer = await asyncio.shield(task)
        if crashes:
            self.die(self)
        await self._if_alive()
        return answer

    async def _stand_still(self, what: str) -> None:
        loop, name = simulated(), self.name
        if not loop.frozen(name):
            seconds = self.network.chance.choice(_PAUSES)
            self.network.trace.note(name, f"stands still for {seconds:g} s, about to send {what}")
            loop.freeze(name)
            self.network.send(_thaw_after(name, seconds))
        await asyncio.sleep(0)

    async def _if_alive(self) -> None:
        if self.dead:
            await asyncio.get_running_loop().create_future()


async def _thaw_after(name: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    simulated().thaw(name)
