"""The kinds of faults that are injected, each a run over a log that is then checked.

A scenario takes a dedup mode and a seed, injects its fault as often as it can, and returns how often. It fails where
the fault did not bite, or where rows, markers, effects, dead letters or counters are not the plain fold of the log. The
tests run each with one seed, `python -m tests.faults` with many.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.testing.dynamodb import Call, Fault
from tests.support.ledger import Line, write_log
from tests.support.trial import Process, Trial

type Scenario = Callable[[str, int], Coroutine[Any, Any, int]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. `how`: the way in which it is injected."""

    number: int | None
    fault: str
    how: str
    run: Scenario
    virtual: bool = True
    """Whether its time is virtual."""


KINDS: list[Kind] = []


def scenario(number: int | None, fault: str, *, virtual: bool = True) -> Callable[[Scenario], Scenario]:
    """List a scenario; its docstring says how the fault is injected."""

    def listed(run: Scenario) -> Scenario:
        KINDS.append(Kind(number, fault, " ".join((run.__doc__ or "").split()).removesuffix("."), run, virtual))
        return run

    return listed


def two_shards(seed: int, count: int = 120) -> Mapping[str, Sequence[Line]]:
    """Return a log with repeats, a failing event and one too large."""
    return write_log(count, seed=seed, shards=("s0", "s1"), unfit={30: "poison", 60: "wide"})


def of_commits(call: Call) -> bool:
    """Tell whether a call is a commit."""
    return call.client == "commits"


def fired(faults: Sequence[Fault]) -> int:
    """Count what was injected."""
    return sum(fault.fired for fault in faults)


async def caught_up(trial: Trial, process: Process) -> None:
    """Wait until a process has settled the log."""
    await trial.until(lambda: len(process.supervisor.actors) == len(trial.lines))
    await process.supervisor.caught_up()
