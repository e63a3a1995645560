"""Controls: what one shard is asked to do, handed from the supervisor to whoever runs the shard.

Owns the wishes and the operations that may not be obeyed yet. Must not know how any of them is carried out.

Invariant: an operation is handed over at least once and forgotten once the checkpoint has obeyed it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from daemon.actors.wake import Wake
from daemon.core.operations import Operation


@dataclass(slots=True)
class Controls:
    """What a shard is asked to do. Written by the supervisor, obeyed when nothing is in flight."""

    wake: Wake = field(default_factory=Wake)
    drain: bool = False
    orders: list[Operation] = field(default_factory=list[Operation])
    """Operations about this shard that may not be obeyed yet, oldest first."""
    told: int = 0
    """The newest operation that was handed over here."""
    obeyed: int | None = None
    """The newest operation that the checkpoint has obeyed; None before it was taken here."""

    def ask_to_drain(self) -> None:
        """Have the shard given back."""
        self.drain = True
        self.wake.ring()

    def order(self, operations: Iterable[Operation], through: int) -> None:
        """Hand operations over, known up to the sequence `through`, and wake whoever obeys."""
        held = {one.sequence: one for one in (*self.orders, *operations) if one.sequence > (self.obeyed or 0)}
        self.orders = [held[sequence] for sequence in sorted(held)]
        self.told = max(self.told, through)
        self.wake.ring()

    def settle(self, obeyed: int) -> None:
        """Note how far the checkpoint has obeyed."""
        self.obeyed = obeyed
        if self.orders:
            self.orders = [one for one in self.orders if one.sequence > obeyed]
