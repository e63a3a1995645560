"""aiokafka's client, watched: how brokers are reached, and what each fetch was answered.

Owns the only subclass of aiokafka's client. aiokafka swallows what fetches are refused with, and retries for ever in
silence; here each answer is noted down per partition, for the loss guards, the lag and the watchdog.

Invariants: a request for metadata never makes a topic (aiokafka's own does, where brokers allow it, so that a deleted
topic would come back empty); no credential is in any repr, error or log line of ours.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from typing import Protocol as TypingProtocol

import anyio
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError, UnknownTopicOrPartitionError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import TopicPartition

_PAUSE_SECONDS = 0.1
"""Between fetches that are refused, and between requests for metadata: aiokafka makes none."""
_CLOSE_SECONDS = 5.0
_OFFSET_OUT_OF_RANGE = OffsetOutOfRangeError.errno
_UNKNOWN = UnknownTopicOrPartitionError.errno


class Raw(TypingProtocol):
    """A record as aiokafka gives it. `timestamp` in milliseconds since the epoch; a null `value` is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


type Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
type Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How brokers are reached. Times in seconds."""

    servers: tuple[str, ...]
    client_id: str = "projectiond"
    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tokens: Any = field(default=None, repr=False)
    """An `aiokafka.abc.AbstractTokenProvider`, for OAUTHBEARER."""
    request_timeout: float = 30.0
    metadata_age: float = 60.0

    def options(self) -> dict[str, Any]:
        """Return what aiokafka's clients are made with."""
        return {
            "bootstrap_servers": list(self.servers),
            "client_id": self.client_id,
            "metadata_max_age_ms": int(self.metadata_age * 1000),
            "request_timeout_ms": int(self.request_timeout * 1000),
            "security_protocol": self.protocol,
            "ssl_context": self.tls,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
            "sasl_oauth_token_provider": self.tokens,
        }


@dataclass(slots=True)
class News:
    """What brokers last said of one partition, in offsets; None before they said anything.

    `begin` is the first offset there is, `stable` the last stable offset, before which all transactions are settled,
    `end` the high watermark. `answered`: monotonic seconds of the last good answer. `troubles` counts what may hide
    another log under the name: errors, lost connections, other leaders. `unknown_since`: since when brokers answer that
    there is no such partition.
    """

    begin: int | None = None
    stable: int | None = None
    end: int | None = None
    answered: float | None = None
    troubles: int = 0
    unknown_since: float | None = None
    error: str = ""
    node: int | None = None


type Partition = tuple[str, int]


class WatchedClient(AIOKafkaClient):
    """A client that notes what fetches are answered, in `news`, for the partitions that are there."""

    def __init__(self, connection: Connection, monotonic: Callable[[], float]) -> None:
        """Connect to nothing yet. Needs a running loop."""
        super().__init__(**connection.options())
        self.news: dict[Partition, News] = {}
        self._monotonic = monotonic
        self._asked = 0.0
        self.fetches = self.fetched_bytes = 0
        self.heartbeat: tuple[float, int] | None = None
        """When the newest answered heartbeat was sent, and the error it was answered (0: none)."""

    async def send(self, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        """Send a request to a node; watch it where it is a fetch."""
        if type(request) is not FetchRequest:
            sent = self._monotonic()
            response = await super().send(node_id, request, group=group)
            if type(request) is HeartbeatRequest:
                self.heartbeat = (sent, response.error_code)
            return response
        self.fetches += 1
        try:
            response = await super().send(node_id, request, group=group)
        except KafkaError as error:
            for topic, partitions in request.topics:
                for partition, *_ in partitions:
                    self._trouble((topic, partition), str(error) or type(error).__name__)
            raise
        now, good = self._monotonic(), False
        for topic, answers in response.topics:
            for answer in answers:
                self._note((topic, answer[0]), node_id, answer, now)
                good = good or not answer[1]
        if not good:
            await anyio.sleep(_PAUSE_SECONDS)
        return response

    def _note(self, partition: Partition, node: int, answer: Sequence[Any], now: float) -> None:
        news = self.news.get(partition)
        if news is None:
            return
        error = answer[1]
        if error:
            # Out of range reaches the reader as an error of its own; it says nothing against what was read.
            if error != _OFFSET_OUT_OF_RANGE:
                self._trouble(partition, f"error {error}")
            if error == _UNKNOWN and news.unknown_since is None:
                news.unknown_since = now
            return
        self.fetched_bytes += len(answer[-1])
        news.end, news.stable, news.begin = answer[2], answer[3], answer[4]
        news.answered, news.unknown_since = now, None
        if news.node is not None and news.node != node:
            self._trouble(partition, f"its leader was node {news.node} and is {node}")
        news.node = node

    def _trouble(self, partition: Partition, error: str) -> None:
        news = self.news.get(partition)
        if news is not None:
            news.troubles += 1
            news.error = error

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        """Ask any node for metadata, as aiokafka does, without making topics; no topics: of none, instead of all."""
        now = self._monotonic()
        wait, self._asked = max(0.0, self._asked + _PAUSE_SECONDS - now), now
        await anyio.sleep(wait)
        request = MetadataRequest(sorted(topics or ()), allow_auto_topic_creation=False)
        bootstrap = ("bootstrap", ConnectionGroup.DEFAULT)
        connections = self._conns
        nodes: list[Any] = [broker.nodeId for broker in self.cluster.brokers()]
        random.shuffle(nodes)
        if bootstrap in connections:
            nodes.append("bootstrap")
        for node in nodes:
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                metadata = await connection.send(request)
            except (KafkaError, TimeoutError):
                continue
            if not metadata.brokers:
                return False
            cluster_metadata.update_metadata(metadata)
            if bootstrap in connections and self.cluster.brokers():
                connections.pop(bootstrap).close()
            return True
        cluster_metadata.failed_update(None)
        return False


@contextmanager
def uncancelled() -> Generator[None]:
    """Tell aiokafka's cancellations from ours, around a call of it.

    Closing a connection, it cancels tasks and futures that others wait for, and they would end as if they had been
    cancelled themselves: an actor, a coordinator, the daemon. Raises KafkaConnectionError instead.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise KafkaConnectionError("the connection was closed meanwhile") from None


async def closed(work: Coroutine[Any, Any, object]) -> None:
    """Close something of aiokafka's, in a task apart, to the end or for so long; errors tell nothing then."""
    task = asyncio.ensure_future(work)
    with anyio.CancelScope(shield=True):
        await asyncio.wait([task], timeout=_CLOSE_SECONDS)
    if task.done() and not task.cancelled():
        task.exception()


def named(partition: Partition) -> TopicPartition:
    """Return a partition as aiokafka names it."""
    return TopicPartition(*partition)
