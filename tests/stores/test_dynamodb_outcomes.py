"""What each answer of DynamoDB to a commit means, row by row."""

from typing import Any

import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import (
    Busy,
    Commit,
    Committed,
    Duplicate,
    Fenced,
    MarkerWrite,
    Outcome,
    Rejected,
    RowMoved,
    TooLarge,
    Unknown,
)
from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.core.identity import RowKey, Scope
from daemon.core.rows import ABSENT, RowCheck, RowWrite, WriteKind
from daemon.stores.dynamodb.items import checkpoint_item
from daemon.stores.dynamodb.outcomes import (
    AtCheckpoint,
    BadAddition,
    at_checkpoint,
    checkpoint_shown,
    consumed_of,
    problem_of,
    read_answer,
)
from daemon.wire.aws_json import NO_CODE, Failure, NotSent, Silence, Success

SCOPE = Scope("orders", 1, "log", "a")
BEFORE = Checkpoint(epoch=1, commit_seq=4, commit_id="before", owner="me")
PUT, ADDED, READ = RowKey("main", "put"), RowKey("main", "added"), RowKey("main", "read")
COMMIT = Commit(
    SCOPE,
    BEFORE.fence,
    BEFORE.next("mine"),
    rows=(
        RowWrite(PUT, WriteKind.PUT, {"a": 1}, ABSENT, "s"),
        RowWrite(ADDED, WriteKind.ADD, {"n": 1}, None, "s"),
    ),
    checks=(RowCheck(READ, ABSENT),),
    markers=(MarkerWrite("e1", b"1" * 16), MarkerWrite("e2", b"2" * 16)),
)
CHECKPOINT, E1, E2, ROW, ADDITION, CHECK = range(6)
"""The actions of `COMMIT`, by index."""
MARKED = {"Item": {"pk": {"S": "orders-g1/e1"}, "digest": {"B": "AAECAwQFBgcICQoLDA0ODw=="}}}
"""What a marker's reason shows: the digest of bytes 0 to 15."""


def cancelled(reasons: dict[int, str | dict[str, Any]]) -> Failure:
    """A cancellation with these reasons by index, "None" elsewhere."""
    listed: list[dict[str, Any]] = [{"Code": "None"} for _ in range(6)]
    for index, reason in reasons.items():
        listed[index] = {"Code": reason, "Message": f"about {index}"} if isinstance(reason, str) else reason
    return failed("TransactionCanceledException", body={"CancellationReasons": listed})


def failed(code: str, message: str = "said", status: int = 400, body: Any = None) -> Failure:
    """An error answer."""
    return Failure(status, code, message, body or {})


def refused(code: str, message: str = "") -> dict[str, Any]:
    """A reason with a message of its own."""
    return {"Code": code, "Message": message}


CONDITION = "ConditionalCheckFailed"
EXISTS = {"Code": CONDITION, **MARKED}
OPERAND = refused("ValidationError", "An operand in the update expression has an incorrect data type")

ONE_REASON: list[tuple[int, str | dict[str, Any], Outcome | AtCheckpoint | BadAddition]] = [
    (E1, EXISTS, Duplicate({"e1": bytes(range(16))})),
    (E2, {"Code": CONDITION}, Duplicate({"e2": b""})),
    (ROW, CONDITION, RowMoved(frozenset({PUT}))),
    (CHECK, CONDITION, RowMoved(frozenset({READ}))),
    (CHECKPOINT, CONDITION, AtCheckpoint(None)),
    (ADDITION, OPERAND, BadAddition((ADDED,), f"row main/added: ValidationError: {OPERAND['Message']}")),
    (ADDITION, refused("ValidationError", "38 digits"), Rejected("row main/added: ValidationError: 38 digits")),
    (ROW, "ValidationError", Rejected("row main/put: ValidationError: about 3")),
    (E1, "ValidationError", Rejected("the marker of event e1: ValidationError: about 1")),
    (CHECKPOINT, "ValidationError", Rejected("the checkpoint: ValidationError: about 0")),
    (
        ROW,
        refused("ValidationError", "Item size has exceeded the maximum allowed size"),
        TooLarge("row main/put: ValidationError: Item size has exceeded the maximum allowed size"),
    ),
    (ROW, "ItemCollectionSizeLimitExceeded", TooLarge("row main/put: ItemCollectionSizeLimitExceeded: about 3")),
    (
        CHECKPOINT,
        "ItemCollectionSizeLimitExceeded",
        TooLarge("the checkpoint: ItemCollectionSizeLimitExceeded: about 0"),
    ),
    *(
        (index, code, Busy(f"{'the checkpoint' if index == 0 else f'action {index}'}: {code}: about {index}"))
        for code in ("TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError", "SomethingNew")
        for index in range(6)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("index", "reason", "meaning"), ONE_REASON)
def test_one_reason(index: int, reason: str | dict[str, Any], meaning: object) -> None:
    """Each code at each index means what it says about the item that stands there."""
    assert read_answer(cancelled({index: reason}), COMMIT) == meaning


CONFLICT, THROTTLED, INVALID = "TransactionConflict", "ThrottlingError", "ValidationError"
SEVERAL: list[tuple[dict[int, str | dict[str, Any]], type[object]]] = [
    ({CHECKPOINT: CONDITION, E1: EXISTS, ROW: CONDITION, CHECK: INVALID, ADDITION: CONFLICT}, AtCheckpoint),
    ({CHECKPOINT: CONFLICT, E1: EXISTS, ROW: CONDITION, CHECK: INVALID}, Busy),
    ({CHECKPOINT: THROTTLED, E1: EXISTS}, Busy),
    ({E1: EXISTS, ROW: CONDITION, ADDITION: OPERAND, CHECK: CONFLICT}, Duplicate),
    ({E1: CONFLICT, ROW: CONDITION, ADDITION: INVALID}, RowMoved),
    ({E1: THROTTLED, ROW: "ItemCollectionSizeLimitExceeded", ADDITION: INVALID}, TooLarge),
    ({E1: CONFLICT, ROW: INVALID, ADDITION: OPERAND}, Rejected),
    ({E1: CONFLICT, ADDITION: OPERAND}, BadAddition),
    ({E1: THROTTLED, CHECK: CONFLICT}, Busy),
    ({}, Busy),
]


@pytest.mark.parametrize(("reasons", "meaning"), SEVERAL)
def test_which_of_several_reasons_counts(reasons: dict[int, str | dict[str, Any]], meaning: type[object]) -> None:
    """The checkpoint counts first, then facts that stay true, then faults of the payload, then what passes."""
    assert isinstance(read_answer(cancelled(reasons), COMMIT), meaning)


def test_every_duplicate_and_every_moved_row_is_named() -> None:
    """Several reasons of one kind name all their events or rows."""
    assert read_answer(cancelled({E1: EXISTS, E2: EXISTS}), COMMIT) == Duplicate(
        dict.fromkeys(("e1", "e2"), bytes(range(16)))
    )
    assert read_answer(cancelled({ROW: CONDITION, CHECK: CONDITION}), COMMIT) == RowMoved(frozenset({PUT, READ}))


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        *((code, 400, Busy) for code in (
            "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
            "TransactionConflictException", "LimitExceededException", "ReplicatedWriteConflictException",
            "ExpiredTokenException", "RequestTimeTooSkewed",
        )),
        ("ThrottlingException", 503, Busy),
        *((code, 500, Unknown) for code in (
            "InternalServerError", "InternalFailure", "ServiceUnavailable", "NeverSeen",
        )),
        ("TransactionInProgressException", 400, Unknown),
        ("IdempotentParameterMismatchException", 400, Unknown),
        ("ItemCollectionSizeLimitExceededException", 400, TooLarge),
        ("ValidationException", 400, Rejected),
    ],
)  # fmt: skip
def test_whole_errors(code: str, status: int, meaning: type[Outcome]) -> None:
    """An error that names no item means what its code says."""
    assert isinstance(read_answer(failed(code, status=status), COMMIT), meaning)


@pytest.mark.parametrize(
    "message",
    [
        "Item size has exceeded the maximum allowed size",
        "Transaction request cannot include more than 4MB: maximum allowed size exceeded",
        "Member must have length less than or equal to 100",
    ],
)
def test_validation_that_speaks_of_a_limit(message: str) -> None:
    """A validation error about a size is TooLarge, so that the batch is halved."""
    assert isinstance(read_answer(failed("ValidationException", message), COMMIT), TooLarge)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ResourceNotFoundException", "Requested resource not found"),
        ("AccessDeniedException", "not authorized to perform: dynamodb:PutItem"),
        ("UnrecognizedClientException", "The security token included in the request is invalid"),
        ("InvalidSignatureException", "The request signature we calculated does not match"),
        ("ValidationException", "The provided key element does not match the schema"),
        ("UnknownOperationException", ""),
        ("SerializationException", ""),
    ],
)
def test_settings_errors_accuse_no_event(code: str, message: str) -> None:
    """Rights, missing tables and foreign schemas are raised as settings errors: nothing is bisected over them."""
    with pytest.raises(StoreRefused, match=code):
        read_answer(failed(code, message), COMMIT)


def test_silence_and_what_was_never_sent() -> None:
    """No answer is Unknown; what certainly never arrived may be tried again."""
    assert read_answer(Silence("reset"), COMMIT) == Unknown("reset")
    assert read_answer(NotSent("refused"), COMMIT) == Busy("not sent: refused")


def test_own_commit_at_the_checkpoint_is_committed() -> None:
    """Where the checkpoint holds this commit's id, it was applied; anything else there fences, and is shown."""
    assert at_checkpoint(COMMIT, COMMIT.checkpoint) == Committed()
    assert at_checkpoint(COMMIT, BEFORE.taken("you")) == Fenced(BEFORE.taken("you"))
    assert at_checkpoint(COMMIT, None) == Fenced(None)


def test_cancellation_shows_the_checkpoint() -> None:
    """The checkpoint that a cancellation returns is taken from it, without another read."""
    taken = BEFORE.taken("you")
    reading = read_answer(cancelled({CHECKPOINT: {"Code": CONDITION, "Item": checkpoint_item("pk", taken)}}), COMMIT)
    assert isinstance(reading, AtCheckpoint)
    assert checkpoint_shown(reading) == taken
    assert checkpoint_shown(AtCheckpoint(None)) is None


def test_capacity_is_counted_by_table_and_kind_of_unit() -> None:
    """Write units, the read units of a replayed token, and plain units each go under their own name."""
    answer = Success({"ConsumedCapacity": [
        {"TableName": "p-state", "CapacityUnits": 2.0, "WriteCapacityUnits": 2.0},
        {"TableName": "p-markers", "CapacityUnits": 4.0, "ReadCapacityUnits": 4.0},
        {"TableName": "p-state", "CapacityUnits": 1.0},
    ]}, 1)  # fmt: skip
    assert read_answer(answer, COMMIT) == Committed({"wcu:p-state": 3.0, "rcu:p-markers": 4.0})
    assert consumed_of({"ConsumedCapacity": {"TableName": "t", "CapacityUnits": 0.5}}, "rcu") == {"rcu:t": 0.5}
    assert consumed_of({}) == {}


@pytest.mark.parametrize("status", [425, 429])
def test_a_gateway_that_wants_patience_is_busy(status: int) -> None:
    """Too early and too many requests, said without a code of DynamoDB's, are tried again, commit or read."""
    said = failed(NO_CODE, "slow down", status)
    assert isinstance(read_answer(said, COMMIT), Busy)
    assert isinstance(problem_of(said), StoreUnavailable)
    with pytest.raises(StoreRefused):
        read_answer(failed(NO_CODE, "who are you", 403), COMMIT)


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerError", "ExpiredTokenException"])
def test_what_passes_is_unavailable_to_reads(code: str) -> None:
    """A read that meets what passes by itself is tried again."""
    assert isinstance(problem_of(failed(code)), StoreUnavailable)
    assert isinstance(problem_of(Silence("reset")), StoreUnavailable)
