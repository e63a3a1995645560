"""Which generations a daemon runs: only those whose version its code registers.

Invariants: a new version never starts folding by itself; only a projection's very first generation starts alone.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from daemon.core.identity import Generation


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """A generation as the store knows it: the `version` of the code that folds it, and whether readers see it."""

    generation: Generation
    version: int
    live: bool


@dataclass(frozen=True, slots=True)
class GenerationChoice:
    """What to run of one projection. `create` is the version of its very first generation, when there is none yet."""

    run: tuple[GenerationRecord, ...] = ()
    create: int | None = None
    without_code: tuple[GenerationRecord, ...] = ()
    waiting: tuple[int, ...] = ()


def choose(records: Iterable[GenerationRecord], versions: Collection[int]) -> GenerationChoice:
    """Choose among a projection's generations, given the versions whose code is here."""
    existing = list(records)
    if not existing:
        first = max(versions)
        return GenerationChoice(
            create=first, waiting=tuple(sorted(version for version in versions if version != first))
        )
    known = {record.version for record in existing}
    return GenerationChoice(
        run=tuple(record for record in existing if record.version in versions),
        without_code=tuple(record for record in existing if record.version not in versions),
        waiting=tuple(sorted(version for version in versions if version not in known)),
    )
