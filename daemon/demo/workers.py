"""Work on every core: tasks shared out among processes forked from this one, which need be told nothing.

Owns the processes and what they say. Must not know what they do.

Invariants: the results come in the order of the tasks, whichever process did them; what a task raises is raised here;
every process has ended when `share_out` returns or raises. A process whose parent was killed hard ends with its task.
"""

import multiprocessing
import os
import platform
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

    type _Listening = Connection[None, Any]
    type _Telling = Connection[Any, None]

type Told = Callable[[int], None]
"""Called by a task with how many steps it has done since it last said so."""


def cores() -> int:
    """Return how many processes can work at once here. Only on Linux is it known to be safe to fork them."""
    return len(os.sched_getaffinity(0)) if platform.system() == "Linux" else 1


def share_out[T, R](work: Callable[[T, Told], R], tasks: Sequence[T], processes: int, told: Told) -> list[R]:
    """Do all tasks in at most so many processes (in this one, if that is 1) and return their results."""
    processes = min(processes, len(tasks))
    if processes <= 1:
        return [work(task, told) for task in tasks]
    context = multiprocessing.get_context("fork")
    started: list[ForkProcess] = []
    listening: list[_Listening] = []
    results: dict[int, R] = {}
    try:
        for number in range(processes):
            ours, theirs = cast("tuple[_Listening, _Telling]", context.Pipe(duplex=False))
            listening.append(ours)
            mine = list(enumerate(tasks))[number::processes]
            process = context.Process(target=_work, args=(work, mine, theirs, list(listening)), daemon=True)
            process.start()
            started.append(process)
            theirs.close()
        while listening:
            for connection in cast("list[_Listening]", wait(listening)):
                if not _heard(connection, results, told):
                    listening.remove(connection)
    finally:
        for process in started:
            process.kill()
            process.join()
        for connection in listening:
            connection.close()
    if len(results) < len(tasks):
        raise ChildProcessError("a process that shared the work was ended by another hand; start again")
    return [results[number] for number in range(len(tasks))]


def _heard[R](connection: "_Listening", results: dict[int, R], told: Told) -> bool:
    """Take one word in; False when there are no more."""
    try:
        word: tuple[str, Any] = connection.recv()
    except EOFError:
        connection.close()
        return False
    match word:
        case ("told", steps):
            told(steps)
        case ("done", (number, result)):
            results[number] = result
        case (_, error):
            raise error
    return True


def _work[T, R](
    work: Callable[[T, Told], R],
    tasks: Sequence[tuple[int, T]],
    connection: "_Telling",
    inherited: "Sequence[_Listening]",
) -> None:
    """Be a process: do these tasks, and say so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for other in inherited:
        other.close()  # so that nobody listens once the parent is gone
    with suppress(BrokenPipeError), connection:
        try:
            for number, task in tasks:
                connection.send(("done", (number, work(task, lambda steps: connection.send(("told", steps))))))
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again by the parent
            connection.send(("failed", error))
