"""Commands that come before there is anybody to carry them out: they wait, or are told why not."""

from typing import Any

import anyio
import pytest

from daemon.control.reception import Reception, Staff
from daemon.control.requests import WaitFor
from daemon.control.serving import Tell
from daemon.core.commands import Actor, Status, Tail, Target
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.ports.observer import StoreAwaited, StoreReached
from daemon.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio

BY = Actor(0, "ada", "here", 1)
AWAY = StoreAwaited("DynamoDB does not answer: refused", 3, 4.0, "DynamoDB at http://x:1", 60.0)


class Everybody:
    """Engine, waiter and tailer."""

    async def run(self, command: Any, by: Actor, request: str, tell: Tell, wait: float | None = None) -> object:
        return (command, by, request, wait)

    async def wait_for(self, wanted: WaitFor, tell: Tell) -> object:
        return wanted

    async def tail(self, command: Tail, tell: Tell) -> object:
        return command


async def ask(reception: Reception, answers: list[object]) -> None:
    """Ask for the status; note what came of it."""
    try:
        answers.append(await reception.run(Status(Target()), BY, "r1", lambda _value: None, 2.0))
    except CommandRefused as refused:
        answers.append(refused)


async def test_a_command_that_comes_early_waits_and_is_carried_out():
    """While nothing is known to be wrong a command waits for its engine, as long as the start takes."""
    reception, answers = Reception(VirtualClock(manual=True)), list[object]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, reception, answers)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        reception.open(Staff(Everybody(), Everybody(), Everybody()))
    assert answers == [(Status(Target()), BY, "r1", 2.0)]


async def test_whoever_waits_is_told_when_the_store_turns_out_to_be_away():
    """The first failed try refuses what waits, and what comes, with the place, since when, the reason and a way out."""
    clock = VirtualClock(manual=True)
    reception, answers = Reception(clock), list[object]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, reception, answers)
        await anyio.wait_all_tasks_blocked()
        reception.see(AWAY)
    await ask(reception, answers)
    for refused in answers:
        assert isinstance(refused, CommandRefused)
        assert refused.code is RefusalCode.UNAVAILABLE
        assert "its store (DynamoDB at http://x:1) has not answered since" in refused.reason
        assert refused.reason.endswith("in 3 tries: DynamoDB does not answer: refused")
        assert "within 4 s" in refused.way_out
    assert len(answers) == 2


async def test_a_store_that_is_back_refuses_nobody():
    """Between the store's return and the first shard a command waits again."""
    reception, answers = Reception(VirtualClock(manual=True)), list[object]()
    reception.see(AWAY)
    reception.see(StoreReached("DynamoDB at http://x:1", 3, 61.0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, reception, answers)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        reception.open(Staff(Everybody(), Everybody(), Everybody()))
    assert len(answers) == 1
