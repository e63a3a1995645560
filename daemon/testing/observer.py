"""An observer that keeps every fact it saw, in order."""

from daemon.ports.observer import Fact


class RecordingObserver:
    """Keeps facts for a test to look at."""

    def __init__(self) -> None:
        """Start having seen nothing."""
        self.facts: list[Fact] = []

    def see(self, fact: Fact) -> None:
        """Keep a fact."""
        self.facts.append(fact)

    def of[F](self, kind: type[F]) -> list[F]:
        """Return the facts of one kind, in order."""
        return [fact for fact in self.facts if isinstance(fact, kind)]
