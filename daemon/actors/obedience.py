"""Obeying: what one shard makes of one operation, as the commit that says so.

Owns which operations there are for a shard, and the reading that some need before they can be decided. Must not know
when a shard obeys (the incarnation finds a moment at which nothing is in flight), or who asked.

Invariants: whatever comes of it, refusals too, is one commit that moves `operation_seq` to the operation and holds its
outcome, so that it is obeyed once; nothing is committed here.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from daemon.actors import orders
from daemon.actors.made import Made
from daemon.actors.runtime import Runtime
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit
from daemon.core.errors import LogLost
from daemon.core.events import Record
from daemon.core.identity import Scope
from daemon.core.operations import (
    OBEYING,
    Obeyed,
    Operation,
    OutcomeStatus,
    outcome_of,
    skip_target,
    skipped,
)
from daemon.core.positions import Position, position_text
from daemon.core.waiting import SkippedRange
from daemon.ports.source import Reader

_MOST_SKIPPED = 100_000
"""Events that one `skip` may pass over: more is a mistyped position."""
_READ_EVENTS = 5_000


type Handler = Callable[[Runtime, Scope, Checkpoint, Operation], Awaitable[Made]]
"""Decides what a shard makes of an operation, on top of a checkpoint. Raises SourceProblem, StoreProblem."""


async def obey(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> tuple[Obeyed, Commit]:
    """Return what a shard makes of its next operation, and the commit that makes it so.

    Raises SourceProblem, StoreProblem: it is not obeyed then, and stays the next one.
    """
    made = await _made(runtime, scope, checkpoint, operation)
    obeyed, now = made.obeyed, runtime.clock.now()
    changed = obeyed.checkpoint.state is not checkpoint.state
    after = replace(
        obeyed.checkpoint,
        commit_seq=checkpoint.commit_seq + 1,
        commit_id=runtime.clock.unique(),
        operation_seq=operation.sequence,
        since=now if changed else checkpoint.since,
    )
    obeyed = replace(obeyed, checkpoint=after)
    outcome = outcome_of(operation, scope, checkpoint, obeyed, replica=runtime.replica, at=now)
    return obeyed, Commit(scope, checkpoint.fence, after, skips=made.skips, outcomes=(*made.outcomes, outcome))


async def _made(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    decide = OBEYING.get(operation.name)
    if decide is not None:
        return Made(decide(checkpoint, operation))
    handler = HANDLERS.get(operation.name)
    if handler is not None:
        return await handler(runtime, scope, checkpoint, operation)
    detail = f"the release that runs it does not know {operation.name!r}; run a newer one, then ask again"
    return Made(Obeyed(checkpoint, OutcomeStatus.REFUSED, detail))


# -------------------------------------------------------------------------------------------------------- skipping


@dataclass(frozen=True, slots=True)
class _Range:
    """What lies before a skip's target: how many events, the last one, and the log's identity there."""

    count: int
    last: Position | None
    whole: bool
    incarnation: str | None


async def _skip(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, operation: Operation) -> Made:
    """Pass over a range: it is read once more, so that a mistyped position is refused and what is lost is counted."""
    to = skip_target(checkpoint, operation)
    if isinstance(to, Obeyed):
        return Made(to)
    try:
        found = await _passed_over(runtime, scope, checkpoint, to)
    except LogLost:  # what cannot be read any more is all the more reason to go on without it
        try:
            await _open_after(runtime, scope, to)
        except LogLost as lost:
            detail = f"the log cannot be read after {position_text(to)} either: {lost}"
            return Made(Obeyed(checkpoint, OutcomeStatus.REFUSED, detail))
        return _skipping(runtime, checkpoint, operation, skipped(checkpoint, to, count=None, incarnation=None))
    why = _wrong(found, to)
    if why is not None:
        return Made(Obeyed(checkpoint, OutcomeStatus.REFUSED, why))
    obeyed = skipped(checkpoint, to, count=found.count, incarnation=found.incarnation or checkpoint.incarnation)
    return _skipping(runtime, checkpoint, operation, obeyed, counted=True)


def _skipping(
    runtime: Runtime, checkpoint: Checkpoint, operation: Operation, obeyed: Obeyed, *, counted: bool = False
) -> Made:
    through, now = obeyed.checkpoint.position, runtime.clock.now()
    note = f"skipped by {operation.by.label} (operation {operation.sequence})"
    return Made(obeyed, (SkippedRange(checkpoint.position, through, now, note, counted),))


def _wrong(found: _Range, to: Position) -> str | None:
    """Return why no skip may end at `to`, None where it may: at an event's own position, as people are shown it."""
    if found.count > _MOST_SKIPPED:
        return f"more than {_MOST_SKIPPED} events lie before {position_text(to)}; skip at most that many at once"
    if found.last == to:
        return None
    last = "none" if found.last is None else f"the one at {position_text(found.last)}"
    if not found.whole:
        return f"the log does not reach {position_text(to)} yet; its last event is {last}"
    return f"no event stands at {position_text(to)}; the last one before it is {last}; give an event's own position"


async def _open_after(runtime: Runtime, scope: Scope, position: Position) -> None:
    """Make sure that the log can be followed from there, whatever log it is now. Raises LogLost."""
    reader = await runtime.sources[scope.source].open(scope.shard, position, None)
    await reader.aclose()


async def _passed_over(runtime: Runtime, scope: Scope, checkpoint: Checkpoint, to: Position) -> _Range:
    source = runtime.sources[scope.source]
    reader = await source.open(scope.shard, checkpoint.position, checkpoint.incarnation, until=to)
    try:
        return await _count(reader, to, runtime.policy.read_chunk_bytes)
    finally:
        await reader.aclose()


async def _count(reader: Reader, to: Position, chunk_bytes: int) -> _Range:
    count, last = 0, None
    newest: Record | None = None
    while True:
        chunk = await reader.read(_READ_EVENTS, chunk_bytes)
        count += len(chunk.records)
        if chunk.records:
            newest = chunk.records[-1]
            last = newest.position
        whole = chunk.through >= to
        if whole or chunk.at_end or chunk.ends_shard or count > _MOST_SKIPPED:
            return _Range(count, last, whole, reader.identity(newest, to) if whole else None)


HANDLERS: Mapping[str, Handler] = {
    "skip": _skip,
    "rewind": orders.rewind,
    "replay.apply": orders.replay,
    "replay.abort": orders.abort,
    "dead-letters.retry": orders.retry,
    "dead-letters.discard": orders.discard,
    "keys.release": orders.release,
}
"""Operations that need more than the checkpoint to be decided."""
