"""Operations as tests give them: accepted in the store, and carried out by whoever owns the shard."""

from collections.abc import Collection

import anyio

from daemon.core.commands import Actor, Plain
from daemon.core.identity import Generation, Scope
from daemon.core.operations import SETTLED, Operation, OutcomeStatus, ShardOutcome
from daemon.ports.store import Store
from tests.support.engine import PATIENCE_SECONDS, START_OF_TIME

ALICE = Actor(1000, "alice", "tests")


async def operate(store: Store, generation: Generation, name: str, /, **arguments: Plain) -> int:
    """Have an operation accepted, and return its sequence. An argument named like a keyword ends with `_`."""
    standing = await store.standing(generation)
    sequence = standing.sequence + 1
    held = {key.rstrip("_"): value for key, value in arguments.items()}
    request = f"{name}-{sequence}"
    operation = Operation(generation, sequence, request, name, held, None, (), ALICE, START_OF_TIME)
    accepted = await store.accept(operation, standing.after(operation).without({one.sequence for one in standing.open}))
    assert accepted == operation
    return sequence


async def outcome(
    store: Store, scope: Scope, sequence: int, statuses: Collection[OutcomeStatus] = SETTLED
) -> ShardOutcome:
    """Wait for what one shard makes of an operation."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            for one in await store.outcomes(scope.of, sequence):
                if one.scope == scope and one.status in statuses:
                    return one
            await anyio.sleep(0.002)
