"""The Coordinator port: who should own which shard.

A coordinator only suggests. Taking a shard is a compare-and-set in the store that raises its epoch, and only the epoch
makes writes safe. The contract suite is `tests/contracts/coordinator.py`.
"""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from daemon.core.identity import Scope
from daemon.core.leases import Claim


@dataclass(frozen=True, slots=True)
class Grant:
    """You own this scope now. `renewed`: it was confirmed anew after a fence, so taking it again is no ping-pong.

    `claim`: take it only where that still holds; None: take it from whoever owns it.
    """

    scope: Scope
    renewed: bool = False
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Revoke:
    """Give this scope back: drain, commit, and call `released`, within `deadline` seconds."""

    scope: Scope
    deadline: float


type Assignment = Grant | Revoke


class Coordinator(Protocol):
    """Tells the supervisor which scopes to run."""

    def assignments(self) -> AsyncIterator[Assignment]:
        """Iterate grants and revocations until closed. One consumer."""
        ...

    async def released(self, scope: Scope) -> None:
        """The supervisor stopped a scope (revoked, drained or fenced)."""
        ...

    async def finished(self, scope: Scope) -> None:
        """The scope's shard ended and is settled: its children may be granted."""
        ...

    async def elsewhere(self) -> Collection[Scope]:
        """Look at once, and return the scopes that are to be run but not granted here.

        Other replicas', or nobody's yet.

        Raises SourceUnavailable, StoreProblem.
        """
        ...

    async def aclose(self) -> None:
        """Leave: peers may take over at once."""
        ...
