"""Checks between keys: settings that are each allowed and cannot hold together.

Owns these rules alone, as pure functions of validated sections. A rule is here only if breaking it makes a promise of
the daemon false; what is merely unwise is left to whoever runs it.

Invariant: a clash names every key it follows from, so that it is not reported when one of them is already wrong.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from daemon.settings.control import ControlSettings
from daemon.settings.dynamodb import DynamoDbStoreSettings
from daemon.settings.engine import EngineSettings
from daemon.settings.kafka import KafkaSourceSettings
from daemon.settings.kinds import SourceSettings, StoreSettings
from daemon.settings.models import (
    CoordinationSettings,
    DaemonSettings,
    ProjectionSettings,
    SqliteStoreSettings,
)

BYTES_PER_MARKER_ID = 128
"""What one id may cost in a marker window, at most."""
MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class Clash:
    """One broken rule: at the key `path`, which holds `value`, because of the keys `others`."""

    path: str
    value: object
    expected: str
    remedy: str
    others: tuple[str, ...] = ()


def clashes(
    daemon: DaemonSettings,
    store: StoreSettings,
    sources: Mapping[str, SourceSettings],
    coordination: CoordinationSettings,
    engine: EngineSettings,
    projections: Mapping[str, ProjectionSettings],
    *,
    control: ControlSettings,
) -> tuple[Clash, ...]:
    """Give every broken rule, in the order of the file."""
    return (
        *_stop(daemon, engine),
        *_store(store, engine),
        *_sources(sources, engine),
        *_coordination(coordination, sources),
        *_engine(engine),
        *_windows(engine, projections),
        *_spelling("sources", sources),
        *_spelling("projections", projections),
        *_production(daemon, store, sources, control),
    )


def _stop(daemon: DaemonSettings, engine: EngineSettings) -> Iterator[Clash]:
    if daemon.grace_period_seconds <= engine.commit_deadline_seconds:
        yield Clash(
            "daemon.grace_period_seconds",
            daemon.grace_period_seconds,
            f"more than engine.commit_deadline_seconds ({engine.commit_deadline_seconds:g})",
            "a stop has to outlast a commit in flight: raise the one or lower the other",
            ("engine.commit_deadline_seconds",),
        )


def _store(store: StoreSettings, engine: EngineSettings) -> Iterator[Clash]:
    if isinstance(store, DynamoDbStoreSettings):
        if store.commit_request_seconds >= engine.commit_deadline_seconds:
            yield Clash(
                "store.commit_request_seconds",
                store.commit_request_seconds,
                f"less than engine.commit_deadline_seconds ({engine.commit_deadline_seconds:g})",
                "a request that waits longer than its commit may is cut off while its answer is on the way: lower the "
                "one or raise the other",
                ("store.kind", "engine.commit_deadline_seconds"),
            )
        return
    if store.busy_timeout_ms >= engine.commit_deadline_seconds * 1_000:
        yield Clash(
            "store.busy_timeout_ms",
            store.busy_timeout_ms,
            f"less than engine.commit_deadline_seconds ({engine.commit_deadline_seconds:g} seconds)",
            "a statement that waits longer than its commit may turns every lock into an unknown outcome: lower the one "
            "or raise the other",
            ("store.kind", "engine.commit_deadline_seconds"),
        )


def _sources(sources: Mapping[str, SourceSettings], engine: EngineSettings) -> Iterator[Clash]:
    for name, source in sources.items():
        table = f"sources.{name}"
        kind = (f"{table}.kind", f"{table}.envelope")
        if source.envelope == "json" and source.fields is None:
            yield Clash(
                f"{table}.fields",
                None,
                'a table that maps id, type and time, since the envelope is "json"',
                f'add [{table}.fields], or set envelope = "cloudevents"',
                kind,
            )
        if source.envelope != "json" and source.fields is not None:
            yield Clash(
                f"{table}.fields",
                {},
                f'no field map, since the envelope is "{source.envelope}"',
                f'remove [{table}.fields], or set envelope = "json"',
                kind,
            )
        if isinstance(source, KafkaSourceSettings):
            yield from _kafka(table, source)
        key = "max_record_bytes" if isinstance(source, KafkaSourceSettings) else "max_line_bytes"
        largest: int = getattr(source, key)
        if largest > engine.batch_max_bytes:
            yield Clash(
                f"{table}.{key}",
                largest,
                f"at most engine.batch_max_bytes ({engine.batch_max_bytes})",
                "a record that fits no batch could never be committed: lower the one or raise the other",
                (*kind, "engine.batch_max_bytes"),
            )


def _kafka(table: str, source: KafkaSourceSettings) -> Iterator[Clash]:
    security, group = source.security, source.group
    sasl = security.protocol in {"sasl", "sasl-tls"}
    for name in ("username", "password"):
        given = getattr(security, name) is not None
        if given != sasl:
            yield Clash(
                f"{table}.security.{name}",
                None if sasl else "given",
                f'{"one" if sasl else "none"}, since the protocol is "{security.protocol}"',
                "SASL needs user and password, and nothing else takes them",
                (f"{table}.security.protocol",),
            )
    if (security.certificate_file is None) != (security.key_file is None):
        yield Clash(
            f"{table}.security.key_file",
            security.key_file,
            "both certificate_file and key_file, or neither",
            "a certificate is of use with its private key only",
            (f"{table}.security.certificate_file",),
        )
    if group.heartbeat_interval_ms * 3 > group.session_timeout_ms:
        yield Clash(
            f"{table}.group.heartbeat_interval_ms",
            group.heartbeat_interval_ms,
            f"at most a third of {table}.group.session_timeout_ms ({group.session_timeout_ms})",
            "one lost heartbeat must not cost the membership: lower the one or raise the other",
            (f"{table}.group.session_timeout_ms",),
        )


def _coordination(coordination: CoordinationSettings, sources: Mapping[str, SourceSettings]) -> Iterator[Clash]:
    others = [name for name, source in sources.items() if not isinstance(source, KafkaSourceSettings)]
    if coordination.kind == "group" and others:
        yield Clash(
            "coordination.kind",
            coordination.kind,
            f'"solo" or "lease", since sources.{others[0]} is no Kafka source',
            "consumer groups divide Kafka's partitions only: set it to lease, or run those sources in a daemon apart",
            (f"sources.{others[0]}.kind",),
        )
    if coordination.kind == "lease" and coordination.poll_ms > coordination.lease_seconds * 1_000 / 3:
        yield Clash(
            "coordination.poll_ms",
            coordination.poll_ms,
            f"at most a third of coordination.lease_seconds ({coordination.lease_seconds:g})",
            "who looks more seldom than leases are renewed takes the living for dead: lower the one or raise the other",
            ("coordination.kind", "coordination.lease_seconds"),
        )


def _engine(engine: EngineSettings) -> Iterator[Clash]:
    circuit, retry = engine.circuit, engine.retry
    if circuit.max_dead_letters_in_a_row > circuit.window_events:
        yield Clash(
            "engine.circuit.max_dead_letters_in_a_row",
            circuit.max_dead_letters_in_a_row,
            f"at most engine.circuit.window_events ({circuit.window_events})",
            "a row of failures longer than the window is never seen: lower the one or raise the other",
            ("engine.circuit.window_events",),
        )
    if retry.initial_backoff_ms > retry.max_backoff_ms:
        yield Clash(
            "engine.retry.initial_backoff_ms",
            retry.initial_backoff_ms,
            f"at most engine.retry.max_backoff_ms ({retry.max_backoff_ms})",
            "the first wait is the shortest: lower the one or raise the other",
            ("engine.retry.max_backoff_ms",),
        )


def _windows(engine: EngineSettings, projections: Mapping[str, ProjectionSettings]) -> Iterator[Clash]:
    limit = engine.marker_memory_mib * MIB // BYTES_PER_MARKER_ID
    windows = {"engine.marker_window_ids": engine.marker_window_ids} | {
        f"projections.{name}.marker_window_ids": override.marker_window_ids
        for name, override in projections.items()
        if override.marker_window_ids is not None
    }
    for path, ids in windows.items():
        if ids > limit:
            yield Clash(
                path,
                ids,
                f"at most {limit}, which is what engine.marker_memory_mib ({engine.marker_memory_mib}) holds at "
                f"{BYTES_PER_MARKER_ID} bytes an id",
                "one shard's window has to fit the memory of all: lower the one or raise the other",
                ("engine.marker_memory_mib",),
            )


def _spelling(table: str, names: Mapping[str, object]) -> Iterator[Clash]:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.replace("-", "_"), name)
        if other != name:
            yield Clash(
                f"{table}.{name}",
                {},
                f"a name that differs from {table}.{other} by more than `-` and `_`",
                "rename one: an environment variable could not tell them apart",
                (f"{table}.{other}",),
            )


def _production(
    daemon: DaemonSettings, store: StoreSettings, sources: Mapping[str, SourceSettings], control: ControlSettings
) -> Iterator[Clash]:
    if not daemon.production:
        return
    paths = [("store.path", store.path, "store.kind")] if isinstance(store, SqliteStoreSettings) else []
    for name, source in sources.items():
        if isinstance(source, KafkaSourceSettings):
            continue
        paths += [(f"sources.{name}.paths[{at}]", path, f"sources.{name}.kind") for at, path in enumerate(source.paths)]
    if control.path is not None:
        paths.append(("control.path", control.path, "control.path"))
    for key, path, kind in paths:
        if not PurePath(path).is_absolute():
            yield Clash(
                key,
                path,
                "an absolute path, since daemon.production is on",
                "begin it with `/`: a relative one names another file, without checkpoints or events, when the daemon "
                "is started from another directory",
                ("daemon.production", kind),
            )
