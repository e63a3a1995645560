"""A lane: one aiokafka consumer that feeds many readers, one for each partition at most.

Theory of operation. The consumer is assigned the partitions of the readers that joined, never subscribed: who owns a
partition is not its business. Each reader asks it for its own partition alone. aiokafka holds one fetched answer for a
partition until that is asked for, undecoded, and fetches no further: that is the whole backpressure, so nothing that
was fetched is dropped, and `pause` (which would drop it) is never called. Two readers of one partition (two
projections, a range beside the live log) sit in two lanes, since a consumer has one position for a partition.

Invariants: a feed's `position` is what the consumer's is after each fetch, control records and aborted data included;
joining and leaving change the assignment, and every position is sought anew in the same step, before anything can be
fetched; at most `partition_bytes` of each partition wait here (one larger batch is taken alone).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError, RecordTooLargeError

from daemon.core.errors import SourceUnavailable
from daemon.ports.clock import Clock
from daemon.sources.kafka.client import Connection, News, Partition, Raw, WatchedClient, closed, named, uncancelled

_SETTLE_SECONDS = 0.02
"""Readers that join within it share one change of the assignment."""


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """How a lane fetches. `max_wait` s: how long a broker holds a fetch that finds nothing; sizes in bytes.

    `partition_bytes`: the most that waits of one partition; `lane_bytes`: of all partitions of a lane together.
    """

    partition_bytes: int = 1024 * 1024
    lane_bytes: int = 64 * 1024 * 1024
    max_wait: float = 0.1
    rack: str | None = None


@dataclass(slots=True, eq=False)
class Feed:
    """One reader's place in a lane. `position` is the next offset to read."""

    partition: Partition
    position: int
    news: News = field(default_factory=News)


class OutOfRange(Exception):
    """The next offset is not in the log."""


class Lane:
    """See the module."""

    def __init__(self, connection: Connection, policy: FetchPolicy, clock: Clock, partitions: int) -> None:
        """Connect to nothing yet. `partitions` is how many the lane will feed at most, which divides its memory."""
        self._connection, self._policy, self._clock = connection, policy, clock
        self._share = max(1, min(policy.partition_bytes, policy.lane_bytes // max(1, partitions)))
        self._feeds: dict[Partition, Feed] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._client: WatchedClient
        self._changed = False
        self._fetched = 0
        self._changing = anyio.Lock()

    def __contains__(self, partition: Partition) -> bool:
        """Tell whether a reader of this partition sits here."""
        return partition in self._feeds

    @property
    def fetched_bytes(self) -> int:
        """What the brokers have sent as records, in bytes, over all its consumers."""
        return self._fetched + (0 if self._consumer is None else self._client.fetched_bytes)

    @property
    def idle(self) -> bool:
        """Whether it feeds nobody."""
        return not self._feeds

    def join(self, partition: Partition, position: int) -> Feed:
        """Take a place; fetching begins with the first `fetch`."""
        feed = self._feeds[partition] = Feed(partition, position)
        self._changed = True
        return feed

    async def leave(self, feed: Feed) -> None:
        """Give the place back."""
        if self._feeds.get(feed.partition) is feed:
            del self._feeds[feed.partition]
            self._changed = True
            if self.idle:
                await self.stop()

    async def fetch(self, feed: Feed, max_records: int, wait: float) -> Sequence[Raw]:
        """Return the next records, waiting `wait` s for some, and move the feed.

        Raises OutOfRange, SourceUnavailable.
        """
        consumer = await self._assigned()
        partition = named(feed.partition)
        try:
            with uncancelled():
                got = await consumer.getmany(partition, timeout_ms=int(wait * 1000), max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise OutOfRange from error
        except RecordTooLargeError as error:
            # aiokafka has stepped over it; brokers since Kafka 0.10.1 never cause this.
            consumer.seek(partition, feed.position)
            raise SourceUnavailable(
                f"{feed.partition[0]}-{feed.partition[1]}: {error}; raise the fetch sizes"
            ) from error
        except ConsumerStoppedError:
            return []  # restarted or left meanwhile; the next fetch finds the new consumer
        except KafkaError as error:
            raise SourceUnavailable(
                f"{feed.partition[0]}-{feed.partition[1]} cannot be read ({type(error).__name__}: {error}); "
                "grant the rights or wait"
            ) from error
        # No other task ran since aiokafka handed the records over, so its position is what they end at.
        if partition in consumer.assignment():
            feed.position = await consumer.position(partition)
        return got.get(partition, [])

    async def stop(self) -> None:
        """Close the consumer; the next fetch makes another, which goes on at the feeds' positions."""
        async with self._changing:
            consumer, self._consumer = self._consumer, None
            self._changed = True
            if consumer is not None:
                self._fetched += self._client.fetched_bytes
                await closed(consumer.stop())

    async def _assigned(self) -> AIOKafkaConsumer:
        if self._consumer is not None and not self._changed:
            return self._consumer
        await self._clock.sleep(_SETTLE_SECONDS)
        async with self._changing:
            if self._consumer is None:
                self._consumer = await self._started()
                self._changed = True
            if self._changed:
                self._assign(self._consumer)
            return self._consumer

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Assign and seek in one step: no await, so that no fetch can see a partition without its position."""
        self._changed = False
        consumer.assign([named(partition) for partition in self._feeds])
        for partition, feed in self._feeds.items():
            consumer.seek(named(partition), feed.position)
        self._client.news = {partition: feed.news for partition, feed in self._feeds.items()}

    async def _started(self) -> AIOKafkaConsumer:
        policy = self._policy
        consumer = AIOKafkaConsumer(
            **self._connection.options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=True,
            fetch_max_wait_ms=int(policy.max_wait * 1000),
            fetch_max_bytes=policy.lane_bytes,
            max_partition_fetch_bytes=self._share,
            client_rack=policy.rack,
        )
        # aiokafka has no parameter for its client; nothing is connected or started before `start`.
        self._client = WatchedClient(self._connection, self._clock.monotonic)
        consumer._client = self._client  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        try:
            with uncancelled():
                await consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await closed(consumer.stop())
            servers = ", ".join(self._connection.servers)
            raise SourceUnavailable(
                f"no broker answers at {servers} ({type(error).__name__}: {error}); check servers and security, or wait"
            ) from error
        except BaseException:
            await closed(consumer.stop())
            raise
        return consumer
