"""Ownership: taking one shard, and the changes of its checkpoint that hold no event.

Owns the compare-and-set by which a shard is taken while operations stand as they were read, what is then caught up
with, and whose code folded it. Must not know the log beyond where a shard begins in it.

Invariants: nothing is read of the shard before the epoch is ours; an operation accepted before the take is obeyed
before anything is folded; an operation accepted after it is met by the supervisor's look.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from daemon.actors.committer import Committer
from daemon.actors.controls import Controls
from daemon.actors.obedience import obey as obeyed_by
from daemon.actors.runtime import Runtime
from daemon.core.checkpoint import Checkpoint, stands_at
from daemon.core.commit import Commit, Committed, Fenced
from daemon.core.errors import OperationsMoved, ProjectionProblem, StoreRefused, StoreUnavailable, Superseded
from daemon.core.identity import Scope
from daemon.core.leases import Claim, owner_name
from daemon.core.operations import Obeyed, Operation, Standing, due
from daemon.core.projection import ProjectionSpec
from daemon.ports.observer import CodeChanged

_TAKES = 20
"""How often a take is tried again at once because something came between look and take."""
_OPERATIONS_PAGE = 200


@dataclass(slots=True)
class Ownership:
    """One ownership of one shard. `claim`: take it only where this holds; None: from whoever owns it.

    `troubled` is told True when a commit does not settle at once, False when one does. `renewed_at`: when the newest
    commit that settled was sent, on the monotonic clock: the lease holds from then on. `epoch` 0: not ours yet.
    """

    runtime: Runtime
    scope: Scope
    spec: ProjectionSpec
    controls: Controls
    claim: Claim | None
    troubled: Callable[[bool], None]
    epoch: int = 0
    renewed_at: float = 0.0

    async def take(self) -> Checkpoint:
        """Raise the epoch in our name, obey what was asked of the shard since, and look at whose code folded it.

        Refuses code that changed under the same version where settings say so.
        """
        owner = owner_name(self.runtime.replica, self.runtime.clock.unique())
        for _ in range(_TAKES):
            try:
                checkpoint, standing = await self._take_as_seen(owner)
                break
            except OperationsMoved:
                continue
            except Superseded:
                if not await self._is_still_ours():
                    raise
        else:
            raise StoreUnavailable(f"{self.scope.label}: it moved {_TAKES} times while it was taken; tried again")
        self.epoch = checkpoint.epoch
        checkpoint = await self._catch_up(checkpoint, standing)
        if checkpoint.code_digest == self.spec.code_digest:
            return checkpoint
        self.runtime.observer.see(CodeChanged(self.scope, checkpoint.code_digest, self.spec.code_digest))
        if self.runtime.policy.require_version_bump and checkpoint.code_digest:
            message = (
                f"the code of {self.spec.name} version {self.spec.version} has digest {self.spec.code_digest:.12}, but "
                f"{self.scope.label} was folded by {checkpoint.code_digest:.12}; raise the version and rebuild, "
                "or set daemon.require_version_bump = false"
            )
            raise ProjectionProblem(message)
        return await self.change(checkpoint, code_digest=self.spec.code_digest)

    async def _is_still_ours(self) -> bool:
        """Tell whether the claim holds although the shard moved: a commit of ours, given up for lost, came through."""
        stands = await self.runtime.store.read_checkpoint(self.scope)
        return self.claim is not None and self.claim.holds(stands, self.runtime.replica)

    async def _take_as_seen(self, owner: str) -> tuple[Checkpoint, Standing]:
        """Take the shard while operations stand as they are read here. Raises OperationsMoved when they moved."""
        store = self.runtime.store
        standing = await store.standing(self.scope.of)
        before = await store.read_checkpoint(self.scope)
        if self.claim is not None and not self.claim.holds(before, self.runtime.replica):
            raise Superseded(f"{self.scope.label}: another owner has taken the shard; it carries on")
        initial = Checkpoint(code_digest=self.spec.code_digest)
        if before is None:
            source = self.runtime.sources[self.scope.source]
            start = self.runtime.start_of(self.scope)
            origin = start if isinstance(start, tuple) else await source.locate(self.scope.shard, start)
            initial = standing.begins(replace(initial, position=origin, origin=origin), self.scope.shard_id)
        self.renewed_at = self.runtime.clock.monotonic()
        # What a claim was judged by must still hold when the epoch rises: nothing may come between look and take.
        over = None if self.claim is None else stands_at(before)
        taken = await store.take(self.scope, owner, initial, over, seen=standing.sequence)
        self.runtime.pace.note(self.scope.projection, 1, self.runtime.clock.monotonic() - self.renewed_at)
        return taken, standing

    async def _catch_up(self, checkpoint: Checkpoint, standing: Standing) -> Checkpoint:
        """Obey what was asked of the shard while nobody here had it."""
        self.controls.settle(checkpoint.operation_seq)
        through = checkpoint.operation_seq
        while standing.of(self.scope.shard_id).sequence > through:
            operations = await self.runtime.store.operations(self.scope.of, through, _OPERATIONS_PAGE)
            if not operations:
                break
            through = operations[-1].sequence
            for operation in due(operations, self.scope, checkpoint):
                checkpoint = (await self.obey(checkpoint, operation)).checkpoint
        return checkpoint

    async def obey(self, checkpoint: Checkpoint, operation: Operation) -> Obeyed:
        """Carry an operation out, in a commit of its own."""
        obeyed, commit = await obeyed_by(self.runtime, self.scope, checkpoint, operation)
        await self.send(commit)
        self.controls.settle(operation.sequence)
        return obeyed

    async def change(self, checkpoint: Checkpoint, **changes: object) -> Checkpoint:
        """Commit a change of the checkpoint alone."""
        after = replace(checkpoint.next(self.runtime.clock.unique()), **changes)  # pyright: ignore[reportArgumentType]
        if after.state is not checkpoint.state:
            after = replace(after, since=self.runtime.clock.now())
        await self.send(Commit(self.scope, checkpoint.fence, after))
        return after

    async def send(self, commit: Commit) -> None:
        """Send a commit that holds no event."""
        answer = await Committer(self.runtime, self.scope, self.troubled).send(commit, 0)
        if isinstance(answer, Fenced):
            released = answer.checkpoint is not None and answer.checkpoint.owner is None
            raise Superseded(f"{self.scope.label}: another owner took the shard; it carries on", released=released)
        if not isinstance(answer, Committed):
            raise StoreRefused(f"{self.scope.label}: the store answers {answer!r} to a change of the checkpoint alone")
