"""The circuit: parks a shard before a bad deploy dead-letters the log.

Judges the dead letters a batch would commit together with those before it, and says at which record to stop. Duplicates
neither extend nor break a run; an applied event breaks it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from daemon.core.dedup import Verdict


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """More than `max_in_a_row` dead letters in a row, or than `max_share` of `window` events, opens it."""

    max_in_a_row: int = 10
    window: int = 10_000
    max_share: float = 0.01

    @property
    def max_in_window(self) -> int:
        """Dead letters allowed among the newest `window` events."""
        return max(self.max_in_a_row, int(self.window * self.max_share))


@dataclass(frozen=True, slots=True)
class Circuit:
    """What the circuit remembers: events seen, the current run, and the ordinals of recent dead letters."""

    seen: int = 0
    run: int = 0
    recent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tripped:
    """The shard must park with only `records[:index]` committed."""

    index: int
    detail: str


def pass_through(
    circuit: Circuit, verdicts: Sequence[Verdict | None], failures: Collection[int], policy: CircuitPolicy
) -> Circuit | Tripped:
    """Return the circuit after these verdicts, or where it trips.

    `failures` are the indices of events that failed, be it into a dead letter or by parking their key.
    """
    if not failures:
        applied = None in verdicts
        return Circuit(circuit.seen + len(verdicts), 0 if applied else circuit.run, circuit.recent)
    run, run_start, recent = circuit.run, 0, list(circuit.recent)
    for index, verdict in enumerate(verdicts):
        if verdict is None:
            run, run_start = 0, index + 1
        elif index in failures:
            run += 1
            ordinal = circuit.seen + index
            recent = [earlier for earlier in recent if earlier > ordinal - policy.window]
            recent.append(ordinal)
            if run > policy.max_in_a_row:
                detail = (
                    f"{run} failed events in a row exceed max_dead_letters_in_a_row = {policy.max_in_a_row}; "
                    "fix the projection or the producer and resume, or raise the limit"
                )
                return Tripped(run_start, detail)
            if len(recent) > policy.max_in_window:
                detail = (
                    f"{len(recent)} failed events among the newest {policy.window} events exceed "
                    f"max_dead_letter_share = {policy.max_share:g}; "
                    "fix the projection or the producer and resume, or raise the limit"
                )
                return Tripped(index, detail)
    return Circuit(circuit.seen + len(verdicts), run, tuple(recent))
