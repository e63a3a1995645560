"""What a shard makes of the operations about re-delivery, dead letters and parked keys.

Owns how each is decided by the shard's owner: where a range begins and ends, whether markers still prove what has to be
proven, which entries a wish is for. Must not know who asked, or how what is decided here is carried out afterwards.

Invariants: nothing is committed here but wishes, which may be noted again; a range is refused before anything is
touched where an event in it could neither be proven new nor left alone.
"""

from daemon.actors.made import Made
from daemon.actors.runtime import Runtime
from daemon.core.checkpoint import Checkpoint
from daemon.core.cursor import told
from daemon.core.identity import Scope
from daemon.core.operations import Obeyed, Operation, OutcomeStatus, ShardOutcome
from daemon.core.positions import position_text
from daemon.core.redelivery import Order, Refusal, aborted, begun
from daemon.core.waiting import Wish, heads, names
from daemon.ports.ranges import NOW, beyond_the_horizon, located


async def rewind(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """Deliver again from where the operation says up to the live position."""
    return await _begin(runtime, scope, checkpoint, operation, str(operation.arguments["to"]), NOW)


async def replay(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """Deliver a bounded range again."""
    arguments = operation.arguments
    return await _begin(runtime, scope, checkpoint, operation, str(arguments["from"]), str(arguments["to"]))


async def _begin(
    runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation, since: str, until: str
) -> Made:
    source = runtime.sources[scope.source]
    if not (source.traits.positioned and source.traits.rereadable):
        return _refused(
            checkpoint, Refusal(f"source {scope.source!r} cannot be read again", "rebuild from another log")
        )
    try:
        after, to = await located(source, scope.shard, since), await located(source, scope.shard, until)
    except ValueError as error:
        return _refused(checkpoint, Refusal(str(error), "name the range again"))
    command = "rewind" if operation.name == "rewind" else "replay"
    begins = checkpoint.position if after is None else after
    order = Order(str(operation.sequence), command, begins, to, runtime.clock.now())
    result = begun(checkpoint, order)
    if isinstance(result, Refusal):
        return _refused(checkpoint, result)
    cursor = result.redelivery
    if cursor is not None:
        waiting = (await runtime.store.waiting(scope)).within(cursor.after, cursor.until)
        spec = runtime.specs[scope.of]
        refusal = await beyond_the_horizon(source, spec, scope, checkpoint, waiting)
        if refusal is not None:
            return _refused(checkpoint, refusal)
        detail = f"delivers again what lies after {position_text(cursor.after)} up to {position_text(cursor.until)}"
        return Made(Obeyed(result, OutcomeStatus.UNDERWAY, detail))
    return Made(Obeyed(result, OutcomeStatus.DONE, "nothing to deliver again"))  # pragma: no cover - begun sets it


async def abort(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """End the re-delivery that is under way."""
    now = runtime.clock.now()
    result = aborted(checkpoint, f"ended by {operation.by.label} (operation {operation.sequence})", now)
    if isinstance(result, Refusal):
        return Made(Obeyed(checkpoint, OutcomeStatus.DONE, result.reason))
    cursor = result.redelivery
    if cursor is None:  # pragma: no cover - aborted keeps it
        return Made(Obeyed(checkpoint, OutcomeStatus.DONE, "nothing to end"))
    detail = told(cursor)
    outcomes: tuple[ShardOutcome, ...] = ()
    if cursor.id.isdigit():
        figures = {"position": position_text(cursor.position), **cursor.counters}
        outcomes = (
            ShardOutcome(int(cursor.id), scope, OutcomeStatus.ABORTED, detail, {}, figures, runtime.replica, now),
        )
    return Made(Obeyed(result, OutcomeStatus.DONE, detail), outcomes=outcomes)


def _refused(checkpoint: Checkpoint, refusal: Refusal) -> Made:
    return Made(Obeyed(checkpoint, OutcomeStatus.REFUSED, f"{refusal.reason}; {refusal.remedy}"))


# ----------------------------------------------------------------------------------------------------------- wishes


async def retry(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """Note on the dead letters that the operation names that they are to be folded again."""
    return await _wish_letters(runtime, scope, checkpoint, operation, Wish.RETRY)


async def discard(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """Note on the dead letters that the operation names that they are to be removed."""
    return await _wish_letters(runtime, scope, checkpoint, operation, Wish.DISCARD)


async def _wish_letters(
    runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation, wish: Wish
) -> Made:
    waiting = await runtime.store.waiting(scope)
    refs = [note.ref for note in waiting.letters if names(operation.arguments, note)]
    found = await runtime.store.wish(scope, refs, wish)
    what = "folded again, out of the order of their keys" if wish is Wish.RETRY else "removed"
    return Made(Obeyed(checkpoint, OutcomeStatus.DONE, f"{found} dead letters are to be {what}"))


async def release(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """Note on the parked keys that the operation names that they are to be released."""
    refs = heads(await runtime.store.waiting(scope), operation.arguments.get("key"))
    found = await runtime.store.wish(scope, refs, Wish.RELEASE)
    return Made(Obeyed(checkpoint, OutcomeStatus.DONE, f"{found} parked keys are to be released"))
