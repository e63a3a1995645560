"""Operations: commands as they are kept, in order, and what each shard makes of them. Pure.

Theory of operation. A generation has one `Standing`: the number of its newest operation, whether its shards are to run,
and the operations that exclude others. A command is accepted by writing its `Operation` and the next `Standing`
together, by compare-and-set on the number. From then on it is carried out by the shards' owners alone: each obeys what
is newer than the `operation_seq` of its checkpoint, in order, and commits the outcome with the checkpoint. A shard that
was never taken begins as the standing says; taking one holds only while the standing is the one that was read.

Invariants: a shard obeys each operation at most once, whoever owns it; whoever reads the standing after an operation
was accepted sees it; two that exclude each other are never both under way on one shard.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commands import Actor, Plain
from daemon.core.errors import OperationsMoved
from daemon.core.identity import Generation, Scope, ShardId
from daemon.core.positions import Position, parse_position, position_text


@dataclass(frozen=True, slots=True)
class Operation:
    """One accepted command, for one generation.

    `sequence` counts a generation's operations from 1. `request` is the client's id, the same command sent again has
    the same. `shard`: None for every shard, also those that start later. `expected`: the shards that are waited for:
    those known when it was accepted.
    """

    generation: Generation
    sequence: int
    request: str
    name: str
    arguments: Mapping[str, Plain]
    shard: ShardId | None
    expected: tuple[ShardId, ...]
    by: Actor
    at: datetime

    def concerns(self, scope: Scope) -> bool:
        """Tell whether a scope is to obey it."""
        return scope.of == self.generation and self.shard in {None, scope.shard_id}

    @property
    def label(self) -> str:
        """`operation 7 (pause by alice@web-1)`, for reasons and messages."""
        return f"operation {self.sequence} ({self.name} by {self.by.label})"


class OutcomeStatus(StrEnum):
    """What a shard made of an operation."""

    DONE = "done"
    REFUSED = "refused"
    """What the shard found forbids it; nothing changed."""
    UNDERWAY = "underway"
    """Begun; a later outcome of the same operation takes this one's place."""
    ABORTED = "aborted"


SETTLED = frozenset({OutcomeStatus.DONE, OutcomeStatus.REFUSED, OutcomeStatus.ABORTED})
"""Outcomes after which nothing more comes."""


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """What one shard made of one operation, committed with its checkpoint.

    `before` and `after`: the checkpoint's values that matter (state, position, epoch), and figures.
    """

    sequence: int
    scope: Scope
    status: OutcomeStatus
    detail: str
    before: Mapping[str, Plain]
    after: Mapping[str, Plain]
    replica: str
    at: datetime


# --------------------------------------------------------------------------------------------------- the standing


class Stand(NamedTuple):
    """What the newest operation asks of a shard: to stand still for the reason `paused`, or (None) to run."""

    sequence: int = 0
    paused: str | None = None


_UNASKED = Stand()


@dataclass(frozen=True, slots=True)
class OpenOperation:
    """An operation that excludes others until every shard it is about has settled it."""

    sequence: int
    name: str
    shard: ShardId | None

    def meets(self, shard: ShardId | None) -> bool:
        """Tell whether both are about some shard."""
        return shard is None or self.shard is None or shard == self.shard


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a generation's operations stand. `shards` holds what differs from `every`, or is newer."""

    sequence: int = 0
    every: Stand = _UNASKED
    shards: Mapping[ShardId, Stand] = field(default_factory=dict[ShardId, Stand])
    open: tuple[OpenOperation, ...] = ()

    def of(self, shard: ShardId) -> Stand:
        """Return what is asked of one shard; its sequence is that of the newest operation about it."""
        own = self.shards.get(shard)
        if own is None:
            return self.every
        return Stand(max(own.sequence, self.every.sequence), own.paused)

    def after(self, operation: Operation) -> "Standing":
        """Return the standing once `operation`, the next one, is accepted."""
        sequence, shard = operation.sequence, operation.shard
        held, every = dict(self.shards), self.every
        if shard is not None:
            held[shard] = Stand(sequence, _paused(operation, self.of(shard).paused))
        elif operation.name in _SETS_STATE:
            every, held = Stand(sequence, _paused(operation, None)), {}
        else:
            every = Stand(sequence, every.paused)
            held = {one: stand for one, stand in held.items() if stand.paused != every.paused}
        # Whoever obeys this one has obeyed those before it: they stand in no later operation's way any more.
        ended = ENDS.get(operation.name, frozenset[str]())
        opened = tuple(one for one in self.open if one.name not in ended or shard not in {None, one.shard})
        if operation.name in EXCLUDES:
            opened = (*opened, OpenOperation(sequence, operation.name, shard))
        return Standing(sequence, every, held, opened)

    def without(self, settled: Collection[int]) -> "Standing":
        """Return the standing with these operations no longer in others' way."""
        return replace(self, open=tuple(one for one in self.open if one.sequence not in settled))

    def begins(self, initial: Checkpoint, shard: ShardId) -> Checkpoint:
        """Return what a shard begins with that was never taken."""
        stand = self.of(shard)
        state = CheckpointState.RUNNING if stand.paused is None else CheckpointState.PAUSED
        return replace(initial, state=state, reason=stand.paused, operation_seq=self.sequence)


def _paused(operation: Operation, before: str | None) -> str | None:
    if operation.name in {"pause", "drain"}:
        return stopped_by(operation)
    return None if operation.name == "resume" else before


_SETS_STATE = frozenset({"pause", "drain", "resume"})

EXCLUDES: dict[str, frozenset[str]] = {
    "skip": frozenset({"skip", "rewind", "replay.apply"}),
    "rewind": frozenset({"skip", "rewind", "replay.apply"}),
    "replay.apply": frozenset({"skip", "rewind", "replay.apply"}),
}
"""Which commands wait for the end of which on the same shard. All others come one after the other, in any order."""

ENDS = {"replay.abort": frozenset({"rewind", "replay.apply"})}
"""Which commands end which that are under way."""

LEAVING = {"rewind": "replay abort", "replay.apply": "replay abort"}
"""The command that ends one which is under way."""


def check_seen(scope: Scope, stands: int, seen: int | None) -> None:
    """Raise OperationsMoved where the standing's sequence is no longer the one seen (None: it may be any)."""
    if seen is not None and stands != seen:
        raise OperationsMoved(f"{scope.label}: operation {stands} was accepted after {seen} was seen; looking again")


def conflict(standing: Standing, name: str, shard: ShardId | None) -> OpenOperation | None:
    """Return the operation under way that forbids this command, if one does."""
    excluded = EXCLUDES.get(name, frozenset())
    return next((one for one in standing.open if one.name in excluded and one.meets(shard)), None)


def due(operations: Iterable[Operation], scope: Scope, checkpoint: Checkpoint) -> list[Operation]:
    """Return what a scope has still to obey, oldest first."""
    waiting = [one for one in operations if one.sequence > checkpoint.operation_seq and one.concerns(scope)]
    return sorted(waiting, key=lambda operation: operation.sequence)


# ------------------------------------------------------------------------------------------------------- obeying


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What a shard makes of an operation. `checkpoint` is as it stands after, its commit not numbered yet.

    `afresh`: the incarnation ends and the shard is taken again, all memory dropped.
    """

    checkpoint: Checkpoint
    status: OutcomeStatus
    detail: str
    afresh: bool = False


def stopped_by(operation: Operation) -> str:
    """Return the reason that a stopped shard shows."""
    said = operation.arguments.get("reason")
    verb = "drained" if operation.name == "drain" else "paused"
    return f"{verb} by {operation.by.label} (operation {operation.sequence})" + (f": {said}" if said else "")


def stop(checkpoint: Checkpoint, operation: Operation) -> Obeyed:
    """Obey `pause` or `drain`: a parked shard becomes a paused one, which still says why it was parked."""
    reason = stopped_by(operation)
    if checkpoint.state is CheckpointState.PARKED:
        reason += f"; it was parked before: {checkpoint.reason}"
    after = replace(checkpoint, state=CheckpointState.PAUSED, reason=reason)
    if checkpoint.state is CheckpointState.PAUSED:
        return Obeyed(after, OutcomeStatus.DONE, "stood still already")
    where = position_text(checkpoint.position)
    return Obeyed(after, OutcomeStatus.DONE, f"stands still; everything up to {where} is committed")


def go_on(checkpoint: Checkpoint, operation: Operation) -> Obeyed:
    """Obey `resume`."""
    del operation
    if checkpoint.state is CheckpointState.RUNNING:
        return Obeyed(checkpoint, OutcomeStatus.DONE, "was running already")
    after = replace(checkpoint, state=CheckpointState.RUNNING, reason=None, stuck_at=None)
    return Obeyed(after, OutcomeStatus.DONE, f"goes on after {position_text(checkpoint.position)}", afresh=True)


def start_afresh(checkpoint: Checkpoint, operation: Operation) -> Obeyed:
    """Obey `restart`: what a person stopped stays stopped."""
    del operation
    if checkpoint.state is CheckpointState.PAUSED:
        return Obeyed(checkpoint, OutcomeStatus.DONE, "is paused, and stays so; it starts afresh when it is resumed")
    after = replace(checkpoint, state=CheckpointState.RUNNING, reason=None, stuck_at=None)
    return Obeyed(after, OutcomeStatus.DONE, f"starts afresh after {position_text(checkpoint.position)}", afresh=True)


OBEYING = {"pause": stop, "drain": stop, "resume": go_on, "restart": start_afresh}
"""Operations whose outcome the checkpoint alone decides."""


def skip_target(checkpoint: Checkpoint, operation: Operation) -> Position | Obeyed:
    """Return where `skip` moves to, or its refusal: the shard stands elsewhere than it was shown."""
    to = parse_position(str(operation.arguments["position"]))
    shown = operation.arguments.get("standing")
    here = position_text(checkpoint.position)
    if checkpoint.position >= to:
        detail = f"it stands at {here} already, at or past {position_text(to)}; nothing is skipped"
        return Obeyed(checkpoint, OutcomeStatus.REFUSED, detail)
    if shown is not None and shown != here:
        return Obeyed(checkpoint, OutcomeStatus.REFUSED, f"it moved on from {shown} to {here}; look again, then decide")
    return to


def skipped(checkpoint: Checkpoint, to: Position, *, count: int | None, incarnation: str | None) -> Obeyed:
    """Obey `skip`: the position moves, a parked shard goes on, a paused one stays paused.

    `count`: the events passed over, None where nobody can tell. `incarnation`: the log's identity at `to`.
    """
    counters = dict(checkpoint.counters)
    for name in ("read", "skipped"):
        if count:
            counters[name] = counters.get(name, 0) + count
    parked = checkpoint.state is CheckpointState.PARKED
    after = replace(
        checkpoint,
        position=to,
        incarnation=incarnation,
        counters=counters,
        state=CheckpointState.RUNNING if parked else checkpoint.state,
        reason=None if parked else checkpoint.reason,
        stuck_at=None,
        dead_run=0,
    )
    passed = "an unknown number of events" if count is None else f"{count} events"
    here, there = position_text(checkpoint.position), position_text(to)
    return Obeyed(after, OutcomeStatus.DONE, f"skipped {passed}, after {here} up to {there}", afresh=True)


def outcome_of(
    operation: Operation, scope: Scope, before: Checkpoint, obeyed: Obeyed, *, replica: str, at: datetime
) -> ShardOutcome:
    """Return the record of what a shard made of an operation."""
    return ShardOutcome(
        operation.sequence, scope, obeyed.status, obeyed.detail,
        _values(before), _values(obeyed.checkpoint), replica, at,
    )  # fmt: skip


def _values(checkpoint: Checkpoint) -> dict[str, Plain]:
    return {
        "state": str(checkpoint.state),
        "position": position_text(checkpoint.position),
        "epoch": checkpoint.epoch,
        "reason": checkpoint.reason,
    }


# -------------------------------------------------------------------------------------------------- stored forms


def operation_values(operation: Operation) -> dict[str, Any]:
    """Return an operation as plain values, without its generation."""
    return {
        "sequence": operation.sequence,
        "request": operation.request,
        "name": operation.name,
        "arguments": dict(operation.arguments),
        "shard": None if operation.shard is None else list(operation.shard),
        "expected": [list(shard) for shard in operation.expected],
        "uid": operation.by.uid,
        "user": operation.by.user,
        "host": operation.by.host,
        "pid": operation.by.pid,
        "at": operation.at.isoformat(),
    }


def operation_of(generation: Generation, values: Mapping[str, Any]) -> Operation:
    """Return the operation that `operation_values` wrote."""
    shard = values.get("shard")
    return Operation(
        generation=generation,
        sequence=values["sequence"],
        request=values["request"],
        name=values["name"],
        arguments=values["arguments"],
        shard=None if shard is None else ShardId(*shard),
        expected=tuple(ShardId(*one) for one in values["expected"]),
        by=Actor(values["uid"], values["user"], values["host"], values["pid"]),
        at=datetime.fromisoformat(values["at"]),
    )


def outcome_values(outcome: ShardOutcome) -> dict[str, Any]:
    """Return an outcome as plain values, without its generation."""
    return {
        "sequence": outcome.sequence,
        "source": outcome.scope.source,
        "shard": outcome.scope.shard,
        "status": str(outcome.status),
        "detail": outcome.detail,
        "before": dict(outcome.before),
        "after": dict(outcome.after),
        "replica": outcome.replica,
        "at": outcome.at.isoformat(),
    }


def shard_outcome_of(generation: Generation, values: Mapping[str, Any]) -> ShardOutcome:
    """Return the outcome that `outcome_values` wrote."""
    return ShardOutcome(
        sequence=values["sequence"],
        scope=Scope(*generation, values["source"], values["shard"]),
        status=OutcomeStatus(values["status"]),
        detail=values["detail"],
        before=values["before"],
        after=values["after"],
        replica=values["replica"],
        at=datetime.fromisoformat(values["at"]),
    )


def standing_values(standing: Standing) -> dict[str, Any]:
    """Return a standing as plain values."""
    return {
        "sequence": standing.sequence,
        "every": list(standing.every),
        "shards": [[*shard, *stand] for shard, stand in standing.shards.items()],
        "open": [[one.sequence, one.name, None if one.shard is None else list(one.shard)] for one in standing.open],
    }


def standing_of(values: Mapping[str, Any]) -> Standing:
    """Return the standing that `standing_values` wrote."""
    return Standing(
        sequence=values["sequence"],
        every=Stand(*values["every"]),
        shards={ShardId(source, shard): Stand(*stand) for source, shard, *stand in values["shards"]},
        open=tuple(
            OpenOperation(sequence, name, None if shard is None else ShardId(*shard))
            for sequence, name, shard in values["open"]
        ),
    )
