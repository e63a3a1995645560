"""Sources from settings: each kind built, unopened; and where shards without a checkpoint begin.

Owns the way from a section of the settings to its adapter. Must not know how sources are run.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict

from daemon.core.identity import ShardId
from daemon.core.positions import Position, parse_position
from daemon.ports.clock import Clock
from daemon.ports.source import Source
from daemon.settings import FieldMapSettings, FileSourceSettings, KafkaSourceSettings, Settings, SourceSettings
from daemon.sources.envelopes import CloudEvents, Envelope, FieldMap
from daemon.sources.file import FileSource
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


def sources_of(settings: Settings, clock: Clock) -> dict[str, Source]:
    """Build every source, unopened."""
    return {name: _source(name, source, clock) for name, source in settings.sources.items()}


def _envelope(fields: FieldMapSettings | None) -> Envelope:
    if fields is None:
        return CloudEvents()
    return FieldMap(
        id=fields.id,
        type=fields.type,
        time=fields.time,
        data=fields.data,
        source=fields.source,
        subject=fields.subject,
    )


def _source(name: str, settings: SourceSettings, clock: Clock) -> Source:
    match settings:
        case FileSourceSettings():
            return _file_source(name, settings, clock)
        case KafkaSourceSettings():
            return _kafka_source(name, settings, clock)


def _kafka_source(name: str, settings: KafkaSourceSettings, clock: Clock) -> KafkaSource:
    if settings.envelope == "debezium-outbox":
        form = DebeziumOutbox(settings.id_header, settings.type_header)
    else:
        envelope = _envelope(settings.fields)
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


def _file_source(name: str, settings: FileSourceSettings, clock: Clock) -> FileSource:
    return FileSource(
        name,
        settings.paths,
        _envelope(settings.fields),
        clock=clock,
        poll_interval=settings.poll_interval_ms / 1000,
        max_line_bytes=settings.max_line_bytes,
        max_depth=settings.max_depth,
        follow_rotation=settings.follow_rotation,
    )


class Starts(TypedDict):
    """Where shards without a checkpoint begin, as `Runtime` has it."""

    starts: Mapping[str, datetime | str]
    own_starts: Mapping[str, datetime | str]
    origins: Mapping[tuple[str, ShardId], Position]


def starts_of(settings: Settings) -> Starts:
    """Turn settings into where shards without a checkpoint begin."""
    own = settings.projections
    places = [(name, place) for name, projection in own.items() for place in projection.positions or ()]
    origins: dict[tuple[str, ShardId], Position] = {}
    for name, place in places:
        shard, _, position = place.rpartition("=")
        source, _, number = shard.partition("/")
        origins[name, ShardId(source, number)] = parse_position(position)
    return Starts(
        starts={name: _moment(source.start) for name, source in settings.sources.items()},
        own_starts={name: _moment(projection.start) for name, projection in own.items() if projection.start},
        origins=origins,
    )


def _moment(start: str) -> datetime | str:
    return start if start in {"earliest", "latest"} else datetime.fromisoformat(start)
