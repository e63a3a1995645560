"""Work shared out among forked processes."""

import multiprocessing
import os
import signal

import pytest

from daemon.demo.workers import Told, cores, share_out


def squared(task: int, told: Told) -> int:
    """A task that says its steps."""
    told(1)
    return task * task


@pytest.mark.parametrize("processes", [1, 2, 5, 9])
def test_results_come_in_the_order_of_the_tasks(processes: int) -> None:
    """However many processes there are, each task is done once and each step is told."""
    told: list[int] = []
    assert share_out(squared, range(5), processes, told.append) == [0, 1, 4, 9, 16]
    assert told == [1] * 5
    assert multiprocessing.active_children() == []


def test_the_work_is_done_by_other_processes() -> None:
    """Two tasks in two processes are done by neither this one nor the same one."""
    ids = share_out(lambda _task, _told: os.getpid(), range(2), 2, lambda _steps: None)
    assert len({os.getpid(), *ids}) == 3


def test_what_a_task_raises_is_raised_here() -> None:
    """With its own words, and with every process ended."""

    def full(task: int, told: Told) -> int:
        if task == 1:
            raise OSError(28, "no space left")
        return squared(task, told)

    for processes in (1, 2):
        with pytest.raises(OSError, match="no space left"):
            share_out(full, range(4), processes, lambda _steps: None)
    assert multiprocessing.active_children() == []


def test_an_error_in_this_process_ends_the_others() -> None:
    """Who is told of progress may raise, as Ctrl-C does: nothing is left running."""

    def endless(_task: int, told: Told) -> None:
        told(1)
        signal.pause()

    def interrupt(_steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share_out(endless, range(2), 2, interrupt)
    assert multiprocessing.active_children() == []


def test_a_process_ended_by_another_hand_is_an_error() -> None:
    """A process that was killed has done nothing that could be taken for its result."""

    def killed(_task: int, _told: Told) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildProcessError, match="ended by another hand"):
        share_out(killed, range(2), 2, lambda _steps: None)


def test_there_is_a_core() -> None:
    """At least one process can work here."""
    assert cores() >= 1
