"""Every metric there is: its name, kind, labels, meaning and buckets.

Owns the names. The exposition, the reference page and the checks of both are made from here. Must not know how a number
comes about, nor how it is written.

Invariants: names and units follow Prometheus' conventions; a label's values are a closed set, or names that come from
settings and logs (projection, source, shard), never ids, keys or anything out of an event; a label set whose values
come from elsewhere is cut to `OTHER` beyond `MAX_OPEN`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from daemon.core.lifecycle import ShardState

PREFIX = "projectiond_"
OTHER = "other"
MAX_OPEN = 40
"""Values of an open label that are told apart."""

type Bounds = tuple[float, ...]


class Kind(StrEnum):
    """What a family's numbers are."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `labels` say whose number it is; `extra` labels tell several numbers of the same owner apart.

    `sets`: the values of `extra` that there are, None where they are not known beforehand. `bounds`: upper bounds of a
    histogram's buckets, without the last, which has none.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    extra: tuple[str, ...] = ()
    sets: tuple[tuple[str, ...], ...] | None = ()
    bounds: Bounds = ()

    @property
    def full_name(self) -> str:
        """The name as it is exposed."""
        return PREFIX + self.name


NOBODY = ()
SHARD = ("projection", "generation", "source", "shard")
GENERATION = ("projection", "generation")
PROJECTION = ("projection",)
SOURCE = ("source",)
SOURCE_SHARD = ("source", "shard")

SECONDS: Bounds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Of a commit: from a local file's milliseconds to a throttled store's seconds."""
AGES: Bounds = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)
"""From an event to its commit: from a read model that is watched by eye to one that catches up."""
COUNTS: Bounds = (1, 3, 10, 33, 100, 333, 1000, 3333, 10000)
ACTIONS: Bounds = (1, 2, 5, 10, 25, 50, 75, 100, 1000)
"""DynamoDB allows 100 in one transaction."""
BYTES: Bounds = (1024, 4096, 16384, 65536, 262144, 1048576, 2097152, 4194304)
"""DynamoDB allows 4 MiB in one transaction."""
DELAYS: Bounds = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

OUTCOMES = (
    "committed", "duplicate", "row_moved", "unlisted", "fenced", "busy", "too_large", "rejected", "unknown",
)  # fmt: skip
"""A commit's outcomes; `busy` and `unknown` count each try."""
LAYERS = (("consumer", "position"), ("consumer", "marker"), ("projection", "version"))
"""The layer that found a duplicate, and by what it was proven."""
REDELIVERED = ("duplicate_position", "duplicate_marker", "duplicate_version", "late", "failed", "left")
WAITED = ("applied", "failed", "discarded")
SCRAPES = ("answered", "dropped", "refused")
"""What became of requests for metrics; a client that does not take its answer is dropped."""
UNIT_KINDS = tuple(
    (operation, kind) for operation in ("read", "write") for kind in ("rows", "markers", "state", "effects")
)

FAMILIES: Sequence[Family] = (
    # ------------------------------------------------------------------------------------------------------- events
    Family("events_read_total", Kind.COUNTER, SHARD,
           "Events settled, whatever became of them: the sum of those applied, duplicate, dead-lettered, parked and "
           "skipped."),
    Family("events_applied_total", Kind.COUNTER, SHARD, "Events folded into rows."),
    Family("events_duplicate_total", Kind.COUNTER, SHARD,
           "Events suppressed as duplicates, by the layer that found them and by what it proved it. What the broker's "
           "layer withheld never arrives as an event: see projectiond_source_withheld_positions_total.",
           ("layer", "proof"), LAYERS),
    Family("events_dead_lettered_total", Kind.COUNTER, SHARD, "Events committed as dead letters."),
    Family("events_parked_total", Kind.COUNTER, SHARD, "Events queued behind a parked key."),
    Family("events_skipped_total", Kind.COUNTER, SHARD, "Events skipped by command."),
    Family("dead_letters_total", Kind.COUNTER, GENERATION, "Dead letters by reason.", ("reason",), None),
    Family("payload_conflicts_total", Kind.COUNTER, SHARD,
           "Events whose id came before with another payload: a producer's bug. They are dead-lettered."),
    Family("rows_shared_total", Kind.COUNTER, SHARD,
           "Rows that another shard wrote last and this one wrote without add() or a version vector: the projection's "
           "rows depend on the order in which shards commit."),
    Family("rows_written_total", Kind.COUNTER, SHARD, "Rows written."),
    Family("effects_total", Kind.COUNTER, SHARD, "Effects emitted."),
    Family("redelivered_events_total", Kind.COUNTER, SHARD,
           "Events of a range that a rewind or a replay folded again, by what became of them: found applied and "
           "suppressed, by what proved it; applied late, having been dead-lettered, parked or skipped; failed again; "
           "left where they wait.", ("outcome",), tuple((name,) for name in REDELIVERED)),
    Family("redelivery_active", Kind.GAUGE, SHARD, "Whether a range is being folded again beside the live log."),
    Family("redelivery_progress_ratio", Kind.GAUGE, SHARD,
           "Share of the range that was folded again, by its positions; absent where positions cannot be subtracted."),
    Family("waiting_settled_total", Kind.COUNTER, SHARD,
           "Dead letters and events of parked keys that were settled as a person wished.", ("outcome",),
           tuple((name,) for name in WAITED)),
    # ------------------------------------------------------------------------------------------------------ commits
    Family("commits_total", Kind.COUNTER, SHARD,
           "Answers to commits by outcome; busy and unknown ones are tried again, so one commit may have several.",
           ("outcome",), tuple((name,) for name in OUTCOMES)),
    Family("commit_retries_total", Kind.COUNTER, SHARD, "Times that a commit was sent again."),
    Family("commit_actions_total", Kind.COUNTER, SHARD, "Items that settled commits touched."),
    Family("commit_bytes_total", Kind.COUNTER, SHARD,
           "Bytes of settled transactions as they were sent; 0 where the store does not say."),
    Family("commit_seconds", Kind.HISTOGRAM, SHARD, "Time from sending a commit to its settling, retries included.",
           bounds=SECONDS),
    Family("event_to_commit_seconds", Kind.HISTOGRAM, SHARD,
           "Time from the first event of a batch, by its own account, to the batch's commit: the longest wait in it. "
           "One observation a commit.", bounds=AGES),
    Family("batch_events", Kind.HISTOGRAM, GENERATION, "Events settled by one commit.", bounds=COUNTS),
    Family("batch_actions", Kind.HISTOGRAM, GENERATION, "Items touched by one commit.", bounds=ACTIONS),
    Family("batch_bytes", Kind.HISTOGRAM, GENERATION,
           "Bytes of one transaction as it was sent; empty where the store does not say.", bounds=BYTES),
    # ------------------------------------------------------------------------------------------------------- shards
    Family("shard_state", Kind.GAUGE, SHARD, "1 for the state that a shard of this process is in, 0 for the others.",
           ("state",), tuple((str(state),) for state in ShardState)),
    Family("shard_epoch", Kind.GAUGE, SHARD, "Fencing number under which the shard is owned here."),
    Family("epoch_changes_total", Kind.COUNTER, SHARD, "Times that this process took the shard under a new epoch."),
    Family("shard_fenced_total", Kind.COUNTER, SHARD, "Times that another owner took the shard from this process."),
    Family("shard_restarts_total", Kind.COUNTER, SHARD,
           "Times that an error ended the shard's work and it was tried again."),
    Family("code_changes_total", Kind.COUNTER, SHARD,
           "Times that the shard was taken with other handlers' code under the same projection version."),
    Family("keys_parked_total", Kind.COUNTER, SHARD, "Keys that were parked."),
    Family("parked_keys", Kind.GAUGE, SHARD, "Keys that are parked now."),
    Family("lag_events", Kind.GAUGE, SHARD,
           "Events between the checkpoint and the log's end; estimated from their mean size where the log only knows "
           "bytes."),
    Family("lag_bytes", Kind.GAUGE, SHARD, "Bytes between the checkpoint and the log's end, where the log knows them."),
    Family("lag_seconds", Kind.GAUGE, SHARD,
           "Age of the newest settled event, by its own account, while more is to settle; 0 once caught up. Of a shard "
           "that has settled nothing: the age of the first event that waits, else how long the shard stands still."),
    Family("held_events", Kind.GAUGE, SHARD,
           "Positions kept back behind a transaction in the log that nobody has ended."),
    Family("time_to_catch_up_seconds", Kind.GAUGE, SHARD,
           "How long catching up takes if log and daemon go on as now; +Inf while the lag grows."),
    Family("time_to_data_loss_seconds", Kind.GAUGE, SHARD,
           "How long until retention removes the next unread event, if nothing more is read, at the least: by the "
           "log's limit of time, and by the pace of its newest removals where it has a limit of bytes. Absent while "
           "nothing waits, where nothing is removed, and while nobody can tell."),
    Family("watermark_timestamp_seconds", Kind.GAUGE, SHARD, "Time of the newest settled event, by its own account."),
    Family("settled_events", Kind.GAUGE, SHARD, "Events settled since the generation's origin, by any process."),
    # ------------------------------------------------------------------------------------------------ what is held
    Family("queue_events", Kind.GAUGE, SHARD, "Events read and not folded yet."),
    Family("queue_bytes", Kind.GAUGE, SHARD, "Bytes of the events read and not folded yet."),
    Family("queue_batches", Kind.GAUGE, SHARD, "Batches folded and not settled: one in flight, one prepared at most."),
    Family("row_cache_requests_total", Kind.COUNTER, SHARD, "Rows that commits read, by whether they were in memory.",
           ("result",), (("hit",), ("miss",))),
    Family("row_cache_rows", Kind.GAUGE, SHARD, "Rows in memory."),
    Family("marker_window_ids", Kind.GAUGE, SHARD, "Event ids in memory."),
    # -------------------------------------------------------------------------------------------------- store units
    Family("store_units_total", Kind.COUNTER, GENERATION,
           "Units that the store billed, by what was done and what the table holds; those of no projection have empty "
           "labels.", ("operation", "kind"), UNIT_KINDS),
    Family("budget_write_units_per_second", Kind.GAUGE, PROJECTION,
           "Write units a second that a projection may spend."),
    Family("budget_debt_seconds", Kind.GAUGE, PROJECTION,
           "How long the projection's next batch waits for its budget."),
    Family("budget_slowed_commits_total", Kind.COUNTER, PROJECTION,
           "Commits that spent more than the budget had left: a slow-down each."),
    # -------------------------------------------------------------------------------------------------- generations
    Family("generation_info", Kind.GAUGE, GENERATION, "1 for each generation that is run here.",
           ("version",), None),
    Family("generation_progress_ratio", Kind.GAUGE, GENERATION,
           "Share of the log that is settled, of what this process runs: how far a rebuild is."),
    Family("generation_not_run", Kind.GAUGE, GENERATION,
           "1 for a generation that no code here can fold, or that waits for its rebuild to be started."),
    # ------------------------------------------------------------------------------------------- sources and store
    Family("source_client_restarts_total", Kind.COUNTER, SOURCE_SHARD,
           "Times that a client brought nothing although records waited, and was made anew."),
    Family("source_withheld_positions_total", Kind.COUNTER, SOURCE_SHARD,
           "Positions passed over that gave no record: what an aborted transaction wrote (the broker's layer of "
           "suppression), the marks of transactions, what compaction removed. Read again, counted again."),
    Family("source_up", Kind.GAUGE, SOURCE, "Whether the source answered when it was asked last."),
    Family("store_up", Kind.GAUGE, NOBODY, "Whether the store answered when it was asked last."),
    # ------------------------------------------------------------------------------------------------------ process
    Family("control_commands_total", Kind.COUNTER, NOBODY, "Commands answered, by name and outcome.",
           ("command", "outcome"), None),
    Family("event_loop_delay_seconds", Kind.HISTOGRAM, NOBODY,
           "How much later than asked the event loop came back: what every shard waits for.", bounds=DELAYS),
    Family("scrapes_total", Kind.COUNTER, NOBODY, "Requests for metrics, by what became of them.", ("result",),
           tuple((name,) for name in SCRAPES)),
    Family("ready", Kind.GAUGE, NOBODY, "Whether /readyz says so."),
    Family("build_info", Kind.GAUGE, NOBODY, "1, with what runs.", ("version", "python", "loop"), None),
)  # fmt: skip

BY_NAME = {family.name: family for family in FAMILIES}


def layout(families: Sequence[Family]) -> tuple[dict[str, int], int]:
    """Return where each family's numbers begin in one owner's list, and the list's length.

    A histogram has a number for each bucket, then the sum of what was observed.
    """
    starts: dict[str, int] = {}
    end = 0
    for family in families:
        starts[family.name] = end
        end += len(family.bounds) + 2 if family.kind is Kind.HISTOGRAM else max(1, len(family.sets or ()))
    return starts, end
