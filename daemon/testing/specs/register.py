"""What the pytest plugin and specifications know of each other.

Owns the options of a session, the specifications of the test that runs, and the counts that its summary tells. Imports
nothing of the daemon, so that the plugin costs a project without specifications nothing.
"""

from dataclasses import dataclass, field
from typing import Protocol

DEFAULT_SEEDS = 3
"""How many other orders of keys each specification is tried in."""


class Stated(Protocol):
    """A specification within a test."""

    def close(self) -> None:
        """Raise SpecFailed for what the test left unsaid."""
        ...


@dataclass(slots=True)
class Register:
    """One per process. `open`: what the test that runs has given so far; None while no plugin watches over tests."""

    seeds: int = DEFAULT_SEEDS
    first_seed: int = 1
    open: list[Stated] | None = None
    specs: int = 0
    runs: int = 0
    excuses: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])
    """How many specifications excuse a check: by projection, the check's name and the reason."""

    def enter(self, stated: Stated) -> None:
        """Note a specification of the test that runs."""
        if self.open is not None:
            self.open.append(stated)

    def ran(self, runs: int) -> None:
        """Count a specification that was tried in so many ways."""
        self.specs += 1
        self.runs += runs

    def excused(self, projection: str, check: str, reason: str) -> None:
        """Count an excuse."""
        self.excuses[projection, check, reason] = self.excuses.get((projection, check, reason), 0) + 1


REGISTER = Register()
"""This process's."""
