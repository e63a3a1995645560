"""A strict DynamoDB server of our own: what AWS refuses, it refuses; what can go wrong, a script makes go wrong.

Owns an in-memory implementation of DynamoDB's AWS JSON 1.0 protocol, in this process (`StrictDynamoDb().client()`) and
over HTTP (`python -m daemon.testing.dynamodb`). Must not be imported by anything the daemon runs.
"""

from daemon.testing.dynamodb.faults import (
    AnswerWith,
    Call,
    CancelWith,
    Delay,
    Drop,
    DuplicateLater,
    Fault,
    LoseAnswer,
    PartialBatch,
    Refuse,
    StaleRead,
    Throttle,
)
from daemon.testing.dynamodb.server import LoopClock, StrictDynamoDb

__all__ = [
    "AnswerWith",
    "Call",
    "CancelWith",
    "Delay",
    "Drop",
    "DuplicateLater",
    "Fault",
    "LoopClock",
    "LoseAnswer",
    "PartialBatch",
    "Refuse",
    "StaleRead",
    "StrictDynamoDb",
    "Throttle",
]
