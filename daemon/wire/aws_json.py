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
from typing import Any, Protocol


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
