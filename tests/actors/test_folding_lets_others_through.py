"""Folding gives way: to the event loop between folds, and to commands while they are under way, but never for ever."""

import time

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from daemon.actors import turns
from daemon.actors.turns import MOST_REST, Turns
from daemon.app import SystemClock

pytestmark = pytest.mark.anyio


class Shards:
    """Shards that fold all the time."""

    def __init__(self, count: int, fold_seconds: float) -> None:
        self.turns = Turns()
        self.clock = SystemClock()
        self.folds = 0
        self.folds_in_a_turn = 0
        self._turn = 0
        self._count = count
        self._fold_seconds = fold_seconds

    async def fold(self) -> None:
        """Fold without end."""
        while True:
            await self.turns.between(self.clock)
            self._turn += 1
            self.folds += 1
            self.folds_in_a_turn = max(self.folds_in_a_turn, self._turn)
            end = time.perf_counter() + self._fold_seconds
            while time.perf_counter() < end:
                pass
            await anyio.lowlevel.checkpoint()

    async def count_turns(self) -> None:
        """Begin to count anew in each turn of the loop."""
        while True:
            self._turn = 0
            await anyio.lowlevel.checkpoint()

    async def run(self, tasks: anyio.abc.TaskGroup) -> None:
        """Begin to fold."""
        tasks.start_soon(self.count_turns)
        for _ in range(self._count):
            tasks.start_soon(self.fold)
        await self.until(self._count * 2)

    async def until(self, folds: int) -> None:
        """Wait until there were so many folds in all."""
        with anyio.fail_after(20):
            while self.folds < folds:
                await anyio.lowlevel.checkpoint()


async def test_many_busy_shards_fold_one_a_turn():
    """However many shards are busy, a turn of the event loop holds one fold: others wait for one, not for all."""
    async with anyio.create_task_group() as tasks:
        shards = Shards(20, turns.SLICE * 1.5)
        await shards.run(tasks)
        shards.folds_in_a_turn = 0
        await shards.until(shards.folds + 40)
        assert shards.folds_in_a_turn == 1
        tasks.cancel_scope.cancel()


async def test_small_folds_do_not_wait_for_each_other():
    """Where folds are short, many share a turn: nobody waits where there is nothing to wait for."""
    async with anyio.create_task_group() as tasks:
        shards = Shards(20, 0.0)
        await shards.run(tasks)
        await shards.until(400)
        assert shards.folds_in_a_turn > 1
        tasks.cancel_scope.cancel()


async def test_folding_rests_while_a_command_is_under_way():
    """From a command's first turns on no shard folds until it is done."""
    async with anyio.create_task_group() as tasks:
        shards = Shards(4, turns.SLICE * 1.5)
        await shards.run(tasks)
        with shards.turns.hasten(shards.clock):
            for _ in range(4):
                await anyio.lowlevel.checkpoint()
            before = shards.folds
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            assert shards.folds == before
        await shards.until(before + 8)
        tasks.cancel_scope.cancel()


async def test_commands_without_end_never_stop_folding():
    """Commands that come all the time, or last for ever, slow folding down and never stop it."""
    async with anyio.create_task_group() as tasks:
        shards = Shards(4, turns.SLICE * 1.5)
        await shards.run(tasks)
        with shards.turns.hasten(shards.clock):
            await shards.until(shards.folds + 40)

        async def ask() -> None:
            while True:
                with shards.turns.hasten(shards.clock):
                    await anyio.sleep(MOST_REST / 10)

        tasks.start_soon(ask)
        await shards.until(shards.folds + 40)
        tasks.cancel_scope.cancel()


async def test_who_is_waited_for_rests_no_longer():
    """Once a command waits for the shards themselves, they go on at once: it would wait for those that rest for it."""
    async with anyio.create_task_group() as tasks:
        shards = Shards(4, turns.SLICE * 1.5)
        await shards.run(tasks)
        with shards.turns.hasten(shards.clock):
            for _ in range(4):
                await anyio.lowlevel.checkpoint()
            before = shards.folds
            shards.turns.relent()
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert shards.folds > before
        tasks.cancel_scope.cancel()


async def test_answers_are_taken_in_after_a_command(monkeypatch: pytest.MonkeyPatch):
    """While a command is under way, and there is credit, no answer is taken in; then all are."""
    monkeypatch.setattr(turns, "MOST_REST", 60.0)  # however slow the machine is
    turns_, clock, taken = Turns(), SystemClock(), list[int]()

    async def take_in(number: int) -> None:
        await turns_.calm(clock)
        taken.append(number)

    async with anyio.create_task_group() as tasks:
        with turns_.hasten(clock):
            for number in range(40):
                tasks.start_soon(take_in, number)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert not taken
    assert len(taken) == 40


async def test_answers_wait_no_longer_than_a_command_may_have_them_wait():
    """A command that lasts for ever holds answers up for as long as there is credit, not for ever."""
    turns_, clock = Turns(), SystemClock()
    with turns_.hasten(clock), anyio.fail_after(20):
        for _ in range(30):
            await turns_.calm(clock)
