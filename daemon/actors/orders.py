"""What a shard makes of the operations about re-delivery, dead letters and parked keys.

Owns how each is decided by the shard's owner: where a range begins and ends, whether markers still prove what has to be
proven, which entries a wish is for. Must not know who asked, or how what is decided here is carried out afterwards.

Invariants: nothing is committed here but wishes, which may be noted again; a range is refused before anything is
touched where an event in it could neither be proven new nor left alone.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from daemon.actors.made import Made
from daemon.actors.redelivery import told
from daemon.actors.runtime import Runtime
from daemon.core.checkpoint import Checkpoint
from daemon.core.commands import Plain
from daemon.core.identity import Scope
from daemon.core.operations import Obeyed, Operation, OutcomeStatus, ShardOutcome
from daemon.core.planner import retention_horizon
from daemon.core.positions import Position, parse_position, position_text
from daemon.core.projection import Dedup
from daemon.core.redelivery import Order, Refusal, aborted, begun
from daemon.core.waiting import LetterNote, LetterRef, ParkedRef, Waiting, Wish
from daemon.ports.source import Source

EARLIEST, NOW = "earliest", "now"
_POSITION = re.compile(r"start|[0-9]+(\.[0-9]+)*")


# ----------------------------------------------------------------------------------------------------- re-delivery


async def located(source: Source, shard: str, text: str) -> Position | None:
    """Return the position that `earliest`, a position or an ISO time means for a shard; None for `now`.

    A time means the position before its first event. Raises ValueError naming the forms, SourceUnavailable.
    """
    if text == NOW:
        return None
    if text == EARLIEST:
        return await source.locate(shard, EARLIEST)
    if _POSITION.fullmatch(text):
        return parse_position(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r:.80} is not 'earliest', 'now', a position such as 42 or 3.1024, or a time (ISO 8601)"
        raise ValueError(message) from None
    return await source.locate(shard, moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


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
        refusal = await beyond_the_horizon(runtime, scope, checkpoint, cursor.after, cursor.until)
        if refusal is not None:
            return _refused(checkpoint, refusal)
        detail = f"delivers again what lies after {position_text(cursor.after)} up to {position_text(cursor.until)}"
        return Made(Obeyed(result, OutcomeStatus.UNDERWAY, detail))
    return Made(Obeyed(result, OutcomeStatus.DONE, "nothing to deliver again"))  # pragma: no cover - begun sets it


async def beyond_the_horizon(
    runtime: Runtime, scope: Scope, checkpoint: Checkpoint, after: Position, until: Position
) -> Refusal | None:
    """Return why a range is refused: something listed in it is older than markers are kept. Raises SourceUnavailable.

    What was applied needs no marker, its position proves it; only what was not has to be proven new.
    """
    spec = runtime.specs[scope.of]
    horizon = retention_horizon(checkpoint.watermark, spec.marker_retention)
    if spec.dedup is Dedup.SEQUENCE or not checkpoint.caught_up or horizon is None:
        return None
    part = (await runtime.store.waiting(scope)).within(after, until)
    if not (part.skipped or part.letters or part.parked):
        return None
    edge = await runtime.sources[scope.source].locate(scope.shard, horizon)
    old = part.within(after, min(edge, until))
    count = len(old.letters) + len(old.parked)
    if not (count or old.skipped):
        return None
    ranges = f" and {len(old.skipped)} skipped ranges" if old.skipped else ""
    return Refusal(
        f"{count} dead letters and parked events{ranges} in this range are older than markers are kept "
        f"({spec.marker_retention} behind the watermark {checkpoint.watermark}): nothing can prove them new",
        f"begin after {position_text(edge)}; retry dead letters by name (`dead-letters retry`), release keys "
        "(`keys release`), or rebuild the projection",
    )


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


def names(arguments: Mapping[str, Plain], note: LetterNote) -> bool:
    """Tell whether a filter (`key`, `reason`, `handler`, `event`, `position`, or `every`) means a dead letter."""
    filters = ("key", "reason", "handler", "event", "position")
    wanted = {name: arguments[name] for name in filters if arguments.get(name)}
    if not wanted:
        return bool(arguments.get("every"))
    has = {
        "key": note.key,
        "reason": note.reason,
        "handler": note.handler,
        "event": note.event_id,
        "position": position_text(note.position),
    }
    return all(has[name] == value for name, value in wanted.items())


async def release(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """Note on the parked keys that the operation names that they are to be released."""
    refs = heads(await runtime.store.waiting(scope), operation.arguments.get("key"))
    found = await runtime.store.wish(scope, refs, Wish.RELEASE)
    return Made(Obeyed(checkpoint, OutcomeStatus.DONE, f"{found} parked keys are to be released"))


def heads(waiting: Waiting, key: object = None) -> list[LetterRef | ParkedRef]:
    """Return the first event behind each parked key, or behind `key` alone."""
    return [queue[0].ref for name, queue in waiting.queues.items() if key in {None, name}]
