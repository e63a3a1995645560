"""The DynamoDB store: the whole Store port over the AWS JSON protocol.

Owns the order of calls and what is remembered between them: the frozen request of each commit whose answer is not known
yet. Must not know HTTP, credentials or endpoints: three clients are given, so that reads and lease traffic never wait
behind commits.

Invariants: one commit is one request; the same commit and attempt always send the same bytes under the same token, and
never after the token's window; no commit is repeated here, the committer decides that. Whoever takes a shard sees what
its last commit wrote before `take` returns. Every read is consistent.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, Protocol

import anyio

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed, DeadLetter, Limits, Outcome, ParkedEvent
from daemon.core.errors import StoreUnavailable
from daemon.core.generations import GenerationRecord
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.inventory import Part
from daemon.core.leases import Presence
from daemon.core.projection import Index
from daemon.core.rows import Effect, StoredRow
from daemon.core.window import ENTRY_BYTES, StoredSegment
from daemon.ports.clock import Clock
from daemon.stores.dynamodb.admin import Admin
from daemon.stores.dynamodb.calls import Caller, Consumed
from daemon.stores.dynamodb.committing import Committing, Sending
from daemon.stores.dynamodb.items import (
    AFTER,
    DEAD,
    EVERY,
    GENERATION,
    PARKED,
    POINTER,
    REPLICA,
    REPLICAS,
    SEGMENT,
    SHARD,
    checkpoint_of,
    dead_letter_of,
    effect_of,
    generation_item,
    marker_key,
    parked_of,
    parked_prefix,
    pointer_item,
    presence_item,
    presence_key,
    presence_of,
    record_of,
    scope_key,
    scope_of,
    segment_key,
    segment_of,
)
from daemon.stores.dynamodb.requests import Requests
from daemon.stores.dynamodb.rights import MissingRight, missing_rights
from daemon.stores.dynamodb.rows import can_stand, row_key_of, stored_row
from daemon.stores.dynamodb.sizes import LIMITS
from daemon.stores.dynamodb.tables import Care, Table, Tables
from daemon.stores.dynamodb.taking import Taking, checkpoint_key
from daemon.stores.dynamodb.tuning import Tuning
from daemon.stores.dynamodb.upkeep import Upkeep
from daemon.stores.dynamodb.values import plain
from daemon.wire.aws_json import AwsJson


class Connections(Protocol):
    """The three clients of one store, so that none waits for the others' connections. The store closes them."""

    @property
    def commits(self) -> AwsJson:
        """For `TransactWriteItems` of commits."""
        ...

    @property
    def reads(self) -> AwsJson:
        """For rows, markers and lists."""
        ...

    @property
    def leases(self) -> AwsJson:
        """For checkpoints and tables."""
        ...

    async def aclose(self) -> None:
        """Close all three."""
        ...


type Connect = Callable[[], Awaitable[Connections]]
"""Makes the clients: once for each time the store opens."""


@dataclass(frozen=True, slots=True)
class _Links:
    """What an open store works with."""

    connections: Connections
    reads: Caller
    leases: Caller
    taking: Taking
    committing: Committing
    upkeep: Upkeep


_DELETES = 25
"""Items that one BatchWriteItem takes."""
_PAGE = 64
"""Parked events of one page of the search for parked keys."""


class DynamoDbStore:
    """The Store port over DynamoDB tables of one prefix.

    `connect` makes the three clients when the store opens. `consumed` is told what reads and takes consumed, and for
    which generation: `rcu:KIND` or `wcu:KIND` to units, KIND being state, markers, rows or effects; what commits
    consume is in their outcome.
    `create_tables`: make what is missing; otherwise a missing table is refused. `care`: how tables are billed and
    guarded. `administer` makes the client of `survey` and `establish`; None: that of the leases makes their calls.
    """

    def __init__(
        self,
        connect: Connect,
        clock: Clock,
        *,
        prefix: str = "projectiond",
        tuning: Tuning | None = None,
        care: Care | None = None,
        create_tables: bool = True,
        consumed: Consumed = lambda _generation, _units: None,
        administer: Callable[[], Awaitable[AwsJson]] | None = None,
    ) -> None:
        """Keep the settings; `open` connects. Raises SettingsProblem for a prefix that no table can carry."""
        self._connect = connect
        self._clock = clock
        self.tables = Tables(prefix, care)
        self.tuning = tuning or Tuning()
        self._create_tables = create_tables
        self._consumed = consumed
        self._administer = administer
        self._requests = Requests(self.tables)
        self._sending: dict[Scope, Sending] = {}
        self._settling: dict[Generation, float] = {}
        self._outside: dict[Scope, int] = {}
        self._links: _Links | None = None

    @property
    def limits(self) -> Limits:
        """What one `TransactWriteItems` takes."""
        return LIMITS

    # --------------------------------------------------------------------------------------------- what it stands on

    async def recorded(self, projections: Collection[str]) -> Mapping[str, Sequence[GenerationRecord]]:
        """List generations by projection, as far as there is a state table."""
        async with self._looking() as caller:
            if await Admin(caller).is_missing(self.tables.state):
                return {}
            found = {name: await self._generations(caller, name) for name in projections}
        return {name: records for name, records in found.items() if records}

    async def survey(self, generations: Mapping[Generation, Sequence[Index]]) -> Sequence[Part]:
        """Compare the tables with what there is: keys, billing, expiry, indexes, recovery, protection."""
        async with self._looking() as caller:
            return await Admin(caller).parts(self._all(generations))

    async def establish(self, generations: Mapping[Generation, Sequence[Index]]) -> None:
        """Make tables, and switch on or add what is missing of them; nothing is switched off, shrunk or removed."""
        async with self._looking() as caller:
            await Admin(caller).establish(self._all(generations))

    async def missing_rights(self, generations: Collection[Generation]) -> list[MissingRight]:
        """Return what the store's own credentials may not do on tables that exist; open or not. Changes nothing."""
        missing: list[MissingRight] = []
        connections = await self._connect()
        try:
            caller = self._caller(connections.reads)
            for table in self._all(dict.fromkeys(generations, ())):
                if not await Admin(caller).may_be_missing(table.name):
                    missing += await missing_rights(caller, table, self.tables.kind(table.name))
        finally:
            with anyio.CancelScope(shield=True):
                await connections.aclose()
        return missing

    def _all(self, generations: Mapping[Generation, Sequence[Index]]) -> list[Table]:
        rows = (self.tables.of_generation(generation, indexes) for generation, indexes in generations.items())
        return [*self.tables.own(), *rows]

    @asynccontextmanager
    async def _looking(self) -> AsyncGenerator[Caller]:
        """Give a caller for admin calls, whether or not the store is open."""
        if self._administer is not None:
            client = await self._administer()
            close = client.aclose
        elif self._links is not None:
            yield self._links.leases
            return
        else:
            connections = await self._connect()
            client, close = connections.leases, connections.aclose
        try:
            yield self._caller(client)
        finally:
            with anyio.CancelScope(shield=True):
                await close()

    async def open(self) -> None:
        """Connect, and have the daemon's own tables; one that is open stays so. Raises StoreProblem."""
        if self._links is not None:
            return
        connections = await self._connect()
        reads, leases = (self._caller(client) for client in (connections.reads, connections.leases))
        upkeep = Upkeep(leases, self._create_tables)
        taking = Taking(leases, self.tables)
        committing = Committing(
            connections.commits,
            self._clock,
            self.tuning,
            self._requests,
            taking.read,
            self.load_rows,
            self.find_markers,
            self._sending,
        )
        self._links = _Links(connections, reads, leases, taking, committing, upkeep)
        try:
            for table in self.tables.own():
                await upkeep.ensure(table)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Disconnect."""
        links, self._links = self._links, None
        if links is not None:
            await links.connections.aclose()

    def _caller(self, client: AwsJson) -> Caller:
        return Caller(client, self._clock, self.tuning, self._bill)

    def _bill(self, generation: Generation | None, units: Mapping[str, float]) -> None:
        self._consumed(generation, self._by_kind(units))

    def _by_kind(self, units: Mapping[str, float]) -> dict[str, float]:
        totals: dict[str, float] = {}
        for name, count in units.items():
            unit, _, table = name.partition(":")
            kind = f"{unit}:{self.tables.kind(table)}"
            totals[kind] = totals.get(kind, 0.0) + count
        return totals

    @property
    def _open(self) -> _Links:
        if self._links is None:
            raise StoreUnavailable(f"the store on tables {self.tables.prefix}-… is not open; open it first")
        return self._links

    # ------------------------------------------------------------------------------------------------ generations

    async def generations(self, projection: str) -> Sequence[GenerationRecord]:
        """List a projection's generations, oldest first."""
        return await self._generations(self._open.reads, projection)

    async def _generations(self, caller: Caller, projection: str) -> list[GenerationRecord]:
        items = await caller.some(self.tables.state, projection, (GENERATION, POINTER))
        live = next((int(item["generation"]["N"]) for item in items if item["sk"]["S"] == POINTER), None)
        return [record_of(projection, item, live) for item in items if item["sk"]["S"] != POINTER]

    async def create_generation(
        self, generation: Generation, version: int, *, live: bool, indexes: Sequence[Index] = ()
    ) -> GenerationRecord:
        """Make a generation's rows table with its indexes, active and expiring, and its record; idempotent."""
        links = self._open
        table = self.tables.of_generation(generation, indexes)

        async def attempt() -> GenerationRecord | None:
            for record in await self._generations(links.leases.of(generation), generation.projection):
                if record.generation == generation:
                    return record
            return None

        stands = await attempt()
        if stands is not None:
            return stands
        await links.upkeep.ensure(table)
        state = self.tables.state
        record = {
            "TableName": state,
            "Item": generation_item(generation, version, table.name),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        puts: list[dict[str, Any]] = [{"Put": record}]
        if live:
            puts.append({"Put": {"TableName": state, "Item": pointer_item(generation, version, table.name)}})
        return await links.taking.write_once(puts, attempt, f"the record of generation {generation.label}")

    # ------------------------------------------------------------------------------------------------ checkpoints

    async def checkpoints(self, generation: Generation) -> Mapping[Scope, Checkpoint]:
        """Read every checkpoint of a generation."""
        reads, state = self._open.reads.of(generation), self.tables.state
        listed = await reads.some(state, generation.label, (SHARD, SHARD[:-1] + AFTER))
        scopes = {scope_key(scope): scope for scope in map(scope_of, listed)}
        items = await reads.get_many(state, [checkpoint_key(scope) for scope in scopes.values()])
        return {scopes[item["pk"]["S"]]: checkpoint_of(item) for item in items}

    async def read_checkpoint(self, scope: Scope) -> Checkpoint | None:
        """Read one checkpoint; None when the shard was never taken."""
        return await self._open.taking.read(scope)

    async def take(self, scope: Scope, owner: str, initial: Checkpoint) -> Checkpoint:
        """Raise the epoch in the name of `owner`, once per owner, and wait until the last commit's items show."""
        taken = await self._open.taking.take(scope, owner, initial)
        self._sending.pop(scope, None)  # what an earlier epoch still had to send can be applied no more
        if taken.commit_seq > 1:
            self._settling[scope.of] = self._clock.monotonic() + self.tuning.settling
        return taken

    # ----------------------------------------------------------------------------------------------------- commit

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        """Apply a commit as one `TransactWriteItems`.

        The same `attempt` sends the identical request under the same token, within the token's window only; beyond it
        the answer is Unknown, and nothing is sent. Raises StoreRefused where settings, rights or tables are wrong,
        StoreUnavailable when what stands at the checkpoint cannot be read back: nothing was applied then.
        """
        links = self._open
        outcome = await links.committing.send(commit, attempt)
        if isinstance(outcome, Committed) and commit.segment is not None and commit.segment.drop_below:
            self._outside[commit.scope] = commit.segment.drop_below
        if isinstance(outcome, Committed):
            return Committed(self._by_kind(outcome.consumed), outcome.size)
        return outcome

    # -------------------------------------------------------------------------------------------------- presences

    async def announce(self, presence: Presence) -> None:
        """Keep a replica's presence, in place of its earlier one."""
        await self._open.leases.body("PutItem", {**self._in_state, "Item": presence_item(presence)})

    async def presences(self) -> Mapping[str, Presence]:
        """Read every replica's presence."""
        between = (REPLICA, REPLICA[:-1] + AFTER)
        items = await self._open.leases.some(self.tables.state, REPLICAS, between)
        return {presence.replica: presence for presence in map(presence_of, items)}

    async def forget(self, replica: str) -> None:
        """Remove a replica's presence."""
        await self._open.leases.body("DeleteItem", {**self._in_state, "Key": presence_key(replica)})

    @property
    def _in_state(self) -> dict[str, str]:
        return {"TableName": self.tables.state, "ReturnConsumedCapacity": "TOTAL"}

    # ---------------------------------------------------------------------------------------------- what it holds

    async def load_rows(self, generation: Generation, keys: Collection[RowKey]) -> Mapping[RowKey, StoredRow | None]:
        """Read rows; every key is in the answer."""
        rows: dict[RowKey, StoredRow | None] = dict.fromkeys(keys)
        # Asked for what no item can have, DynamoDB refuses the whole request, and with it the shard.
        wanted = [{"key": {"S": key.key}, "view": {"S": key.view}} for key in rows if can_stand(key)]
        reads, table = self._open.reads.of(generation), self.tables.rows(generation)
        settling = self._clock.monotonic() < self._settling.get(generation, 0.0)
        # A row that only its own shard writes is read under no condition, so what the last owner wrote must not hide.
        for item in await (reads.get_settled(table, wanted) if settling else reads.get_many(table, wanted)):
            rows[row_key_of(item)] = stored_row(item)
        return rows

    async def find_markers(self, generation: Generation, event_ids: Collection[str]) -> Mapping[str, bytes]:
        """Return the payload digests (16 bytes) of those ids that are marked."""
        label = generation.label + "/"
        ids = {marker_key(label, event_id): event_id for event_id in event_ids}
        keys = [{"pk": {"S": key}} for key in ids]
        found = await self._open.reads.of(generation).get_many(self.tables.markers, keys, "pk,digest")
        return {ids[item["pk"]["S"]]: plain(item["digest"]) for item in found}

    async def load_segments(self, scope: Scope, max_ids: int) -> Sequence[StoredSegment]:
        """Return the newest packed segments that together hold at least `max_ids` ids (or all), oldest first."""
        newest: list[StoredSegment] = []
        missing, first = max_ids * ENTRY_BYTES, -1
        pages = self._open.reads.of(scope.of).pages(
            self.tables.state, scope_key(scope), (SEGMENT, SEGMENT[:-1] + AFTER), forward=False
        )
        async with aclosing(pages):
            async for page in pages:
                for item in page:
                    segment, counts_from = segment_of(item)
                    first = max(first, counts_from)
                    if missing <= 0 or segment.number < first:
                        return newest[::-1]
                    newest.append(segment)
                    missing -= len(segment.entries)
        return newest[::-1]

    async def parked_keys(self, scope: Scope) -> Collection[str]:
        """Return the keys that are parked; a key's whole queue is passed over, once a page holds nothing else."""
        keys: set[str] = set()
        reads, low = self._open.reads.of(scope.of), PARKED
        while True:
            page = await reads.some(self.tables.state, scope_key(scope), (low, PARKED[:-1] + AFTER), _PAGE)
            keys.update(item["key"]["S"] for item in page)
            if len(page) < _PAGE:
                return keys
            low = parked_prefix(page[-1]["key"]["S"]) + AFTER

    async def parked_events(self, scope: Scope, key: str, limit: int) -> Sequence[ParkedEvent]:
        """Return up to `limit` events that queue behind a parked key, in position order."""
        prefix, reads = parked_prefix(key), self._open.reads.of(scope.of)
        items = await reads.some(self.tables.state, scope_key(scope), (f"{prefix}#", prefix + AFTER), limit)
        return [parked_of(item) for item in items]

    async def dead_letters(self, scope: Scope, limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` dead letters, in position order."""
        reads = self._open.reads.of(scope.of)
        items = await reads.some(self.tables.state, scope_key(scope), (DEAD, DEAD[:-1] + AFTER), limit)
        return [dead_letter_of(item) for item in items]

    async def effects(self, generation: Generation, limit: int) -> Sequence[Effect]:
        """Return up to `limit` effects that wait to be relayed, in their shards' commit order. Reads them all."""
        items = await self._open.reads.of(generation).some(self.tables.effects, generation.label, EVERY)
        return [effect for _, effect in nsmallest(limit, map(effect_of, items), key=lambda held: held[0])]

    async def expire(self, now_seconds: int) -> int:
        """Remove the segments that fell out of their windows; the rest DynamoDB removes by itself, within days.

        Until then it still counts. Returns 0: no marker or row is removed here.
        """
        for scope, below in list(self._outside.items()):
            await self._drop_segments(scope, below)
            if self._outside.get(scope) == below:
                del self._outside[scope]
        return 0

    async def _drop_segments(self, scope: Scope, below: int) -> None:
        reads, state = self._open.reads.of(scope.of), self.tables.state
        between = (SEGMENT, segment_key(below - 1))
        while items := await reads.some(state, scope_key(scope), between, _DELETES):
            keys = [{"pk": item["pk"], "sk": item["sk"]} for item in items]
            requests = [{"DeleteRequest": {"Key": key}} for key in keys]
            await reads.body("BatchWriteItem", {"RequestItems": {state: requests}, "ReturnConsumedCapacity": "TOTAL"})
