"""The DynamoDB store: the whole Store port over the AWS JSON protocol.

Owns the order of calls and what is remembered between them: the frozen request of each commit whose answer is not known
yet. Must not know HTTP, credentials or endpoints: three clients are given, so that reads and lease traffic never wait
behind commits.

Invariants: one commit is one request; the same commit and attempt always send the same bytes under the same token, and
never after the token's window; no commit is repeated here, the committer decides that. Whoever takes a shard sees what
its last commit wrote before `take` returns. Every read is consistent.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, override

from daemon.core.checkpoint import Checkpoint, Fence
from daemon.core.commit import Commit, Committed, DeadLetter, Limits, Outcome, ParkedEvent
from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.core.generations import GenerationRecord
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.leases import Presence
from daemon.core.operations import Operation, ShardOutcome, Standing
from daemon.core.projection import Index
from daemon.core.rows import Effect, StoredRow
from daemon.core.waiting import LetterRef, ParkedRef, Waiting, Wish
from daemon.core.window import StoredSegment
from daemon.ports.clock import Clock
from daemon.stores.dynamodb.calls import Caller, Consumed
from daemon.stores.dynamodb.committing import Committing, Sending
from daemon.stores.dynamodb.connections import Connect, Connections
from daemon.stores.dynamodb.damage import readable
from daemon.stores.dynamodb.foundation import Foundation
from daemon.stores.dynamodb.items import (
    AFTER,
    REPLICA,
    REPLICAS,
    SHARD,
    checkpoint_of,
    generation_item,
    generation_key,
    marker_key,
    pointer_item,
    presence_item,
    presence_key,
    presence_of,
    scope_key,
    scope_of,
)
from daemon.stores.dynamodb.lists import Lists
from daemon.stores.dynamodb.operations import OperationItems
from daemon.stores.dynamodb.pricing import pricing
from daemon.stores.dynamodb.requests import Requests
from daemon.stores.dynamodb.rows import can_stand, row_key_of, stored_row
from daemon.stores.dynamodb.sizes import LIMITS
from daemon.stores.dynamodb.tables import Care, Tables
from daemon.stores.dynamodb.taking import Taking, checkpoint_key
from daemon.stores.dynamodb.tuning import Tuning
from daemon.stores.dynamodb.upkeep import Upkeep
from daemon.stores.dynamodb.values import plain
from daemon.stores.dynamodb.waiting_items import WaitingItems
from daemon.wire.aws_json import AwsJson


@dataclass(frozen=True, slots=True)
class _Links:
    """What an open store works with."""

    connections: Connections
    reads: Caller
    leases: Caller
    taking: Taking
    committing: Committing
    upkeep: Upkeep
    lists: Lists
    waiting: WaitingItems
    operations: OperationItems


class DynamoDbStore(Foundation):
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
        super().__init__(connect, clock, Tables(prefix, care), tuning or Tuning(), consumed, administer)
        self._create_tables = create_tables
        self._requests = Requests(self.tables)
        self._limits = replace(LIMITS, units=pricing(self.tables))
        self._sending: dict[Scope, Sending] = {}
        self._settling: dict[Generation, float] = {}
        self._outside: dict[Scope, int] = {}
        self._links: _Links | None = None

    @property
    def limits(self) -> Limits:
        """What one `TransactWriteItems` takes."""
        return self._limits

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
        self._links = _Links(
            connections,
            reads,
            leases,
            taking,
            committing,
            upkeep,
            Lists(reads, self.tables.state, self.tables.effects),
            WaitingItems(reads, self.tables.state),
            OperationItems(leases, self.tables.state),
        )
        patience = self.tuning.patience if self.tuning.opening is None else self.tuning.opening
        opening = replace(upkeep, caller=replace(leases, tuning=replace(self.tuning, patience=patience)))
        try:
            for table in self.tables.own():
                await opening.ensure(table)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Disconnect."""
        links, self._links = self._links, None
        if links is not None:
            await links.connections.aclose()

    @override
    def _at_hand(self) -> Caller | None:
        return None if self._links is None else self._links.leases

    @property
    def _open(self) -> _Links:
        if self._links is None:
            raise StoreUnavailable(f"the store on tables {self.tables.prefix}-… is not open; open it first")
        return self._links

    # ------------------------------------------------------------------------------------------------ generations

    async def generations(self, projection: str) -> Sequence[GenerationRecord]:
        """List a projection's generations, oldest first."""
        return await self._generations(self._open.reads, projection)

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
        await self._refuse_shared(links.reads.of(generation), generation)
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

    async def _refuse_shared(self, caller: Caller, generation: Generation) -> None:
        """Refuse a rows table that another prefix's projection has under the same name. Raises StoreRefused."""
        for tables, other in self.tables.namesakes(generation):
            key = {"pk": {"S": other.projection}, "sk": {"S": generation_key(other.number)}}
            try:
                held = await caller.get(tables.state, key)
            except StoreRefused:  # there is no such prefix, or its tables are none of this role's
                continue
            if held is not None:
                raise StoreRefused(
                    f"table {self.tables.rows(generation)} is that of projection {other.projection} under store.prefix "
                    f"{tables.prefix!r}; choose another prefix, or rename the projection"
                )

    # ------------------------------------------------------------------------------------------------ checkpoints

    async def checkpoints(self, generation: Generation) -> Mapping[Scope, Checkpoint]:
        """Read every checkpoint of a generation; what is damaged is left out, `read_checkpoint` says what is wrong."""
        reads, state = self._open.reads.of(generation), self.tables.state
        listed = await reads.some(state, generation.label, (SHARD, SHARD[:-1] + AFTER))
        scopes = {scope_key(scope): scope for scope in readable(scope_of, listed)}
        items = await reads.get_many(state, [checkpoint_key(scope) for scope in scopes.values()])
        named = readable(lambda item: (scopes[item["pk"]["S"]], checkpoint_of(item)), items)
        return dict(named)

    async def read_checkpoint(self, scope: Scope) -> Checkpoint | None:
        """Read one checkpoint; None when the shard was never taken."""
        return await self._open.taking.read(scope)

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, *, seen: int | None = None
    ) -> Checkpoint:
        """Raise the epoch in the name of `owner`, once per owner, and wait until the last commit's items show.

        Raises Superseded where the shard stands no more at `over`, OperationsMoved where the standing is no more at
        `seen`, StoreProblem.
        """
        taken = await self._open.taking.take(scope, owner, initial, over, seen)
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
        """Read every replica's presence; one that is damaged counts as absent."""
        between = (REPLICA, REPLICA[:-1] + AFTER)
        items = await self._open.leases.some(self.tables.state, REPLICAS, between)
        return {presence.replica: presence for presence in readable(presence_of, items)}

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
        return await self._open.lists.segments(scope, max_ids)

    async def parked_keys(self, scope: Scope) -> Collection[str]:
        """Return the keys that are parked."""
        return await self._open.lists.parked_keys(scope)

    async def parked_events(self, scope: Scope, key: str, limit: int) -> Sequence[ParkedEvent]:
        """Return up to `limit` events that queue behind a parked key, in position order."""
        return await self._open.lists.parked_events(scope, key, limit)

    async def dead_letters(self, scope: Scope, limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` dead letters, in position order."""
        return await self._open.lists.dead_letters(scope, limit)

    async def waiting(self, scope: Scope) -> Waiting:
        """Read what waits to be applied, without payloads."""
        return await self._open.waiting.read(scope)

    async def find_letters(self, scope: Scope, refs: Collection[LetterRef]) -> Sequence[DeadLetter]:
        """Return those of these dead letters that are there, in position order."""
        return await self._open.waiting.letters(scope, refs)

    async def wish(self, scope: Scope, refs: Collection[LetterRef | ParkedRef], wish: Wish | None) -> int:
        """Note a wish on entries, one after the other. Returns how many are there."""
        return await self._open.waiting.wish(scope, refs, wish)

    async def standing(self, generation: Generation) -> Standing:
        """Read where a generation's operations stand."""
        return await self._open.operations.standing(generation)

    async def accept(self, operation: Operation, after: Standing) -> Operation | None:
        """Write an operation and the standing after it, where it is the next one."""
        return await self._open.operations.accept(operation, after)

    async def requested(self, generation: Generation, request: str) -> Operation | None:
        """Return the operation that a request became."""
        return await self._open.operations.requested(generation, request)

    async def operations(self, generation: Generation, after: int, limit: int) -> Sequence[Operation]:
        """Return later operations, oldest first."""
        return await self._open.operations.later(generation, after, limit)

    async def outcomes(self, generation: Generation, sequence: int) -> Sequence[ShardOutcome]:
        """Return what shards made of an operation."""
        return await self._open.operations.outcomes(generation, sequence)

    async def effects(self, generation: Generation, limit: int) -> Sequence[Effect]:
        """Return up to `limit` effects that wait to be relayed, in their shards' commit order. Reads them all."""
        return await self._open.lists.effects(generation, limit)

    async def expire(self, now_seconds: int) -> int:
        """Remove the segments that fell out of their windows; the rest DynamoDB removes by itself, within days.

        Until then it still counts. Returns 0: no marker or row is removed here.
        """
        for scope, below in list(self._outside.items()):
            await self._open.lists.drop_segments(scope, below)
            if self._outside.get(scope) == below:
                del self._outside[scope]
        return 0
