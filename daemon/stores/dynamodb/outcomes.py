"""What an answer to a commit means: each error code mapped once, each cancellation reason read by its index.

Owns the tables of codes and which reason counts first. Pure: must not know clients, tokens or how a request was
written.

Which reason counts, when a cancellation has several:
1. the checkpoint's condition failed: another hand holds the shard, or this very commit was applied before;
2. anything else is the matter with the checkpoint (a conflict, a throttle): whether the fence holds is open, so
   nothing else can be trusted, and the frozen commit is tried again;
3. a marker exists, then a row moved, then a waiting entry is gone: facts that stay true, and which the same payload can
   only meet again;
4. an item is too large, then an item is invalid: the payload's own fault, found once it is free of duplicates;
5. conflict, throttle, in progress: they pass.

Invariants: nothing is guessed: what may have been applied is Unknown. A code that names no item and does not pass by
itself is a settings error, never an event's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import (
    Busy,
    Commit,
    Committed,
    Duplicate,
    Fenced,
    Outcome,
    Rejected,
    RowMoved,
    TooLarge,
    Unknown,
    Unlisted,
)
from daemon.core.errors import StoreProblem, StoreRefused, StoreUnavailable
from daemon.core.identity import RowKey
from daemon.core.rows import RowCheck, RowWrite, WriteKind
from daemon.stores.dynamodb.items import checkpoint_of
from daemon.stores.dynamodb.requests import Shape
from daemon.stores.dynamodb.values import plain
from daemon.wire.aws_json import NO_CODE, Answer, Failure, NotSent, Silence, Success

CANCELED = "TransactionCanceledException"

PASSING = frozenset({
    "ThrottlingException", "Throttling", "ThrottlingError", "ProvisionedThroughputExceededException",
    "ProvisionedThroughputExceeded", "RequestLimitExceeded", "TransactionConflictException", "TransactionConflict",
    "LimitExceededException", "ReplicatedWriteConflictException", "ExpiredTokenException", "ExpiredToken",
    "RequestTimeTooSkewed", "RequestExpired", "TooManyRequestsException", "SlowDown",
})  # fmt: skip
"""Codes of errors that applied nothing and pass by themselves (credentials are renewed by the wire)."""
OPEN = frozenset({
    "InternalServerError", "InternalServerErrorException", "InternalFailure", "ServiceUnavailable",
    "ServiceUnavailableException", "TransactionInProgressException", "TransactionInProgress", "RequestTimeout",
    "RequestTimeoutException",
})  # fmt: skip
"""Codes of errors that leave it open whether the request was, or will be, applied."""
MISSING = frozenset({"ResourceNotFoundException", "TableNotFoundException"})
RIGHTS = frozenset({
    "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "IncompleteSignatureException", "InvalidClientTokenId",
    "OptInRequired", "NotAuthorized", "SignatureDoesNotMatch",
})  # fmt: skip
TOO_LARGE = frozenset({"ItemCollectionSizeLimitExceededException", "ItemCollectionSizeLimitExceeded"})
_SIZE_WORDS = ("item size", "size exceeded", "maximum allowed size", "size has exceeded", "less than or equal to 100")
_SCHEMA_WORDS = ("does not match the schema", "missing the key", "not a valid table", "attribute name is reserved")


@dataclass(frozen=True, slots=True)
class AtCheckpoint:
    """The checkpoint's condition failed. `stands`: what the answer shows there; None: read it back."""

    stands: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class BadAddition:
    """An addition met something else than a number, at these rows.

    Where it is None, it counts as 0, and only a read tells.
    """

    keys: tuple[RowKey, ...]
    detail: str


type Reading = Outcome | AtCheckpoint | BadAddition
"""An outcome, or what must be read first."""


def read_answer(answer: Answer, commit: Commit) -> Reading:
    """Return what an answer to a commit's request means.

    Raises StoreRefused where no commit can succeed until settings, rights or tables are mended.
    """
    match answer:
        case Success(body=body):
            return Committed(consumed_of(body))
        case NotSent(detail=detail):
            return Busy(f"not sent: {detail}")
        case Silence(detail=detail):
            return Unknown(detail)
        case Failure(code=code) if code == CANCELED:
            return _read_cancellation(answer, commit)
        case Failure():
            return _read_failure(answer)


def consumed_of(body: Mapping[str, Any], kind: str = "wcu") -> dict[str, float]:
    """Return capacity by table: `wcu:NAME`, and `rcu:NAME` where the answer says that reads were billed."""
    totals: dict[str, float] = {}
    held: Any = body.get("ConsumedCapacity") or []
    for entry in cast("list[dict[str, Any]]", held if isinstance(held, list) else [held]):
        table = entry["TableName"]
        reads, writes = entry.get("ReadCapacityUnits"), entry.get("WriteCapacityUnits")
        if reads is None and writes is None:
            reads, writes = (entry["CapacityUnits"], None) if kind == "rcu" else (None, entry["CapacityUnits"])
        for unit, count in (("rcu", reads), ("wcu", writes)):
            if count:
                totals[f"{unit}:{table}"] = totals.get(f"{unit}:{table}", 0.0) + count
    return totals


def _read_failure(failure: Failure) -> Outcome:
    code, said = failure.code, f"{failure.code}: {failure.message}"
    if code == "IdempotentParameterMismatchException":
        return Unknown(f"{said}; this token was used for another commit: report this")
    if is_open(failure):
        return Unknown(said)
    if passes(failure):
        return Busy(said)
    if code in TOO_LARGE or (code == "ValidationException" and _speaks_of_size(failure.message)):
        return TooLarge(said)
    if code == "ValidationException" and not any(word in failure.message.lower() for word in _SCHEMA_WORDS):
        return Rejected(said)
    raise problem_of(failure)


_SERVER_SIDE = 500
_PASSING_STATUSES = frozenset({425, 429})
"""Too early, too many requests: said by a gateway before the service, without a code of the service's."""


def passes(failure: Failure) -> bool:
    """Tell whether an error applied nothing and passes by itself."""
    return failure.code in PASSING or (failure.code == NO_CODE and failure.status in _PASSING_STATUSES)


def is_open(failure: Failure) -> bool:
    """Tell whether an error leaves it open whether the request was, or will be, applied."""
    return failure.code in OPEN or (failure.status >= _SERVER_SIDE and failure.code not in PASSING)


def problem_of(answer: Answer) -> StoreProblem:
    """Return the error of our tree for an answer that is no success."""
    if not isinstance(answer, Failure):
        detail = answer.detail if isinstance(answer, Silence | NotSent) else "no error"
        return StoreUnavailable(f"DynamoDB does not answer: {detail}")
    code, said = answer.code, f"{answer.code}: {answer.message}"
    if passes(answer) or is_open(answer):
        return StoreUnavailable(f"DynamoDB refuses for now: {said}")
    if code in MISSING:
        return StoreRefused(
            f"a table is missing or not ready ({said}); run `projectiond init`, or correct store.prefix"
        )
    if code in RIGHTS:
        return StoreRefused(f"DynamoDB refuses these credentials ({said}); correct them, their rights or the region")
    return StoreRefused(f"DynamoDB refuses ({said}); correct the settings or the tables (`projectiond init`)")


def _speaks_of_size(message: str) -> bool:
    lower = message.lower()
    return any(word in lower for word in _SIZE_WORDS)


# --------------------------------------------------------------------------------------------------- cancellation


def _read_cancellation(failure: Failure, commit: Commit) -> Reading:
    reasons: list[dict[str, Any]] = failure.body.get("CancellationReasons") or []
    codes = [reason.get("Code") or "None" for reason in reasons]
    if not codes or all(code == "None" for code in codes):
        return Busy(f"cancelled without a reason: {failure.message}")
    if codes[0] == _CONDITION:
        return AtCheckpoint(reasons[0].get("Item"))
    if codes[0] != "None":
        return _of_code(codes[0], reasons[0], "the checkpoint")
    return (
        _duplicates(commit, codes, reasons)
        or _moved(commit, codes)
        or _unlisted(commit, codes)
        or _faults(commit, codes, reasons)
        or _of_code(*_first(codes, reasons))
    )


_CONDITION = "ConditionalCheckFailed"


def _duplicates(commit: Commit, codes: Sequence[str], reasons: Sequence[Mapping[str, Any]]) -> Duplicate | None:
    known = {
        marker.event_id: plain(reasons[index]["Item"]["digest"]) if reasons[index].get("Item") else b""
        for index, marker in zip(Shape.of(commit).markers, commit.markers, strict=True)
        if codes[index] == _CONDITION
    }
    return Duplicate(known) if known else None


def _moved(commit: Commit, codes: Sequence[str]) -> RowMoved | None:
    keys = frozenset(part.key for index, part in _rows(commit) if codes[index] == _CONDITION)
    return RowMoved(keys) if keys else None


def _unlisted(commit: Commit, codes: Sequence[str]) -> Unlisted | None:
    refs = frozenset(
        settle.ref
        for index, settle in zip(Shape.of(commit).settles, commit.settles, strict=True)
        if codes[index] == _CONDITION
    )
    return Unlisted(refs) if refs else None


def _rows(commit: Commit) -> Sequence[tuple[int, RowWrite | RowCheck]]:
    shape = Shape.of(commit)
    return [*zip(shape.rows, commit.rows, strict=True), *zip(shape.checks, commit.checks, strict=True)]


def _faults(
    commit: Commit, codes: Sequence[str], reasons: Sequence[Mapping[str, Any]]
) -> TooLarge | Rejected | BadAddition | None:
    faults = [index for index, code in enumerate(codes) if code in TOO_LARGE or code == _INVALID]
    large = [index for index in faults if codes[index] in TOO_LARGE or _speaks_of_size(_message(reasons[index]))]
    if large:
        return TooLarge(f"{_name(commit, large[0])}: {codes[large[0]]}: {_message(reasons[large[0]])}")
    if not faults:
        return None
    detail = f"{_name(commit, faults[0])}: {codes[faults[0]]}: {_message(reasons[faults[0]])}"
    additions = {
        index: part.key
        for index, part in _rows(commit)
        if isinstance(part, RowWrite) and part.kind is WriteKind.ADD and "operand" in _message(reasons[index]).lower()
    }
    if all(index in additions for index in faults):
        return BadAddition(tuple(additions[index] for index in faults), detail)
    return Rejected(detail)


_INVALID = "ValidationError"


def _first(codes: Sequence[str], reasons: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any], str]:
    index = next(index for index, code in enumerate(codes) if code != "None")
    return codes[index], reasons[index], f"action {index}"


def _of_code(code: str, reason: Mapping[str, Any], where: str) -> Outcome:
    said = f"{where}: {code}: {_message(reason)}"
    if code in TOO_LARGE:
        return TooLarge(said)
    if code == _INVALID:
        return TooLarge(said) if _speaks_of_size(_message(reason)) else Rejected(said)
    # A cancelled transaction applied nothing, whatever the code: it is tried again as a new attempt.
    return Busy(said)


def _message(reason: Mapping[str, Any]) -> str:
    return reason.get("Message") or ""


def _name(commit: Commit, index: int) -> str:
    shape = Shape.of(commit)
    if index in shape.markers:
        return f"the marker of event {commit.markers[index - shape.markers.start].event_id:.80}"
    for place, part in _rows(commit):
        if place == index:
            return f"row {part.key.view}/{part.key.key:.80}"
    return f"action {index}"


def at_checkpoint(commit: Commit, stands: Checkpoint | None) -> Outcome:
    """Return what a failed condition on the checkpoint means, given what stands there."""
    if stands is not None and stands.commit_id == commit.commit_id:
        return Committed()
    return Fenced(stands)


def checkpoint_shown(reading: AtCheckpoint) -> Checkpoint | None:
    """Return the checkpoint that a cancellation shows, None when it shows none."""
    return checkpoint_of(reading.stands) if reading.stands else None
