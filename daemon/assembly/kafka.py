"""Kafka sources from settings.

Apart from `daemon.assembly.sources`, since the client takes a while to import and no other source needs it.
"""

from collections.abc import Mapping

from daemon.assembly.sources import envelope_of
from daemon.ports.clock import Clock
from daemon.settings import KafkaSourceSettings
from daemon.sources.kafka.client import Connection, Mechanism, Protocol
from daemon.sources.kafka.lane import FetchPolicy
from daemon.sources.kafka.records import AnyCloudEvents, DebeziumOutbox, Structured
from daemon.sources.kafka.security import tls_context
from daemon.sources.kafka.source import KafkaOptions, KafkaSource

_MIB = 1024 * 1024
_KAFKA_PROTOCOLS: Mapping[str, Protocol] = {
    "plaintext": "PLAINTEXT",
    "tls": "SSL",
    "sasl": "SASL_PLAINTEXT",
    "sasl-tls": "SASL_SSL",
}
_KAFKA_MECHANISMS: Mapping[str, Mechanism] = {
    "plain": "PLAIN",
    "scram-sha-256": "SCRAM-SHA-256",
    "scram-sha-512": "SCRAM-SHA-512",
}


def kafka_source(name: str, settings: KafkaSourceSettings, clock: Clock) -> KafkaSource:
    """Build a Kafka source, unopened."""
    if settings.envelope == "debezium-outbox":
        form = DebeziumOutbox(settings.id_header, settings.type_header)
    else:
        envelope = envelope_of(settings.fields)
        form = AnyCloudEvents(envelope) if settings.envelope == "cloudevents" else Structured(envelope)
    security, password = settings.security, settings.security.password
    tls = security.protocol.endswith("tls")
    connection = Connection(
        servers=settings.servers,
        client_id=f"projectiond-{name}",
        protocol=_KAFKA_PROTOCOLS[security.protocol],
        mechanism=_KAFKA_MECHANISMS[security.mechanism],
        username=security.username,
        password=None if password is None else password.reveal(),
        tls=tls_context(
            name,
            security.ca_file,
            security.certificate_file,
            security.key_file,
            None if security.key_password is None else security.key_password.reveal(),
        )
        if tls
        else None,
        request_timeout=settings.request_timeout_seconds,
        metadata_age=settings.metadata_age_seconds,
    )
    fetch = FetchPolicy(
        partition_bytes=settings.fetch_partition_bytes,
        lane_bytes=settings.fetch_total_mib * _MIB,
        max_wait=settings.fetch_max_wait_ms / 1000,
        rack=settings.rack,
    )
    options = KafkaOptions(
        fetch=fetch,
        poll_interval=settings.poll_interval_ms / 1000,
        max_record_bytes=settings.max_record_bytes,
        max_depth=settings.max_depth,
        tombstone_type=settings.tombstone_type,
        silence=settings.silence_seconds,
        stuck=settings.stuck_seconds,
    )
    return KafkaSource(name, settings.topics, form, connection=connection, clock=clock, options=options)
