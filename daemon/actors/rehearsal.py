"""A re-delivery rehearsed: everything that it would do is done, but for the commits, which are kept instead of sent.

Owns the store that takes commits in without passing them on. Must not know who asks or what the figures are for.

Invariants: nothing is written, and the shard's owner is not disturbed: what waits, rows and markers are only read; the
very code that will deliver the range again decides what becomes of each event, so that the plan can be exact.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio
import anyio.lowlevel

from daemon.actors.committer import Committer
from daemon.actors.folder import Folder
from daemon.actors.pace import Pace
from daemon.actors.redelivery import Redeliverer
from daemon.actors.runtime import Runtime
from daemon.actors.shard import worst
from daemon.actors.sidework import side_work
from daemon.actors.spending import Spending
from daemon.actors.wake import Wake
from daemon.actors.windows import ShardWindow, WindowMemory
from daemon.core.batcher import Batcher, Chunk, Passed
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed, Limits, Outcome
from daemon.core.cursor import CursorState
from daemon.core.errors import EventProblem, LogLost
from daemon.core.events import Record
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.planner import count_actions
from daemon.core.positions import Position
from daemon.core.rows import RowWrite, StoredRow, WriteKind
from daemon.core.values import add_exact
from daemon.core.waiting import Waiting
from daemon.core.window import StoredSegment
from daemon.ports.clock import Clock
from daemon.ports.observer import Fact
from daemon.ports.shards import Rehearsal
from daemon.ports.store import Store

_CHANGES = 1_000
"""Rows whose changes are kept."""
_LOOKS = 3


class _Unheard:
    """An observer that nobody listens to: what is only rehearsed did not happen."""

    def see(self, fact: Fact) -> None:
        """Forget it."""


class _Unread:
    """Stands for the live reader, which a rehearsal never reads."""

    async def read(self, max_events: int, max_bytes: int) -> Chunk:
        """Wait for ever."""
        del max_events, max_bytes
        await anyio.sleep_forever()
        raise AssertionError

    async def skim(self, before: Position | None, max_bytes: int) -> Passed:
        """Wait for ever."""
        del before, max_bytes
        await anyio.sleep_forever()
        raise AssertionError

    def identity(self, last: Record | None, through: Position) -> str | None:
        """Know nothing."""
        del last, through

    async def acknowledge(self, records: Sequence[Record]) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Hold nothing."""


@dataclass(slots=True)
class Stage:
    """The part of a store that a re-delivery uses: reads go through, commits stay here."""

    store: Store
    commits: list[int] = field(default_factory=list[int])
    """How many items each commit touches."""
    units: dict[str, float] = field(default_factory=dict[str, float])
    rows: dict[RowKey, StoredRow | None] = field(default_factory=dict[RowKey, StoredRow | None])
    before: dict[RowKey, StoredRow | None] = field(default_factory=dict[RowKey, StoredRow | None])
    _markers: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def limits(self) -> Limits:
        """What one transaction may hold."""
        return self.store.limits

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        """Keep a commit."""
        del attempt
        self.commits.append(count_actions(commit)[0])
        if self.limits.units is not None:
            for kind, count in self.limits.units(commit).items():
                self.units[kind] = self.units.get(kind, 0.0) + count
        unknown = [write.key for write in commit.rows if write.key not in self.rows]
        if unknown:
            await self.load_rows(commit.scope.of, unknown)
        for write in commit.rows:
            self.rows[write.key] = _after(write, self.rows[write.key])
        self._markers.update({marker.event_id: marker.digest for marker in commit.markers})
        await anyio.lowlevel.checkpoint()
        return Committed()

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Read rows as they would stand."""
        unknown = [key for key in keys if key not in self.rows]
        if unknown:
            found = await self.store.load_rows(generation, unknown)
            self.rows.update(found)
            self.before.update(found)
        return {key: self.rows[key] for key in keys}

    async def find_markers(self, generation: Generation, event_ids: Collection[str]) -> Mapping[str, bytes]:
        """Read markers as they would stand."""
        found = dict(await self.store.find_markers(generation, event_ids))
        return found | {name: self._markers[name] for name in event_ids if name in self._markers}

    async def load_segments(self, scope: Scope, max_ids: int) -> Sequence[StoredSegment]:
        """Read packed markers."""
        return await self.store.load_segments(scope, max_ids)

    async def waiting(self, scope: Scope) -> Waiting:
        """Read what waits; what would be settled meanwhile is known to who asked."""
        return await self.store.waiting(scope)

    def changes(self) -> list[tuple[RowKey, StoredRow | None, StoredRow | None]]:
        """Return the rows that would change, before and after."""
        return [
            (key, self.before.get(key), row)
            for key, row in sorted(self.rows.items())
            if _shown(row) != _shown(self.before.get(key))
        ]


async def rehearse(runtime: Runtime, scope: Scope, checkpoint: Checkpoint) -> Rehearsal:
    """Go through the re-delivery that `checkpoint` holds as if it were carried out.

    Raises LogLost, SourceProblem, StoreProblem.
    """
    spec, clock = runtime.specs[scope.of], runtime.clock
    stage, wake = Stage(runtime.store), Wake()
    inner = replace(runtime, store=_as_store(stage), observer=_Unheard(), spending=Spending(), pace=Pace())
    window = ShardWindow(inner.store, scope, spec.marker_window, WindowMemory(spec.marker_window))
    parked = set(await runtime.store.parked_keys(scope)) if checkpoint.parked_seq else set[str]()
    batcher = Batcher(runtime.policy.batch_of(spec.name))
    folder = Folder(inner, scope, spec, checkpoint, batcher, _Unread(), window, parked)
    work = side_work(inner, folder, Committer(inner, scope, lambda _: None), spec, wake).redeliverer
    round_trip = await _round_trip(runtime, scope)
    began = clock.monotonic()
    try:
        await _deliver(work, wake, clock)
    except ExceptionGroup as group:  # alone: a group would hide it from who catches an outage
        raise worst(group) from group
    took = clock.monotonic() - began
    window.close()
    cursor = folder.checkpoint.redelivery
    if cursor is None or cursor.state is not CursorState.DONE:
        raise LogLost(cursor.reason if cursor is not None else "the range could not be read")
    changes = stage.changes()
    # While live events wait, a range gets a share of the time only.
    share = 1.0 if checkpoint.caught_up else runtime.policy.redelivery_share
    return Rehearsal(
        counters=cursor.counters,
        commits=len(stage.commits),
        units=stage.units,
        seconds=took / share,
        commit_seconds=runtime.pace.estimate(scope.projection, stage.commits, round_trip) / share,
        changes=changes[:_CHANGES],
        rows=len(changes),
    )


async def _deliver(work: Redeliverer, wake: Wake, clock: Clock) -> None:
    """Go through the whole range."""
    async with anyio.create_task_group() as tasks:
        work.attend(tasks)
        while work.active:
            due = work.due_in(clock.monotonic(), live=False)
            if due == 0.0:
                await work.step()
                await anyio.lowlevel.checkpoint()
            else:
                await wake.wait(due)
            work.attend(tasks)
        tasks.cancel_scope.cancel()


async def _round_trip(runtime: Runtime, scope: Scope) -> float:
    """Return the seconds that the store takes to answer at all, undisturbed: the shortest of a few looks."""
    looks: list[float] = []
    for _ in range(_LOOKS):
        began = runtime.clock.monotonic()
        await runtime.store.read_checkpoint(scope)
        looks.append(runtime.clock.monotonic() - began)
    return min(looks)


def _as_store(stage: Stage) -> Store:
    """Return the stage as the store that actors are given: they call nothing else of it."""
    return stage  # pyright: ignore[reportReturnType]


def _shown(row: StoredRow | None) -> object:
    return None if row is None else row.attributes


def _after(write: RowWrite, held: StoredRow | None) -> StoredRow | None:
    if write.kind is WriteKind.DELETE:
        return None
    version = (held.version if held else 0) + 1
    attributes = dict(write.attributes) if write.attributes is not None else None
    if write.kind is WriteKind.ADD:
        total = dict((held.attributes if held else None) or {})
        for name, amount in (attributes or {}).items():
            try:
                total[name] = add_exact(total.get(name), amount, name)
            except EventProblem:  # the store refuses it then, too; the event becomes a dead letter
                return held
        attributes = total
    return StoredRow(attributes, version, write.source, write.sequences or (held.sequences if held else {}))
