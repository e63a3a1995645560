"""What happened in a run, as lines of text: virtual time, who, what. The same seed writes the same bytes."""

from asyncio import get_running_loop
from dataclasses import dataclass, field
from hashlib import blake2b

from daemon.ports.observer import Fact

_LONGEST = 240


@dataclass(slots=True)
class Trace:
    """The lines of one run."""

    lines: list[str] = field(default_factory=list[str])

    def note(self, who: str, what: str) -> None:
        """Write a line down."""
        self.lines.append(f"{get_running_loop().time():12.6f}  {who:<10}  {what[:_LONGEST]}")

    def text(self, last: int | None = None) -> str:
        """Return the lines, or the last so many of them."""
        return "\n".join(self.lines if last is None else self.lines[-last:])

    def digest(self) -> str:
        """Return what two traces have in common only when they are the same."""
        return blake2b(self.text().encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Telling:
    """An observer that writes a replica's facts into the trace."""

    trace: Trace
    who: str

    def see(self, fact: Fact) -> None:
        """Take note of a fact."""
        self.trace.note(self.who, repr(fact))
