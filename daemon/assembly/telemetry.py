"""How the daemon is seen, from settings: the listener's site, and tracing where it is asked for.

Owns the way from the sections [metrics], [health] and [tracing] to what they switch on. Must not know what is shown.

Invariant: what is off is not imported.
"""

from typing import TYPE_CHECKING

from daemon.core.errors import SettingsProblem
from daemon.ports.clock import Clock
from daemon.ports.tracing import Tracing
from daemon.settings import Settings
from daemon.telemetry.logs import Logger

if TYPE_CHECKING:
    from daemon.telemetry.health import Thresholds
    from daemon.telemetry.site import TelemetrySite


def site_of(settings: Settings, clock: Clock, logger: Logger) -> "TelemetrySite | None":
    """Build the listener with what it shows, neither running nor listening; None where settings want none."""
    metrics = settings.metrics
    if not metrics.enabled:
        return None
    from daemon.telemetry.site import Place, TelemetrySite  # noqa: PLC0415 - the HTTP library takes a while to import

    place = Place(metrics.host, metrics.port, metrics.backlog_interval_seconds)
    return TelemetrySite(place, thresholds_of(settings), clock, logger)


def thresholds_of(settings: Settings) -> "Thresholds":
    """Turn settings into when the daemon counts as alive and ready."""
    from daemon.telemetry.health import Thresholds  # noqa: PLC0415 - as above

    health = settings.health
    return Thresholds(
        loop_delay=health.max_loop_delay_seconds,
        every=health.check_interval_seconds,
        answer=health.check_timeout_seconds,
        silence=health.silence_seconds,
        lag=health.max_lag_seconds,
        parked=health.max_parked_shards,
    )


def tracing_of(settings: Settings) -> "Tracing | None":
    """Build what traces commits; None where settings want none. Raises SettingsProblem where it is not installed."""
    tracing = settings.tracing
    if not tracing.enabled:
        return None
    try:
        from daemon.telemetry.tracing import otlp_tracing  # noqa: PLC0415 - an extra, which need not be installed
    except ImportError as error:
        raise SettingsProblem(
            f"tracing.enabled: OpenTelemetry is not installed ({error}); install projectiond[otel], or set "
            "tracing.enabled = false"
        ) from error
    return otlp_tracing(
        settings.daemon.name, tracing.endpoint, share=tracing.sample_share, max_links=tracing.max_links
    )  # fmt: skip
