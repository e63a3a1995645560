"""People's commands: given to any replica, asked again under the same id until answered, and held to their word.

A command runs in the replica that it was given to, on its behalf: it stands still and dies with it. Whoever asked
hears nothing then, and asks another one. Must not know how a command is carried out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import anyio
import anyio.abc

from daemon.control.engine import Control
from daemon.core.again import (
    Filter,
    KeysRelease,
    LettersDiscard,
    LettersRetry,
    PlanReport,
    ReplayAbort,
    ReplayApply,
    ReplayPlan,
    Rewind,
)
from daemon.core.commands import Actor, Command, Drain, Pause, Restart, Resume, Skip, Target
from daemon.core.errors import CommandRefused, RefusalCode, SourceProblem, StoreProblem
from daemon.core.positions import Position
from daemon.core.reports import Answer
from tests.simulation.plan import Ask, Plan
from tests.simulation.trace import Trace
from tests.simulation.watch import Watch

_PATIENCE_SECONDS = 25.0
"""How long somebody waits for an answer before asking elsewhere."""
_WHO = Actor(1000, "somebody", "sim")
_PLAIN: dict[str, Callable[[Target], Command]] = {
    "pause": Pause,
    "resume": Resume,
    "drain": Drain,
    "restart": Restart,
    "abort": ReplayAbort,
    "retry": partial(LettersRetry, which=Filter(every=True)),
    "discard": partial(LettersDiscard, which=Filter(every=True)),
    "release": partial(KeysRelease, every=True),
}


@dataclass(slots=True)
class Reply:
    """What somebody waits for."""

    ask: Ask
    request: str
    wait: float
    command: Command | None = None
    """What was asked before under this id: the same again."""
    done: anyio.Event = field(default_factory=anyio.Event)
    value: Answer | CommandRefused | StoreProblem | SourceProblem | None = None


@dataclass(slots=True)
class Desk:
    """A replica's control: takes commands while it lives."""

    control: Control
    tasks: anyio.abc.TaskGroup
    projection: str
    watch: Watch

    def give(self, reply: Reply) -> None:
        """Begin to carry a command out."""
        self.tasks.start_soon(self._answer, reply)

    async def _answer(self, reply: Reply) -> None:
        try:
            reply.command = reply.command or await self._command(reply.ask)
            reply.value = await self.control.change(reply.command, _WHO, reply.request, lambda _: None, reply.wait)
        except (CommandRefused, StoreProblem, SourceProblem) as problem:
            reply.value = problem
        reply.done.set()

    async def _command(self, ask: Ask) -> Command:
        of_shard = (None, None) if ask.shard is None else ("ledger", ask.shard)
        target = Target(self.projection, None, *of_shard)
        plain = _PLAIN.get(ask.name)
        if plain is not None:
            return plain(target)
        if ask.name == "rewind":
            return Rewind(target, "earliest" if ask.share < 0.4 else str(self._place(ask, 0.0)))
        if ask.name == "replay":
            since, until = "earliest" if ask.share < 0.4 else str(self._place(ask, 0.0)), "now"
            query = ReplayPlan(target, since, until)
            report = await self.control.run(query, _WHO, "", lambda _: None)
            assert isinstance(report, PlanReport)
            return ReplayApply(target, since, until, report.plan)
        shard = ask.shard or min(self.watch.logs)
        return Skip(Target(self.projection, None, "ledger", shard), self._ahead(shard, ask.share))

    def _place(self, ask: Ask, least: float) -> int:
        shard = ask.shard or min(self.watch.logs)
        stand = self.watch.stands.get(shard)
        reached = stand.position[0] if stand is not None and stand.position else 0
        return int(least + (reached - least) * (ask.share - 0.4) / 0.6)

    def _ahead(self, shard: str, share: float) -> Position:
        stand = self.watch.stands.get(shard)
        after = () if stand is None else stand.position
        ahead = [position for position, _ in self.watch.logs[shard] if position > after][:6]
        return ahead[int(share * len(ahead))] if ahead else (1,)


@dataclass(slots=True)
class People:
    """Everybody who gives commands. `desk` returns that of a replica, None while it is down."""

    plan: Plan
    trace: Trace
    desk: Callable[[int], Desk | None]
    chance: Random
    count: Callable[[str], None]
    """Told of each command that was accepted."""
    accepted: dict[str, Ask] = field(default_factory=dict[str, Ask])
    """Requests that were accepted, by their ids."""
    underway: int = 0
    _commands: dict[str, Command] = field(default_factory=dict[str, Command])

    async def ask(self, number: int, ask: Ask, now: Callable[[], float]) -> None:
        """Give a command at its time."""
        self.underway += 1
        try:
            await anyio.sleep(max(0.0, ask.at - now()))
            await self.obtain(f"ask-{number}", ask, wait=5.0)
        finally:
            self.underway -= 1

    async def obtain(self, request: str, ask: Ask, *, wait: float, tries: int = 40) -> Answer | None:
        """Ask until there is an answer; None: it was refused, or nobody answered."""
        for turn in range(tries):
            desk = self.desk((ask.replica + turn) % self.plan.replicas)
            if desk is None:
                await anyio.sleep(1.0)
                continue
            reply = Reply(ask, request, wait, self._commands.get(request))
            desk.give(reply)
            with anyio.move_on_after(_PATIENCE_SECONDS + wait):
                await reply.done.wait()
            value = reply.value
            if reply.command is not None:
                self._commands[request] = reply.command
            if isinstance(value, Answer):
                self.trace.note("somebody", f"{request} {ask.name} {ask.shard or 'all'}: {value.done} done, "
                                f"{value.pending} pending, {value.refused} refused")  # fmt: skip
                if request not in self.accepted:
                    self.count(f"command {ask.name}")
                self.accepted[request] = ask
                return value
            self.trace.note("somebody", f"{request} {ask.name} {ask.shard or 'all'}: {value!r}")
            if isinstance(value, CommandRefused) and value.code is not RefusalCode.BUSY:
                return None
            await anyio.sleep(self.chance.uniform(0.5, 3.0))
        return None
