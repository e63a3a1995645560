"""The reference of all metrics, docs/reference/metrics.md, written from the catalogue.

Owns the page's form. `python -m daemon.telemetry.reference` writes it to standard output; a test holds the committed
page equal to it.
"""

import sys
from collections.abc import Iterator

from daemon.telemetry.catalog import (
    FAMILIES,
    GENERATION,
    NOBODY,
    PROJECTION,
    SHARD,
    SOURCE,
    SOURCE_SHARD,
    Family,
    Kind,
)

HEAD = """\
# Metrics

<!-- Written from the code by `python -m daemon.telemetry.reference`; do not edit it by hand. -->

`projectiond run` shows them at `http://127.0.0.1:9464/metrics`; `[metrics]` in the settings says where else. Counters
are those of this process since it started; gauges are of the shards that this process runs now, so sums over replicas
count each shard once. Labels are names from your settings, code and logs, or one of the few words listed here: never
ids, keys or anything out of an event.
"""

LOSS = """\
## How the time to data loss is told

`projectiond_time_to_data_loss_seconds` is a lower bound, made for an alert: most events stay longer. For Kafka it is
the nearer of two:

- **by time** (`retention.ms`): the timestamp of the next unread record and the limit, less now. Brokers remove a whole
  segment once its newest record is that old, so records stay longer by up to `segment.ms`;
- **by size** (`retention.bytes`): brokers say how many bytes a partition may keep, not when it reaches them. So
  the daemon watches where the partition begins while something waits to be read, every
  `metrics.backlog_interval_seconds`, and takes the pace at which that moved over the newest removals, 16 at most. Until
  it has seen two removals no pace is known, and the time limit alone counts; a topic without one has no sample then.

No sample means: nothing waits; or the log removes nothing (no limit, compaction alone, files); or nobody can tell. The
last is never silent: where the daemon's user may not read a topic's settings, its log says so once, `projectionctl lag`
names it, and so does `projectiond check`. Grant the user DescribeConfigs on the topic. An alert that must not sleep
then also asks for `projectiond_lag_events > 0 unless projectiond_time_to_data_loss_seconds`.
"""

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("How far is each projection behind, in events?", "sum by (projection) (projectiond_lag_events)"),
    ("How far behind is its slowest shard, in seconds?", "max by (projection) (projectiond_lag_seconds)"),
    ("Who is about to lose data, within six hours?", "projectiond_time_to_data_loss_seconds < 6 * 3600"),
    (
        "Which share of the events are duplicates, by the layer that stopped them?",
        (
            "sum by (projection, layer) (rate(projectiond_events_duplicate_total[5m]))\n"
            "  / on (projection) group_left sum by (projection) (rate(projectiond_events_read_total[5m]))"
        ),
    ),
    (
        "What does an event cost, in write units?",
        (
            'sum by (projection) (rate(projectiond_store_units_total{operation="write"}[5m]))\n'
            "  / sum by (projection) (rate(projectiond_events_read_total[5m]))"
        ),
    ),
    ("Which replicas lost shards to others?", "sum by (instance) (increase(projectiond_shard_fenced_total[10m])) > 0"),
    ("Which shards wait for a person?", 'projectiond_shard_state{state="parked"} == 1'),
    (
        "How long does a commit take, in 99 of 100 cases?",
        "histogram_quantile(0.99, sum by (le, projection) (rate(projectiond_commit_seconds_bucket[5m])))",
    ),
    (
        "Why were events dead-lettered?",
        "sum by (projection, reason) (increase(projectiond_dead_letters_total[1h])) > 0",
    ),
    (
        "How often is a row found in memory?",
        (
            'sum by (projection) (rate(projectiond_row_cache_requests_total{result="hit"}[5m]))\n'
            "  / sum by (projection) (rate(projectiond_row_cache_requests_total[5m]))"
        ),
    ),
    ("How far is a rebuild?", "projectiond_generation_progress_ratio"),
    (
        "Does something keep the event loop?",
        "histogram_quantile(0.99, sum by (le, instance) (rate(projectiond_event_loop_delay_seconds_bucket[5m])))",
    ),
)
"""What operators ask, in PromQL."""

_OWNERS = {
    SHARD: "Of each shard",
    GENERATION: "Of each generation of a projection",
    PROJECTION: "Of each projection",
    SOURCE_SHARD: "Of each shard of a source",
    SOURCE: "Of each source",
    NOBODY: "Of the process",
}


def render() -> str:
    """Return the page."""
    return "\n".join(_lines()).strip() + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    yield "## What operators ask\n"
    for question, expression in QUESTIONS:
        yield from (f"{question}\n", "```promql", expression, "```\n")
    yield LOSS
    for labels, owner in _OWNERS.items():
        families = [family for family in FAMILIES if family.labels == labels]
        named = ", ".join(f"`{label}`" for label in labels)
        yield from (f"## {owner}\n", f"Labels: {named}.\n" if labels else "No labels but those named.\n")
        yield from ("| metric | kind | meaning |", "|---|---|---|")
        for family in families:
            yield f"| `{family.full_name}` | {family.kind} | {family.help}{_extra(family)} |"
        yield ""
    yield "The client library adds the process's own: `process_*` (CPU, memory, file descriptors) and `python_gc_*`."


def _extra(family: Family) -> str:
    if family.kind is Kind.HISTOGRAM:
        return f" Buckets up to {', '.join(f'{bound:g}' for bound in family.bounds)}."
    if not family.extra:
        return ""
    if family.sets is None:
        return f" Also by {', '.join(f'`{label}`' for label in family.extra)}."
    words = "; ".join(
        ", ".join(f"`{label}={value}`" for label, value in zip(family.extra, values, strict=True))
        for values in family.sets
    )
    return f" One of: {words}."


if __name__ == "__main__":
    sys.stdout.write(render())
