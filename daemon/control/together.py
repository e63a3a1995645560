"""Asking several at once: what an answer is put together of is read side by side, not one after the other.

Each question is a few turns of the event loop and a hop to another thread or a server; what waits for them waits once.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import anyio

_AT_ONCE = 16
"""Questions under way at once."""


async def together[T](questions: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Return all answers, in the questions' order. Raises the first error, alone; the other questions are dropped."""
    if len(questions) <= 1:
        return [await question() for question in questions]
    answers: dict[int, T] = {}
    problems: list[Exception] = []
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def ask(number: int) -> None:
        async with limiter:
            try:
                answers[number] = await questions[number]()
            except Exception as problem:  # noqa: BLE001 - raised below, alone: a group would hide it from who catches it
                problems.append(problem)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for number in range(len(questions)):
            tasks.start_soon(ask, number)
    if problems:
        raise problems[0]
    return [answers[number] for number in range(len(questions))]


async def both[One, Other](
    one: Callable[[], Awaitable[One]], other: Callable[[], Awaitable[Other]]
) -> tuple[One, Other]:
    """Return the answers to two questions of different kinds. Raises as `together` does."""
    questions: list[Callable[[], Awaitable[Any]]] = [one, other]
    first, second = await together(questions)
    return cast("One", first), cast("Other", second)
