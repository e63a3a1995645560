"""A strict DynamoDB of our own: bytes in, bytes out, in this process.

Owns dispatching operations, carrying out scripted faults, and the in-process client. Must not know HTTP: `http.py` puts
the same `deliver` behind a socket.

Invariants: what arrived is carried out although its sender gave up; time and chance are those handed in, and nothing
sleeps unless a delay, a hold, a latency or a lost answer was asked for; the same calls in the same order on the same
seed give the same answers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import orjson

from daemon.testing.dynamodb import batches, catalog, queries, singles, upkeep
from daemon.testing.dynamodb.capacity import Spent
from daemon.testing.dynamodb.database import Database, ServerClock
from daemon.testing.dynamodb.errors import ServiceError, cancelled, invalid, reason, unreadable
from daemon.testing.dynamodb.faults import (
    AnswerWith,
    Call,
    CancelWith,
    Delay,
    Drop,
    DuplicateLater,
    FaultAction,
    Faults,
    How,
    LoseAnswer,
    PartialBatch,
    Refuse,
    StaleRead,
    Throttle,
)
from daemon.testing.dynamodb.tables import Table
from daemon.testing.dynamodb.transactions import WINDOW_SECONDS, Transactions
from daemon.wire.aws_json import Answer, AwsJson, NotSent, Silence, Success, error_answer

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_FAIL = 400


class LoopClock:
    """The running event loop's own time; on a loop with virtual time, virtual."""

    def now(self) -> datetime:
        """Return a fixed date plus the loop's time."""
        return _EPOCH + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the loop's time; before there is a loop, the process's."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: status and body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No usable answer: how it is lost, and what would have been answered."""

    how: How
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The connection was refused."""


type Delivery = Reply | Lost | Refused

_OPERATIONS: Mapping[str, Callable[[Database, Any], dict[str, Any]]] = {
    "BatchGetItem": batches.batch_get_item,
    "BatchWriteItem": batches.batch_write_item,
    "CreateTable": catalog.create_table,
    "DeleteItem": singles.delete_item,
    "DeleteTable": catalog.delete_table,
    "DescribeContinuousBackups": upkeep.describe_continuous_backups,
    "DescribeTable": catalog.describe_table,
    "DescribeTimeToLive": upkeep.describe_time_to_live,
    "GetItem": singles.get_item,
    "ListTables": catalog.list_tables,
    "PutItem": singles.put_item,
    "Query": queries.query,
    "Scan": queries.scan,
    "UpdateContinuousBackups": upkeep.update_continuous_backups,
    "UpdateItem": singles.update_item,
    "UpdateTable": catalog.update_table,
    "UpdateTimeToLive": upkeep.update_time_to_live,
}


class StrictDynamoDb:
    """The server.

    `read_lag_seconds`: how far back an eventually consistent read looks (a number, or drawn from the generator).
    `hold_seconds`: how long a transaction holds its items between prepare and commit; `gate`, if given, is awaited
    there as well. `latency_seconds`: how long a request travels to the server, drawn anew for each.
    `burst_seconds`: how much unused provisioned throughput a table keeps. `table_seconds`: how long a table takes to
    become active. `history_seconds`: how long old images are kept for stale reads; 60 with a read lag, else none.
    """

    def __init__(  # noqa: PLR0913  # each is one independent property of the service
        self,
        *,
        clock: ServerClock | None = None,
        seed: int = 0,
        read_lag_seconds: float | Callable[[Random], float] = 0.0,
        hold_seconds: float | Callable[[Random], float] = 0.0,
        latency_seconds: float | Callable[[Random], float] = 0.0,
        gate: Callable[[], Awaitable[None]] | None = None,
        token_window_seconds: float = WINDOW_SECONDS,
        burst_seconds: float = 300.0,
        history_seconds: float | None = None,
        table_seconds: float = 0.0,
    ) -> None:
        """Begin without tables; durations in seconds."""
        self.clock = clock if clock is not None else LoopClock()
        self.faults = Faults()
        self.gate = gate
        self.random = Random(seed)
        self._hold = _drawn(hold_seconds)
        self._latency = _drawn(latency_seconds)
        self.database = Database(
            self.clock,
            self.random,
            _drawn(read_lag_seconds),
            history_seconds=(60.0 if read_lag_seconds else 0.0) if history_seconds is None else history_seconds,
            burst_seconds=burst_seconds,
            table_seconds=table_seconds,
        )
        waits = gate is not None or hold_seconds != 0.0
        self._transactions = Transactions(self.database, self._held if waits else None, token_window_seconds)
        self._numbers = 0
        self._running: set[asyncio.Task[Any]] = set()

    # -- for tests --------------------------------------------------------------------------------------------------

    def client(self, name: str = "") -> AwsJson:
        """Return a caller of this server; `name` is what fault scripts see."""
        return _Client(self, name)

    def table(self, name: str) -> Table:
        """Return a table to look into: `items()` as attribute values, `plain()` as plain Python."""
        return self.database.tables[name]

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Return every table's items as plain Python, by the table's name."""
        return {name: table.plain() for name, table in sorted(self.database.tables.items())}

    def spent(self, name: str) -> Spent:
        """Return the capacity units that a table has cost so far."""
        return self.database.spent.get(name, Spent())

    def expire(self) -> int:
        """Let TTL remove what it may remove; return how many items went."""
        return sum(upkeep.expire(self.database, table) for table in self.database.tables.values())

    @property
    def running(self) -> int:
        """How many requests are being carried out, late duplicates among them."""
        return len(self._running)

    async def aclose(self) -> None:
        """End whatever is still being carried out."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # -- requests ---------------------------------------------------------------------------------------------------

    def start(self, work: Coroutine[Any, Any, Delivery]) -> asyncio.Task[Delivery]:
        """Carry out a request apart from its sender, at once as far as it goes without waiting."""
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return task

    async def deliver(self, operation: str, raw: bytes, client: str = "") -> Delivery:
        """Carry out one request as it arrives on the wire."""
        latency = self._latency(self.random)
        if latency > 0:
            await self.clock.sleep(latency)
        if not self.faults:
            return await self._reply(operation, raw)
        self._numbers += 1
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        call = Call(operation, body, self._numbers, client)
        action = self.faults.meet(call, self.clock.monotonic())
        return await (self._reply(operation, raw) if action is None else self._faulty(action, call, raw))

    async def _faulty(  # noqa: PLR0911  # one way out for each kind of fault
        self, action: FaultAction, call: Call, raw: bytes
    ) -> Delivery:
        match action:
            case Refuse():
                return Refused()
            case Drop(how):
                return Lost(how)
            case LoseAnswer(how):
                return Lost(how, await self._reply(call.operation, raw))
            case Delay(before, after):
                await self.clock.sleep(before)
                reply = await self._reply(call.operation, raw)
                await self.clock.sleep(after)
                return reply
            case DuplicateLater(after_seconds):
                reply = await self._reply(call.operation, raw)
                self.start(self._again(after_seconds, call.operation, raw))
                return reply
            case PartialBatch(keys):
                return await self._reply(call.operation, raw, batch_keys=keys)
            case StaleRead(lag_seconds):
                if not self.database.history_seconds:
                    raise ValueError("A StaleRead needs old images: give the server history_seconds, such as 60.")
                return await self._reply(call.operation, raw, lag=lag_seconds)
            case AnswerWith(applied=True):
                await self._reply(call.operation, raw)
                return _scripted(action, call)
            case _:
                return _scripted(action, call)

    async def _again(self, after_seconds: float, operation: str, raw: bytes) -> Delivery:
        await self.clock.sleep(after_seconds)
        return await self._reply(operation, raw)

    async def _reply(
        self, operation: str, raw: bytes, *, batch_keys: int | None = None, lag: float | None = None
    ) -> Reply:
        database = self.database
        try:
            try:
                body = orjson.loads(raw)
            except orjson.JSONDecodeError:
                raise unreadable("The request is not JSON") from None
            if operation == "TransactWriteItems":
                answer = await self._transactions.write(body)
            elif operation == "TransactGetItems":
                answer = self._transactions.get(body)
            else:
                handler = _OPERATIONS.get(operation)
                if handler is None:
                    raise ServiceError("UnknownOperationException", f"{operation} is not served here")
                database.batch_keys, database.forced_lag = batch_keys, lag
                try:
                    answer = handler(database, body)
                finally:
                    database.batch_keys = database.forced_lag = None
        except ServiceError as refused:
            return _refusal(refused)
        except RecursionError:
            return _refusal(invalid("The expression is nested too deeply"))
        return Reply(200, orjson.dumps(answer))

    async def _held(self) -> None:
        seconds = self._hold(self.random)
        if seconds > 0:
            await self.clock.sleep(seconds)
        if self.gate is not None:
            await self.gate()


def _drawn(seconds: float | Callable[[Random], float]) -> Callable[[Random], float]:
    if callable(seconds):
        return seconds
    return lambda _: seconds


def _scripted(action: AnswerWith | CancelWith | Throttle, call: Call) -> Reply:
    match action:
        case AnswerWith(code, message, status, _, fields):
            return _refusal(ServiceError(code, message, status=status, **fields))
        case CancelWith(codes):
            actions = cast("list[Any]", call.body["TransactItems"]) if call.body else []
            return _refusal(cancelled([reason(codes.get(index, "None")) for index in range(len(actions))]))
        case Throttle(_, code):
            return _refusal(ServiceError(code, "Rate of requests exceeds the allowed throughput."))


def _refusal(refused: ServiceError) -> Reply:
    return Reply(refused.status, orjson.dumps(refused.body()))


@dataclass(slots=True)
class _Client:
    """One caller in this process: the same bytes as over HTTP, the same four kinds of answer."""

    server: StrictDynamoDb
    name: str
    closed: bool = False

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        """Send a request; answers within `deadline_seconds` of the server's clock."""
        if self.closed:
            return NotSent("the client is closed")
        # A call over a network never comes back without having let others run.
        await asyncio.sleep(0)
        server = self.server
        task = server.start(server.deliver(operation, body, self.name))
        if task.done():
            delivery = task.result()
            if not (isinstance(delivery, Lost) and delivery.how == "hang"):
                return _answer(delivery)
            await server.clock.sleep(deadline_seconds)
            return Silence(f"no answer within {deadline_seconds} s")
        return await self._waited(task, deadline_seconds)

    async def _waited(self, task: asyncio.Task[Delivery], deadline_seconds: float) -> Answer:
        timer = asyncio.ensure_future(self.server.clock.sleep(deadline_seconds))
        try:
            await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled():
                delivery = task.result()
                if not (isinstance(delivery, Lost) and delivery.how == "hang"):
                    return _answer(delivery)
                await timer
        finally:
            timer.cancel()
        return Silence(f"no answer within {deadline_seconds} s")

    async def aclose(self) -> None:
        """Refuse later calls."""
        self.closed = True


def _answer(delivery: Delivery) -> Answer:
    match delivery:
        case Refused():
            return NotSent("the connection was refused")
        case Lost(how):
            return Silence(f"the answer was lost ({how})")
        case Reply(status, raw):
            return Success(orjson.loads(raw), len(raw)) if status < _FAIL else error_answer(status, raw)
