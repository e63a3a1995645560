"""The AWS JSON protocol as its callers see it: one call, four kinds of answer.

Owns the values a call comes back as, the services that speak the protocol, and how an error's body is read. It must not
know HTTP libraries, credentials, or what an operation means: whether a `Failure` may be tried again is the caller's to
decide.

Invariants:
- A call never raises for what the network or the service did: it returns an `Answer`. Cancellation alone passes
through.
- `NotSent` is said only when not one byte of the request can have reached the service. In doubt, the answer is
`Silence`.
- Nothing here repeats a request whose first sending may have been applied.
"""

from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson


@dataclass(frozen=True, slots=True)
class Success:
    """A 2xx answer.

    Its body as parsed by orjson (DynamoDB's numbers are strings, so none is rounded), and its length.
    """

    body: Any
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The service answered with an error.

    `code` is the part of `__type` behind `#`, such as "TransactionCanceledException"; `body` is the whole parsed error.
    A 5xx with a known code comes as a `Failure` too: the request may have been applied all the same.
    """

    status: int
    code: str
    message: str
    body: Any


@dataclass(frozen=True, slots=True)
class Silence:
    """No usable answer: the request may have been applied, or may yet be."""

    detail: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request certainly never reached the service."""

    detail: str


type Answer = Success | Failure | Silence | NotSent


class AwsJson(Protocol):
    """One service's calls."""

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        """Send `body` (a serialised request) as `operation`; answers within `deadline_seconds`, whatever happens."""
        ...

    async def aclose(self) -> None:
        """Close the connections; a call made later is `NotSent`."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """One service that speaks AWS JSON.

    `client` is what the SDK calls it, `signing` what signatures name it; `target` and `version` go into the headers.
    """

    client: str
    signing: str
    target: str
    version: str


DYNAMODB = Service("dynamodb", "dynamodb", "DynamoDB_20120810", "1.0")
DYNAMODB_STREAMS = Service("dynamodbstreams", "dynamodb", "DynamoDBStreams_20120810", "1.0")
SQS = Service("sqs", "sqs", "AmazonSQS", "1.0")
KINESIS = Service("kinesis", "kinesis", "Kinesis_20131202", "1.1")
EVENTS = Service("events", "events", "AWSEvents", "1.1")


# ---------------------------------------------------------------------------------------------------------- errors

NO_CODE = "Http4xx"
"""The code of a 4xx whose body is no AWS error: a gateway or a proxy answered, not the service."""
_SHOWN_BYTES = 200
_BAD_REQUEST, _REQUEST_TIMEOUT, _SERVER_ERROR = 400, 408, 500


def error_answer(status: int, raw: bytes, error_type: str | None = None) -> Failure | Silence:
    """Read the body of an answer other than 2xx; `error_type` is its header `x-amzn-errortype`.

    From 500 on only an error that names its code is the service's own word: without one, a gateway may have given up on
    a service that goes on working, which is `Silence`. So are a redirect, which is not followed, and a gateway's 408,
    which may be about the connection's idleness before this request.
    """
    try:
        body = orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        body = None
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    code = _code_of(fields, error_type)
    shown = shortened(raw)
    by_service_or_refused = code or (_BAD_REQUEST <= status < _SERVER_ERROR and status != _REQUEST_TIMEOUT)
    if status < _BAD_REQUEST or not by_service_or_refused:
        return Silence(f"status {status} without an error of the service: {shown}")
    message = fields.get("message") or fields.get("Message") or fields.get("errorMessage")
    return Failure(status, code or NO_CODE, message if isinstance(message, str) else shown, body)


def shortened(raw: bytes) -> str:
    """Return the beginning of a body, fit for one line of a message."""
    text = ascii(raw[:_SHOWN_BYTES].decode(errors="replace"))
    return text if len(raw) <= _SHOWN_BYTES else f"{text}… ({len(raw)} bytes)"


def _code_of(fields: dict[str, Any], error_type: str | None) -> str:
    """Return the code of "com.amazonaws.dynamodb.v20120810#Code" or "Code:http://…": the body's, else the header's."""
    for named in (fields.get("__type"), error_type, fields.get("code"), fields.get("Code")):
        if isinstance(named, str) and (code := named.rpartition("#")[2].partition(":")[0].strip()):
            return code
    return ""
