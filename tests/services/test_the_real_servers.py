"""Each real server starts, answers, keeps what it should over SIGKILL, and leaves nothing behind."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from daemon.demo.services.dynoxide import Dynoxide
from daemon.demo.services.kafka import KafkaBroker, KafkaCluster
from daemon.demo.services.ministack import Ministack
from daemon.demo.services.service import Service
from tests.services.conftest import alive, until

TABLE = {
    "TableName": "items",
    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}
ITEM = {"k": {"S": "key"}, "n": {"N": "12345678901234567890.5"}}
SLOW_SECONDS = 300
"""Brokers start one after the other here, and Java is slow where others want the processors too."""
PARTITION = TopicPartition("t", 0)


def dynamodb(server: Service, call: str, body: dict[str, Any]) -> dict[str, Any]:
    """One call with credentials that nobody checks."""
    scope = "Credential=KEY/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
    headers = {
        "X-Amz-Target": f"DynamoDB_20120810.{call}",
        "X-Amz-Date": "20260101T000000Z",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"AWS4-HMAC-SHA256 {scope}",
    }
    connection = HTTPConnection("127.0.0.1", server.port.number, timeout=10)
    try:
        connection.request("POST", "/", json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, said
    return json.loads(said)


async def produce(bootstrap: str, *values: bytes) -> None:
    """Append records and wait until each is acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait("t", value, partition=0)
    finally:
        await producer.stop()


async def create(bootstrap: str, copies: int = 1, **settings: str) -> None:
    """Make a topic of one partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("t", 1, copies, topic_configs=settings)])
    finally:
        await admin.close()


async def consume(bootstrap: str, count: int) -> list[bytes | None]:
    """Read so many records from the beginning."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, 0)
        values: list[bytes | None] = []
        while len(values) < count:
            values += [record.value for record in (await consumer.getmany(timeout_ms=1_000)).get(PARTITION, [])]
        return values
    finally:
        await consumer.stop()


@pytest.mark.parametrize("start", [Dynoxide, Ministack])
def test_it_speaks_dynamodb_and_leaves_nothing(start: Callable[[], Service]) -> None:
    """It stores an item, and neither process nor files are left when it is ended."""
    with start() as server:
        dynamodb(server, "CreateTable", TABLE)
        dynamodb(server, "PutItem", {"TableName": "items", "Item": ITEM})
        assert dynamodb(server, "GetItem", {"TableName": "items", "Key": {"k": ITEM["k"]}})["Item"] == ITEM
        assert server.endpoint == f"http://127.0.0.1:{server.port.number}"
        pid, directory = server.pid, server.directory
    assert not alive(pid)
    assert not directory.exists()


@pytest.mark.parametrize("end", [Dynoxide.kill, Dynoxide.stop])
def test_dynoxide_with_a_file_keeps_what_it_acknowledged(end: Callable[[Dynoxide], None], tmp_path: Path) -> None:
    """Killed and started again, by this launcher or by another, it has every item."""
    path = tmp_path / "new" / "rows.db"
    with Dynoxide(path) as server:
        dynamodb(server, "CreateTable", TABLE)
        dynamodb(server, "PutItem", {"TableName": "items", "Item": ITEM})
        end(server)
        server.start()
        assert dynamodb(server, "Scan", {"TableName": "items"})["Items"] == [ITEM]
    with Dynoxide(path) as server:
        assert dynamodb(server, "Scan", {"TableName": "items"})["Items"] == [ITEM]


def test_ministack_forgets_on_demand(ministack: Ministack) -> None:
    """A reset leaves no table."""
    dynamodb(ministack, "CreateTable", TABLE)
    ministack.reset()
    assert dynamodb(ministack, "ListTables", {})["TableNames"] == []


@pytest.mark.anyio
@pytest.mark.timeout(SLOW_SECONDS)
async def test_kafka_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """A broker killed and started again has its topic and its records, and so has another launcher's on its files."""
    with KafkaBroker(tmp_path) as broker:
        pid = broker.pid
        await create(broker.bootstrap)
        await produce(broker.bootstrap, b"one", b"two")
        before = broker.bootstrap
        broker.restart()
        assert broker.bootstrap == before
        assert await consume(broker.bootstrap, 2) == [b"one", b"two"]
    assert not alive(pid)
    with KafkaBroker(tmp_path) as broker:
        assert await consume(broker.bootstrap, 2) == [b"one", b"two"]


@pytest.mark.anyio
@pytest.mark.timeout(SLOW_SECONDS)
async def test_kafka_takes_other_listeners_and_settings() -> None:
    """A listener that was asked for gets a port of its own; a setting that was asked for wins."""
    mechanisms = {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="secret";'
        ),
        "auto.create.topics.enable": "true",
    }
    with KafkaBroker(extra_properties=mechanisms, listeners={"SASL": "SASL_PLAINTEXT"}) as broker:
        await produce(broker.bootstrap, b"made by sending")
        assert broker.bootstrap_of("SASL") != broker.bootstrap
        producer = AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap_of("SASL"),
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_plain_username="reader",
            sasl_plain_password="secret",
        )
        await producer.start()
        await producer.stop()


@pytest.mark.anyio
@pytest.mark.timeout(SLOW_SECONDS)
async def test_a_cluster_goes_on_without_one_broker() -> None:
    """With one of three brokers killed a record is acknowledged by the others, and the killed one comes back."""
    with KafkaCluster(3) as cluster:
        pids = [broker.pid for broker in cluster.brokers]
        await create(cluster.bootstrap, copies=3, **{"min.insync.replicas": "2"})
        await produce(cluster.bootstrap, b"by three")
        cluster.broker(2).kill()
        await produce(cluster.bootstrap, b"by two")
        cluster.start()
        assert await consume(cluster.bootstrap, 2) == [b"by three", b"by two"]
        directory = cluster.directory
    assert not any(map(alive, pids))
    assert not directory.exists()


@pytest.mark.timeout(SLOW_SECONDS)
def test_all_at_once_until_interrupted() -> None:
    """The command tells where each server listens, and an interrupt ends them all with status 0."""
    command = [sys.executable, "-m", "daemon.demo.services"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            assert running.stdout is not None
            told: list[str] = []
            for line in running.stdout:
                told.append(line)
                if "Ctrl-C" in line:
                    break
            children = subprocess.run(
                ["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True
            ).stdout.split()
            assert [line.split()[0] for line in told] == ["Kafka", "Dynoxide", "MiniStack", "Strict", "Ctrl-C"]
            assert len(children) == 4
            running.send_signal(signal.SIGINT)
            assert running.stdout.read() == "ended\n"
            assert running.wait(60) == 0
        finally:
            running.kill()
    until(lambda: not any(alive(int(child)) for child in children))
