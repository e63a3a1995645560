"""The Kafka source's sections: topics, security, the consumer group.

Owns each key's name, type, limits, default and reason, as `daemon.settings.models` does for the rest; the same
invariants hold.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from daemon.settings.base import Array, Section, Text, distinct, matching
from daemon.settings.models import FieldMapSettings, Start
from daemon.settings.secret import Secret

Topic = Annotated[
    str,
    matching(
        r"[A-Za-z0-9._-]{1,249}",
        "the name of a topic: at most 249 letters, digits, `.`, `-` and `_`",
        "write it as the cluster has it",
    ),
]


class KafkaSecuritySettings(Section):
    """How the brokers are reached and this daemon is known to them."""

    protocol: Literal["plaintext", "tls", "sasl", "sasl-tls"] = Field(
        default="plaintext",
        description="Encryption and authentication: neither, TLS, SASL without encryption, or both.",
    )
    mechanism: Literal["plain", "scram-sha-256", "scram-sha-512"] = Field(
        default="scram-sha-512",
        description="How SASL authenticates.",
    )
    username: Text | None = Field(default=None, examples=["projectiond"], description="The SASL user.")
    password: Secret | None = Field(default=None, examples=[{"env": "KAFKA_PASSWORD"}], description="Its password.")
    ca_file: Text | None = Field(
        default=None,
        examples=["/etc/projectiond/ca.pem"],
        description="The certificates that the brokers' ones are checked against; left out, those of the system.",
    )
    certificate_file: Text | None = Field(
        default=None,
        examples=["/etc/projectiond/client.pem"],
        description="This daemon's own certificate, where brokers ask for one (mutual TLS).",
    )
    key_file: Text | None = Field(
        default=None, examples=["/etc/projectiond/client.key"], description="The private key of that certificate."
    )
    key_password: Secret | None = Field(
        default=None,
        examples=[{"env": "KAFKA_KEY_PASSWORD"}],
        description="The password of that key, if it has one.",
    )


class KafkaGroupSettings(Section):
    """Membership in consumer groups, for `coordination.kind = "group"`: one group for each projection generation."""

    prefix: Annotated[
        str,
        matching(r"[A-Za-z0-9._-]{1,100}", "at most 100 letters, digits, `.`, `-` and `_`", "choose another"),
    ] = Field(
        default="projectiond",
        description="What groups' names begin with: PREFIX.PROJECTION-gNUMBER.SOURCE. Offsets are committed to them "
        "for lag tools and autoscalers only, and never read back.",
    )
    instance: Text | None = Field(
        default=None,
        examples=["replica-1"],
        description="Makes this replica a static member under this name, unique among replicas: a restart within the "
        "session moves no partition.",
    )
    session_timeout_ms: int = Field(
        default=10_000,
        ge=1_000,
        le=1_800_000,
        description="After how long without a heartbeat a replica counts as dead and its partitions move.",
    )
    heartbeat_interval_ms: int = Field(
        default=2_000,
        ge=100,
        le=600_000,
        description="How often a replica says that it lives, and learns that partitions are to move.",
    )
    rebalance_timeout_ms: int = Field(
        default=30_000,
        ge=1_000,
        le=1_800_000,
        description="Within how long a replica drains, commits and hands back what is to move; who needs longer is "
        "expelled.",
    )

    def name_of(self, projection: str, generation: int | str, source: str) -> str:
        """Name the group of one generation and source."""
        return f"{self.prefix}.{projection}-g{generation}.{source}"


class KafkaSourceSettings(Section):
    """Topics of an Apache Kafka or MSK cluster to follow, a shard per partition."""

    kind: Literal["kafka"] = Field(default="kafka", description="The kind of source.")
    servers: Annotated[Array[Text], Field(min_length=1), AfterValidator(distinct)] = Field(
        examples=[["broker-1:9092", "broker-2:9092"]],
        description="Brokers to begin with, as host:port; the others are learned from them.",
    )
    topics: Annotated[Array[Topic], Field(min_length=1), AfterValidator(distinct)] = Field(
        examples=[["orders"]],
        description="Topics to follow. They are never created by the daemon.",
    )
    envelope: Literal["cloudevents", "json", "debezium-outbox"] = Field(
        default="cloudevents",
        description='How a record holds an event: as a CloudEvent (structured or binary mode), as plain "json" whose '
        "fields are named by the table `fields`, or as Debezium's outbox event router writes it.",
    )
    start: Start = Field(
        default="earliest",
        description='Where a partition without a checkpoint begins: "earliest", "latest", or a time such as '
        "2026-03-01T00:00:00Z. Later starts always go on at the checkpoint.",
    )
    id_header: Text = Field(
        default="id", description='The header that holds the event\'s id, for envelope = "debezium-outbox".'
    )
    type_header: Text = Field(
        default="eventType", description='The header that holds its type, for envelope = "debezium-outbox".'
    )
    tombstone_type: Text = Field(
        default="Tombstone",
        description="The type under which handlers see records with a null value that name no type themselves; the key "
        "is the event's subject.",
    )
    poll_interval_ms: int = Field(
        default=200, ge=1, le=60_000, description="How long a read waits for records before it looks around."
    )
    fetch_max_wait_ms: int = Field(
        default=100,
        ge=1,
        le=60_000,
        description="How long a broker holds a fetch that finds nothing. A partition that was quiet is fetched again "
        "within it.",
    )
    fetch_partition_bytes: int = Field(
        default=1_048_576,
        ge=1_024,
        le=1_073_741_824,
        description="What is fetched of one partition at once; a larger batch of records is fetched alone.",
    )
    fetch_total_mib: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="What may wait of all partitions together, for each projection that follows them.",
    )
    max_record_bytes: int = Field(
        default=4_194_304,
        ge=64,
        le=1_073_741_824,
        description="A record with a larger value is dead-lettered unread, so that one cannot take all memory.",
    )
    max_depth: int = Field(
        default=64,
        ge=1,
        le=250,
        description="A record whose JSON nests deeper is dead-lettered, so that no handler meets what it cannot walk.",
    )
    silence_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3_600.0,
        description="After how long without an answer brokers count as away, and a topic they do not know as deleted.",
    )
    stuck_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3_600.0,
        description="After how long without progress, while records wait and brokers answer, it is made anew.",
    )
    request_timeout_seconds: float = Field(
        default=30.0, ge=0.1, le=600.0, description="How long an answer of a broker is waited for."
    )
    metadata_age_seconds: float = Field(
        default=60.0,
        ge=1.0,
        le=3_600.0,
        description="How often leaders of partitions are looked up without need.",
    )
    rack: Text | None = Field(
        default=None,
        examples=["eu-central-1a"],
        description="Where this replica runs: it then reads from the nearest copy, where brokers allow it.",
    )
    fields: FieldMapSettings | None = Field(default=None, description='The field map of `envelope = "json"`.')
    security: KafkaSecuritySettings = KafkaSecuritySettings()
    group: KafkaGroupSettings = KafkaGroupSettings()

    @property
    def log(self) -> str:
        """What is followed, for people."""
        return f"{', '.join(self.topics)} at {', '.join(self.servers)}"
