"""The life of one shard incarnation, as one literal transition table.

Invariant: an illegal transition raises `IllegalTransition` and changes nothing. The diagram in DESIGN.md is generated
from `TRANSITIONS` and checked by a test.
"""

from enum import StrEnum

from daemon.core.errors import IllegalTransition


class ShardState(StrEnum):
    """Where a shard's incarnation stands."""

    STARTING = "starting"
    """Taking the checkpoint and reading what it needs."""
    RUNNING = "running"
    RETRYING = "retrying"
    """Something is away; it tries again with back-off."""
    PAUSED = "paused"
    DRAINING = "draining"
    """Reading has stopped; what was folded is being committed."""
    PARKED = "parked"
    """Stopped until a person resumes it."""
    FENCED = "fenced"
    """Another owner raised the epoch; all memory was dropped."""
    DONE = "done"
    """Ended: drained and released, or the log's shard ended."""


class Signal(StrEnum):
    """What happens to a shard."""

    TAKEN = "taken"
    TROUBLE = "trouble"
    RECOVERED = "recovered"
    RESTART = "restart"
    PAUSE = "pause"
    RESUME = "resume"
    PARK = "park"
    DRAIN = "drain"
    FENCE = "fence"
    END = "end"


_S, _E = ShardState, Signal

TRANSITIONS: dict[ShardState, dict[Signal, ShardState]] = {
    _S.STARTING: {
        _E.RESTART: _S.STARTING,
        _E.TAKEN: _S.RUNNING,
        _E.TROUBLE: _S.RETRYING,
        _E.PAUSE: _S.PAUSED,
        _E.PARK: _S.PARKED,
        _E.FENCE: _S.FENCED,
        _E.DRAIN: _S.DRAINING,
        _E.END: _S.DONE,
    },
    _S.RUNNING: {
        _E.RESTART: _S.STARTING,
        _E.TROUBLE: _S.RETRYING,
        _E.PAUSE: _S.PAUSED,
        _E.PARK: _S.PARKED,
        _E.FENCE: _S.FENCED,
        _E.DRAIN: _S.DRAINING,
        _E.END: _S.DONE,
    },
    _S.RETRYING: {
        _E.RECOVERED: _S.RUNNING,
        _E.TROUBLE: _S.RETRYING,
        _E.RESTART: _S.STARTING,
        _E.PAUSE: _S.PAUSED,
        _E.PARK: _S.PARKED,
        _E.FENCE: _S.FENCED,
        _E.DRAIN: _S.DRAINING,
    },
    _S.PAUSED: {
        _E.RESUME: _S.STARTING,
        _E.PARK: _S.PARKED,
        _E.FENCE: _S.FENCED,
        _E.DRAIN: _S.DRAINING,
    },
    _S.DRAINING: {
        _E.TAKEN: _S.DRAINING,
        _E.TROUBLE: _S.DRAINING,
        _E.RECOVERED: _S.DRAINING,
        _E.END: _S.DONE,
        _E.PAUSE: _S.PAUSED,
        _E.PARK: _S.PARKED,
        _E.FENCE: _S.FENCED,
    },
    _S.PARKED: {
        _E.RESUME: _S.STARTING,
        _E.FENCE: _S.FENCED,
        _E.DRAIN: _S.DRAINING,
    },
    _S.FENCED: {
        _E.RESTART: _S.STARTING,
        _E.DRAIN: _S.DRAINING,
    },
    _S.DONE: {},
}


def step(state: ShardState, signal: Signal) -> ShardState:
    """Return the state after `signal`.

    Raises IllegalTransition naming both, and the signals that `state` takes.
    """
    try:
        return TRANSITIONS[state][signal]
    except KeyError:
        takes = ", ".join(TRANSITIONS[state]) or "none"
        message = f"a {state} shard takes no signal {signal!r} (it takes: {takes}); this is a bug, please report it"
        raise IllegalTransition(message) from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram; steps from a state to itself are left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {ShardState.STARTING}"]
    lines += [
        f"    {state} --> {after}: {signal}"
        for state, steps in TRANSITIONS.items()
        for signal, after in steps.items()
        if after is not state
    ]
    lines += [f"    {state} --> [*]" for state, steps in TRANSITIONS.items() if not steps]
    return "\n".join(lines)


if __name__ == "__main__":  # pragma: no cover - prints what DESIGN.md holds
    print(diagram())  # noqa: T201 - a generator's output
