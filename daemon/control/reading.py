"""Reading: how everything stands, for people: status, shards, lag, audit, provenance.

Owns how store, logs and the shards that run here are put together. Must not change anything.

Invariants: what a shard does here is told as its actor sees it, what it does elsewhere as its checkpoint says; a log
that does not answer leaves its figures out, and nothing else.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio

from daemon.control.answers import answered
from daemon.control.landscape import Found, Landscape, shard_of
from daemon.control.together import both
from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commands import Explain, Target
from daemon.core.errors import SourceProblem
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.leases import replica_of
from daemon.core.lifecycle import ShardState
from daemon.core.operations import Operation, ShardOutcome, Standing
from daemon.core.positions import Position, parse_position, position_text
from daemon.core.reports import (
    AuditedShard,
    AuditEntry,
    AuditReport,
    Explanation,
    LagReport,
    ProjectionStatus,
    Provenance,
    ShardLag,
    ShardsReport,
    ShardStatus,
    StatusReport,
    TopRow,
)
from daemon.ports.clock import Clock
from daemon.ports.shards import LiveShard, Shards
from daemon.ports.source import Backlog, Source
from daemon.ports.store import Store

_STUCK = frozenset({"paused", "parked", "retrying", "fenced"})
_PARALLEL = 16
"""Logs asked for their backlog at once."""
_RATE_SECONDS = 0.25
"""Between the two looks that `lag` takes to tell a rate."""
_SOURCE = re.compile(r"(?P<shard>.*?)@(?P<position>start|[0-9.]+)#(?P<event>.*)", re.DOTALL)


@dataclass(slots=True)
class Reading:
    """Answers queries. `marked`: the generations that keep a marker of each event."""

    store: Store
    sources: Mapping[str, Source]
    landscape: Landscape
    here: Shards
    clock: Clock
    marked: Collection[Generation] = ()
    _last: dict[Scope, tuple[float, int]] = field(default_factory=dict[Scope, tuple[float, int]])
    """When each shard was looked at, on the monotonic clock, and how many events it had settled."""

    # Status

    async def status(self, target: Target) -> StatusReport:
        """Tell how every projection and its stuck shards stand."""
        found, presences = await both(lambda: self.landscape.find(target), self.store.presences)
        live = self._live()
        projections = tuple([self._projection(one, target, live) for one in found])
        names = sorted({*presences, self.here.replica})
        return StatusReport(self.clock.now(), self.here.replica, tuple(names), projections)

    async def shards(self, target: Target) -> ShardsReport:
        """Tell how every shard stands."""
        found, live, shards = await self.landscape.find(target), self._live(), list[ShardStatus]()
        for one in found:
            shards += self._statuses(one, target, live)
        return ShardsReport(self.clock.now(), tuple(shards))

    def _live(self) -> dict[Scope, LiveShard]:
        return {one.scope: one for one in self.here.live()}

    def _projection(self, found: Found, target: Target, live: Mapping[Scope, LiveShard]) -> ProjectionStatus:
        standing, only = found.standing, shard_of(target)
        states, stuck = Counter[str](), list[ShardStatus]()
        for shard in found.shards:
            if only not in {None, shard}:
                continue
            scope = Scope(*found.generation, *shard)
            here = live.get(scope)
            if here is not None and _is_well(here, standing):  # its checkpoint need not be looked at
                states[str(here.state)] += 1
                continue
            status = self._shard(scope, found.checkpoints.get(scope), standing, here)
            states[status.state] += 1
            if status.state in _STUCK or status.pending:
                stuck.append(status)
        return ProjectionStatus(
            generation=found.generation,
            version=found.record.version,
            live=found.record.live,
            code=found.generation in self.here.generations,
            shards=states.total(),
            states=dict(states),
            stuck=tuple(stuck),
            paused=standing.every.paused,
            newest=standing.sequence,
            underway=tuple(f"{one.name} (operation {one.sequence})" for one in standing.open),
        )

    def _statuses(self, found: Found, target: Target, live: Mapping[Scope, LiveShard]) -> list[ShardStatus]:
        only = shard_of(target)
        scopes = [Scope(*found.generation, *shard) for shard in found.shards if only in {None, shard}]
        return [self._shard(scope, found.checkpoints.get(scope), found.standing, live.get(scope)) for scope in scopes]

    def _shard(
        self, scope: Scope, checkpoint: Checkpoint | None, standing: Standing, live: LiveShard | None
    ) -> ShardStatus:
        state = _state(checkpoint, live)
        stuck = stuck_at(checkpoint, live) if state in _STUCK else None
        owner = None if checkpoint is None or checkpoint.owner is None else replica_of(checkpoint.owner)
        newest = standing.of(scope.shard_id).sequence
        behind = checkpoint is not None and checkpoint.state is not CheckpointState.DONE
        behind = behind and checkpoint is not None and newest > checkpoint.operation_seq
        return ShardStatus(
            scope=scope,
            state=state,
            replica=owner,
            here=live is not None,
            position=None if checkpoint is None else position_text(checkpoint.position),
            watermark=None if checkpoint is None else checkpoint.watermark,
            caught_up=checkpoint is not None and checkpoint.caught_up,
            epoch=0 if checkpoint is None else checkpoint.epoch,
            counters={} if checkpoint is None else checkpoint.counters,
            why=_why(checkpoint, live) if state in _STUCK else None,
            since=self._since(checkpoint, live) if state in _STUCK else None,
            stuck_at=None if stuck is None else position_text(stuck),
            leave=_leave(scope, state, stuck),
            restarts=0 if live is None else live.restarts,
            retry_seconds=None if live is None else live.retry_seconds,
            pending=(newest,) if behind else (),
        )

    def _since(self, checkpoint: Checkpoint | None, live: LiveShard | None) -> datetime | None:
        if checkpoint is not None and checkpoint.since is not None and checkpoint.state in _STILL:
            return checkpoint.since
        return None if live is None else self.clock.now() - timedelta(seconds=live.seconds)

    # Lag

    async def lag(self, target: Target) -> LagReport:
        """Tell how far every shard is behind; two short looks tell the rate."""
        found = await self.landscape.find(target)
        self._note(found)
        await self.clock.sleep(_RATE_SECONDS)
        return LagReport(self.clock.now(), tuple(await self._lags(target)))

    async def top(self, target: Target, interval: float, tell: Callable[[object], None]) -> object:
        """Tell how every shard stands, again and again, until cancelled."""
        while True:
            tell(TopRow(self.clock.now(), tuple(await self._lags(target))))
            await self.clock.sleep(max(0.1, interval))

    async def _lags(self, target: Target) -> list[ShardLag]:
        live, only = self._live(), shard_of(target)
        found = await self.landscape.find(target)
        rates = self._note(found)
        waiting = [
            (Scope(*one.generation, *shard), one.checkpoints.get(Scope(*one.generation, *shard)))
            for one in found
            for shard in one.shards
            if only in {None, shard}
        ]
        lags: dict[Scope, ShardLag] = {}
        limiter = anyio.CapacityLimiter(_PARALLEL)

        async def ask(scope: Scope, checkpoint: Checkpoint | None) -> None:
            async with limiter:
                state = _state(checkpoint, live.get(scope))
                lags[scope] = await self._lag(scope, checkpoint, state, rates.get(scope))

        async with anyio.create_task_group() as tasks:
            for scope, checkpoint in waiting:
                tasks.start_soon(ask, scope, checkpoint)
        return [lags[scope] for scope, _ in waiting]

    async def _lag(self, scope: Scope, checkpoint: Checkpoint | None, state: str, rate: float | None) -> ShardLag:
        backlog, problem = Backlog(), None
        position = None if checkpoint is None else checkpoint.position
        if checkpoint is not None and scope.source in self.sources and state != "done":
            try:
                backlog = await self.sources[scope.source].backlog(scope.shard, checkpoint.position)
                problem = backlog.untold or None
            except SourceProblem as error:
                problem = str(error)
        waits = backlog.events or backlog.bytes
        seconds = None
        if checkpoint is not None and waits is not None and checkpoint.watermark is not None:
            seconds = max(0.0, (self.clock.now() - checkpoint.watermark).total_seconds()) if waits else 0.0
        eta = backlog.events / rate if backlog.events and rate else 0.0 if backlog.events == 0 else None
        return ShardLag(
            scope=scope,
            state=state,
            position=None if position is None else position_text(position),
            end=None if backlog.end is None else position_text(backlog.end),
            events=backlog.events,
            bytes=backlog.bytes,
            seconds=seconds,
            rate=rate,
            eta_seconds=eta,
            held=backlog.held,
            seconds_to_loss=backlog.seconds_to_loss,
            problem=problem,
        )

    def _note(self, found: Sequence[Found]) -> dict[Scope, float]:
        """Note how many events each shard has settled; return the rates since the last look, in events a second."""
        now, rates = self.clock.monotonic(), dict[Scope, float]()
        for one in found:
            for scope, checkpoint in one.checkpoints.items():
                count = checkpoint.counters.get("read", 0)
                before = self._last.get(scope)
                if before is not None and now > before[0]:
                    rates[scope] = max(0.0, (count - before[1]) / (now - before[0]))
                self._last[scope] = (now, count)
        return rates

    # Audit

    async def audit(self, target: Target, limit: int) -> AuditReport:
        """Tell the newest operations, newest first, and what became of each."""
        only, entries = shard_of(target), list[AuditEntry]()
        for found in await self.landscape.find(target):
            standing = await self.store.standing(found.generation)
            after = max(0, standing.sequence - max(1, limit))
            for operation in await self.store.operations(found.generation, after, max(1, limit)):
                if only is None or operation.shard in {None, only}:
                    entries.append(await self._entry(operation, found))
        entries.sort(key=lambda entry: (entry.at, entry.sequence), reverse=True)
        return AuditReport(tuple(entries[:limit]))

    async def _entry(self, operation: Operation, found: Found) -> AuditEntry:
        outcomes = {one.scope: one for one in await self.store.outcomes(operation.generation, operation.sequence)}
        scopes = sorted({*outcomes, *(Scope(*operation.generation, *shard) for shard in operation.expected)})
        code = operation.generation in self.here.generations
        shards = [_audited(operation, one, outcomes.get(one), found.checkpoints.get(one), code=code) for one in scopes]
        count = [shard.status for shard in shards].count
        label = operation.generation.label
        return AuditEntry(
            generation=operation.generation,
            sequence=operation.sequence,
            request=operation.request,
            command=operation.name,
            target=label if operation.shard is None else f"{label}:{operation.shard.label}",
            arguments=operation.arguments,
            by=operation.by,
            at=operation.at,
            done=count("done") + count("aborted"),
            pending=count("pending") + count("underway"),
            refused=count("refused"),
            shards=tuple(shards),
        )

    # Provenance

    async def explain(self, command: Explain) -> Explanation:
        """Tell which event last touched a row, in each generation asked about."""
        found = await self.landscape.find(command.target)
        key = RowKey(command.view, command.key)
        return Explanation(tuple([await self._provenance(one, key) for one in found]))

    async def _provenance(self, found: Found, key: RowKey) -> Provenance:
        generation = found.generation
        row = (await self.store.load_rows(generation, [key]))[key]
        label, position, event = parse_source(None if row is None else row.source)
        scope = next((one for one in found.checkpoints if one.shard_id.label == label), None)
        checkpoint = None if scope is None else found.checkpoints[scope]
        marked = "not kept"
        if event and generation in self.marked:
            marked = "found" if await self.store.find_markers(generation, [event]) else "absent"
        return Provenance(
            generation=generation,
            live=found.record.live,
            view=key.view,
            key=key.key,
            present=row is not None and row.attributes is not None,
            deleted=row is not None and row.attributes is None,
            version=None if row is None else row.version,
            src=None if row is None else row.source,
            source=None if scope is None else scope.source,
            shard=None if scope is None else scope.shard,
            position=None if position is None else position_text(position),
            event_id=event,
            sequences={} if row is None else row.sequences,
            marked=marked,
            commit_seq=None if checkpoint is None else checkpoint.commit_seq,
            at_or_below=None if checkpoint is None or position is None else position <= checkpoint.position,
            parked=await self._is_parked(found.checkpoints, key.key),
        )

    async def _is_parked(self, checkpoints: Mapping[Scope, Checkpoint], key: str) -> bool:
        for scope, checkpoint in checkpoints.items():
            if checkpoint.parked_seq and key in await self.store.parked_keys(scope):
                return True
        return False


_STILL = frozenset({CheckpointState.PAUSED, CheckpointState.PARKED, CheckpointState.DONE})
_FRESH = "new"
_RELEASED = "released"


def _state(checkpoint: Checkpoint | None, live: LiveShard | None) -> str:
    """Return a shard's state in one word: as its actor sees it, else as its checkpoint says."""
    if live is not None and live.state is not ShardState.FENCED:
        return str(live.state)
    if checkpoint is None:
        return _FRESH
    if checkpoint.state is CheckpointState.RUNNING and checkpoint.owner is None:
        return _RELEASED
    return str(checkpoint.state)


def _is_well(live: LiveShard, standing: Standing) -> bool:
    """Tell whether a shard that is run here is not stuck and has obeyed all that it was asked."""
    if live.state is ShardState.FENCED or live.state in _STUCK or live.obeyed is None:
        return False
    return live.obeyed >= standing.of(live.scope.shard_id).sequence


def stuck_at(checkpoint: Checkpoint | None, live: LiveShard | None) -> Position | None:
    """Return the first record that a shard could not settle, as far as it is known."""
    if live is not None and live.stuck_at is not None:
        return live.stuck_at
    return None if checkpoint is None else checkpoint.stuck_at


def _why(checkpoint: Checkpoint | None, live: LiveShard | None) -> str | None:
    if live is not None and live.reason:
        return live.reason
    return None if checkpoint is None else checkpoint.reason


def _leave(scope: Scope, state: str, stuck: Position | None) -> str | None:
    """Return the command that leaves a state."""
    match state:
        case "paused":
            return f"projectionctl resume {scope.label}"
        case "parked":
            resume = f"projectionctl resume {scope.label}"
            if stuck is None:
                return resume
            skip = f"projectionctl skip {scope.of.label} {scope.shard_id.label} --position {position_text(stuck)}"
            return f"{resume} (once mended); or, to pass over that event: {skip}"
        case "retrying":
            return f"projectionctl restart {scope.label} (tries again at once)"
        case _:
            return None


def _audited(
    operation: Operation,
    scope: Scope,
    outcome: ShardOutcome | None,
    checkpoint: Checkpoint | None,
    *,
    code: bool,
) -> AuditedShard:
    answer = answered(operation, scope, outcome, checkpoint, code=code)
    if outcome is None:
        return AuditedShard(scope, answer.status, answer.detail, {}, {}, None, None)
    return AuditedShard(
        scope, answer.status, answer.detail, outcome.before, outcome.after, outcome.replica, outcome.at
    )  # fmt: skip


def parse_source(source: str | None) -> tuple[str | None, Position | None, str | None]:
    """Return the shard's label, the position and the event id inside a row's `_src`, as far as it holds them."""
    found = None if source is None else _SOURCE.fullmatch(source)
    if found is None:
        return None, None, None
    return found["shard"], parse_position(found["position"]), found["event"] or None
