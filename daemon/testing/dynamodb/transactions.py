"""TransactWriteItems and TransactGetItems: all or nothing, in two phases, once per client token.

Owns the two phases, cancellation by index, and the window of client tokens. Must not know how requests arrive.

Invariants: between prepare and commit every item of a transaction is held, and whoever else wants to write one of them
conflicts; nothing is stored unless every action passed; a token is in progress, or done (until its window ends), or
free; a cancelled transaction frees its token.
"""

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from daemon.testing.dynamodb.capacity import Meter, Spent, mode_of, read_units
from daemon.testing.dynamodb.database import Database
from daemon.testing.dynamodb.errors import ServiceError, cancelled, invalid, reason
from daemon.testing.dynamodb.expressions import Expressions, projected
from daemon.testing.dynamodb.parameters import listed, objects, one_of, require, take
from daemon.testing.dynamodb.tables import Key, Record, Table
from daemon.testing.dynamodb.writes import MEMBERS, Write, charge, judge, read_action, resolve, store

MAX_ACTIONS = 100
MAX_BYTES = 4 * 1024 * 1024
TOKEN_LENGTH = 36
WINDOW_SECONDS = 600.0
_TOO_LARGE = (
    "Collection size of items exceeded, which can also be caused by the aggregate size of the items in the transaction "
    "exceeding the 4MB limit"
)
_TWICE = "Transaction request cannot include multiple operations on one item"
_WRITE = {
    "TransactItems": list,
    "ClientRequestToken": str,
    "ReturnConsumedCapacity": str,
    "ReturnItemCollectionMetrics": str,
}
_READ = {"TransactItems": list, "ReturnConsumedCapacity": str}
_GET = {"TableName": str, "Key": dict, "ProjectionExpression": str, "ExpressionAttributeNames": dict}
_CODES = {
    "ConditionalCheckFailedException": "ConditionalCheckFailed",
    "ProvisionedThroughputExceededException": "ProvisionedThroughputExceeded",
    "ThrottlingException": "ThrottlingError",
    "ItemCollectionSizeLimitExceededException": "ItemCollectionSizeLimitExceeded",
    "ValidationException": "ValidationError",
}


@dataclass(slots=True)
class _Token:
    digest: bytes
    done_at: float | None = None
    replay: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(slots=True)
class Transactions:
    """The transactions of one database. `hold` is awaited while one holds its items."""

    database: Database
    hold: Callable[[], Awaitable[None]] | None = None
    window_seconds: float = WINDOW_SECONDS
    _tokens: dict[str, _Token] = field(default_factory=dict[str, _Token])
    _done: deque[tuple[float, str]] = field(default_factory=deque[tuple[float, str]])

    async def write(self, body: Any) -> dict[str, Any]:
        """TransactWriteItems."""
        request = take(body, _WRITE)
        token = _checked_token(request)
        mode = mode_of(request)
        one_of(request, "ReturnItemCollectionMetrics", ("SIZE", "NONE"), "NONE")
        writes, problems = self._read(_actions(request))
        if token is None:
            return await self._run(writes, problems, mode, None)
        digest = hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        known = self._known(token)
        if known is not None:
            return self._replayed(known, digest, mode)
        entry = self._tokens[token] = _Token(digest)
        try:
            answer = await self._run(writes, problems, mode, entry)
        except BaseException:
            del self._tokens[token]
            raise
        entry.done_at = self.database.clock.monotonic()
        self._done.append((entry.done_at, token))
        return answer

    # -- tokens -----------------------------------------------------------------------------------------------------

    def _known(self, token: str) -> _Token | None:
        ended = self.database.clock.monotonic() - self.window_seconds
        while self._done and self._done[0][0] <= ended:
            _, old = self._done.popleft()
            entry = self._tokens.get(old)
            if entry is not None and entry.done_at is not None and entry.done_at <= ended:
                del self._tokens[old]
        return self._tokens.get(token)

    def _replayed(self, known: _Token, digest: bytes, mode: str) -> dict[str, Any]:
        if known.digest != digest:
            raise ServiceError(
                "IdempotentParameterMismatchException",
                "The request uses the same client token as a previous, but non-identical request.",
            )
        if known.done_at is None:
            raise ServiceError(
                "TransactionInProgressException", "The transaction with the given request token is already in progress."
            )
        meter = Meter()
        for name, units in known.replay.items():
            meter.on(name).read += units
        self.database.settle(meter)
        return meter.many(mode, split=True)

    # -- phases -----------------------------------------------------------------------------------------------------

    def _read(self, actions: list[tuple[str, Any]]) -> tuple[list[Write], list[ServiceError | None]]:
        writes = [read_action(kind, request) for kind, request in actions]
        problems: list[ServiceError | None] = []
        seen: set[tuple[str, Key]] = set()
        size = 0
        for write in writes:
            problem: ServiceError | None = None
            try:
                resolve(write, self.database.table(write.request["TableName"]))
            except ServiceError as refused:
                if not refused.item_level:
                    raise
                problem = refused
            else:
                target = (write.table.name, write.key)
                if target in seen:
                    raise invalid(_TWICE)
                seen.add(target)
            problems.append(problem)
            if write.put is not None:
                size += write.put.size
        if size > MAX_BYTES:
            raise invalid(_TOO_LARGE)
        return writes, problems

    async def _run(
        self, writes: list[Write], problems: list[ServiceError | None], mode: str, entry: _Token | None
    ) -> dict[str, Any]:
        meter = Meter()
        reasons: list[dict[str, Any]] = []
        after: list[Record | None] = []
        held: list[tuple[Table, Key]] = []
        conflict = False
        for write, problem in zip(writes, problems, strict=True):
            if problem is None and write.key in write.table.holders:
                conflict = True
                reasons.append(reason("TransactionConflict"))
                after.append(None)
                continue
            result, why = self._prepared(write, problem, meter.on(write.table.name))
            after.append(result)
            reasons.append(why)
        failed = any(why is not _NONE for why in reasons)
        if not failed and sum(_larger(write, result) for write, result in zip(writes, after, strict=True)) > MAX_BYTES:
            raise invalid(_TOO_LARGE)
        self.database.settle(meter)
        try:
            if self.hold is not None and not conflict:
                holder = object()
                for write, problem in zip(writes, problems, strict=True):
                    if problem is None:
                        write.table.holders[write.key] = holder
                        held.append((write.table, write.key))
                await self.hold()
            if failed:
                raise cancelled(reasons)
            if entry is not None:
                self._remember(entry, writes, after)
            for write, result in zip(writes, after, strict=True):
                store(self.database, write, result)
        finally:
            for table, key in held:
                del table.holders[key]
        return meter.many(mode, split=True)

    def _prepared(
        self, write: Write, problem: ServiceError | None, spent: Spent
    ) -> tuple[Record | None, dict[str, Any]]:
        before = write.table.records.get(write.key)
        try:
            if problem is not None:
                raise problem
            result = judge(write)
            self.database.admit_write(write.table, charge(write, before, result, spent, 2))
        except ServiceError as refused:
            code = _CODES.get(refused.code)
            if code is None:
                raise
            if code == "ConditionalCheckFailed":
                charge(write, before, before, spent, 2)
            return None, reason(code, refused.message, refused.fields.get("Item"))
        return result, _NONE

    def _remember(self, entry: _Token, writes: list[Write], after: list[Record | None]) -> None:
        for write, result in zip(writes, after, strict=True):
            units = 2 * read_units(result.size if result else 0, consistent=True)
            entry.replay[write.table.name] = entry.replay.get(write.table.name, 0.0) + units

    # -- reads ------------------------------------------------------------------------------------------------------

    def get(self, body: Any) -> dict[str, Any]:
        """TransactGetItems."""
        request = take(body, _READ)
        mode = mode_of(request)
        found: list[tuple[Expressions, Any, dict[str, Any]]] = []
        for one in _bounded(request):
            _, inner = _only(one, {"Get": dict}, "TransactItems can only contain one of Get")
            get = take(inner, _GET)
            require(get, "TableName", "Key")
            expressions = Expressions(get)
            projection = expressions.projection(get.get("ProjectionExpression"))
            expressions.done()
            found.append((expressions, projection, get))
        return self._got(found, mode)

    def _got(self, found: list[tuple[Expressions, Any, dict[str, Any]]], mode: str) -> dict[str, Any]:
        meter = Meter()
        responses: list[dict[str, Any]] = []
        reasons: list[dict[str, Any]] = []
        seen: set[tuple[str, Key]] = set()
        size = 0
        for _, projection, get in found:
            table = self.database.table(get["TableName"])
            try:
                key, _ = table.key_of_key(get["Key"])
            except ServiceError as refused:
                if not refused.item_level:
                    raise
                reasons.append(reason("ValidationError", refused.message))
                continue
            if (table.name, key) in seen:
                raise invalid(_TWICE)
            seen.add((table.name, key))
            if key in table.holders:
                reasons.append(reason("TransactionConflict"))
                continue
            record = table.records.get(key)
            units = 2 * read_units(record.size if record else 0, consistent=True)
            size += record.size if record else 0
            meter.on(table.name).read += units
            reasons.append(self._admitted(table, units))
            shown = None if record is None else record.item
            if shown is not None and projection is not None:
                shown = projected(shown, projection.tree)
            responses.append({} if shown is None else {"Item": shown})
        if any(why is not _NONE for why in reasons):
            raise cancelled(reasons)
        if size > MAX_BYTES:
            raise invalid(_TOO_LARGE)
        self.database.settle(meter)
        return {"Responses": responses, **meter.many(mode, split=True)}

    def _admitted(self, table: Table, units: float) -> dict[str, Any]:
        try:
            self.database.admit_read(table, units)
        except ServiceError as refused:
            return reason(_CODES[refused.code])
        return _NONE


_NONE = reason("None")


def _larger(write: Write, after: Record | None) -> int:
    before = write.table.records.get(write.key)
    return max(before.size if before else 0, after.size if after else 0)


def _checked_token(request: Mapping[str, Any]) -> str | None:
    token = request.get("ClientRequestToken")
    if token is None:
        return None
    if not 1 <= len(token) <= TOKEN_LENGTH:
        bound = "greater than or equal to 1" if not token else f"less than or equal to {TOKEN_LENGTH}"
        raise invalid(
            f"1 validation error detected: Value '{token}' at 'clientRequestToken' failed to satisfy constraint: "
            f"Member must have length {bound}"
        )
    return cast("str", token)


def _bounded(request: Mapping[str, Any]) -> list[Any]:
    require(request, "TransactItems")
    items = listed(request["TransactItems"], "TransactItems")
    if not 1 <= len(items) <= MAX_ACTIONS:
        bound = "greater than or equal to 1" if not items else f"less than or equal to {MAX_ACTIONS}"
        raise invalid(
            "1 validation error detected: Value at 'TransactItems' failed to satisfy constraint: "
            f"Member must have length {bound}"
        )
    return items


def _only(item: Any, kinds: Mapping[str, type], otherwise: str) -> tuple[str, Any]:
    given = objects(item, "An action")
    present = [(kind, inner) for kind, inner in given.items() if inner is not None]
    if len(present) != 1 or present[0][0] not in kinds:
        raise invalid(otherwise)
    return present[0]


def _actions(request: Mapping[str, Any]) -> list[tuple[str, Any]]:
    kinds = dict.fromkeys(MEMBERS, dict)
    return [
        _only(item, kinds, "TransactItems can only contain one of Check, Put, Update or Delete")
        for item in _bounded(request)
    ]


__all__ = ["MAX_ACTIONS", "WINDOW_SECONDS", "Transactions"]
