"""Re-delivery planned, refused beforehand, and reported.

Owns what a plan says and what makes its id. Must not know how a range is folded: the replica's shards rehearse it, and
the shards' owners carry it out.

Invariants: planning changes nothing; a plan's id covers all that the plan rests on (the ranges, the code, what waits in
them), so that `replay apply` finds out whenever any of it changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import blake2b

from daemon.control.landscape import Found, Landscape
from daemon.core.again import (
    CursorReport,
    CursorsReport,
    PlanReport,
    ReplayApply,
    ReplayPlan,
    ReplayStatus,
    Rewind,
    RowChange,
    ShardPlan,
)
from daemon.core.checkpoint import Checkpoint
from daemon.core.commands import Target
from daemon.core.cursor import Redelivery, told
from daemon.core.errors import CommandRefused, LogLost, RefusalCode
from daemon.core.identity import Generation, Scope
from daemon.core.leases import replica_of
from daemon.core.positions import position_text
from daemon.core.projection import ProjectionSpec
from daemon.core.redelivery import Order, Refusal, begun
from daemon.core.waiting import Waiting
from daemon.ports.clock import Clock
from daemon.ports.ranges import beyond_the_horizon, located
from daemon.ports.shards import Rehearsal, Shards
from daemon.ports.source import Source
from daemon.ports.store import Store

DOLLARS_PER_UNIT = 0.625e-6
"""A write request unit on demand in us-east-1."""
_SHOWN_CHANGES = 100
_ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class Range:
    """One shard's part of a plan: its checkpoint as it would begin, or why it would be refused."""

    scope: Scope
    checkpoint: Checkpoint
    waiting: Waiting
    refusal: Refusal | None

    @property
    def cursor(self) -> Redelivery | None:
        """The second cursor as it would begin."""
        return None if self.refusal is not None else self.checkpoint.redelivery

    @property
    def replica(self) -> str:
        """Who would carry it out, as far as it is known."""
        return "" if self.checkpoint.owner is None else replica_of(self.checkpoint.owner)


@dataclass(slots=True)
class Replays:
    """Answers about re-delivery. `specs`: the code of each generation that is here."""

    store: Store
    sources: Mapping[str, Source]
    specs: Mapping[Generation, ProjectionSpec]
    shards: Shards
    clock: Clock
    landscape: Landscape

    async def plan(self, query: ReplayPlan) -> PlanReport:
        """Rehearse a range and say what it comes to. Raises CommandRefused, SourceProblem, StoreProblem."""
        found = await self._one(query.target)
        spec = self._spec(found)
        ranges = await self._ranges(found, spec, query.target, query.since, query.until)
        plans: list[ShardPlan] = []
        changes: list[RowChange] = []
        units, more = 0.0, 0
        seconds: dict[str, float] = {}
        for one in ranges:
            cursor = one.cursor
            if cursor is None:
                plans.append(_refused_plan(one))
                continue
            try:
                rehearsed = await self.shards.rehearse(one.scope, one.checkpoint)
            except LogLost as problem:
                refusal = Refusal(str(problem), "name a later beginning, or rebuild the projection")
                plans.append(_refused_plan(replace(one, refusal=refusal)))
                continue
            plans.append(_shard_plan(one.scope, cursor, rehearsed))
            took = rehearsed.seconds + rehearsed.commit_seconds
            seconds[one.replica] = seconds.get(one.replica, 0.0) + took
            units += sum(rehearsed.units.values())
            if query.diff:
                room = _SHOWN_CHANGES - len(changes)
                changes += _changes(one.scope, rehearsed)[:room]
                more += rehearsed.rows
        return PlanReport(
            generation=found.generation,
            plan=plan_id(found.generation, spec, query.since, query.until, ranges),
            since=query.since,
            until=query.until,
            shards=tuple(plans),
            events=sum(plan.events for plan in plans),
            duplicates=sum(sum(plan.duplicates.values()) for plan in plans),
            late=sum(sum(plan.late.values()) for plan in plans),
            duration=timedelta(seconds=self._together(seconds)),
            units=units,
            price=units * DOLLARS_PER_UNIT,
            handlers=left_out(spec),
            changes=tuple(changes),
            more=max(0, more - len(changes)),
        )

    def _together(self, seconds: Mapping[str, float]) -> float:
        """Return how long replicas take that are each busy for so long; an embedded store has them wait for another."""
        alone = self.store.limits.units is None
        return sum(seconds.values()) if alone else max(seconds.values(), default=0.0)

    async def status(self, query: ReplayStatus) -> CursorsReport:
        """Say how far each shard's re-delivery has come. Raises CommandRefused, StoreProblem."""
        reports = [
            cursor_report(scope, checkpoint.redelivery)
            for found in await self.landscape.find(query.target)
            for scope, checkpoint in sorted(found.checkpoints.items())
            if checkpoint.redelivery is not None and _is_named(query.target, scope)
        ]
        return CursorsReport(self.clock.now(), tuple(reports))

    async def check(self, command: Rewind | ReplayApply) -> None:
        """Refuse before anything is accepted: another plan than the one shown, or a range that every shard refuses.

        Raises CommandRefused, SourceProblem, StoreProblem.
        """
        found = await self._one(command.target)
        spec = self._spec(found)
        since, until = (command.to, "now") if isinstance(command, Rewind) else (command.since, command.until)
        ranges = await self._ranges(found, spec, command.target, since, until)
        refusals = [one for one in ranges if one.refusal is not None]
        if refusals and len(refusals) == len(ranges) and refusals[0].refusal is not None:
            first = refusals[0]
            code = RefusalCode.CONFLICT if refusals[0].refusal.conflict else RefusalCode.REFUSED
            raise CommandRefused(code, f"{first.scope.label}: {refusals[0].refusal.reason}", refusals[0].refusal.remedy)
        if isinstance(command, ReplayApply):
            now = plan_id(found.generation, spec, since, until, ranges)
            if now != command.plan:
                raise CommandRefused(
                    RefusalCode.CONFLICT,
                    f"plan {command.plan!r:.80} is not what would be done now ({now}): its range, the code or what "
                    "waits in it changed, or it is another range's",
                    "look at the new plan (projectionctl replay plan), then apply that",
                )

    async def _one(self, target: Target) -> Found:
        """Return the one generation that is meant: the live one where no number is given."""
        if target.projection is None:
            raise CommandRefused(
                RefusalCode.USAGE, "which projection?", "name it: a re-delivery is never of everything"
            )
        found = await self.landscape.find(target)
        live = [one for one in found if one.record.live] if target.generation is None else found
        return (live or found[-1:])[0]

    def _spec(self, found: Found) -> ProjectionSpec:
        spec = self.specs.get(found.generation)
        if spec is None:
            raise CommandRefused(
                RefusalCode.REFUSED,
                f"this replica has no code of {found.generation.label} (version {found.record.version})",
                "ask a replica that runs it",
            )
        return spec

    async def _ranges(self, found: Found, spec: ProjectionSpec, target: Target, since: str, until: str) -> list[Range]:
        ranges = [
            await self._range(scope, checkpoint, spec, since, until)
            for scope, checkpoint in sorted(found.checkpoints.items())
            if _is_named(target, scope)
        ]
        if not ranges:
            raise CommandRefused(
                RefusalCode.REFUSED, f"no shard of {found.generation.label} was ever started", "let it start first"
            )
        return ranges

    async def _range(self, scope: Scope, checkpoint: Checkpoint, spec: ProjectionSpec, since: str, until: str) -> Range:
        source = self.sources[scope.source]
        nothing = Waiting()
        if not (source.traits.positioned and source.traits.rereadable):
            refusal = Refusal(f"source {scope.source!r} cannot be read again", "rebuild from another log")
            return Range(scope, checkpoint, nothing, refusal)
        try:
            after, to = await located(source, scope.shard, since), await located(source, scope.shard, until)
        except ValueError as error:
            raise CommandRefused(RefusalCode.USAGE, str(error), "name the range again") from None
        begins = checkpoint.position if after is None else after
        result = begun(checkpoint, Order("plan", "replay", begins, to, self.clock.now()))
        if isinstance(result, Refusal):
            return Range(scope, checkpoint, nothing, result)
        cursor = result.redelivery
        if cursor is None:  # pragma: no cover - begun sets it
            return Range(scope, result, nothing, None)
        waiting = (await self.store.waiting(scope)).within(cursor.after, cursor.until)
        refusal = await beyond_the_horizon(source, spec, scope, checkpoint, waiting)
        return Range(scope, result, waiting, refusal)


def plan_id(generation: Generation, spec: ProjectionSpec, since: str, until: str, ranges: list[Range]) -> str:
    """Return the id of a plan: a digest of all that it rests on."""
    parts = [generation.label, spec.code_digest, since, until]
    for one in ranges:
        cursor, waiting = one.cursor, one.waiting
        parts.append(one.scope.label)
        parts.append("refused" if cursor is None else position_text(cursor.after))
        if cursor is not None and until != "now":
            parts.append(position_text(cursor.until))
        parts += [f"{note.ref}" for note in (*waiting.letters, *waiting.parked)]
        parts += [f"{skip.after}-{skip.through}" for skip in waiting.skipped]
    return blake2b("\n".join(parts).encode(), digest_size=_ID_BYTES).hexdigest()


def left_out(spec: ProjectionSpec) -> tuple[str, ...]:
    """Return the handlers that no re-delivery runs."""
    return tuple(sorted({one.name for handlers in spec.handlers.values() for one in handlers if not one.replay}))


def cursor_report(scope: Scope, cursor: Redelivery) -> CursorReport:
    """Return a cursor as people see it."""
    counters = cursor.counters
    return CursorReport(
        scope=scope,
        command=cursor.command,
        operation=cursor.id,
        state=str(cursor.state),
        after=position_text(cursor.after),
        until=position_text(cursor.until),
        position=position_text(cursor.position),
        events=counters.get("read", 0),
        suppressed=cursor.suppressed,
        late=_late(counters),
        failed=counters.get("failed", 0),
        left=counters.get("left", 0),
        rows_changed=counters.get("rows", 0),
        events_per_second=cursor.events_per_second,
        began=cursor.began,
        ended=cursor.ended,
        summary=told(cursor),
    )


def _shard_plan(scope: Scope, cursor: Redelivery, rehearsed: Rehearsal) -> ShardPlan:
    counters = rehearsed.counters
    return ShardPlan(
        scope=scope,
        after=position_text(cursor.after),
        until=position_text(cursor.until),
        events=counters.get("read", 0),
        duplicates={layer: counters.get(f"duplicate_{layer}", 0) for layer in ("position", "marker", "version")},
        late=_late(counters),
        failed=counters.get("failed", 0),
        left=counters.get("left", 0),
        commits=rehearsed.commits,
        units=rehearsed.units,
        rows=rehearsed.rows,
    )


def _refused_plan(one: Range) -> ShardPlan:
    why = "" if one.refusal is None else f"{one.refusal.reason}; {one.refusal.remedy}"
    where = position_text(one.checkpoint.position)
    return ShardPlan(one.scope, where, where, 0, {}, {}, 0, 0, 0, {}, 0, why)


def _late(counters: Mapping[str, int]) -> dict[str, int]:
    names = {"late_dead_lettered": "dead-lettered", "late_parked": "parked", "late_skipped": "skipped"}
    return {name: counters[counter] for counter, name in names.items() if counters.get(counter)}


def _changes(scope: Scope, rehearsed: Rehearsal) -> list[RowChange]:
    return [
        RowChange(
            scope, key.view, key.key,
            None if before is None else before.attributes, None if after is None else after.attributes,
        )
        for key, before, after in rehearsed.changes
    ]  # fmt: skip


def _is_named(target: Target, scope: Scope) -> bool:
    return target.shard is None or (scope.source, scope.shard) == (target.source, target.shard)
