"""Membership in a consumer group: heartbeats, rebalances and offsets for show, without fetching anything.

Owns the life of one group member. It is a consumer apart from those that fetch: what it is assigned is read by the
lanes, from the checkpoint's position. Must not know scopes, nor who is told.

Invariants: it never fetches, so nothing depends on when aiokafka's callbacks run; an error in a callback, which
aiokafka would log and forget, ends the membership, and another begins with nothing; the group's offsets are written for
lag tools and autoscalers, and never read.
"""

import contextlib
from collections.abc import Collection, Sequence
from typing import Protocol

import anyio
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition

from daemon.ports.clock import Clock
from daemon.sources.kafka.client import Connection, WatchedClient, closed, named, uncancelled

_LOOK_SECONDS = 0.5
_PUBLISH_SECONDS = 5.0
_NEVER_MS = 2**31 - 1
"""aiokafka lets a member go, and rejoin never, that fetched nothing for its longest poll interval."""


class Told(Protocol):
    """Who is told of assignments."""

    async def revoked(self) -> None:
        """Everything is to be given up; the member joins again when this returns."""
        ...

    async def assigned(self, shards: Collection[str]) -> None:
        """These shards are this member's, and no others."""
        ...


class GroupMember:
    """One member of one group. `run` it in a task. Times in seconds."""

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        connection: Connection,
        clock: Clock,
        *,
        instance: str | None = None,
        session_timeout: float = 10.0,
        heartbeat_interval: float = 2.0,
        rebalance_timeout: float = 30.0,
    ) -> None:
        """Join nothing yet. `instance` makes it a static member."""
        self._group, self._topics, self._connection, self._clock = group, topics, connection, clock
        self._instance, self._session, self._heartbeat = instance, session_timeout, heartbeat_interval
        self._rebalance = rebalance_timeout
        self._consumer: AIOKafkaConsumer | None = None
        self._client: WatchedClient | None = None
        self._offsets: dict[TopicPartition, int] = {}
        self._left = False
        self._failed: Exception | None = None
        self.restarts = 0
        """Memberships that ended by an error or by silence and were begun anew."""

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group

    @property
    def rebalance_timeout(self) -> float:
        """Within how many seconds what is revoked must be given up."""
        return self._rebalance

    async def run(self, listener: Told) -> None:
        """Be a member until `leave` or cancelled."""
        while not self._left:
            try:
                await self._join(listener)
                await self._attend()
            except (KafkaError, OSError, TimeoutError):
                self.restarts += 1
            finally:
                with anyio.CancelScope(shield=True):
                    if not self._left:
                        await self._stop()
            await listener.revoked()
            await self._clock.sleep(_LOOK_SECONDS * (1 + self._clock.draw()))

    async def confirmed(self) -> bool:
        """Wait for the answer to a heartbeat sent from now on; False when the group refuses it, or none comes."""
        asked, until = self._clock.monotonic(), self._clock.monotonic() + self._session
        while self._clock.monotonic() < until:
            client = self._client
            if client is not None and client.heartbeat is not None and client.heartbeat[0] > asked:
                return client.heartbeat[1] == 0
            await self._clock.sleep(min(_LOOK_SECONDS, self._heartbeat) / 4)
        return False

    def publish(self, shard: str, offset: int) -> None:
        """Have the group show that a shard is read up to before `offset`; committed from time to time."""
        topic, _, number = shard.rpartition("-")
        self._offsets[named((topic, int(number)))] = offset

    async def leave(self) -> None:
        """Leave the group; a static member stays in it until its session ends."""
        self._left = True
        await self._publish()
        await self._stop()

    # -------------------------------------------------------------------------------------------------- its life

    async def _join(self, listener: Told) -> None:
        self._failed = None
        consumer = AIOKafkaConsumer(
            **self._connection.options(),
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=int(self._session * 1000),
            heartbeat_interval_ms=int(self._heartbeat * 1000),
            rebalance_timeout_ms=int(self._rebalance * 1000),
            max_poll_interval_ms=_NEVER_MS,
        )
        self._consumer, self._client = consumer, WatchedClient(self._connection, self._clock.monotonic)
        consumer._client = self._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        with uncancelled():
            await consumer.start()
        # Without its fetcher it is a member and nothing else: it would fetch before anybody is told of an assignment.
        await consumer._fetcher.close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        consumer.subscribe(list(self._topics), listener=_Callbacks(self, listener))

    async def _attend(self) -> None:
        """Look after the membership until it fails; raises KafkaError."""
        consumer, client = self._consumer, self._client
        assert consumer is not None  # noqa: S101 - joined just before
        assert client is not None  # noqa: S101 - as above
        began = published = self._clock.monotonic()
        while not self._left:
            await self._clock.sleep(_LOOK_SECONDS)
            # Coordination stands still after an error until somebody takes it, which fetching would.
            consumer._coordinator.check_errors()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if self._failed is not None:
                raise KafkaError(f"a rebalance could not be told: {self._failed!r}") from self._failed
            now = self._clock.monotonic()
            heard = max(began, client.heartbeat[0] if client.heartbeat else began)
            if now - heard > 2 * self._session + self._rebalance:
                raise KafkaError(f"group {self._group}: no heartbeat answered for {now - heard:.0f} s; joined anew")
            if now - published > _PUBLISH_SECONDS:
                published = now
                await self._publish()

    async def _publish(self) -> None:
        """Commit what is known of the partitions that are this member's; failing is harmless."""
        consumer, offsets = self._consumer, self._offsets
        if consumer is None or not offsets:
            return
        mine = consumer.assignment()
        shown = {partition: offset for partition, offset in offsets.items() if partition in mine}
        self._offsets = {}
        if shown:
            unimportant = contextlib.suppress(KafkaError, IllegalStateError, TimeoutError)
            with unimportant, anyio.move_on_after(self._heartbeat), uncancelled():
                await consumer.commit(shown)

    async def _stop(self) -> None:
        consumer, self._consumer, self._client = self._consumer, None, None
        if consumer is not None:
            await closed(consumer.stop())

    async def give_up(self, listener: Told) -> None:
        """Pass a revocation on, then show how far this member came."""
        try:
            await listener.revoked()
            await self._publish()
        except Exception as error:  # noqa: BLE001 - aiokafka would log it and go on
            self._failed = error

    async def take_over(self, listener: Told, partitions: Collection[TopicPartition]) -> None:
        """Pass an assignment on."""
        try:
            await listener.assigned([f"{partition.topic}-{partition.partition}" for partition in partitions])
        except Exception as error:  # noqa: BLE001 - as above
            self._failed = error


class _Callbacks(ConsumerRebalanceListener):
    """What aiokafka calls, in one task, one after the other."""

    def __init__(self, member: GroupMember, listener: Told) -> None:
        self._member, self._listener = member, listener

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._member.give_up(self._listener)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._member.take_over(self._listener, assigned)
