"""DynamoDB servers as tests see them: how to reach one, and stores on tables of their own."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from daemon.app import SystemClock
from daemon.ports.clock import Clock
from daemon.stores.dynamodb import Connections, DynamoDbStore
from daemon.testing.dynamodb import StrictDynamoDb
from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB, AwsJson

type Connecting = Callable[[], Awaitable[Connections]]

SERVERS = tuple(os.environ.get("DYNAMODB_SERVERS", "strict dynoxide").split())
"""The servers that the contract suite runs on: `strict` (in this process), `dynoxide`, `ministack`, or any URL."""


@dataclass(frozen=True, slots=True)
class LocalPools:
    """The three clients of a strict server in this process; fault scripts know them by these names."""

    commits: AwsJson
    reads: AwsJson
    leases: AwsJson

    async def aclose(self) -> None:
        for client in (self.commits, self.reads, self.leases):
            await client.aclose()


def inside(server: StrictDynamoDb) -> Connecting:
    """What a store connects with, to a strict server in this process."""

    async def connect() -> Connections:
        return LocalPools(server.client("commits"), server.client("reads"), server.client("leases"))

    return connect


def over_http(endpoint_url: str) -> Connecting:
    """What a store connects with, to a server that takes any credentials."""

    async def connect() -> Connections:
        access = AwsAccess(aws_session(region="us-east-1", keys=("AKIDTEST", "secret", None)))
        return access.pools(await access.endpoint(DYNAMODB, endpoint_url))

    return connect


def connecting(name: str, request: pytest.FixtureRequest) -> Connecting:
    """How to reach one of `SERVERS`; it is started if it has to be."""
    if name == "strict":
        return inside(StrictDynamoDb())
    if "://" in name:
        return over_http(name)
    return over_http(request.getfixturevalue(name).endpoint)


def store_on(connect: Connecting, prefix: str, clock: Clock | None = None, **settings: Any) -> DynamoDbStore:
    """A store on one server's tables of one prefix."""
    return DynamoDbStore(connect, clock or SystemClock(), prefix=prefix, **settings)
