"""Taking a shard: the epoch raised by compare-and-set, and a wait until the last commit's items show.

Owns the checkpoint's reads, its creation and its update by a new owner. Must not know commits beyond what the last one
left in the item.

Invariants: raising is idempotent by owner, so that silence is answered by reading and trying again; what a newer
projectiond keeps in the item stays there. DynamoDB applies one transaction's items one after the other: a new owner
could read the checkpoint of the last commit and miss what that commit parked, so it waits for it here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from daemon.core.checkpoint import Checkpoint, Fence, check_over
from daemon.core.errors import OperationsMoved, StoreUnavailable
from daemon.core.identity import Scope
from daemon.stores.dynamodb.calls import Caller, is_code
from daemon.stores.dynamodb.items import CHECKPOINT, checkpoint_item, checkpoint_of, scope_key, shard_item
from daemon.stores.dynamodb.operation_items import unmoved
from daemon.stores.dynamodb.outcomes import CANCELED, problem_of
from daemon.stores.dynamodb.requests import LAST_PARKED, LAST_REMOVED
from daemon.stores.dynamodb.tables import Tables
from daemon.stores.dynamodb.values import Typed
from daemon.wire.aws_json import Answer, Failure, Success

_SHOW_TRIES = 40
_SHOW_SECONDS = 0.25


def checkpoint_key(scope: Scope) -> dict[str, Typed]:
    """Return the key of a scope's checkpoint."""
    return {"pk": {"S": scope_key(scope)}, "sk": {"S": CHECKPOINT}}


@dataclass(slots=True)
class Taking:
    """Takes shards of one prefix."""

    caller: Caller
    tables: Tables

    async def read(self, scope: Scope) -> Checkpoint | None:
        """Read one checkpoint, consistently."""
        item = await self.caller.of(scope.of).get(self.tables.state, checkpoint_key(scope))
        return None if item is None else checkpoint_of(item)

    async def take(
        self, scope: Scope, owner: str, initial: Checkpoint, over: Fence | None = None, seen: int | None = None
    ) -> Checkpoint:
        """Raise the epoch in the name of `owner`, once per owner, where it stands as was seen.

        Raises Superseded, OperationsMoved.
        """

        async def attempt() -> tuple[Checkpoint, dict[str, Typed]]:
            item = await self.caller.of(scope.of).get(self.tables.state, checkpoint_key(scope))
            held = None if item is None else checkpoint_of(item)
            if held is None or held.owner != owner:
                check_over(scope.label, held, over)
            if item is None or held is None:
                taken = initial.taken(owner)
                await self._create(scope, taken, seen)
                return taken, {}
            if held.owner == owner:
                return held, item
            return await self._raise(scope, held, owner, seen), item

        taken, item = await self.caller.patiently(attempt)
        await self._until_shown(scope, item)
        return taken

    async def write_once[T](self, puts: list[dict[str, Any]], look: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Make items that must not exist yet, together, and return what `look` then finds: ours, or a faster one's."""
        request = {"TransactItems": puts, "ReturnConsumedCapacity": "TOTAL"}

        async def attempt() -> T:
            answer = await self.caller.once("TransactWriteItems", request)
            found = await look()
            if found is not None:
                return found
            if isinstance(answer, Success) or is_code(answer, CANCELED):
                raise StoreUnavailable(f"{what} does not show yet, or was being made by another replica")
            raise problem_of(answer)

        return await self.caller.patiently(attempt)

    async def _create(self, scope: Scope, taken: Checkpoint, seen: int | None) -> None:
        """Make the first checkpoint and list its shard, together."""
        pk = scope_key(scope)
        table, absent = self.tables.state, "attribute_not_exists(pk)"
        token = blake2b(f"{table}\n{pk}\n{taken.owner}\n{seen}".encode(), digest_size=16).hexdigest()
        first = {"TableName": table, "Item": checkpoint_item(pk, taken), "ConditionExpression": absent}
        writes: list[dict[str, Any]] = [{"Put": first}, {"Put": {"TableName": table, "Item": shard_item(scope)}}]
        if seen is not None:
            writes.append(unmoved(table, scope.of, seen))
        request: dict[str, Any] = {
            "TransactItems": writes,
            "ClientRequestToken": token,
            "ReturnConsumedCapacity": "TOTAL",
        }
        answer = await self.caller.of(scope.of).once("TransactWriteItems", request)
        if is_code(answer, CANCELED):
            self._check_standing(scope, answer, seen)
            raise StoreUnavailable(f"{scope.label}: another owner makes its first checkpoint; looking again")
        if not isinstance(answer, Success):
            raise problem_of(answer)

    async def _raise(self, scope: Scope, held: Checkpoint, owner: str, seen: int | None) -> Checkpoint:
        taken = held.taken(owner)
        update: dict[str, Any] = {
            "TableName": self.tables.state,
            "Key": checkpoint_key(scope),
            "UpdateExpression": "SET epoch=:e1,commit_seq=:n1,commit_id=:o,#o=:o",
            "ConditionExpression": "epoch=:e AND commit_seq=:n",
            "ExpressionAttributeNames": {"#o": "owner"},
            "ExpressionAttributeValues": {
                ":e": {"N": str(held.epoch)},
                ":n": {"N": str(held.commit_seq)},
                ":e1": {"N": str(taken.epoch)},
                ":n1": {"N": str(taken.commit_seq)},
                ":o": {"S": owner},
            },
        }
        caller, counting = self.caller.of(scope.of), {"ReturnConsumedCapacity": "TOTAL"}
        if seen is None:
            answer = await caller.once("UpdateItem", update | counting)
        else:
            writes = [{"Update": update}, unmoved(self.tables.state, scope.of, seen)]
            answer = await caller.once("TransactWriteItems", {"TransactItems": writes} | counting)
        if isinstance(answer, Success):
            return taken
        if is_code(answer, CANCELED):
            self._check_standing(scope, answer, seen)
        if is_code(answer, CANCELED, "ConditionalCheckFailedException"):
            raise StoreUnavailable(f"{scope.label}: the checkpoint moves while it is taken; another owner is at work")
        raise problem_of(answer)

    @staticmethod
    def _check_standing(scope: Scope, answer: Answer, seen: int | None) -> None:
        """Raise OperationsMoved where a cancelled take met another standing than was seen; its check comes last."""
        reasons: list[dict[str, Any]] = (
            answer.body.get("CancellationReasons") or [] if isinstance(answer, Failure) else []
        )
        if seen is not None and reasons and reasons[-1].get("Code") == "ConditionalCheckFailed":
            raise OperationsMoved(f"{scope.label}: an operation was accepted after {seen} was seen; looking again")

    async def _until_shown(self, scope: Scope, item: dict[str, Typed]) -> None:
        """Wait until every event that the last commit parked can be read, and what it removed cannot any more."""
        parked, removed = ({sk["S"] for sk in item.get(name, {"L": []})["L"]} for name in (LAST_PARKED, LAST_REMOVED))
        keys = [{"pk": item["pk"], "sk": {"S": sk}} for sk in sorted(parked | removed)]
        if not keys:
            return
        for _ in range(_SHOW_TRIES):
            shown = await self.caller.of(scope.of).get_many(self.tables.state, keys, "sk")
            if {one["sk"]["S"] for one in shown} == parked - removed:
                return
            await self.caller.clock.sleep(_SHOW_SECONDS)
        raise StoreUnavailable(
            f"{scope.label}: {len(keys)} events parked by its last commit do not show after "
            f"{_SHOW_TRIES * _SHOW_SECONDS:g} s; tried again later"
        )
