"""The supervisor: one actor per granted scope, for as long as the coordinator says so.

Owns which actors run. One-for-one: an actor's troubles are its own. An error outside every shard ends the supervisor,
and with it the process.
"""

from collections.abc import Collection, Iterable

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from daemon.actors.rehearsal import rehearse
from daemon.actors.runtime import Runtime
from daemon.actors.shard import ShardActor
from daemon.actors.wake import Wake
from daemon.actors.windows import WindowMemory
from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.errors import SourceProblem, StoreProblem
from daemon.core.identity import Generation, Scope
from daemon.core.leases import Claim
from daemon.core.lifecycle import ShardState
from daemon.core.operations import Operation
from daemon.ports.coordinator import Coordinator, Grant, Revoke
from daemon.ports.shards import LiveShard, Rehearsal
from daemon.ports.vitals import ShardVitals

_HOUSEKEEPING_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_TURNS = 8
"""Turns of the loop in which a reader that was just woken has told that its log holds more."""
_OPERATIONS_PAGE = 200
_LOOK_ELSEWHERE_SECONDS = 0.25
_STOPPED = frozenset({CheckpointState.PAUSED, CheckpointState.PARKED, CheckpointState.DONE})


class Supervisor:
    """Runs shard actors. One `run` per instance."""

    def __init__(self, runtime: Runtime, coordinator: Coordinator) -> None:
        """Run nothing yet."""
        self.actors: dict[Scope, ShardActor] = {}
        self._runtime = runtime
        self._coordinator = coordinator
        self._memory = WindowMemory(runtime.policy.marker_memory_ids)
        self._draining = False
        self._news = Wake()

    async def run(self) -> None:
        """Follow the coordinator until `drain`; raises what happened outside every shard."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_house)
            tasks.start_soon(self._follow_operations)
            async with anyio.create_task_group() as shards:
                async for assignment in self._coordinator.assignments():
                    match assignment:
                        case Grant(scope=scope, claim=claim):
                            self._start(scope, claim, shards)
                        case Revoke(scope=scope, deadline=deadline):
                            shards.start_soon(self._revoke, scope, deadline)
            tasks.cancel_scope.cancel()

    async def drain(self, grace: float) -> bool:
        """Stop reading, commit what is in flight, release every shard; True when all was done within `grace` seconds.

        What is not done by then is cancelled: a commit in flight is waited for still, and never half done.
        """
        self._draining = True
        await self._coordinator.aclose()
        for actor in self.actors.values():
            actor.ask_to_drain()
        with anyio.move_on_after(grace) as scope:
            for actor in list(self.actors.values()):
                await actor.finished.wait()
        return not scope.cancelled_caught

    async def caught_up(self) -> None:
        """Return once every shard has settled what its log holds, or has stopped for good, here or in a peer."""
        while True:
            wait = _LOOK_SECONDS
            if all(actor.settled for actor in self.actors.values()):
                for _ in range(_TURNS):
                    await anyio.lowlevel.checkpoint()
                if await self._unsettled_elsewhere():
                    wait = _LOOK_ELSEWHERE_SECONDS
                elif all(actor.settled for actor in self.actors.values()):
                    return
            await self._runtime.clock.sleep(wait)

    async def _unsettled_elsewhere(self) -> bool:
        """Tell whether a shard that is not granted here has more to settle, as far as can be seen."""
        try:
            for scope in await self._coordinator.elsewhere():
                if not await self._settled_elsewhere(scope):
                    return True
        except (SourceProblem, StoreProblem):
            return True
        return False

    async def _settled_elsewhere(self, scope: Scope) -> bool:
        checkpoint = await self._runtime.store.read_checkpoint(scope)
        if checkpoint is None:
            return False
        if checkpoint.state in _STOPPED:
            return checkpoint.state is CheckpointState.DONE or not await self._is_asked(scope, checkpoint)
        source = self._runtime.sources[scope.source]
        backlog = await source.backlog(scope.shard, checkpoint.position)
        if 0 in {backlog.events, backlog.bytes} or not source.traits.positioned:
            return 0 in {backlog.events, backlog.bytes}
        # Only reading tells a half-written record at the end, or the end of a log that cannot be measured.
        reader = await source.open(scope.shard, checkpoint.position, checkpoint.incarnation)
        try:
            chunk = await reader.read(1, self._runtime.policy.read_chunk_bytes)
            return chunk.at_end and not chunk.records
        finally:
            await reader.aclose()

    async def _is_asked(self, scope: Scope, checkpoint: Checkpoint) -> bool:
        """Tell whether an operation about a shard that stands still was accepted and not obeyed: it may go on."""
        standing = await self._runtime.store.standing(scope.of)
        return standing.of(scope.shard_id).sequence > checkpoint.operation_seq

    def vitals(self) -> list[ShardVitals]:
        """List how every shard stands that runs here, or stands still here; not those that others run."""
        return [actor.vitals() for actor in self.actors.values() if not actor.finished.is_set()]

    def states(self) -> Iterable[tuple[Scope, ShardState, str]]:
        """Iterate every scope that was granted here: its state, and why."""
        return [(scope, actor.state, actor.reason) for scope, actor in sorted(self.actors.items())]

    def parked(self) -> list[tuple[Scope, str]]:
        """List the scopes that need a person, and why, even after they were drained."""
        return [(scope, actor.parked_reason) for scope, actor in sorted(self.actors.items()) if actor.parked_reason]

    @property
    def replica(self) -> str:
        """This replica's name among its peers."""
        return self._runtime.replica

    @property
    def generations(self) -> Collection[Generation]:
        """The generations whose code is here."""
        return self._runtime.specs.keys()

    def live(self) -> list[LiveShard]:
        """List the shards that are run here, or stand still here."""
        return [actor.live() for _, actor in sorted(self.actors.items()) if not actor.finished.is_set()]

    async def rehearse(self, scope: Scope, checkpoint: Checkpoint) -> Rehearsal:
        """Go through a re-delivery without carrying it out. Raises SourceProblem, StoreProblem."""
        return await rehearse(self._runtime, scope, checkpoint)

    def nudge(self) -> None:
        """Look at once whether there are operations to obey."""
        self._news.ring()

    async def _follow_operations(self) -> None:
        """Hand operations to the shards they are about, whoever accepted them; a store that cannot is asked again."""
        while True:
            for generation in {scope.of for scope, actor in self.actors.items() if not actor.finished.is_set()}:
                try:
                    await self._hand_over(generation)
                except StoreProblem:
                    continue
            await self._news.wait(self._runtime.policy.operations_poll)

    async def _hand_over(self, generation: Generation) -> None:
        """Give each shard of a generation the operations that it has not been told of."""
        store = self._runtime.store
        standing = await store.standing(generation)
        behind: dict[ShardActor, int] = {}
        for scope, actor in self.actors.items():
            if scope.of == generation and not actor.finished.is_set():
                after = actor.behind(standing.of(scope.shard_id).sequence)
                if after is not None:
                    behind[actor] = after
        if not behind:
            return
        operations: list[Operation] = []
        after = min(behind.values())
        while after < standing.sequence:
            page = await store.operations(generation, after, _OPERATIONS_PAGE)
            if not page:
                break
            operations += page
            after = page[-1].sequence
        for actor in behind:
            actor.order(operations, standing.sequence)
        self._runtime.turns.relent()

    def _start(self, scope: Scope, claim: Claim | None, shards: TaskGroup) -> None:
        running = self.actors.get(scope)
        if self._draining or (running is not None and not running.finished.is_set()):
            return
        actor = ShardActor(self._runtime, scope, self._runtime.specs[scope.of], self._memory, claim)
        self.actors[scope] = actor
        shards.start_soon(self._live, actor)

    async def _live(self, actor: ShardActor) -> None:
        await actor.run()
        if actor.ended and not self._draining:
            await self._coordinator.finished(actor.scope)
        else:
            await self._coordinator.released(actor.scope)

    async def _revoke(self, scope: Scope, deadline: float) -> None:
        actor = self.actors.get(scope)
        if actor is None:
            return
        actor.ask_to_drain()
        with anyio.move_on_after(deadline):
            await actor.finished.wait()

    async def _keep_house(self) -> None:
        """Remove what has expired, from time to time; a store that cannot now will be asked again."""
        clock = self._runtime.clock
        while True:
            await clock.sleep(_HOUSEKEEPING_SECONDS)
            try:
                await self._runtime.store.expire(int(clock.now().timestamp()))
            except StoreProblem:
                continue
