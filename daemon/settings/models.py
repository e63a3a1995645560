"""The sections of the settings: daemon, store, sources, logging and the overrides of one projection.

Owns each key's name, type, limits, default and reason; `config/reference.toml` is generated from here. Must not know
where values come from, nor check one section against another (`daemon.settings.checks` does).

Invariants: a number's name ends in its unit (`daemon.settings.shape.UNITS`); every field has a description, which says
why one would change it.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from daemon.settings.base import Array, Section, Text, distinct, matching, refuse

type Late = Literal["apply", "dead-letter"]
type OnError = Literal["dead-letter", "park-key", "park-shard"]

ModuleName = Annotated[
    str,
    matching(
        r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*",
        "the dotted name of a Python module",
        'write it as it is imported, for example "projections.orders"',
    ),
]

FieldPath = Annotated[
    str,
    matching(
        r"[^.\x00-\x1f\x7f]+(\.[^.\x00-\x1f\x7f]+)*",
        "the dotted path of a field",
        'write it as "id", or as "header.id" for a field inside another',
    ),
]

WHOLE_OBJECT = "."
"""As the path of `data`: the whole object of the line is the payload."""

DataPath = Annotated[
    str,
    matching(
        r"\.|[^.\x00-\x1f\x7f]+(\.[^.\x00-\x1f\x7f]+)*",
        'the dotted path of a field, or "." for the whole object',
        'write it as "data", or "." where the line itself is the payload',
    ),
]


def _durable_path(path: str) -> str:
    if path == ":memory:" or path.startswith("file:"):
        raise refuse(
            "the path of a database file",
            "a database in memory loses its checkpoints at every restart; name a file",
        )
    return path


def _start(text: str) -> str:
    if text in {"earliest", "latest"}:
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise refuse('"earliest", "latest" or a time', "write a time with its offset, such as 2026-03-01T00:00:00Z")
    return text


Start = Annotated[str, AfterValidator(_start)]
"""Where a log is begun: `earliest`, `latest`, or a time with its offset."""

Place = Annotated[
    str,
    matching(
        r"[^/=\x00-\x1f\x7f]+/[^=\x00-\x1f\x7f]+=(start|\d+(\.\d+)*)",
        "a shard and a position in it, as SOURCE/SHARD=POSITION",
        'write it as "orders/orders-0=4711"',
    ),
]


class DaemonSettings(Section):
    """The process as a whole."""

    name: Annotated[
        str,
        matching(
            r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
            "a name of at most 63 letters, digits, `.`, `-` and `_`",
            "choose one that tells this daemon from your others",
        ),
    ] = Field(default="projectiond", description="Tells this daemon from others in logs, metrics and audit entries.")
    projections: Annotated[Array[ModuleName], AfterValidator(distinct)] = Field(
        default=(),
        description="Modules whose projections are folded, by their import names; everything they register is run.",
    )
    grace_period_seconds: int = Field(
        default=25,
        ge=5,
        le=3600,
        description="How long a stop may take: what was read is folded, committed and released within it. Keep it "
        "below the time after which your platform kills the process (30 seconds on Kubernetes and ECS).",
    )
    production: bool = Field(
        default=False,
        description="Refuses what only fits a trial, such as paths that depend on the working directory.",
    )
    require_version_bump: bool = Field(
        default=False,
        description="Refuses to run handlers whose code changed under the same projection version: old rows and new "
        "ones would follow different rules. Where it is off, the change is reported only.",
    )


class SqliteStoreSettings(Section):
    """Where rows, checkpoints and markers are kept: one SQLite file."""

    kind: Literal["sqlite"] = Field(default="sqlite", description="The kind of store.")
    path: Annotated[Text, AfterValidator(_durable_path)] = Field(
        default="var/projectiond.db",
        description="The database file, made when missing. It needs a local disk: SQLite's locks and its write-ahead "
        "log are not safe on network file systems.",
    )
    busy_timeout_ms: int = Field(
        default=5_000,
        ge=0,
        le=600_000,
        description="How long one statement waits for another process's lock before the commit is tried again later.",
    )
    wal_autocheckpoint_pages: int = Field(
        default=8_192,
        ge=1,
        le=1_000_000,
        description="Pages of 4 KiB in the write-ahead log after which they are copied into the database. More of "
        "them copy a row that is written often fewer times, and make the log larger.",
    )


class FieldMapSettings(Section):
    """Where a plain JSON line keeps what an event needs; only for `envelope = "json"`."""

    id: FieldPath = Field(
        examples=["event_id"],
        description="The event's identity, by which duplicates are told: given by the producer, the same whenever the "
        "same event is sent again.",
    )
    type: FieldPath = Field(examples=["kind"], description="The name by which handlers choose events.")
    time: FieldPath = Field(examples=["at"], description="When the event happened, by its own account.")
    data: DataPath = Field(
        default=WHOLE_OBJECT,
        description='The payload handed to handlers; "." is the whole object.',
    )
    source: FieldPath | None = Field(
        default=None, examples=["origin.system"], description="The producer, where the line names it."
    )
    subject: FieldPath | None = Field(
        default=None, examples=["order.id"], description="What the event is about, where the line names it."
    )


class FileSourceSettings(Section):
    """One log to follow: files of JSON lines, a shard per file."""

    kind: Literal["file"] = Field(default="file", description="The kind of source.")
    paths: Annotated[Array[Text], Field(min_length=1), AfterValidator(distinct)] = Field(
        examples=[["var/events/*.jsonl"]],
        description="Files to follow, as paths or globs. Each file is a shard of its own, in the order of its lines; "
        "but a name that rotation made belongs to the shard of the name before, where that file is there, was "
        "there, or has a checkpoint. For `app.log` these are `app.log.1` and `app.1.log` (1 to 4 digits), "
        "`app.log-20260301` and `app.log.2026-03-01` (also before `.log`), `app.log.old` and `app.log.bak`, each "
        "also with `.gz`. Without the name before, such a file is a log like any other. The log of one shard "
        "under any other new name stops as a second shard, and is not applied twice.",
    )
    envelope: Literal["cloudevents", "json"] = Field(
        default="cloudevents",
        description='How a line holds an event: as a CloudEvents structured envelope, or as plain "json" whose fields '
        "are named by the table `fields`.",
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="Where a shard without a checkpoint begins. Later starts always go on at the checkpoint.",
    )
    poll_interval_ms: int = Field(
        default=200,
        ge=1,
        le=60_000,
        description="How often the end of a file is looked at for new lines: the most it adds to the lag.",
    )
    max_line_bytes: int = Field(
        default=1_048_576,
        ge=64,
        le=67_108_864,
        description="A longer line is dead-lettered unread, so that one line cannot take all memory.",
    )
    max_depth: int = Field(
        default=64,
        ge=1,
        le=250,
        description="A line whose JSON nests deeper is dead-lettered, so that no handler meets a depth it cannot walk.",
    )
    follow_rotation: bool = Field(
        default=True,
        description="Reads a renamed file to its end before the new one under its name. Where it is off, a file that "
        "was replaced stops its shard.",
    )
    fields: FieldMapSettings | None = Field(
        default=None,
        description='The field map of `envelope = "json"`.',
    )

    @property
    def log(self) -> str:
        """What is followed, for people."""
        return ", ".join(self.paths)


class CoordinationSettings(Section):
    """Who runs which shard. `lease_seconds` and `poll_ms` are for leases."""

    kind: Literal["solo", "lease", "group"] = Field(
        default="solo",
        description="With solo this process runs every shard, and a second one takes them all from the first. With "
        "lease several processes on one store divide the shards, and take over those of one that falls silent. With "
        "group Kafka's consumer groups divide them, as lag tools and autoscalers expect; for Kafka sources alone.",
    )
    lease_seconds: float = Field(
        default=10.0,
        ge=0.3,
        le=3_600.0,
        description="How long a process may be silent before its shards are taken by others: the time a crash goes "
        "unnoticed. One that pauses longer loses its shards, and nothing else. An idle shard renews its lease after a "
        "third of it.",
    )
    poll_ms: int = Field(
        default=500,
        ge=10,
        le=60_000,
        description="How often the leases are looked at: the most it takes a peer to see a shard that was released. "
        "Each look reads all checkpoints.",
    )
    look_for_shards_ms: int = Field(
        default=5_000,
        ge=10,
        le=3_600_000,
        description="How often the logs are asked which shards there are.",
    )


class LoggingSettings(Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The least severe level that is written. Event ids, keys and payloads are written at debug only.",
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="The form of a line: JSON for machines, console for people; auto is console on a terminal and JSON "
        "elsewhere.",
    )
    max_field_characters: int = Field(
        default=2_000,
        ge=80,
        le=1_000_000,
        description="Longer texts are cut, so that a hostile value cannot flood the log.",
    )
    units_interval_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=86_400.0,
        description="How often the units that each projection consumed, and their price, are logged, for a store that "
        "bills units.",
    )


class ProjectionSettings(Section):
    """Overrides for one projection; NAME is the projection's. What is left out follows [engine] and the code."""

    on_error: OnError | None = Field(
        default=None,
        examples=["park-key"],
        description="What a handler that raises leads to: the event is dead-lettered, its key waits, or its shard "
        "does. Left out: as the projection's own code says.",
    )
    batch_max_events: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        examples=[500],
        description="Overrides engine.batch_max_events.",
    )
    linger_ms: int | None = Field(
        default=None, ge=0, le=60_000, examples=[5], description="Overrides engine.linger_ms."
    )
    marker_window_ids: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        examples=[50_000],
        description="Overrides engine.marker_window_ids.",
    )
    marker_retention_days: int | None = Field(
        default=None,
        ge=1,
        le=3_650,
        examples=[30],
        description="Overrides engine.marker_retention_days.",
    )
    late: Late | None = Field(default=None, examples=["apply"], description="Overrides engine.late.")
    start: Start | None = Field(
        default=None,
        examples=["latest"],
        description="Overrides the start of the sources that it follows, for shards without a checkpoint.",
    )
    positions: Annotated[Array[Place], AfterValidator(distinct)] | None = Field(
        default=None,
        examples=[["orders/orders-0=4711"]],
        description="Explicit starts, as SOURCE/SHARD=POSITION: a shard without a checkpoint begins after that "
        "position (for Kafka, the offset of the last record to leave out).",
    )
    write_budget_units: float | None = Field(
        default=None,
        ge=1.0,
        le=1_000_000.0,
        examples=[100.0],
        description="Overrides store.write_budget_units, for a store that bills units.",
    )
