"""Operations in DynamoDB: reading where they stand, accepting them, and what shards made of them.

Owns the reads, and the one transaction by which an operation is accepted. Must not know commits.

Invariants: an operation, its request and the standing after it are written together or not at all, and only as the next
one; a request is accepted once, whatever is silent and sent again. Every read is consistent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daemon.core.errors import StoreUnavailable
from daemon.core.identity import Generation
from daemon.core.operations import Operation, ShardOutcome, Standing
from daemon.stores.dynamodb.calls import Caller, is_code
from daemon.stores.dynamodb.items import AFTER, attributes_of
from daemon.stores.dynamodb.operation_items import (
    OPERATION,
    accepted_of,
    noted_of,
    operation_item,
    operation_key,
    outcome_prefix,
    request_key,
    stand_of,
    standing_item,
    standing_key,
    stands_at,
)
from daemon.stores.dynamodb.outcomes import CANCELED, problem_of
from daemon.stores.dynamodb.values import typed
from daemon.wire.aws_json import Success


@dataclass(slots=True)
class OperationItems:
    """Reads and accepts operations of one prefix. `state`: the table's name."""

    caller: Caller
    state: str

    async def standing(self, generation: Generation) -> Standing:
        """Read where a generation's operations stand."""
        item = await self.caller.of(generation).get(self.state, standing_key(generation))
        return Standing() if item is None else stand_of(item)

    async def accept(self, operation: Operation, after: Standing) -> Operation | None:
        """Write an operation where it is the next one and its request is new."""
        generation = operation.generation
        caller = self.caller.of(generation)
        request = {"TransactItems": self._writes(operation, after), "ReturnConsumedCapacity": "TOTAL"}

        async def attempt() -> Operation | None:
            known = await self.requested(generation, operation.request)
            if known is not None:
                return known
            if (await self.standing(generation)).sequence != operation.sequence - 1:
                return None
            answer = await caller.once("TransactWriteItems", request)
            if isinstance(answer, Success):
                return operation
            if is_code(answer, CANCELED):
                raise StoreUnavailable(f"{generation.label}: another operation is being accepted; looking again")
            raise problem_of(answer)

        return await caller.patiently(attempt)

    def _writes(self, operation: Operation, after: Standing) -> list[dict[str, Any]]:
        generation, sequence = operation.generation, operation.sequence
        absent = {"TableName": self.state, "ConditionExpression": "attribute_not_exists(pk)"}
        asked = request_key(generation, operation.request) | {"sequence": typed(sequence)}
        standing = {"TableName": self.state, "Item": standing_item(generation, after), **stands_at(sequence - 1)}
        return [
            {"Put": standing},
            {"Put": {"Item": operation_item(operation), **absent}},
            {"Put": {"Item": asked, **absent}},
        ]

    async def requested(self, generation: Generation, request: str) -> Operation | None:
        """Read the operation that a request became."""
        caller = self.caller.of(generation)
        asked = await caller.get(self.state, request_key(generation, request))
        if asked is None:
            return None
        sequence = attributes_of(asked)["sequence"]
        key = {"pk": {"S": generation.label}, "sk": {"S": operation_key(sequence)}}
        kept = await caller.get(self.state, key)
        if kept is None:
            raise StoreUnavailable(f"{generation.label}: operation {sequence} does not show yet; looking again")
        return accepted_of(kept, generation)

    async def later(self, generation: Generation, after: int, limit: int) -> Sequence[Operation]:
        """Read operations after a sequence, oldest first."""
        between = (operation_key(after + 1), OPERATION[:-1] + AFTER)
        items = await self.caller.of(generation).some(self.state, generation.label, between, limit)
        return [accepted_of(item, generation) for item in items]

    async def outcomes(self, generation: Generation, sequence: int) -> Sequence[ShardOutcome]:
        """Read what shards made of an operation."""
        prefix = outcome_prefix(sequence)
        items = await self.caller.of(generation).some(self.state, generation.label, (f"{prefix}#", prefix + AFTER))
        found = [noted_of(item, generation) for item in items]
        return sorted(found, key=lambda outcome: outcome.scope)
