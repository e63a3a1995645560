"""What control answers about re-delivery, dead letters and parked keys, and refuses before it accepts anything.

Owns which part answers what (`daemon.control.replay`, `daemon.control.letters`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.control.landscape import Landscape
from daemon.control.letters import Letters
from daemon.control.replay import Replays
from daemon.core.again import (
    AgainQuery,
    KeysParked,
    KeysRelease,
    LettersDiscard,
    LettersList,
    LettersRetry,
    LettersShow,
    ReplayApply,
    ReplayPlan,
    ReplayStatus,
    Rewind,
)
from daemon.core.commands import Command
from daemon.core.identity import Generation
from daemon.core.projection import ProjectionSpec
from daemon.ports.clock import Clock
from daemon.ports.shards import Shards
from daemon.ports.source import Source
from daemon.ports.store import Store


@dataclass(slots=True)
class Again:
    """See the module. `specs`: the code of each generation that is here."""

    store: Store
    sources: Mapping[str, Source]
    specs: Mapping[Generation, ProjectionSpec]
    shards: Shards
    clock: Clock
    landscape: Landscape
    letters: Letters = field(init=False)
    replays: Replays = field(init=False)

    def __post_init__(self) -> None:
        """Stand ready."""
        self.letters = Letters(self.store, self.clock, self.landscape)
        self.replays = Replays(self.store, self.sources, self.specs, self.shards, self.clock, self.landscape)

    async def answer(self, query: AgainQuery) -> object:
        """Answer a query. Raises CommandRefused, SourceProblem, StoreProblem."""
        match query:
            case ReplayPlan():
                return await self.replays.plan(query)
            case ReplayStatus():
                return await self.replays.status(query)
            case LettersList():
                return await self.letters.listed(query)
            case LettersShow():
                return await self.letters.show(query)
            case KeysParked():
                return await self.letters.keys(query)

    async def check(self, command: Command) -> None:
        """Refuse a change that cannot be meant as it stands. Raises CommandRefused, SourceProblem, StoreProblem."""
        if isinstance(command, Rewind | ReplayApply):
            await self.replays.check(command)
        elif isinstance(command, LettersRetry | LettersDiscard | KeysRelease):
            await self.letters.check(command)
