"""An event loop that owns time and order: what is ready runs in an order drawn from a seed, and nothing is real.

When nothing is ready, time jumps to the next timer. Whatever runs on behalf of a replica (its tasks, their children and
timers, told apart by the context that they inherit) can be frozen, as SIGSTOP freezes a process: it comes to stand in
the middle of anything, its timers pass unheard, and it goes on later as if nothing had been.

Invariants: the same seed gives the same order, whatever the addresses of objects are; there is no selector, thread or
executor, and asking for one fails. `sealed` makes every other use of the real world fail.
"""

import asyncio
import heapq
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random
from typing import Any, cast
from unittest.mock import patch

REPLICA: ContextVar[str] = ContextVar("replica", default="")
"""On whose behalf something runs; empty: the world's own."""


_DIGITS = 9
"""Of a task's number in its name: names sort as numbers do."""
_STEPS = 1_000_000
"""More callbacks than any run needs, by far."""
_TASK = asyncio.Task


class Stuck(RuntimeError):
    """Every task waits for something that nothing will bring about."""


class RealWorld(RuntimeError):
    """Something reached for a real clock, thread, socket or chance."""


class SimLoop(asyncio.BaseEventLoop):
    """asyncio's tasks and futures on virtual time."""

    def __init__(self, chance: Random) -> None:
        """Begin at 0, with an order drawn from `chance`."""
        super().__init__()
        self._chance = chance
        self._now = 0.0
        self._held: dict[str, list[asyncio.Handle]] = {}
        self._tasks_made = 0
        self._ready: Any
        self._scheduled: Any
        self._stopping: bool
        self.steps = 0
        """Callbacks run so far: two runs that differ anywhere soon differ in this."""

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._now

    def freeze(self, replica: str) -> None:
        """Run nothing of a replica any more."""
        self._held.setdefault(replica, [])

    def thaw(self, replica: str) -> None:
        """Run what became ready meanwhile, and go on."""
        self._ready.extend(self._held.pop(replica, ()))

    def frozen(self, replica: str) -> bool:
        """Tell whether a replica stands still."""
        return replica in self._held

    def create_task(self, coro: Any, **how: Any) -> Any:
        """Number tasks in the order in which they are made."""
        task = super().create_task(coro, **how)
        self._tasks_made += 1
        task.set_name(f"{self._tasks_made:0{_DIGITS}}")
        return task

    # What the base class does in any mode, as far as this loop needs it: most of a run's time is spent here.

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Run something in the next round."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Run something at its time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Run something after so many seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """It is dropped once it is due: nothing is counted."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Refuse."""
        raise RealWorld(f"{func!r} was to run in a thread; the simulation has none")

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _run_once(self) -> None:
        """Run what is ready, in an order of chance; where nothing is, let the time pass."""
        if self.steps > _STEPS:
            raise Stuck(f"{_STEPS} callbacks ran and it is {self._now:.6f} s: something turns without end")
        self._ripen()
        if not self._ready and not self._stopping:
            if not self._scheduled:
                raise Stuck(f"at {self._now:.6f} s every task waits for something that nothing will bring about")
            self._now = max(self._now, self._scheduled[0].when())
            self._ripen()
        # Sets of tasks and scopes are walked by address: the order of chance must begin with one that is none.
        ready = self._ready
        round_ = [ready[0]] if len(ready) == 1 else sorted(ready, key=_number)
        ready.clear()
        if len(round_) > 1:
            self._chance.shuffle(round_)
        for handle in round_:
            if handle._cancelled:
                continue
            held = self._held.get(handle._context.get(REPLICA, "")) if self._held else None
            if held is None:
                self.steps += 1
                handle._run()
            else:
                held.append(handle)

    def _ripen(self) -> None:
        """Make due timers ready, and drop cancelled ones."""
        timers = self._scheduled
        while timers and (timers[0]._cancelled or timers[0].when() <= self._now):
            handle = heapq.heappop(timers)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)


def _number(handle: asyncio.Handle) -> str:
    task: object = getattr(handle._callback, "__self__", None)
    if type(task) is not _TASK:
        return ""
    name = cast("asyncio.Task[Any]", task).get_name()
    return name if name[0] == "0" else ""  # the run's main task is named by others


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise RealWorld(f"{name} was called in a simulation; time and chance come from the Clock port")

    return refuse


_REAL: tuple[tuple[Any, str], ...] = (
    *((time, name) for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
    (time, "sleep"),
    *((random, name) for name in ("random", "randint", "randrange", "choice", "uniform", "shuffle", "getrandbits")),
    (os, "urandom"),
    (uuid, "uuid1"),
    (uuid, "uuid4"),
    (socket.socket, "__init__"),
    (threading.Thread, "start"),
)


@contextmanager
def sealed() -> Generator[None]:
    """Let every real clock, thread, socket and source of chance fail in the block (`datetime.now` can't be caught)."""
    patches = [patch.object(place, name, _refusing(name)) for place, name in _REAL]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()
