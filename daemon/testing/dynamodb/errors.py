"""How the strict server says no: the service's error codes, and the sentences it uses.

Owns the shape of a refusal. Must not know operations or tables.

Invariant: a message is the service's own wherever its documentation, its API model or a published capture gives one.
"""

from typing import Any

_SERVICE = "com.amazonaws.dynamodb.v20120810#"
_PREFIXES = {
    "ValidationException": "com.amazon.coral.validate#",
    "SerializationException": "com.amazon.coral.service#",
    "UnknownOperationException": "com.amazon.coral.service#",
    "MissingAuthenticationTokenException": "com.amazon.coral.service#",
    "InvalidSignatureException": "com.amazon.coral.service#",
    "ThrottlingException": "com.amazon.coral.availability#",
}
_CAPITAL = frozenset({"TransactionCanceledException", "TransactionInProgressException"})

CONDITION_FAILED = "The conditional request failed"
CONFLICT = "Transaction is ongoing for the item"
REASON_MESSAGES: dict[str, str] = {
    "ConditionalCheckFailed": CONDITION_FAILED,
    "ItemCollectionSizeLimitExceeded": "Collection size exceeded.",
    "TransactionConflict": CONFLICT,
    "ProvisionedThroughputExceeded": (
        "The level of configured provisioned throughput for the table was exceeded. "
        "Consider increasing your provisioning level with the UpdateTable API."
    ),
    "ThrottlingError": (
        "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically scaling your table "
        "or index so please try again shortly."
    ),
    "ValidationError": "One or more parameter values were invalid.",
}
"""What a cancellation reason of each code says, after the API model of TransactionCanceledException."""


class ServiceError(Exception):
    """The service refuses a request, or (`item_level`) one action of it: inside a transaction that cancels by index.

    `fields` are further members of the error's body, such as the item that failed a condition.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, item_level: bool = False, **fields: Any) -> None:
        """Keep what the answer's body is made of."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.item_level = item_level
        self.fields = fields

    def body(self) -> dict[str, Any]:
        """Return the error as the service writes it."""
        name = "Message" if self.code in _CAPITAL else "message"
        return {"__type": _PREFIXES.get(self.code, _SERVICE) + self.code, name: self.message, **self.fields}


def invalid(message: str) -> ServiceError:
    """Return a refusal of the request as a whole."""
    return ServiceError("ValidationException", message)


def invalid_item(message: str) -> ServiceError:
    """Return a refusal that depends on the table or the stored item: by index inside a transaction."""
    return ServiceError("ValidationException", message, item_level=True)


def invalid_value(message: str) -> ServiceError:
    """Return a refusal that begins as most of the service's do."""
    return invalid(f"One or more parameter values were invalid: {message}")


def unreadable(message: str) -> ServiceError:
    """Return a refusal of JSON whose types do not fit the request's shape."""
    return ServiceError("SerializationException", message)


def no_such_table() -> ServiceError:
    """Return the refusal of every data operation on a table that is not (yet) there."""
    return ServiceError("ResourceNotFoundException", "Requested resource not found")


def throttled(*, provisioned: bool) -> ServiceError:
    """Return the refusal of a request beyond the throughput that is left."""
    if provisioned:
        return ServiceError("ProvisionedThroughputExceededException", REASON_MESSAGES["ProvisionedThroughputExceeded"])
    return ServiceError("ThrottlingException", REASON_MESSAGES["ThrottlingError"])


def cancelled(reasons: list[dict[str, Any]]) -> ServiceError:
    """Return a cancelled transaction: a reason an action, in the request's order, "None" where nothing failed."""
    codes = ", ".join(reason["Code"] for reason in reasons)
    return ServiceError(
        "TransactionCanceledException",
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        CancellationReasons=reasons,
    )


def reason(code: str, message: str | None = None, item: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return one cancellation reason."""
    made: dict[str, Any] = {"Code": code}
    if code != "None":
        made["Message"] = message or REASON_MESSAGES.get(code, code)
    if item is not None:
        made["Item"] = item
    return made
