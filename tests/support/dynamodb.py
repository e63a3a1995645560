"""DynamoDB servers as tests see them: an address, and stores on tables of their own."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from daemon.app import SystemClock
from daemon.demo.services.dynoxide import Dynoxide
from daemon.ports.clock import Clock
from daemon.stores.dynamodb import Connections, DynamoDbStore
from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB

SERVERS = {"dynoxide": Dynoxide}
"""The servers that the contract suite runs on, by name: each a context manager with an `endpoint`."""


def fresh_prefix() -> str:
    """A table prefix that no other test has."""
    return f"t{uuid4().hex[:12]}"


def connecting(endpoint_url: str) -> Callable[[], Any]:
    """What a store connects with, to a server that takes any credentials."""

    async def connect() -> Connections:
        access = AwsAccess(aws_session(region="us-east-1", keys=("AKIDTEST", "secret", None)))
        return access.pools(await access.endpoint(DYNAMODB, endpoint_url))

    return connect


def store_on(endpoint_url: str, prefix: str, clock: Clock | None = None, **settings: Any) -> DynamoDbStore:
    """A store on one server's tables of one prefix."""
    return DynamoDbStore(connecting(endpoint_url), clock or SystemClock(), prefix=prefix, **settings)
