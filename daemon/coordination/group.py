"""The consumer-group coordinator: Kafka's own group divides the partitions, one group for each generation and source.

Owns what a membership's news mean for the supervisor, and what of it must wait for what. Must not know Kafka's client:
a membership is handed in (`Member`) and tells what happened through `Listener`.

Theory of operation. The group's protocol is eager: before each rebalance everything is given up, then a part comes
back. So giving up revokes every scope and waits, as long as the rebalance time-out lets it, until the supervisor has
drained and released each one; only then may the member join again, which is what "hand over" means: no peer is assigned
a partition that is not drained, unless the time-out passed. Being assigned grants scopes; the supervisor takes each
shard by compare-and-set before it reads, so nothing depends on the order in which the client's callbacks run.

Invariants: a scope is granted once for each assignment; a fenced scope that is still assigned is granted anew, as
`renewed`, only once a heartbeat sent after the fence was answered: a zombie's heartbeat is refused, so two owners never
ping-pong; nothing a group says is read as a position.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import anyio

from daemon.core.errors import SourceUnavailable
from daemon.core.identity import Generation, Scope
from daemon.core.lineage import ShardNode, ready
from daemon.ports.clock import Clock
from daemon.ports.coordinator import Assignment, Grant, Revoke
from daemon.ports.source import Source

_MARGIN = 0.8
"""The share of the rebalance time-out that draining may take; the rest is for the way to the broker."""


class Listener(Protocol):
    """What a membership tells. All shards are those of one source."""

    async def revoked(self) -> None:
        """Everything is to be given up; the member joins again when this returns."""
        ...

    async def assigned(self, shards: Collection[str]) -> None:
        """These shards are this member's, and no others."""
        ...


class Member(Protocol):
    """One membership in one consumer group. A small Protocol, so that this module needs nothing of the source's."""

    @property
    def group(self) -> str:
        """The group's name."""
        ...

    @property
    def rebalance_timeout(self) -> float:
        """Within how many seconds what is revoked must be given up."""
        ...

    async def run(self, listener: Listener) -> None:
        """Be a member until `leave`; tell `listener`, one thing at a time."""
        ...

    async def confirmed(self) -> bool:
        """Wait for the answer to a heartbeat that is sent from now on; False when the group refuses it."""
        ...

    async def leave(self) -> None:
        """Leave the group: peers may take over at once."""
        ...


class GroupCoordinator:
    """Grants what the groups assign. `members` has one membership for each generation and source."""

    def __init__(
        self,
        members: Mapping[tuple[Generation, str], Member],
        sources: Mapping[str, Source],
        clock: Clock,
        *,
        look_seconds: float = 5.0,
        leave_after: float = 25.0,
    ) -> None:
        """Join when the assignments are first asked for; look for finished parents every `look_seconds`.

        The groups are left once what was granted is released, at the latest `leave_after` seconds after closing.
        """
        self._members = dict(members)
        self._sources, self._clock, self._look_seconds = sources, clock, look_seconds
        self._leave_after = leave_after
        self._assigned: dict[tuple[Generation, str], set[str]] = {key: set() for key in members}
        self._granted: set[Scope] = set()
        self._fenced: set[Scope] = set()
        self._done: set[Scope] = set()
        self._released: dict[Scope, anyio.Event] = {}
        self._changed = anyio.Event()
        self._closed = False
        self._error: Exception | None = None
        self._told: deque[Assignment] = deque()
        self._news = anyio.Event()

    async def assignments(self) -> AsyncIterator[Assignment]:
        """Iterate grants and revocations until closed; then wait for what is still run here, and leave the groups."""
        # Tasks of asyncio: a task group must not be open across a yield.
        tasks = [asyncio.create_task(self._guarded(self._look()))]
        for (generation, source), member in self._members.items():
            listener = _Membership(self, (generation, source), member)
            tasks.append(asyncio.create_task(self._guarded(member.run(listener))))
        try:
            while not self._closed and self._error is None:
                if self._told:
                    yield self._told.popleft()
                else:
                    self._news = anyio.Event()
                    await self._news.wait()
            if self._error is not None:
                raise self._error
            with anyio.move_on_after(self._leave_after):
                while self._granted:
                    await self._changed.wait()
                    self._changed = anyio.Event()
        finally:
            for task in tasks:
                task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*tasks, return_exceptions=True)
                for member in self._members.values():
                    await member.leave()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whoever iterates the assignments is told
            self._error = error
            self._news.set()

    async def released(self, scope: Scope) -> None:
        """Note a stopped scope: a rebalance may be waiting for it, or it was fenced."""
        event = self._released.pop(scope, None)
        if event is not None:
            event.set()
        elif scope in self._granted and not self._closed:
            self._fenced.add(scope)
        self._granted.discard(scope)
        self._changed.set()

    async def finished(self, scope: Scope) -> None:
        """Note an ended shard; its children may be ready."""
        self._done.add(scope)
        await self.released(scope)
        self._fenced.discard(scope)
        self._changed.set()

    async def elsewhere(self) -> Collection[Scope]:
        """Return the ready scopes that are not granted here. Raises SourceUnavailable."""
        scopes: list[Scope] = []
        for generation, name in self._members:
            nodes = [ShardNode(info.shard, info.parents) for info in await self._sources[name].shards()]
            scopes += [Scope(*generation, name, shard) for shard in ready(nodes, self._done_of((generation, name)))]
        # What nobody has fetched yet is not run here yet: taken for granted, it would be nowhere.
        told = {assignment.scope for assignment in self._told if isinstance(assignment, Grant)}
        return [scope for scope in scopes if scope not in self._granted or scope in told]

    @property
    def waiting(self) -> int:
        """How many assignments wait to be taken."""
        return len(self._told)

    async def aclose(self) -> None:
        """End the assignments; the groups are left once everything granted was released."""
        if self._closed:
            return
        self._closed = True
        self._changed.set()
        self._news.set()

    # ------------------------------------------------------------------------------------- what memberships tell

    async def give_up(self, key: tuple[Generation, str], seconds: float) -> None:
        """Revoke everything of one membership and wait until it was released, at most so many seconds."""
        self._assigned[key] = set()
        self._fenced = {scope for scope in self._fenced if (scope.of, scope.source) != key}
        waiting: list[anyio.Event] = []
        for scope in sorted(scope for scope in self._granted if (scope.of, scope.source) == key):
            event = self._released[scope] = self._released.get(scope) or anyio.Event()
            waiting.append(event)
            self._tell(Revoke(scope, seconds))
        with anyio.move_on_after(seconds):
            for event in waiting:
                await event.wait()

    async def take_over(self, key: tuple[Generation, str], shards: Collection[str]) -> None:
        """Grant what one membership was assigned, as far as parents are done."""
        self._assigned[key] = set(shards)
        await self._grant(key)

    async def _look(self) -> None:
        """Grant what becomes ready, and what was fenced and is confirmed anew."""
        while not self._closed:
            with anyio.move_on_after(self._look_seconds):
                await self._changed.wait()
            self._changed = anyio.Event()
            for key in self._members:
                await self._grant(key)
            for scope in sorted(self._fenced):
                await self._renew(scope)

    async def _grant(self, key: tuple[Generation, str]) -> None:
        generation, name = key
        try:
            listed: Sequence[ShardNode] = [
                ShardNode(info.shard, info.parents) for info in await self._sources[name].shards()
            ]
        except SourceUnavailable:
            # What is assigned exists; parents are looked up again with the next look.
            listed = [ShardNode(shard) for shard in sorted(self._assigned[key])]
        for shard in ready(listed, self._done_of(key)):
            scope = Scope(*generation, name, shard)
            if shard in self._assigned[key] and scope not in self._granted and scope not in self._fenced:
                self._granted.add(scope)
                self._tell(Grant(scope))

    async def _renew(self, scope: Scope) -> None:
        """Grant a fenced scope again once the group has confirmed, after the fence, that it is this member's."""
        key = (scope.of, scope.source)
        if not await self._members[key].confirmed():
            return
        if scope in self._fenced and scope.shard in self._assigned[key]:
            self._fenced.discard(scope)
            self._granted.add(scope)
            self._tell(Grant(scope, renewed=True))

    def _done_of(self, key: tuple[Generation, str]) -> set[str]:
        return {scope.shard for scope in self._done if (scope.of, scope.source) == key}

    def _tell(self, assignment: Assignment) -> None:
        self._told.append(assignment)
        self._news.set()


class _Membership:
    """A membership's listener."""

    def __init__(self, coordinator: GroupCoordinator, key: tuple[Generation, str], member: Member) -> None:
        """Tell `coordinator`."""
        self._coordinator, self._key, self._member = coordinator, key, member

    async def revoked(self) -> None:
        """Give everything up in time."""
        await self._coordinator.give_up(self._key, _MARGIN * self._member.rebalance_timeout)

    async def assigned(self, shards: Collection[str]) -> None:
        """Take over."""
        await self._coordinator.take_over(self._key, shards)
