"""What a store stands on, part by part: what is there, what is to be made, and what a person has to look at.

Invariant: only `make` and `change` are ever carried out, and neither takes anything away.
"""

from dataclasses import dataclass
from enum import StrEnum


class PartState(StrEnum):
    """What is to be done about one part."""

    EXISTS = "exists"
    MAKE = "make"
    CHANGE = "change"
    """It exists, and something of it is to be switched on or added."""
    DIFFERS = "differs"
    """It exists, is not as the settings say, and is left so: only a person can tell which is right."""
    WAITS = "waits"
    """It exists or is registered, and runs only once a person has decided."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing a daemon needs: what it is, its name, its state, and a word on it."""

    what: str
    name: str
    state: PartState
    detail: str = ""

    @property
    def to_do(self) -> bool:
        """Tell whether there is something to carry out."""
        return self.state in {PartState.MAKE, PartState.CHANGE}
