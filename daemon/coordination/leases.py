"""The lease coordinator: several replicas on one store divide the shards, whatever the logs are.

Owns the looking: it reads checkpoints and presences from the store and shards from the sources, tells its own presence,
and turns the decisions of `daemon.core.leases` into grants and revocations. Must not know how shards are run.

Invariants: a look that fails decides nothing; a replica is present before it takes anything; no two clocks are
compared.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import anyio

from daemon.core.errors import SourceUnavailable, StoreProblem
from daemon.core.identity import Scope
from daemon.core.leases import Decision, Lease, LeaseBook, Look, generation_of
from daemon.core.lineage import ShardNode
from daemon.ports.clock import Clock
from daemon.ports.coordinator import Assignment, Grant, Revoke
from daemon.ports.source import Source
from daemon.ports.store import Store

_GOODBYE_SECONDS = 1.0


class LeaseCoordinator:
    """Grants what this replica's share is, and gives back what is beyond it.

    `poll` and `look` in seconds: how often leases are looked at (a quarter more or less, by chance), and how often the
    sources are asked for their shards. `hand_over`: within how many seconds a revoked shard is to be drained.
    """

    def __init__(
        self,
        book: LeaseBook,
        sources: Mapping[str, Source],
        store: Store,
        clock: Clock,
        *,
        poll: float = 0.5,
        look: float = 5.0,
        hand_over: float = 15.0,
    ) -> None:
        """Decide by `book`, which knows this replica's name and what it follows."""
        self._book = book
        self._sources = sources
        self._store = store
        self._clock = clock
        self._poll = poll
        self._look = look
        self._hand_over = hand_over
        self._shards: dict[str, Sequence[ShardNode]] = {}
        self._listed_at: float | None = None
        self._beat = 0
        self._announced: tuple[float, Collection[str]] | None = None
        self._closed = False
        self._changed = anyio.Event()

    async def assignments(self) -> AsyncIterator[Assignment]:
        """Iterate grants and revocations until closed."""
        while not self._closed:
            decision = await self._decide()
            # Without a pause between deciding and telling: what is decided counts as run here.
            for scope in decision.give_back:
                yield Revoke(scope, self._hand_over)
            for won in decision.take:
                yield Grant(won.scope, won.renewed, won.claim)
            for replica in decision.gone:
                await self._forget(replica)
            await self._pause(self._poll * (0.75 + 0.5 * self._clock.draw()))

    async def released(self, scope: Scope) -> None:
        """Note that a scope is not run here any more, and look again at once."""
        self._book.released(scope)
        self._changed.set()

    async def finished(self, scope: Scope) -> None:
        """Note an ended shard; its checkpoint says so, and the next look finds its children."""
        self._book.released(scope)
        self._changed.set()

    async def elsewhere(self) -> Collection[Scope]:
        """Look at once, and return what is to be run but is not granted here.

        Raises SourceUnavailable, StoreProblem.
        """
        await self._list_shards(skip=())
        scopes = self._book.open_scopes(await self._see())
        return [scope for scope in scopes if scope not in self._book.claimed]

    async def aclose(self) -> None:
        """Leave: peers no longer count with this replica, and take each shard as soon as it is released."""
        if self._closed:
            return
        self._closed = True
        self._changed.set()
        with anyio.move_on_after(_GOODBYE_SECONDS, shield=True):
            try:
                await self._store.forget(self._book.replica)
            except StoreProblem:
                return  # it expires

    async def _decide(self) -> Decision:
        try:
            await self._list_shards()
            await self._announce()
            look = await self._see()
        except StoreProblem:
            return Decision()
        return Decision() if self._closed else self._book.decide(look)

    async def _list_shards(self, skip: tuple[type[Exception], ...] = (SourceUnavailable,)) -> None:
        """Ask the sources for their shards from time to time; one that does not answer has those of the last time."""
        now = self._clock.monotonic()
        if skip and self._listed_at is not None and now - self._listed_at < self._look:
            return
        for name, source in self._sources.items():
            try:
                self._shards[name] = [ShardNode(info.shard, info.parents) for info in await source.shards()]
            except skip:
                continue
        self._listed_at = now

    async def _announce(self) -> None:
        """Renew this replica's presence where it is time to, or where it can run something else now."""
        now = self._clock.monotonic()
        sources = {name for name, shards in self._shards.items() if shards}
        if self._announced is not None:
            at, told = self._announced
            if told == sources and now - at < self._book.policy.beat:
                return
        self._beat += 1
        await self._store.announce(self._book.presence(self._beat, sources))
        self._announced = (now, sources)

    async def _see(self) -> Look:
        began = self._clock.monotonic()
        presences = await self._store.presences()
        generations = {generation_of(run) for presence in presences.values() for run in presence.runs}
        leases: dict[Scope, Lease] = {}
        for generation in sorted(generations.union(self._book.follows)):
            checkpoints = await self._store.checkpoints(generation)
            leases.update((scope, Lease.of(checkpoint)) for scope, checkpoint in checkpoints.items())
        return Look(began, self._clock.monotonic(), dict(self._shards), leases, presences)

    async def _forget(self, replica: str) -> None:
        try:
            await self._store.forget(replica)
        except StoreProblem:
            return  # some replica will

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until something changed here."""

        async def nap() -> None:
            await self._clock.sleep(seconds)
            tasks.cancel_scope.cancel()

        if not self._closed:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nap)
                await self._changed.wait()
                tasks.cancel_scope.cancel()
        self._changed = anyio.Event()
