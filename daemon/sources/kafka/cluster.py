"""Questions to the brokers, apart from following: which partitions there are, where they begin and end, one record.

Owns one watched client, made when first needed and made anew when no broker of it answers. Must not know readers.

Invariants: every answer is asked of the partition's leader of now; every failure is SourceUnavailable, but for a
partition that the brokers say is not there: `Missing`.
"""

from collections.abc import Collection, Mapping
from typing import Any

import anyio
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from daemon.core.errors import SourceUnavailable
from daemon.ports.clock import Clock
from daemon.sources.kafka.client import Connection, Partition, Raw, WatchedClient, closed, named, uncancelled
from daemon.sources.kafka.retention import Retention, retention_of

EARLIEST, LATEST = -2, -1
"""Timestamps that ask for the first offset, and for the one after the last."""
COMMITTED, UNCOMMITTED = 1, 0
"""Isolation: up to the last stable offset, or up to the high watermark."""
_TRIES = 5
_PAUSE_SECONDS = 0.1
_ASK_AGAIN_SECONDS = 60.0
_TOPIC = 2
"""Kind of resource whose configuration is asked for."""


class Missing(SourceUnavailable):
    """The brokers say that there is no such topic or partition."""


class Forbidden(SourceUnavailable):
    """This user may not be told."""


class Cluster:
    """A connection for questions."""

    def __init__(self, source: str, connection: Connection, clock: Clock) -> None:
        """Connect to nothing yet. `source` names it in errors."""
        self._source, self._connection, self._clock = source, connection, clock
        self._client: WatchedClient | None = None
        self._retention: dict[str, tuple[float, Retention]] = {}
        self._connecting: anyio.Lock | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await closed(client.close())

    async def partitions(self, topics: Collection[str]) -> Mapping[str, list[int]]:
        """Return the partitions of each topic, sorted; a topic that does not exist has none.

        Raises SourceUnavailable.
        """
        client = await self._connected()
        answer = await self._ask_any(client, MetadataRequest(sorted(topics), allow_auto_topic_creation=False))
        found: dict[str, list[int]] = {topic: [] for topic in topics}
        for error, topic, _, partitions in answer.topics:
            if error in {0, _errno(UnknownTopicOrPartitionError)}:
                found[topic] = sorted(partition for _, partition, *_ in partitions)
            elif error == _errno(TopicAuthorizationFailedError):
                raise SourceUnavailable(
                    f"source {self._source!r} may not read topic {topic!r}; grant its user Describe and Read on it"
                )
            else:
                raise SourceUnavailable(f"topic {topic!r} of source {self._source!r}: {_name(error)}; it is waited for")
        client.cluster.update_metadata(answer)
        return found

    async def offset(self, partition: Partition, at: int, isolation: int = COMMITTED) -> int | None:
        """Return the first offset there is (EARLIEST), the one after the last (LATEST), or that of the first record.

        `at` is then the time it has or is later than, in ms. None: no record is that late. Raises SourceUnavailable,
        Missing.
        """
        topic, number = partition

        async def ask(client: WatchedClient, leader: int) -> int | None:
            answer = await client.send(leader, OffsetRequest(-1, isolation, [(topic, [(number, at)])]))
            ((_, ((_, error, _, offset),)),) = [
                (name, [tuple(part)[:4] for part in parts]) for name, parts in answer.topics
            ]
            _check(error)
            return None if offset < 0 else offset

        return await self._of_leader(partition, ask)

    async def record(self, partition: Partition, offset: int, *, or_later: bool = False) -> Raw | None:
        """Return the record at `offset` (or the next one of its batch), or None where it is not there any more.

        Raises SourceUnavailable, Missing.
        """
        topic, number = partition

        async def ask(client: WatchedClient, leader: int) -> Raw | None:
            # One byte asks for one batch: brokers give the first one whole, whatever its size.
            request = FetchRequest(0, 0, 1, UNCOMMITTED, [(topic, [(number, offset, 1)])])
            answer = await client.send(leader, request)
            ((_, (part,)),) = answer.topics
            _check(part[1])
            return _record_at(part[-1], offset, or_later=or_later)

        return await self._of_leader(partition, ask)

    async def retention(self, topic: str) -> Retention:
        """Return what a topic keeps, or why that cannot be told.

        Asked anew after a while. Raises SourceUnavailable.
        """
        known = self._retention.get(topic)
        now = self._clock.monotonic()
        if known is not None and known[0] > now:
            return known[1]
        try:
            retention = retention_of(await self.configuration(topic))
        except Forbidden as refusal:
            retention = Retention(untold=str(refusal))
        self._retention[topic] = (now + _ASK_AGAIN_SECONDS, retention)
        return retention

    async def configuration(self, topic: str) -> Mapping[str, str]:
        """Return a topic's settings. Raises SourceUnavailable; Forbidden where the user may not read them."""
        client = await self._connected()
        answer = await self._ask_any(client, DescribeConfigsRequest([(_TOPIC, topic, None)], include_synonyms=False))
        for error, message, _, _, entries in answer.resources:
            if error:
                raise Forbidden(
                    f"the settings of topic {topic!r} may not be read ({message or _name(error)}); grant the user of "
                    f"source {self._source!r} DescribeConfigs on it"
                )
            return {entry[0]: entry[1] for entry in entries}
        return {}

    # ------------------------------------------------------------------------------------------------- asking

    async def _of_leader[T](self, partition: Partition, ask: Any) -> T:  # pyright: ignore[reportInvalidTypeVarUse]
        """Ask the leader; with fresh metadata again where it was another node. Raises as the module says."""
        last: Exception | None = None
        for attempt in range(_TRIES):
            client = await self._connected()
            if attempt or client.cluster.leader_for_partition(named(partition)) in {None, -1}:
                found = await self.partitions([partition[0]])
                if partition[1] not in found[partition[0]]:
                    raise Missing(
                        f"{partition[0]}-{partition[1]} of source {self._source!r} does not exist; create it again, or "
                        "correct the source's topics"
                    )
            leader = client.cluster.leader_for_partition(named(partition))
            if leader not in {None, -1}:
                try:
                    with uncancelled():
                        return await ask(client, leader)
                except (KafkaError, TimeoutError) as error:
                    last = error
            await self._clock.sleep(_PAUSE_SECONDS * (attempt + 1))
        cause = "no leader" if last is None else f"{type(last).__name__}: {last}"
        raise SourceUnavailable(
            f"{partition[0]}-{partition[1]} of source {self._source!r} does not answer ({cause}); it is tried again"
        ) from last

    async def _ask_any(self, client: WatchedClient, request: Any) -> Any:
        last: Exception | None = None
        for broker in client.cluster.brokers():
            try:
                with uncancelled():
                    return await client.send(broker.nodeId, request)
            except (KafkaError, TimeoutError) as error:
                last = error
        # None of the brokers it knows is there: perhaps all moved, so the next question begins with the servers named.
        await self.aclose()
        raise SourceUnavailable(f"no broker of source {self._source!r} answers ({last!r}); it is tried again") from last

    async def _connected(self) -> WatchedClient:
        if self._connecting is None:
            self._connecting = anyio.Lock()
        async with self._connecting:
            if self._client is None:
                client = WatchedClient(self._connection, self._clock.monotonic)
                try:
                    with uncancelled():
                        await client.bootstrap()
                except (KafkaError, OSError, TimeoutError) as error:
                    await closed(client.close())
                    servers = ", ".join(self._connection.servers)
                    raise SourceUnavailable(
                        f"no broker of source {self._source!r} answers at {servers} ({type(error).__name__}: {error}); "
                        "check servers and security, or wait"
                    ) from error
                except BaseException:  # whoever asks waits no longer
                    await closed(client.close())
                    raise
                self._client = client
            return self._client


def _record_at(data: bytes, offset: int, *, or_later: bool) -> Raw | None:
    records = MemoryRecords(data)
    while records.has_next():
        batch = records.next_batch()
        if batch is None or batch.is_control_batch:
            continue
        for record in batch:
            if record.offset >= offset:
                return record if or_later or record.offset == offset else None
    return None


def _check(error: int) -> None:
    if error:
        raise for_code(error)


def _errno(error: type[KafkaError]) -> int:
    return error.errno


def _name(error: int) -> str:
    return for_code(error).__name__


__all__ = ["COMMITTED", "EARLIEST", "LATEST", "UNCOMMITTED", "Cluster", "Missing"]
