"""What one shard has made of one operation so far, in words.

Pure: an outcome, or what its checkpoint tells in the absence of one.
"""

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.identity import Scope
from daemon.core.leases import replica_of
from daemon.core.operations import SETTLED, Operation, ShardOutcome
from daemon.core.reports import ShardAnswer

PENDING = "pending"
_BEGINS = {
    "pause": "was never started; it will begin paused",
    "drain": "was never started; it will begin paused",
    "resume": "was never started; it will begin running",
    "restart": "was never started; there is nothing to start afresh",
}


def is_settled(answer: ShardAnswer) -> bool:
    """Tell whether nothing more comes of it."""
    return answer.status in SETTLED


def answered(
    operation: Operation, scope: Scope, outcome: ShardOutcome | None, checkpoint: Checkpoint | None, *, code: bool
) -> ShardAnswer:
    """Return what a shard made of an operation, or why it has not yet. `code`: this replica could run it."""
    if outcome is not None:
        return ShardAnswer(scope, str(outcome.status), outcome.detail)
    if checkpoint is None:
        begins = _BEGINS.get(operation.name)
        if begins is None:
            return ShardAnswer(scope, PENDING, "was never started; whoever starts it obeys")
        return ShardAnswer(scope, "done", begins)
    if checkpoint.state is CheckpointState.DONE:
        return ShardAnswer(scope, "done", "has ended: everything in it is settled")
    if checkpoint.operation_seq >= operation.sequence:
        return ShardAnswer(scope, "done", "was started after the command came, as it asks")
    if checkpoint.owner is not None:
        return ShardAnswer(scope, PENDING, f"replica {replica_of(checkpoint.owner)} owns it and has not obeyed yet")
    where = "whoever takes it obeys" if code else "no replica with its code has taken it; deploy that version"
    return ShardAnswer(scope, PENDING, f"nobody owns it now; {where}")
