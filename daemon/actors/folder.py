"""The folder: turns waiting records into commits, one in flight and one prepared on top of it.

Theory of operation. Batch n+1 is folded while n is in flight, against an overlay of what n will have written; the
shard's owner is exclusive, so versions after n are known before n is. When n fails or shrinks, n+1 is thrown away and
its records go back to the batcher. Nothing final (a dead letter, a parked key, a parked shard) is decided on top of an
uncommitted batch.

Invariants: at most one commit is in flight; records leave the batcher in order and come back in order; `checkpoint` is
what the store holds as far as answers tell.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import cast

from daemon.actors.cache import RowCache
from daemon.actors.committer import Answer
from daemon.actors.runtime import Runtime
from daemon.actors.windows import ShardWindow
from daemon.core.batcher import Batcher, Chunk
from daemon.core.checkpoint import Checkpoint
from daemon.core.circuit import Circuit, Tripped, pass_through
from daemon.core.commit import Committed, Duplicate, Fenced, Rejected, RowMoved, TooLarge, Unlisted
from daemon.core.dedup import Evidence, Judged, Verdict, judge_by_event, judge_by_position, judge_packed
from daemon.core.errors import RowsContended, StoreRefused, Superseded
from daemon.core.events import Event, Record
from daemon.core.fold import Failure, FoldContext, Folded, Missing, Stop, Unsettled, fold
from daemon.core.identity import MAIN_VIEW, RowKey, Scope
from daemon.core.planner import Oversize, PlanContext, Planned, count_actions, plan, retention_horizon
from daemon.core.positions import Position
from daemon.core.projection import Dedup, OnLate, ProjectionSpec
from daemon.core.room import Room
from daemon.core.rows import Attributes, StoredRow, WriteKind
from daemon.core.view import UNLOADED, Base
from daemon.core.window import unpacked
from daemon.ports.source import Reader

_SUSPICIOUS_BATCHES = 20
"""Batches whose markers are read before folding, after a duplicate was met the hard way."""
_KNOWN_BATCHES = 4
"""Batches' worth of markers read ahead that are kept at most."""
_CEILING_GROWTH = 1.25
_PRELOADED_BATCHES = 8
"""Batches whose rows are looked for before the fold, after one that had to be folded again for want of rows."""


@dataclass(slots=True)
class Prepared:
    """A batch that became a commit, not answered yet.

    `overlay` is how its rows will stand once it is applied, `loaded` how many rows were fetched for it.
    """

    planned: Planned
    chunk: Chunk
    overlay: dict[RowKey, Base]
    circuit: Circuit
    loaded: int = 0


@dataclass(slots=True)
class Folder:
    """The fold of one owned shard."""

    runtime: Runtime
    scope: Scope
    spec: ProjectionSpec
    checkpoint: Checkpoint
    batcher: Batcher
    reader: Reader
    window: ShardWindow
    parked: set[str] = field(default_factory=set[str])
    suspicious: int = 1
    cache: RowCache = field(init=False)
    in_flight: Prepared | None = None
    prepared: Prepared | None = None
    blocked: bool = False
    """What waits can only be folded once the commit in flight has settled."""
    stop: Stop | Tripped | None = None
    """Why the shard cannot go past its position."""
    waiting_for_gap: bool = False
    ended: bool = False
    """The shard's end is settled."""
    _circuit: Circuit = field(default_factory=Circuit)
    _known: dict[str, bytes] = field(default_factory=dict[str, bytes])
    _condemned: dict[tuple[object, str], Failure] = field(default_factory=dict[tuple[object, str], Failure])
    _ceiling: int | None = None
    _room: Room = field(init=False)
    _row_conflicts: int = 0
    _preload: int = 0
    """Batches for which rows are still looked for before the fold."""
    _quick: bool = True

    def __post_init__(self) -> None:
        """Start with an empty cache, continuing the run of dead letters that the checkpoint remembers."""
        self.cache = RowCache(self.runtime.policy.row_cache_rows)
        self._room = Room(self.runtime.store.limits.actions)
        self._circuit = Circuit(run=self.checkpoint.dead_run)

    # Preparing

    async def prepare(self) -> None:
        """Fold the next batch into `prepared`, on top of what is in flight.

        Or find that it must wait (`blocked`, `stop`).
        """
        chunk = self.batcher.take(_least(self._ceiling, self._room.records))
        base = self._base
        if not chunk.records and not self._moves(chunk, base):
            self._drop_empty(chunk)
            return
        judged = await self._judge(chunk, base)
        loaded: dict[RowKey, StoredRow | None] = {}
        await self._look_ahead(chunk, loaded)
        count = len(chunk.records)
        while True:
            result = fold(judged, self._context(chunk, loaded), count)
            match result:
                case Missing(keys=keys):
                    if any(key.view == MAIN_VIEW for key in keys):
                        self._preload = _PRELOADED_BATCHES
                    if keys & self._written_in_flight():
                        break
                    await self._load(keys, loaded)
                case Unsettled():
                    break
                case Folded():
                    self._quick = self._quick and result.quick
                    circuit = self._final(result)
                    if circuit is None:
                        break
                    if isinstance(circuit, Tripped):
                        count = circuit.index
                        continue
                    planned = plan(result, chunk, self._plan_context(base, circuit))
                    if isinstance(planned, Oversize):
                        if result.count == 1 and result.verdicts[0] is Verdict.PARKED:
                            self.stop = Stop(0, planned.failure, parks=True)
                            break
                        count = self._shrink(result, chunk, planned)
                        continue
                    self._accept(planned, chunk, circuit, len(loaded))
                    return
        self.blocked = self.in_flight is not None
        self.batcher.put_back(chunk)

    def _drop_empty(self, chunk: Chunk) -> None:
        """Take in a chunk that is worth no commit; the shard's end is one only once what lies before it settled."""
        if not chunk.ends_shard:
            return
        if self.in_flight is None:
            self.ended = True
        else:
            self.blocked = True
            self.batcher.put_back(chunk)

    @property
    def must_wait(self) -> bool:
        """Tell whether folding ahead of the commit in flight is pointless.

        While duplicates are likely the batch ahead would be thrown away too often, on markers read too early.
        """
        if self.in_flight is None:
            return False
        return self.blocked or (self.suspicious > 0 and self.spec.dedup is Dedup.EVENT)

    @property
    def _base(self) -> Checkpoint:
        return self.checkpoint if self.in_flight is None else self.in_flight.planned.commit.checkpoint

    @staticmethod
    def _moves(chunk: Chunk, base: Checkpoint) -> bool:
        """Tell whether an empty chunk is worth a commit.

        It moves the position, or tells for the first time of the end.
        """
        return chunk.through > base.position or (chunk.at_end and not base.caught_up)

    async def _judge(self, chunk: Chunk, base: Checkpoint) -> Judged:
        spec = self.spec
        horizon = None
        if spec.late is OnLate.DEAD_LETTER and base.caught_up and spec.dedup is not Dedup.SEQUENCE:
            horizon = retention_horizon(base.watermark, spec.marker_retention)
        verdicts = judge_by_position(chunk.records, Evidence(base.position, horizon))
        in_flight = self.in_flight
        if spec.dedup is Dedup.SHARD:
            pending = {} if in_flight is None else unpacked(in_flight.planned.marks)
            return judge_packed(chunk.records, verdicts, await self.window.loaded(self.checkpoint), pending)
        if spec.dedup is Dedup.EVENT:
            await self._read_markers(chunk)
            pending = {} if in_flight is None else {m.event_id: m.digest for m in in_flight.planned.commit.markers}
            return judge_by_event(chunk.records, verdicts, self._known, pending)
        return Judged(chunk.records, verdicts)

    async def _read_markers(self, chunk: Chunk) -> None:
        """Read markers before folding while duplicates are likely, instead of failing whole transactions."""
        if self.suspicious <= 0:
            return
        self.suspicious -= 1
        if len(self._known) > _KNOWN_BATCHES * self.batcher.policy.max_events:
            self._known.clear()
        ids = {record.id for record in chunk.records if type(record) is Event and record.id not in self._known}
        if ids:
            self._known.update(await self.runtime.store.find_markers(self.scope.of, ids))

    async def _look_ahead(self, chunk: Chunk, loaded: dict[RowKey, StoredRow | None]) -> None:
        """Fetch what the fold is about to miss, if the batches before missed anything."""
        if not self._preload:
            return
        self._preload -= 1
        await self._load(self._main_keys(chunk) - self._written_in_flight(), loaded)
        if loaded:
            self._preload = _PRELOADED_BATCHES

    def _main_keys(self, chunk: Chunk) -> set[RowKey]:
        keys: set[RowKey] = set()
        key_of, upcasters, lookup = self.spec.key, self.spec.upcasters, self._lookup({})
        for record in chunk.records:
            if type(record) is not Event:
                continue
            try:
                upcast = upcasters.get(record.type)
                key = RowKey(MAIN_VIEW, key_of(upcast(record) if upcast else record))
            except MemoryError:
                raise
            except BaseException:  # noqa: BLE001, S112 - the fold meets the same error and judges it
                continue
            if lookup(key) is UNLOADED:
                keys.add(key)
        return keys

    def _written_in_flight(self) -> AbstractSet[RowKey]:
        """Return the rows whose outcome only the commit in flight can tell."""
        return frozenset[RowKey]() if self.in_flight is None else self.in_flight.overlay.keys()

    async def _load(self, keys: AbstractSet[RowKey], loaded: dict[RowKey, StoredRow | None]) -> None:
        """Fetch rows for this batch, and keep them for later ones."""
        if not keys:
            return
        rows = await self.runtime.store.load_rows(self.scope.of, keys)
        loaded.update(rows)
        for key, row in rows.items():
            self.cache.put(key, row)

    def _context(self, chunk: Chunk, loaded: dict[RowKey, StoredRow | None]) -> FoldContext:
        failures: dict[int, Failure] = {}
        if self._condemned:
            for index, record in enumerate(chunk.records):
                failure = self._condemned.get(_identity(record))
                if failure is not None:
                    failures[index] = failure
        parked = self.parked
        if self.in_flight is not None:
            parked = parked | self.in_flight.planned.folded.newly_parked.keys()
        return FoldContext(
            spec=self.spec,
            shard=self.scope.shard_id,
            lookup=self._lookup(loaded),
            parked=parked,
            settled=self.in_flight is None,
            failures=failures,
            quick=self._quick,
        )

    def _lookup(self, loaded: dict[RowKey, StoredRow | None]) -> Callable[[RowKey], Base]:
        held = self.cache.get
        overlay: dict[RowKey, Base] = {} if self.in_flight is None else self.in_flight.overlay

        def lookup(key: RowKey) -> Base:
            if key in overlay:
                return overlay[key]
            if key in loaded:
                return loaded[key]
            return held(key)

        return lookup if overlay or loaded else held

    def _final(self, folded: Folded) -> Circuit | Tripped | None:
        """Return the circuit after the batch, where it trips, or None when the batch cannot be committed now."""
        if (folded.failures or folded.stop or folded.newly_parked) and self.in_flight is not None:
            return None
        if folded.stop is not None and folded.stop.index == 0:
            self.stop = folded.stop
            self.waiting_for_gap = not folded.stop.parks
            return None
        before = self._circuit if self.in_flight is None else self.in_flight.circuit
        circuit = pass_through(before, folded.verdicts, folded.failures.keys(), self.runtime.policy.circuit)
        if isinstance(circuit, Tripped):
            if self.in_flight is not None:
                return None
            if circuit.index == 0:
                self.stop = circuit
                return None
        return circuit

    def _plan_context(self, base: Checkpoint, circuit: Circuit) -> PlanContext:
        clock = self.runtime.clock
        return PlanContext(
            scope=self.scope,
            spec=self.spec,
            before=base,
            commit_id=clock.unique(),
            now=clock.now(),
            limits=self.runtime.store.limits,
            segments=self.window.segments,
            pending=None if self.in_flight is None else self.in_flight.planned.segment,
            identify=self.reader.identity,
            dead_run=circuit.run,
        )

    def _shrink(self, folded: Folded, chunk: Chunk, oversize: Oversize) -> int:
        """Return how many records to try next; condemn a single one that fits nowhere."""
        if folded.count <= 1:
            record = chunk.records[0]
            if _identity(record) in self._condemned:
                raise StoreRefused(
                    f"even the dead letter of {record!r} does not fit the store: {oversize.failure.detail}"
                )
            self._condemned[_identity(record)] = oversize.failure
            return 1
        if oversize.actions:
            return self._room.exceeded(folded.count, oversize.actions, oversize.fixed)
        self._ceiling = oversize.suggest
        return oversize.suggest

    def _accept(self, planned: Planned, chunk: Chunk, circuit: Circuit, loaded: int) -> None:
        count = planned.folded.count
        self._room.fitted(count, *count_actions(planned.commit))
        most = self.batcher.policy.max_events
        self.batcher.enough = min(most, self._room.records or most)
        if count < len(chunk.records):
            self.batcher.put_back(
                Chunk(chunk.records[count:], chunk.through, chunk.arrived, chunk.at_end, chunk.ends_shard)
            )
            chunk = Chunk(chunk.records[:count], chunk.records[count - 1].position, chunk.arrived)
        self.prepared = Prepared(planned, chunk, overlay_of(planned), circuit, loaded)

    # Settling

    def resolve(self, answer: Answer) -> None:
        """Take in the answer to the commit in flight.

        Raises Superseded when another owner raised the epoch, StoreRefused and RowsContended when folding again is
        no help.
        """
        sent = self.in_flight
        if sent is None:  # pragma: no cover - the committer answers only what it was sent
            return
        self.blocked = False
        match answer:
            case Committed():
                self._settle(sent)
            case Duplicate(markers=markers):
                self._known.update(markers)
                self.suspicious = _SUSPICIOUS_BATCHES
                self._discard()
            case RowMoved(keys=keys):
                self._row_moved(keys)
                self._discard()
            case TooLarge(detail=detail) | Rejected(detail=detail):
                self._refused(sent, Failure("rejected" if isinstance(answer, Rejected) else "too-large", detail))
                self._discard()
            case Unlisted():
                raise StoreRefused(f"{self.scope.label}: the store misses waiting entries that no live commit names")
            case Fenced(checkpoint=now):
                raise Superseded(
                    f"{self.scope.label}: epoch {self.checkpoint.epoch} was superseded "
                    f"by {now.epoch if now else 'a deletion'}; another owner carries on",
                    released=now is not None and now.owner is None,
                )

    def _settle(self, sent: Prepared) -> None:
        commit, folded = sent.planned.commit, sent.planned.folded
        self.in_flight = None
        self.checkpoint = commit.checkpoint
        self._circuit = sent.circuit
        self._row_conflicts = 0
        self.parked.update(folded.newly_parked)
        self.window.settle(commit, sent.planned.marks)
        for key, row in sent.overlay.items():
            if row is None or isinstance(row, StoredRow):
                self.cache.put(key, row)
            else:
                self.cache.discard(key)
        if self._condemned:
            for record in sent.chunk.records:
                self._condemned.pop(_identity(record), None)
        if self._ceiling is not None:
            self._ceiling = min(int(self._ceiling * _CEILING_GROWTH) + 1, self.batcher.policy.max_events)
        self.ended = sent.chunk.ends_shard
        if self.runtime.taps:
            self._tell(sent)

    def _tell(self, sent: Prepared) -> None:
        """Tell whoever watches what became of each event."""
        folded, now = sent.planned.folded, self.runtime.clock.now()
        self.runtime.taps.tell(self.scope, self.checkpoint.position, now, sent.chunk.records, folded.verdicts)

    def look_again(self) -> None:
        """Forget why the shard stopped and every row held, so that what other shards wrote since is seen."""
        self.stop = None
        self.waiting_for_gap = False
        self.cache = RowCache(self.runtime.policy.row_cache_rows)

    def put_aside(self) -> None:
        """Give back what was folded on top of the commit in flight: it is folded again, here or by another owner."""
        on_top, self.prepared = self.prepared, None
        if on_top is not None:
            self.batcher.put_back(on_top.chunk)

    @property
    def next_record(self) -> Record | None:
        """The first record that is not settled, as far as it was read."""
        for held in (self.in_flight, self.prepared):
            if held is not None and held.chunk.records:
                return held.chunk.records[0]
        return self.batcher.first

    @property
    def next_position(self) -> Position | None:
        """The position of that record."""
        record = self.next_record
        return None if record is None else record.position

    def _discard(self) -> None:
        """Throw away what was folded on top, and give all records back in order."""
        sent, on_top = self.in_flight, self.prepared
        self.in_flight = self.prepared = None
        for dropped in (on_top, sent):
            if dropped is not None:
                self.batcher.put_back(dropped.chunk)

    def _row_moved(self, keys: frozenset[RowKey]) -> None:
        self._row_conflicts += 1
        limit = self.runtime.policy.retry.max_row_conflicts
        if self._row_conflicts > limit:
            names = ", ".join(f"{key.view}/{key.key:.80}" for key in sorted(keys)[:3])
            raise RowsContended(
                f"{self.scope.label}: rows moved {self._row_conflicts} times in a row (limit {limit}): {names}; "
                "another shard writes them: share rows by add() or a version vector only"
            )
        for key in keys:
            self.cache.discard(key)

    def _refused(self, sent: Prepared, failure: Failure) -> None:
        records = sent.chunk.records
        if len(records) > 1:
            self._ceiling = max(1, len(records) // 2)
            return
        if not records or _identity(records[0]) in self._condemned:
            raise StoreRefused(f"{self.scope.label}: the store refuses a commit that holds no row: {failure.detail}")
        self._condemned[_identity(records[0])] = failure
        self._ceiling = 1


def _least(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)


def _identity(record: Record) -> tuple[object, str]:
    return record.position, record.id if isinstance(record, Event) else ""


def overlay_of(planned: Planned) -> dict[RowKey, Base]:
    """Return the rows as they stand after a commit; those only the store will know are UNLOADED."""
    overlay: dict[RowKey, Base] = {}
    for write in planned.commit.rows:
        kind, expect = write.kind, write.expect
        if kind is _PUT:
            attributes = cast("Attributes | None", write.attributes)
            version = 1 if expect is None else expect.version + 1
            overlay[write.key] = StoredRow(attributes, version, write.source, write.sequences or {})
        else:
            overlay[write.key] = UNLOADED if kind is _ADD else None
    return overlay


_PUT, _ADD = WriteKind.PUT, WriteKind.ADD
