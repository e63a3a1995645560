"""The hand that writes Kafka logs in tests.

Topics, producers with and without transactions, and what brokers can do.
"""

import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import for_code
from aiokafka.structs import TopicPartition

from daemon.app import SystemClock
from daemon.ports.source import Source
from daemon.sources.envelopes import CloudEvents
from daemon.sources.kafka.client import Connection
from daemon.sources.kafka.records import AnyCloudEvents, Form
from daemon.sources.kafka.source import KafkaOptions, KafkaSource


def cloud_event(name: str, **more: object) -> bytes:
    """One CloudEvent in structured mode."""
    return json.dumps(
        {"specversion": "1.0", "id": name, "type": "T", "source": "/s", "data": {"n": 1}, **more}
    ).encode()


@dataclass(slots=True)
class Hand:
    """Writes one topic of a broker."""

    bootstrap: str
    topic: str
    producer: Any
    admin: Any
    transactional: list[Any] = field(default_factory=list[Any])

    async def write(self, *names: str, partition: int = 0, **more: Any) -> int:
        """Append events with these ids; return the last offset."""
        offset = -1
        for name in names:
            sent = await self.producer.send_and_wait(
                self.topic, cloud_event(name), partition=partition, **({"key": name.encode()} | more)
            )
            offset = sent.offset
        return offset

    async def put(self, value: bytes | None, partition: int = 0, **more: Any) -> int:
        """Append one record as it is; return its offset."""
        sent = await self.producer.send_and_wait(self.topic, value, partition=partition, **more)
        return sent.offset

    async def transact(self, *names: str, partition: int = 0, commit: bool = True) -> None:
        """Append events in one transaction, committed or aborted."""
        producer = await self.transaction()
        for name in names:
            await producer.send_and_wait(self.topic, cloud_event(name), partition=partition)
        await (producer.commit_transaction() if commit else producer.abort_transaction())

    async def transaction(self) -> Any:
        """Begin a transaction and return its producer."""
        if not self.transactional:
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=f"tx-{uuid.uuid4()}")
            await producer.start()
            self.transactional.append(producer)
        await self.transactional[-1].begin_transaction()
        return self.transactional[-1]

    async def delete_records(self, before: int, partition: int = 0) -> None:
        """Delete every record below an offset, as retention does."""
        await self.admin.delete_records({TopicPartition(self.topic, partition): RecordsToDelete(before_offset=before)})

    async def create(self, partitions: int = 1, settings: Mapping[str, str] | None = None) -> None:
        """Make the topic; raises KafkaError where its name is taken."""
        made = await self.admin.create_topics([NewTopic(self.topic, partitions, 1, topic_configs=dict(settings or {}))])
        for _, error, *_ in made.topic_errors:
            if error:
                raise for_code(error)

    async def delete(self) -> None:
        """Delete the topic."""
        await self.admin.delete_topics([self.topic])

    async def grow_to(self, partitions: int) -> None:
        """Add partitions."""
        await self.admin.create_partitions({self.topic: NewPartitions(partitions)})


@asynccontextmanager
async def a_hand(
    bootstrap: str, partitions: int = 1, settings: Mapping[str, str] | None = None
) -> AsyncGenerator[Hand]:
    """Give a hand over a topic of its own."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=32 * 1024 * 1024)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await producer.start()
    await admin.start()
    hand = Hand(bootstrap, f"t{uuid.uuid4().hex[:12]}", producer, admin)
    try:
        await hand.create(partitions, settings)
        yield hand
    finally:
        for each in (*hand.transactional, producer):
            await each.stop()
        await admin.close()


def a_source(
    bootstrap: str, *topics: str, form: Form | None = None, options: KafkaOptions | None = None, name: str = "log"
) -> KafkaSource:
    """Give a source over topics, by default of CloudEvents."""
    return KafkaSource(
        name,
        topics,
        form or AnyCloudEvents(CloudEvents()),
        connection=Connection(servers=(bootstrap,), request_timeout=10.0),
        clock=SystemClock(),
        options=options,
    )


@dataclass(slots=True)
class KafkaRig:
    """A source over one partition, for the contract of sources. `gaps`: each event follows an aborted transaction."""

    source: Source
    shard: str
    hand: Hand
    gaps: bool

    async def grow(self, ids: Sequence[str]) -> None:
        """Append events with these ids."""
        if not self.gaps:
            await self.hand.write(*ids)
            return
        for name in ids:
            await self.hand.transact(f"aborted-{name}", commit=False)
            await self.hand.transact(name)
