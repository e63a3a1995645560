"""The engine's sections: batches and markers, the circuit that stops a bad deploy, retries and restarts.

Owns each key's name, type, limits, default and reason, as `daemon.settings.models` does for the rest; the same
invariants hold.
"""

from pydantic import Field

from daemon.settings.base import Section
from daemon.settings.models import Late


class CircuitSettings(Section):
    """When a shard is parked because too many of its events fail, before they are dead-lettered."""

    max_dead_letters_in_a_row: int = Field(
        default=10,
        ge=0,
        le=1_000_000,
        description="More consecutive failures than these mean that the code is wrong, not the events.",
    )
    window_events: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="The newest events of a shard over which the share of failures is taken.",
    )
    max_dead_letter_share: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="A larger share of failures in the window parks the shard, even when they are scattered.",
    )


class RetrySettings(Section):
    """How hard the engine tries again before a shard waits for a person."""

    initial_backoff_ms: int = Field(
        default=50,
        ge=1,
        le=60_000,
        description="Upper bound of the first random wait after a failure; it doubles with each further one.",
    )
    max_backoff_ms: int = Field(
        default=10_000,
        ge=1,
        le=3_600_000,
        description="Bound of that doubling: the longest a recovered store or log goes unnoticed.",
    )
    max_row_conflicts: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Times in a row that a commit is folded again at once because another shard moved one of its rows; "
        "after these it backs off first.",
    )
    max_restarts: int = Field(
        default=5,
        ge=0,
        le=10_000,
        description="Restarts of a shard within the window; one more parks it, while the others go on.",
    )
    restart_window_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="The time over which restarts are counted.",
    )


class EngineSettings(Section):
    """How events become commits. Each shard has its own batches and caches."""

    batch_max_events: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        description="Events folded into one commit at most. More of them cost less per event, and are folded again "
        "together when a commit fails.",
    )
    batch_max_bytes: int = Field(
        default=4_194_304,
        ge=64,
        le=1_073_741_824,
        description="Payload bytes of one batch at most; bounds the memory of a shard.",
    )
    linger_ms: int = Field(
        default=20,
        ge=0,
        le=60_000,
        description="How long a batch that is not full waits for more events: the price of a cheaper commit in lag.",
    )
    read_chunk_bytes: int = Field(
        default=262_144,
        ge=512,
        le=67_108_864,
        description="How much is read from a log at once.",
    )
    commit_deadline_seconds: float = Field(
        default=15.0,
        ge=0.05,
        le=600.0,
        description="How long a commit may go without an answer before its outcome counts as unknown and is looked up. "
        "A stop waits for a commit in flight this long.",
    )
    row_cache_rows: int = Field(
        default=50_000,
        ge=0,
        le=10_000_000,
        description="Rows a shard keeps in memory after a commit, so that the next batch need not read them again.",
    )
    marker_window_ids: int = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description='Newest event ids of a shard within which `dedup="shard"` finds duplicates; an older id is not '
        "recognised any more.",
    )
    marker_memory_mib: int = Field(
        default=256,
        ge=1,
        le=1_048_576,
        description="Memory for the marker windows of all shards together (at most 128 bytes an id); the windows of "
        "idle shards are dropped first and loaded again when needed.",
    )
    marker_retention_days: int = Field(
        default=14,
        ge=1,
        le=3_650,
        description="How long a marker is kept. It has to be longer than the longest time after which your log "
        "delivers an event again.",
    )
    late: Late = Field(
        default="dead-letter",
        description="What becomes of an event that lies further behind its shard's watermark than markers are kept, "
        "and so cannot be proven new: it is applied, or dead-lettered for a person to decide.",
    )
    circuit: CircuitSettings = CircuitSettings()
    retry: RetrySettings = RetrySettings()
