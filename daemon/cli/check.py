"""`projectiond check`: what would run, without running it.

Owns the report: every effective setting with its origin, what each projection follows, guarantees and costs, and for
DynamoDB what the store's tables and rights lack. Opens no log, and makes nothing.
"""

import glob
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from daemon.cli.loading import Loaded, load
from daemon.cli.output import Output, said
from daemon.core.errors import SourceProblem, StoreRefused
from daemon.core.generations import choose
from daemon.core.identity import Generation
from daemon.core.inventory import Part
from daemon.core.projection import ProjectionSpec
from daemon.loading import Guarantee, describe
from daemon.settings import DynamoDbStoreSettings, FileSourceSettings, KafkaSourceSettings, Settings
from daemon.settings.problems import quoted

MILLION = 1_000_000
PRICED_EVENTS = 45
"""Events in a commit that costs are told for: what fits a transaction of 100 items, each event on a row of its own."""


def check_setup(config: Path | None, output: Output, *, offline: bool) -> None:
    """Check everything that can be checked without starting, and print it. Raises ProjectiondError."""
    loaded = load(config)
    settings = loaded.settings.settings
    parts: Sequence[Part] | None = None
    if isinstance(settings.store, DynamoDbStoreSettings) and not offline:
        from daemon.cli.loop import run_async

        parts = run_async(lambda: _checked_store(loaded))
    projections = [(spec, _guarantee(spec, settings)) for spec in loaded.specs]
    notes = list(_notes(settings, loaded.specs))
    if not offline and any(isinstance(source, KafkaSourceSettings) for source in settings.sources.values()):
        from daemon.cli.loop import run_async

        notes += run_async(lambda: _told_by_brokers(loaded))
    output.document({
        "config": None if loaded.path is None else str(loaded.path),
        "settings": [
            {"key": value.key, "value": value.value, "origin": value.origin} for value in loaded.settings.effective()
        ],
        "projections": [_document(spec, guarantee, loaded) for spec, guarantee in projections],
        "store": None if parts is None else [asdict(part) for part in parts],
        "notes": notes,
    })  # fmt: skip
    output.heading(f"Settings ({loaded.path or 'no file'})")
    rows = [(value.key, said(value.value), value.origin) for value in loaded.settings.effective()]
    output.table(("key", "value", "from"), rows)
    for spec, guarantee in projections:
        output.heading(f"Projection {spec.name}, version {spec.version}")
        output.pairs(_pairs(spec, guarantee, loaded))
    if parts is not None:
        output.heading("Store")
        output.table(("", "what", "name", ""), [(part.state, part.what, part.name, part.detail) for part in parts])
        output.line("Every right that a run needs on these tables is there.")
    for note in notes:
        output.line(f"note: {note}")
    count = len({spec.name for spec in loaded.specs})
    output.heading(f"All is well: {count} {'projection' if count == 1 else 'projections'}, nothing started.")


async def _told_by_brokers(loaded: Loaded) -> list[str]:
    """Return what brokers say that somebody should know; one that is away now is no mistake, and told too."""
    import anyio

    from daemon.app import SystemClock
    from daemon.assembly.sources import sources_of
    from daemon.sources.kafka.source import KafkaSource

    settings, notes = loaded.settings.settings, list[str]()
    seconds = settings.health.check_timeout_seconds
    followed = {name for spec in loaded.specs for name in spec.sources}
    for name, source in sources_of(settings, SystemClock()).items():
        if name not in followed or not isinstance(source, KafkaSource):
            continue
        try:
            with anyio.fail_after(seconds):
                untold = await source.untold()
            notes += [f"sources.{name}: {why}; until then nobody can tell when it drops what waits" for why in untold]
        except SourceProblem as problem:
            notes.append(f"sources.{name}: {problem}")
        except TimeoutError:
            notes.append(f"sources.{name} gave no answer within {seconds:g} s (health.check_timeout_seconds)")
        finally:
            with anyio.CancelScope(shield=True):
                await source.aclose()
    return notes


async def _checked_store(loaded: Loaded) -> Sequence[Part]:
    """Look at tables and rights. Raises StoreRefused with all that a start would fail at."""
    from daemon.app import store_of
    from daemon.cli.survey import first_generations, survey
    from daemon.stores.dynamodb import DynamoDbStore

    settings = loaded.settings.settings
    store = store_of(settings)

    async def check_rights(generations: Collection[Generation]) -> None:
        missing = await store.missing_rights(generations) if isinstance(store, DynamoDbStore) else []
        if missing:
            listed = "\n".join(f"  {number}. {right}" for number, right in enumerate(missing, 1))
            raise StoreRefused(f"{len(missing)} rights are missing; grant them to the daemon's role\n{listed}")

    first = first_generations(loaded.specs)
    await check_rights(first)
    found = await survey(store, loaded.specs)
    later = found.generations.keys() - first.keys()
    if later:
        await check_rights(sorted(later))
    lacking = [part.name for part in found.to_do if part.what == "table"]
    if lacking and isinstance(settings.store, DynamoDbStoreSettings) and not settings.store.create_tables:
        raise StoreRefused(
            f"tables are missing: {', '.join(lacking)}; run `projectiond init` under a role that may make them, "
            "or set store.create_tables = true"
        )
    return found.parts


def generation_of(spec: ProjectionSpec, specs: Sequence[ProjectionSpec]) -> str | None:
    """Return the label of the generation this version would begin in an empty store; None if it would wait."""
    versions = [other.version for other in specs if other.name == spec.name]
    return Generation(spec.name, 1).label if choose((), versions).create == spec.version else None


def _guarantee(spec: ProjectionSpec, settings: Settings) -> Guarantee:
    return describe(spec, min(PRICED_EVENTS, settings.for_projection(spec.name).batch_max_events))


def _document(spec: ProjectionSpec, guarantee: Guarantee, loaded: Loaded) -> dict[str, object]:
    return {
        "name": spec.name,
        "version": spec.version,
        "sources": list(spec.sources),
        "events": sorted(spec.handlers),
        "upcasts": sorted(spec.upcasters),
        "dedup": spec.dedup,
        "guarantee": guarantee.promise,
        "limits": list(guarantee.remains),
        "cost_per_million_events": {
            "events_per_commit": guarantee.events_per_commit,
            "marker_units": guarantee.marker_units,
            "checkpoint_units": guarantee.checkpoint_units,
            "row_units_at_most": guarantee.row_units_at_most,
            "usd_at_most": _price(guarantee, loaded.settings.settings),
        },
        "on_error": spec.on_error,
        "late": spec.late,
        "marker_window_ids": spec.marker_window,
        "marker_retention_days": spec.marker_retention.days,
        "indexes": [index._asdict() for index in spec.indexes],
        "expires_seconds": None if spec.expires is None else spec.expires.total_seconds(),
        "first_generation": generation_of(spec, loaded.specs),
        "code_digest": spec.code_digest,
        "groups": _groups(spec, loaded),
    }


def _pairs(spec: ProjectionSpec, guarantee: Guarantee, loaded: Loaded) -> Iterator[tuple[str, str]]:
    sources = loaded.settings.settings.sources
    for name in spec.sources:
        yield "follows", f"{name}: {sources[name].log} (from {sources[name].start})"
    for group in _groups(spec, loaded):
        yield "group", group
    yield "handles", ", ".join(sorted(spec.handlers))
    if spec.upcasters:
        yield "upcasts", ", ".join(sorted(spec.upcasters))
    yield "guarantee", f"dedup={spec.dedup.value}: {guarantee.promise}"
    for limit in guarantee.remains:
        yield "but", limit
    yield "cost", guarantee.cost
    price = _price(guarantee, loaded.settings.settings)
    if price is not None:
        yield "price", f"${price:,.2f} at most per million events, at store.usd_per_million_write_units"
    for index in spec.indexes:
        yield "index", f"{index.name} on {', '.join(index.attributes)}"
    if spec.expires is not None:
        yield "rows expire", f"after {spec.expires}"
    first = generation_of(spec, loaded.specs)
    yield "generation", f"{first} in a new store" if first else "waits for a rebuild beside the newer version"
    yield "code", spec.code_digest


def _price(guarantee: Guarantee, settings: Settings) -> float | None:
    """Return US dollars for a million events, at most; None where the store bills no units."""
    if not isinstance(settings.store, DynamoDbStoreSettings):
        return None
    units = guarantee.marker_units + guarantee.checkpoint_units + guarantee.row_units_at_most
    return round(units * settings.store.usd_per_million_write_units / MILLION, 6)


def _groups(spec: ProjectionSpec, loaded: Loaded) -> list[str]:
    """List the consumer groups of a projection's first generation; of a waiting one, with N for its number."""
    settings = loaded.settings.settings
    if settings.coordination.kind != "group":
        return []
    number = 1 if generation_of(spec, loaded.specs) else "N"
    sources = ((name, settings.sources[name]) for name in spec.sources)
    return [
        source.group.name_of(spec.name, number, name)
        for name, source in sources
        if isinstance(source, KafkaSourceSettings)
    ]


def _notes(settings: Settings, specs: Sequence[ProjectionSpec]) -> Iterator[str]:
    """Yield what is allowed and probably not meant."""
    followed = {source for spec in specs for source in spec.sources}
    for name in settings.sources:
        if name not in followed:
            yield f"[sources.{name}] is followed by no projection"
            continue
        source = settings.sources[name]
        for at, path in enumerate(source.paths if isinstance(source, FileSourceSettings) else ()):
            if not any(glob.iglob(path, recursive=True)):  # noqa: PTH207 - as the source looks for them
                yield f"sources.{name}.paths[{at}] = {quoted(path)} matches no file now"
    if not isinstance(settings.store, DynamoDbStoreSettings):
        for name, projection in settings.projections.items():
            if projection.write_budget_units is not None:
                yield f"projections.{name}.write_budget_units has no effect: this store bills no units"
