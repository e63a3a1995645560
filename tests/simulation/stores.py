"""The two stores that replicas share: DynamoDB's adapter over the strict server, and the one in memory.

Both are watched at each change, and both are looked into when all is over, in the same terms.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from daemon.core.checkpoint import Checkpoint, Fence, check_over
from daemon.core.commit import Busy, Commit, Limits, Outcome, Unknown
from daemon.core.errors import StoreUnavailable
from daemon.core.identity import Generation, Scope
from daemon.core.operations import Operation, Standing, check_seen
from daemon.core.positions import Position, parse_position
from daemon.core.rows import StoredRow
from daemon.core.window import ENTRY_BYTES
from daemon.ports.clock import Clock
from daemon.ports.store import Store
from daemon.stores.dynamodb import Connections, DynamoDbStore
from daemon.testing.dynamodb import (
    AnswerWith,
    Call,
    CancelWith,
    Drop,
    DuplicateLater,
    LoopClock,
    LoseAnswer,
    PartialBatch,
    Refuse,
    StrictDynamoDb,
    Throttle,
)
from daemon.testing.dynamodb.faults import FaultAction, Faults
from daemon.testing.dynamodb.server import Reply
from daemon.testing.dynamodb.tables import Key, Record, Table, plain_item
from daemon.testing.dynamodb.values import Item
from daemon.testing.memory_store import MemoryData, MemoryStore
from daemon.wire.aws_json import Answer, AwsJson
from tests.simulation.life import Life, Network
from tests.simulation.order import Waits
from tests.simulation.watch import Stand, Watch, count_of
from tests.support.dynamodb import LocalPools

PREFIX = "sim"
_BOOKKEEPING = ("_v", "_src", "_seq", "_expires", "key", "view")
type Rows = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds in the end: rows by view and key, ids and packed ids as often as they are held."""

    rows: Rows
    effects: list[str]
    dead: list[str]
    markers: list[str]
    packed: list[bytes]


class Shared(Protocol):
    """What all replicas stand on."""

    def handle(self, life: Life, clock: Clock) -> Store:
        """Return a replica's way to it."""
        ...

    def found(self, generation: Generation) -> Found:
        """Return what it holds."""
        ...

    @property
    def busy(self) -> bool:
        """Whether something is still under way."""
        ...

    async def aclose(self) -> None:
        """End what is under way."""
        ...


# -------------------------------------------------------------------------------------------------------- DynamoDB


class DrawnFaults(Faults):
    """A script that is drawn as calls come."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network

    def __bool__(self) -> bool:
        return True

    def meet(self, call: Call, now: float) -> FaultAction | None:
        """Draw what a call meets; making tables meets nothing."""
        action = self._drawn(call) if "Table" not in call.operation and "TimeToLive" not in call.operation else None
        if action is not None:
            self._network.trace.note("network", f"{call.operation} #{call.number} of {call.client} meets {action}")
        return action

    def _drawn(self, call: Call) -> FaultAction | None:
        network = self._network
        strikes, chance = network.strikes, network.chance
        transaction = call.operation == "TransactWriteItems"
        if strikes("lost-answer"):
            return LoseAnswer(chance.choice(("reset", "hang", "cut", "crc")))
        if strikes("dropped"):
            return chance.choice((Drop("reset"), Drop("hang"), Refuse()))
        if transaction and strikes("duplicate"):
            return DuplicateLater(network.late())
        if strikes("throttle"):
            return Throttle(0.0, chance.choice(("ThrottlingException", "ProvisionedThroughputExceededException")))
        if transaction and strikes("conflict"):
            index = chance.randrange(len(call.body["TransactItems"]))
            return CancelWith({index: chance.choice(("TransactionConflict", "ThrottlingError"))})
        if call.operation == "BatchGetItem" and strikes("partial"):
            return PartialBatch(chance.randrange(4))
        if strikes("error"):
            return AnswerWith("InternalServerError", status=500, applied=chance.random() < 0.5)
        return None


class WatchedDynamoDb(StrictDynamoDb):
    """The strict server; each reply is preceded by a look at what changed."""

    def __init__(self, network: Network, watch: Watch, generation: Generation) -> None:
        super().__init__(
            clock=LoopClock(),
            seed=network.plan.seed,
            hold_seconds=lambda chance: chance.uniform(0, 0.01),
            latency_seconds=lambda _: network.latency(),
            read_lag_seconds=lambda chance: chance.uniform(0, 3.0),
        )
        self.faults = DrawnFaults(network)
        self._watch = watch
        self._generation = generation
        self._checkpoints: dict[Key, Record] = {}
        self._accounts: dict[Key, Record] = {}

    async def _reply(self, operation: str, raw: bytes, **how: Any) -> Reply:
        reply = await super()._reply(operation, raw, **how)
        if operation in {"TransactWriteItems", "UpdateItem", "PutItem"}:
            if b"IdempotentParameterMismatch" in reply.body:
                self._watch.broke(f"a token came with another request than before: {reply.body[:200]!r}")
            self._look()
        return reply

    def _look(self) -> None:
        state = self.database.tables.get(f"{PREFIX}-state")
        rows = self.database.tables.get(f"{PREFIX}-{self._generation.label}")
        if state is None or rows is None:
            return
        moved = [
            key
            for key, record in state.records.items()
            if key.range == "checkpoint" and self._checkpoints.get(key) is not record
        ]
        for key in moved:
            record = self._checkpoints[key] = state.records[key]
            waits = _waits([one.item for place, one in state.records.items() if place.hash == key.hash])
            self._watch.moved(key.hash.rpartition("/")[2], _stand(plain_item(record.item)), self._fresh(rows), waits)
        if moved:
            sums = {key: plain_item(held.item) for key, held in rows.records.items() if key.range == "branch"}
            self._watch.summed(count_of(sums))

    def _fresh(self, rows: Table) -> dict[str, list[str]]:
        """Return the ids in each account's row that changed since the last look."""
        fresh: dict[str, list[str]] = {}
        for key, record in rows.records.items():
            if key.range == "main" and self._accounts.get(key) is not record:
                self._accounts[key] = record
                fresh[key.hash] = plain_item(record.item).get("seen", [])
        return fresh


def _waits(items: Sequence[Item]) -> Waits:
    """Return what the items of a shard say of what waits."""
    dead: set[tuple[Position, str]] = set()
    parked: set[tuple[Position, str]] = set()
    skipped: set[tuple[Position, Position]] = set()
    for item in items:
        kind = item["sk"]["S"].partition("#")[0]
        if kind in {"dead", "parked"}:
            (dead if kind == "dead" else parked).add((parse_position(item["position"]["S"]), item["event_id"]["S"]))
        elif kind == "skipped":
            skipped.add((parse_position(item["after"]["S"]), parse_position(item["through"]["S"])))
    return Waits(frozenset(dead), frozenset(parked), frozenset(skipped))


def _stand(item: Mapping[str, Any]) -> Stand:
    counters = {name: int(count) for name, count in item["counters"].items()}
    return Stand(
        parse_position(item["position"]), int(item["epoch"]), int(item["commit_seq"]), item["commit_id"],
        item.get("owner"), item["state"], counters, item["caught_up"], item.get("redelivery"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wire:
    """A client of one replica's life."""

    client: AwsJson
    life: Life

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        """Send a request."""
        if operation in {"Query", "BatchGetItem"} and self.life.network.strikes("torn"):
            body = body.replace(b'"ConsistentRead":true', b'"ConsistentRead":false')
        return await self.life.request(operation, lambda: self.client.call(operation, body, deadline_seconds))

    async def aclose(self) -> None:
        """Close."""
        await self.client.aclose()


class SharedDynamoDb:
    """DynamoDB tables."""

    def __init__(self, network: Network, watch: Watch, generation: Generation) -> None:
        self._server = WatchedDynamoDb(network, watch, generation)

    def handle(self, life: Life, clock: Clock) -> Store:
        async def connect() -> Connections:
            names = ("commits", "reads", "leases")
            return LocalPools(*(Wire(self._server.client(f"{life.name} {name}"), life) for name in names))

        return DynamoDbStore(connect, clock, prefix=PREFIX)

    @property
    def busy(self) -> bool:
        return bool(self._server.running)

    async def aclose(self) -> None:
        await self._server.aclose()

    def found(self, generation: Generation) -> Found:
        tables = self._server.snapshot()
        state = tables[f"{PREFIX}-state"]
        rows: Rows = {
            (item["view"], item["key"]): {name: value for name, value in item.items() if name not in _BOOKKEEPING}
            for item in tables[f"{PREFIX}-{generation.label}"]
            if "_gone" not in item
        }
        return Found(
            rows,
            [item["event_id"] for item in tables[f"{PREFIX}-effects"]],
            [item["event_id"] for item in state if item["sk"].startswith("dead#")],
            [item["pk"].removeprefix(f"{generation.label}/") for item in tables[f"{PREFIX}-markers"]],
            [one for item in state if item["sk"].startswith("segment#") for one in _entries(item["entries"])],
        )


def _entries(held: bytes) -> list[bytes]:
    return [held[at : at + ENTRY_BYTES][:16] for at in range(0, len(held), ENTRY_BYTES)]


# ---------------------------------------------------------------------------------------------------------- memory


class MemoryHandle(MemoryStore):
    """One replica's handle: requests travel, get lost and come late."""

    def __init__(self, data: MemoryData, life: Life, watch: Watch, accounts: dict[str, StoredRow]) -> None:
        super().__init__(data, Limits(actions=life.network.plan.most_actions))
        self._life = life
        self._watch = watch
        self._accounts = accounts

    async def _arrive(self) -> MemoryData:
        data = await super()._arrive()
        await self._life.request("a read", self._travel)
        return data

    async def _travel(self) -> None:
        network = self._life.network
        await asyncio.sleep(network.latency())
        for kind in ("throttle", "dropped", "error"):
            if network.strikes(kind):
                raise StoreUnavailable(f"{kind} (simulated)")

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, *, seen: int | None = None
    ) -> Checkpoint:
        """Raise the epoch; the answer may get lost."""

        async def taken() -> Checkpoint:
            await self._travel()
            self._life.network.let_come()
            held = self.data.checkpoints.get(scope)
            if held is None or held.owner != owner:
                check_over(scope.label, held, over)
                check_seen(scope, self.data.standings.get(scope.of, Standing()).sequence, seen)
                self.data.checkpoints[scope] = (held or initial).taken(owner)
                self._look(scope)
            stands = self.data.checkpoints[scope]
            await asyncio.sleep(self._life.network.latency())
            if self._life.network.strikes("lost-answer"):
                raise StoreUnavailable("the answer was lost (simulated)")
            return stands

        return await self._life.request("a take", taken)

    async def accept(self, operation: Operation, after: Standing) -> Operation | None:
        """Write an operation down; the answer may get lost."""
        accepted = await super().accept(operation, after)
        await self._life.request("an operation's answer", self._travel)
        return accepted

    async def commit(self, commit: Commit, attempt: int) -> Outcome:
        """Send a commit."""
        return await self._life.request("a commit", lambda: self._commit(commit))

    async def _commit(self, commit: Commit) -> Outcome:
        network = self._life.network
        await asyncio.sleep(network.latency())
        for kind in ("throttle", "conflict", "error"):
            if network.strikes(kind):
                network.trace.note("network", f"commit {commit.commit_id} meets {kind}")
                return Busy(f"{kind} (simulated)")
        if network.stalls(self._life.name):
            network.trace.note("network", f"commit {commit.commit_id} is held")
            network.hold(lambda: self._apply(commit))
            return Unknown("no answer (simulated)")
        if network.strikes("dropped"):
            network.trace.note("network", f"commit {commit.commit_id} is dropped")
            return Unknown("dropped (simulated)")
        outcome = self._apply(commit)
        if network.strikes("duplicate"):
            network.send(self._again(commit, network.late()))
        await asyncio.sleep(network.latency())
        if network.strikes("lost-answer"):
            network.trace.note("network", f"the answer to commit {commit.commit_id} is lost: {outcome}")
            return Unknown("the answer was lost (simulated)")
        return outcome

    async def _again(self, commit: Commit, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._life.network.trace.note("network", f"commit {commit.commit_id} comes once more: {self._apply(commit)}")

    def _apply(self, commit: Commit) -> Outcome:
        before = self.data.checkpoints.get(commit.scope)
        outcome = super()._apply(commit)
        if self.data.checkpoints.get(commit.scope) is not before:
            self._look(commit.scope)
        return outcome

    def _look(self, scope: Scope) -> None:
        held = self.data.checkpoints[scope]
        stand = Stand(
            held.position, held.epoch, held.commit_seq, held.commit_id, held.owner, str(held.state),
            dict(held.counters), held.caught_up, held.redelivery,
        )  # fmt: skip
        fresh: dict[str, list[str]] = {}
        for (_, key), row in self.data.rows.items():
            if key.view == "main" and self._accounts.get(key.key) is not row:
                self._accounts[key.key] = row
                fresh[key.key] = (row.attributes or {}).get("seen", [])
        waits = Waits(
            frozenset(self.data.dead.get(scope, {})),
            frozenset((event.position, event.event_id) for event in self.data.parked.get(scope, ())),
            frozenset((one.after, one.through) for one in self.data.skipped.get(scope, {}).values()),
        )
        self._watch.moved(scope.shard, stand, fresh, waits)
        sums = {key: row.attributes for (_, key), row in self.data.rows.items() if key.view == "branch"}
        self._watch.summed(count_of({key: held for key, held in sums.items() if held is not None}))


class SharedMemory:
    """One database in memory."""

    def __init__(self, network: Network, watch: Watch) -> None:
        self._data = MemoryData()
        self._accounts: dict[str, StoredRow] = {}
        self._network = network
        self._watch = watch

    def handle(self, life: Life, clock: Clock) -> Store:
        return MemoryHandle(self._data, life, self._watch, self._accounts)

    @property
    def busy(self) -> bool:
        return False

    async def aclose(self) -> None:
        await asyncio.sleep(0)

    def found(self, generation: Generation) -> Found:
        data = self._data
        rows: Rows = {
            (key.view, key.key): dict(row.attributes)
            for (_, key), row in data.rows.items()
            if row.attributes is not None
        }
        return Found(
            rows,
            [effect.event_id for effect in data.effects.get(generation, {}).values()],
            [name for letters in data.dead.values() for _, name in letters],
            [name for _, name in data.markers],
            [one for held in data.segments.values() for segment in held.values() for one in _entries(segment.entries)],
        )


def shared_store(network: Network, watch: Watch, generation: Generation) -> Shared:
    """Make the store that a plan asks for."""
    if network.plan.store == "dynamodb":
        return SharedDynamoDb(network, watch, generation)
    return SharedMemory(network, watch)
