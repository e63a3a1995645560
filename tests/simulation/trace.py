"""What happened in a run, as lines of text: virtual time, who, what. The same seed writes the same bytes."""

from asyncio import get_running_loop
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from daemon.core.positions import Position
from daemon.ports.observer import BatchCommitted, Fact

_LONGEST = 240


@dataclass(slots=True)
class Trace:
    """The lines of one run."""

    said: list[tuple[float, str, str | Fact]] = field(default_factory=list[tuple[float, str, "str | Fact"]])
    """When, who, what: text is made of it when somebody reads it."""

    @property
    def lines(self) -> list[str]:
        """Return the lines."""
        return [f"{when:12.6f}  {who:<10}  {_text(what)[:_LONGEST]}" for when, who, what in self.said]

    def note(self, who: str, what: str | Fact) -> None:
        """Write a line down."""
        self.said.append((get_running_loop().time(), who, what))

    def text(self, last: int | None = None) -> str:
        """Return the lines, or the last so many of them."""
        return "\n".join(self.lines if last is None else self.lines[-last:])

    def digest(self) -> str:
        """Return what two traces have in common only when they are the same."""
        return blake2b(self.text().encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Telling:
    """An observer that writes a replica's facts into the trace, and tells what it takes for committed."""

    trace: Trace
    who: str
    committed: Callable[[str, str, int, Position], None]
    """Given the replica, the shard, its epoch and its position."""

    def see(self, fact: Fact) -> None:
        """Take note of a fact."""
        self.trace.note(self.who, fact)
        if isinstance(fact, BatchCommitted):
            self.committed(self.who, fact.scope.shard, fact.epoch, fact.position)


def _text(what: str | Fact) -> str:
    return what if isinstance(what, str) else repr(what)
