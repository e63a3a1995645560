"""What a store connects with. Must not know HTTP, credentials or endpoints: whoever makes the clients does."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from daemon.wire.aws_json import AwsJson


class Connections(Protocol):
    """The three clients of one store, so that none waits for the others' connections. The store closes them."""

    @property
    def commits(self) -> AwsJson:
        """For `TransactWriteItems` of commits."""
        ...

    @property
    def reads(self) -> AwsJson:
        """For rows, markers and lists."""
        ...

    @property
    def leases(self) -> AwsJson:
        """For checkpoints and tables."""
        ...

    async def aclose(self) -> None:
        """Close all three."""
        ...


type Connect = Callable[[], Awaitable[Connections]]
"""Makes the clients: once for each time the store opens."""
