"""The keys that calls are signed with: at hand without waiting, renewed ahead of their end and on a refusal.

Owns when credentials are read and renewed. Must not know signatures, connections or what is called. Where credentials
come from (environment, files, roles, containers, instances) is the SDK session's business.

Invariants: while keys are at hand, no call waits for new ones; at most one reading runs at a time, and nobody's
deadline or cancellation ends it for the others; one and the same object stands for one and the same keys.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, cast

from aiobotocore.credentials import AioRefreshableCredentials  # pyright: ignore[reportMissingTypeStubs]

from daemon.wire.aws_signing import FrozenCredentials

LOOK_AGAIN_SECONDS = 15.0
"""How often the SDK is asked whether it has newer keys; it renews its own well over that ahead of their end."""
RENEW_AGAIN_SECONDS = 10.0
"""Keys that are refused although new are not renewed more often than this."""


class SessionCredentials(Protocol):
    """A session's credentials, which the SDK renews as it sees fit whenever they are read."""

    async def get_frozen_credentials(self) -> FrozenCredentials:
        """Return the keys of this moment."""
        ...


class CredentialsSession(Protocol):
    """What is used here of `aioboto3.Session`."""

    def get_credentials(self) -> Awaitable[SessionCredentials | None]:
        """Find credentials, None if there are none anywhere."""
        ...


class NoCredentials(Exception):
    """No keys can be had now; the message says why."""


class Credentials:
    """One session's keys, shared by every client of it. `monotonic` counts seconds."""

    def __init__(self, session: CredentialsSession, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._monotonic = monotonic
        self._source: SessionCredentials | None = None
        self._frozen: FrozenCredentials | None = None
        self._look_again_at = 0.0
        self._renew_again_at = 0.0
        self._flight: asyncio.Task[None] | None = None
        self._closed = False

    def at_hand(self) -> FrozenCredentials | None:
        """Return the keys last read, None before the first reading; from time to time one is started behind them."""
        if self._frozen is not None and self._monotonic() >= self._look_again_at and not self._closed:
            self._start(self._read)
        return self._frozen

    async def fetched(self) -> FrozenCredentials:
        """Wait for the first reading. Raises NoCredentials."""
        if self._frozen is None:
            await self._wait_for(self._read)
        if self._frozen is None:
            raise NoCredentials("another reading ended without credentials; see its error")
        return self._frozen

    async def renewed(self, refused: FrozenCredentials) -> FrozenCredentials | None:
        """Return other keys than those the service refused, None if there are none. Raises NoCredentials."""
        if self._flight is not None:
            await asyncio.wait({self._flight})
        if self._frozen is refused and self._can_renew():
            await self._wait_for(self._renew)
        return None if self._frozen is refused else self._frozen

    async def aclose(self) -> None:
        """End a reading that still runs."""
        self._closed = True
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait({self._flight})

    def _can_renew(self) -> bool:
        return isinstance(self._source, AioRefreshableCredentials) and self._monotonic() >= self._renew_again_at

    async def _read(self) -> None:
        # Set first, so that a session that cannot renew is not asked by every call.
        self._look_again_at = self._monotonic() + LOOK_AGAIN_SECONDS
        if self._source is None:
            self._source = await self._session.get_credentials()
        if self._source is None:
            raise NoCredentials("the session found none; set AWS_PROFILE, keys in the environment, or a role")
        self._keep(await self._source.get_frozen_credentials())

    async def _renew(self) -> None:
        self._renew_again_at = self._monotonic() + RENEW_AGAIN_SECONDS
        source = cast("Any", self._source)
        # The SDK renews by the clock alone and has no public way to be told that its keys were refused.
        async with source._refresh_lock:  # noqa: SLF001 - as said
            await source._protected_refresh(is_mandatory=True)  # noqa: SLF001 - as said
        self._keep(await source.get_frozen_credentials())

    def _keep(self, frozen: FrozenCredentials) -> None:
        if frozen != self._frozen:
            self._frozen = frozen

    async def _wait_for(self, reading: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._closed:
            raise NoCredentials("the connections to AWS are closed")
        flight = self._start(reading)
        await asyncio.wait({flight})
        if flight.cancelled():
            raise NoCredentials("the connections to AWS were closed while credentials were read")
        error = flight.exception()
        if error is not None:
            raise NoCredentials(f"{type(error).__name__}: {error}") from error

    def _start(self, reading: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        if self._flight is None:
            self._flight = asyncio.create_task(reading(), name="aws credentials")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # the old keys serve until the service refuses them; whoever waits reads it too
