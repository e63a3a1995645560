"""The Kafka source: topics, a shard for each partition, named `TOPIC-NUMBER`.

Owns the list of partitions, where an opening begins, and the lanes that readers sit in. Must not know who owns a shard.

Invariants: offsets that a consumer group keeps are never read; no reset policy exists: an offset that is not there is
`LogLost`, with what was lost; no opening begins before the log at its checkpoint was seen to be the log that was read.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.core.errors import SourceUnavailable
from daemon.core.events import Record
from daemon.core.positions import START, Position
from daemon.ports.clock import Clock
from daemon.ports.source import Backlog, ShardInfo, SourceTraits
from daemon.ports.vitals import SourceVitals
from daemon.sources.envelopes import check_max_depth
from daemon.sources.kafka.client import Connection, Partition
from daemon.sources.kafka.cluster import COMMITTED, EARLIEST, LATEST, UNCOMMITTED, Cluster
from daemon.sources.kafka.guard import Guard
from daemon.sources.kafka.identity import Identity
from daemon.sources.kafka.lane import FetchPolicy, Lane
from daemon.sources.kafka.membership import GroupMember
from daemon.sources.kafka.reader import KafkaReader
from daemon.sources.kafka.records import Decoder, Form
from daemon.sources.kafka.retention import Removals

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How a source reads. Times in seconds, sizes in bytes.

    `silence`: after how long without an answer brokers count as away, or a topic as gone. `stuck`: after how long
    without progress, while records wait and brokers answer, a consumer is made anew.
    """

    fetch: FetchPolicy = field(default_factory=FetchPolicy)
    poll_interval: float = 0.2
    max_record_bytes: int = 4 * MIB
    max_depth: int = 64
    tombstone_type: str = "Tombstone"
    silence: float = 30.0
    stuck: float = 30.0


class KafkaSource:
    """Follows `topics` of one cluster."""

    def __init__(
        self,
        name: str,
        topics: Sequence[str],
        form: Form,
        *,
        connection: Connection,
        clock: Clock,
        options: KafkaOptions | None = None,
    ) -> None:
        """Keep the settings; nothing is connected yet. Raises ValueError for a depth out of range."""
        options = options or KafkaOptions()
        # aiokafka writes a line for every try while brokers are away; what it means is told by us, once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._name, self._topics, self._connection, self._clock, self._options = (
            name,
            topics,
            connection,
            clock,
            options,
        )
        self._decoder = Decoder(
            form,
            max_depth=check_max_depth(options.max_depth),
            max_bytes=options.max_record_bytes,
            tombstone_type=options.tombstone_type,
        )
        self._cluster = Cluster(name, connection, clock)
        self.guard = Guard(name, self._cluster)
        self._lanes: list[Lane] = []
        self._readers: set[KafkaReader] = set()
        self._counts: dict[str, int] = {}
        self._removals: dict[Partition, Removals] = {}

    @property
    def name(self) -> str:
        """The name projections follow it by."""
        return self._name

    @property
    def traits(self) -> SourceTraits:
        """Positions, order, and any range again."""
        return SourceTraits()

    async def shards(self, within: float = 0.0) -> Sequence[ShardInfo]:
        """List the partitions there are now. Raises SourceUnavailable, also for a topic that does not exist."""
        del within  # the answer comes from one broker, as soon as it is asked
        found = await self._cluster.partitions(self._topics)
        missing = [topic for topic, partitions in found.items() if not partitions]
        if missing:
            raise SourceUnavailable(
                f"topic {missing[0]!r} of source {self._name!r} does not exist; create it, or correct topics"
            )
        self._counts = {topic: len(partitions) for topic, partitions in found.items()}
        return [ShardInfo(f"{topic}-{number}") for topic in self._topics for number in found[topic]]

    async def open(
        self, shard: str, after: Position, incarnation: str | None, until: Position | None = None
    ) -> KafkaReader:
        """Open a partition strictly after `after`. Raises LogLost, SourceUnavailable."""
        partition = self._partition(shard)
        if not self._counts:
            await self.shards()
        count = self._counts[partition[0]]
        identity = Identity(count) if incarnation is None else Identity.parse(incarnation)
        position = after[0] + 1 if after else 0
        await self.guard.check(partition, identity, position)
        lane = self._lane_for(partition)
        reader = KafkaReader(
            lane,
            lane.join(partition, position),
            until=until,
            identity=identity,
            decoder=self._decoder,
            guard=self.guard,
            clock=self._clock,
            poll_interval=self._options.poll_interval,
            silence=self._options.silence,
            stuck=self._options.stuck,
            left=self._readers.discard,
        )
        self._readers.add(reader)
        return reader

    async def locate(self, shard: str, start: datetime | str) -> Position:
        """Return the position before `start`: `earliest`, `latest`, or an aware time (by the records' timestamps).

        A time later than every record is the end. Raises ValueError for another word, SourceUnavailable.
        """
        partition = self._partition(shard)
        if isinstance(start, datetime):
            offset = await self._cluster.offset(partition, max(0, int(start.timestamp() * 1000)))
            if offset is None:
                offset = await self._cluster.offset(partition, LATEST)
        elif start in {"earliest", "latest"}:
            offset = await self._cluster.offset(partition, EARLIEST if start == "earliest" else LATEST)
        else:
            raise ValueError(f"start {start!r} is not 'earliest', 'latest' or a time; give one of them")
        return (offset - 1,) if offset else START

    async def restore(self, shard: str, kept: Sequence[tuple[Position, bytes]]) -> Sequence[Record | None]:
        """Read records again: headers and keys are kept by the log alone. None where another record stands there now.

        Raises SourceUnavailable.
        """
        partition = self._partition(shard)
        restored: list[Record | None] = []
        for (offset, *_), raw in kept:
            found = await self._cluster.record(partition, offset)
            records = [] if found is None or found.offset != offset else self._decoder.decode([found])
            restored.append(records[0] if records and records[0].raw == raw else None)
        return restored

    async def backlog(self, shard: str, after: Position) -> Backlog:
        """Return the offsets between a position and the last stable one, and the end. Raises SourceUnavailable."""
        partition = self._partition(shard)
        stable = await self._cluster.offset(partition, LATEST, COMMITTED) or 0
        end = await self._cluster.offset(partition, LATEST, UNCOMMITTED) or 0
        position = after[0] + 1 if after else 0
        events = max(0, stable - position)
        loss, untold = await self._seconds_to_loss(partition, position) if events else (None, "")
        return Backlog(
            events=events,
            end=(end - 1,) if end else START,
            held=max(0, end - max(stable, position)),
            seconds_to_loss=loss,
            untold=untold,
        )

    async def _seconds_to_loss(self, partition: Partition, position: int) -> tuple[float | None, str]:
        """Return until when a topic keeps the record at `position`, at the least; or None, and why nobody can tell."""
        kept = await self._cluster.retention(partition[0])
        known: list[float] = []
        record = None if kept.seconds is None else await self._cluster.record(partition, position, or_later=True)
        if kept.seconds is not None and record is not None:
            known.append(max(0.0, record.timestamp / 1000 + kept.seconds - self._clock.now().timestamp()))
        if kept.bytes is not None:
            begin = await self._cluster.offset(partition, EARLIEST, UNCOMMITTED) or 0
            now, removals = self._clock.monotonic(), self._removals.setdefault(partition, Removals())
            removals.saw(now, begin)
            by_size = removals.seconds_to(position, now)
            known += [] if by_size is None else [by_size]
        return min(known, default=None), kept.untold

    async def untold(self) -> Sequence[str]:
        """Return, for each topic whose settings may not be read, what is not known of it. Raises SourceUnavailable."""
        await self.shards()
        return [why for topic in self._topics if (why := (await self._cluster.retention(topic)).untold)]

    def member(
        self,
        group: str,
        *,
        instance: str | None = None,
        session_timeout: float = 10.0,
        heartbeat_interval: float = 2.0,
        rebalance_timeout: float = 30.0,
    ) -> GroupMember:
        """Make a membership in a consumer group over these topics, for a coordinator. Times in seconds."""
        return GroupMember(
            group,
            self._topics,
            self._connection,
            self._clock,
            instance=instance,
            session_timeout=session_timeout,
            heartbeat_interval=heartbeat_interval,
            rebalance_timeout=rebalance_timeout,
        )

    def vitals(self) -> SourceVitals:
        """Return what was withheld and what hung, so far."""
        return SourceVitals(self._name, dict(self.guard.restarts), dict(self.guard.withheld))

    @property
    def consumers(self) -> int:
        """How many consumers it has now."""
        return sum(1 for lane in self._lanes if not lane.idle)

    @property
    def fetched_bytes(self) -> int:
        """How much brokers have sent as records, in bytes."""
        return sum(lane.fetched_bytes for lane in self._lanes)

    async def aclose(self) -> None:
        """Close every reader and connection."""
        for reader in list(self._readers):
            await reader.aclose()
        for lane in self._lanes:
            await lane.stop()
        self._lanes = []
        await self._cluster.aclose()

    def _partition(self, shard: str) -> Partition:
        topic, _, number = shard.rpartition("-")
        if topic not in self._topics or not number.isdigit():
            names = ", ".join(self._topics)
            raise SourceUnavailable(
                f"shard {shard!r} is no partition of source {self._name!r} (topics: {names}); put the topic back, "
                "or retire what followed it"
            )
        return topic, int(number)

    def _lane_for(self, partition: Partition) -> Lane:
        """Return a lane in which nobody reads this partition."""
        for lane in self._lanes:
            if partition not in lane:
                return lane
        lane = Lane(self._connection, self._options.fetch, self._clock, sum(self._counts.values()))
        self._lanes.append(lane)
        return lane
