"""The solo coordinator: this process alone, so every shard is its own, parents before children.

Two processes that both run solo do not share shards: the one that starts later takes them by epoch, the earlier one is
fenced and is not granted them again, so they never ping-pong.

Invariant: a scope is granted once per life of the coordinator.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import anyio

from daemon.core.errors import SourceUnavailable
from daemon.core.identity import Generation, Scope
from daemon.core.lineage import ShardNode, ready
from daemon.ports.clock import Clock
from daemon.ports.coordinator import Assignment, Grant
from daemon.ports.source import Source


class SoloCoordinator:
    """Grants every ready shard of every source that a generation follows."""

    def __init__(
        self,
        follows: Mapping[Generation, Sequence[str]],
        sources: Mapping[str, Source],
        clock: Clock,
        look_seconds: float = 5.0,
    ) -> None:
        """Look for new shards every `look_seconds`. `follows` maps a generation to its sources' names."""
        self._follows = follows
        self._sources = sources
        self._clock = clock
        self._look_seconds = look_seconds
        self._done: set[Scope] = set()
        self._granted: set[Scope] = set()
        self._lost: set[Scope] = set()
        self._closed = False
        self._changed = anyio.Event()

    async def assignments(self) -> AsyncIterator[Assignment]:
        """Iterate grants until closed."""
        while not self._closed:
            for scope in await self._ready():
                if scope not in self._granted:
                    self._granted.add(scope)
                    yield Grant(scope)
            await self._wait()

    async def released(self, scope: Scope) -> None:
        """Note that another process has it now, unless this one stops: it is not granted again."""
        self._lost.add(scope)

    async def finished(self, scope: Scope) -> None:
        """Note an ended shard; its children may be ready."""
        self._done.add(scope)
        self._changed.set()

    async def elsewhere(self) -> Collection[Scope]:
        """Return what is not granted here yet, but will be, and what another process took."""
        return [scope for scope in await self._ready(skip=()) if scope not in self._granted or scope in self._lost]

    async def aclose(self) -> None:
        """End the assignments."""
        self._closed = True
        self._changed.set()

    async def _ready(self, skip: tuple[type[Exception], ...] = (SourceUnavailable,)) -> list[Scope]:
        scopes: list[Scope] = []
        for name, source in self._sources.items():
            try:
                listed = [ShardNode(info.shard, info.parents) for info in await source.shards()]
            except skip:
                continue
            for generation, followed in self._follows.items():
                if name in followed:
                    done = {scope.shard for scope in self._done if scope.of == generation and scope.source == name}
                    scopes += [Scope(*generation, name, shard) for shard in ready(listed, done)]
        return scopes

    async def _wait(self) -> None:
        if not self._closed:
            with anyio.move_on_after(self._look_seconds):
                await self._changed.wait()
        self._changed = anyio.Event()
