"""Sources from settings: each kind built, unopened; and where shards without a checkpoint begin.

Owns the way from a section of the settings to its adapter. Must not know how sources are run.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypedDict

from daemon.core.errors import SourceUnavailable, StoreDamaged
from daemon.core.identity import Generation, ShardId
from daemon.core.positions import Position, parse_position
from daemon.ports.clock import Clock
from daemon.ports.observer import Observer, SourceEmpty
from daemon.ports.source import Source
from daemon.ports.store import Store
from daemon.settings import FieldMapSettings, FileSourceSettings, KafkaSourceSettings, Settings, SourceSettings
from daemon.sources.envelopes import CloudEvents, Envelope, FieldMap
from daemon.sources.file import FileSource


def sources_of(settings: Settings, clock: Clock) -> dict[str, Source]:
    """Build every source, unopened."""
    return {name: _source(name, source, clock) for name, source in settings.sources.items()}


async def remember_checkpoints(
    sources: Mapping[str, Source], store: Store, generations: Collection[Generation]
) -> None:
    """Tell the file sources which of their shards have a checkpoint, so that a renamed log is known again.

    Damage is left to the shards that it concerns: each parks by itself.
    """
    files = {name: source for name, source in sources.items() if isinstance(source, FileSource)}
    for generation in generations if files else ():
        with suppress(StoreDamaged):
            for scope, checkpoint in (await store.checkpoints(generation)).items():
                if scope.source in files:
                    files[scope.source].remember(scope.shard, checkpoint.incarnation)


async def tell_empty(sources: Mapping[str, Source], settings: Settings, observer: Observer) -> None:
    """Tell each file source that has no shard: its paths are misspelt, or the files are still to come."""
    for name, source in sources.items():
        if isinstance(source, FileSource):
            with suppress(SourceUnavailable):  # the coordinator asks again, and waits
                if not await source.shards():
                    observer.see(SourceEmpty(name, settings.sources[name].log))


def envelope_of(fields: FieldMapSettings | None) -> Envelope:
    """Build the envelope that settings name: CloudEvents, or plain JSON by field map."""
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
            from daemon.assembly.kafka import kafka_source  # noqa: PLC0415 - slow, and for this kind alone

            return kafka_source(name, settings, clock)


def _file_source(name: str, settings: FileSourceSettings, clock: Clock) -> FileSource:
    return FileSource(
        name,
        settings.paths,
        envelope_of(settings.fields),
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
