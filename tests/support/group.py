"""A consumer group in memory: what a group assigns is what the test says."""

from collections.abc import Collection

import anyio

from daemon.coordination.group import Listener


class FakeMember:
    """A member whose group is the test. `answers`: whether the next heartbeat is confirmed."""

    group = "projectiond.counting-g1.memory"

    def __init__(self, shards: Collection[str] = (), rebalance_timeout: float = 5.0) -> None:
        """Be assigned `shards` as soon as it joins."""
        self.shards = shards
        self.rebalance_timeout = rebalance_timeout
        self.answers = True
        self.left = False
        self.heartbeats = 0
        self.listener: Listener | None = None
        self._end = anyio.Event()

    async def run(self, listener: Listener) -> None:
        """Join, and be a member until the end."""
        self.listener = listener
        if self.shards:
            await listener.assigned(self.shards)
        await self._end.wait()

    async def rebalance(self, shards: Collection[str]) -> None:
        """Give everything up, then be assigned `shards`."""
        assert self.listener is not None
        await self.listener.revoked()
        await self.listener.assigned(shards)

    async def confirmed(self) -> bool:
        """Answer a heartbeat."""
        self.heartbeats += 1
        await anyio.sleep(0.001)
        return self.answers

    async def leave(self) -> None:
        """Leave."""
        self.left = True
        self._end.set()
