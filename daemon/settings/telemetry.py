"""The sections that say how the daemon is seen: metrics, health, traces.

Owns each key's name, type, limits, default and reason, as `daemon.settings.models` does for the rest; the same
invariants hold.
"""

from typing import Annotated

from pydantic import Field

from daemon.settings.base import Section, Text, matching


class MetricsSettings(Section):
    """The listener that metrics and health are asked from: /metrics, /healthz, /readyz, /startupz."""

    enabled: bool = Field(default=True, description="Whether there is such a listener.")
    host: Text = Field(
        default="127.0.0.1",
        description="The address it listens on. The default is reached from this machine only; 0.0.0.0 is every "
        "address of a container or pod. Nothing asks who reads, so keep it inside your network.",
    )
    port: int = Field(
        default=9_464,
        ge=0,
        le=65_535,
        description="The port it listens on; 0 takes any free one, which is logged. One that is taken stops nothing: "
        "it is tried again.",
    )
    backlog_interval_seconds: float = Field(
        default=15.0,
        ge=0.1,
        le=3_600.0,
        description="How often logs are asked how far their shards are behind and how long their retention still keeps "
        "what waits; shards that are caught up are not asked about.",
    )


class HealthSettings(Section):
    """When /healthz and /readyz say no. A parked, lagging or rebuilding shard never makes /healthz say so."""

    max_loop_delay_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3_600.0,
        description="The process is alive as long as its event loop comes back within it; a handler that hangs does "
        "not let it.",
    )
    check_interval_seconds: float = Field(
        default=10.0, ge=0.1, le=3_600.0, description="How often the store and every source are asked for an answer."
    )
    check_timeout_seconds: float = Field(default=5.0, ge=0.1, le=600.0, description="How long such an answer may take.")
    silence_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=86_400.0,
        description="How long after its last answer a store or source still counts as reachable: an outage that is "
        "shorter takes no replica out.",
    )
    max_lag_seconds: float | None = Field(
        default=None,
        ge=0.1,
        le=31_536_000.0,
        examples=[300.0],
        description="The daemon is not ready while a shard's newest settled event is older and more waits. Left out: "
        "lag is no reason.",
    )
    max_parked_shards: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        examples=[0],
        description="The daemon is not ready while more shards than these are parked. Left out: parked shards are no "
        "reason.",
    )


class TracingSettings(Section):
    """OpenTelemetry: a span for each commit, in the traces that its events' `traceparent` headers name."""

    enabled: bool = Field(
        default=False, description='Whether commits are traced; this needs `pip install "projectiond[otel]"`.'
    )
    endpoint: Annotated[
        str,
        matching(r"https?://[^\s/]+(/\S*)?", "the URL of a collector", "write it as http://localhost:4318/v1/traces"),
    ] = Field(
        default="http://localhost:4318/v1/traces", description="The collector that spans are sent to: OTLP over HTTP."
    )
    sample_share: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="Share of commits that begin a trace of their own and are kept; one that goes on with an event's "
        "trace is kept where that trace is.",
    )
    max_links: int = Field(
        default=128,
        ge=0,
        le=10_000,
        description="Events that a span links to at most; the number of all is on the span.",
    )
