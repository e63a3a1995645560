"""Telemetry: what the daemon tells people and machines about itself.

Owns the logs, the metrics, health and traces. Must not know settings, stores or sources: it is handed plain values, and
the others are handed its loggers or an Observer. Telling never fails a shard and never awaits.

    logs, facts, units         what is logged
    catalog                    every metric
    recorder                   facts added up
    loop_delay, backlog        what is measured by a clock
    exposition                 all of that as text
    health                     alive, started, ready
    listener                   metrics and health over HTTP
    site                       the listener with what it shows, as one thing to run
    tracing                    commits as spans, for who wants that
    reference                  docs/reference/metrics.md, written from the catalogue
"""

from daemon.telemetry.logs import LogForm, Logger, LogLevel, configure_logging

__all__ = ["LogForm", "LogLevel", "Logger", "configure_logging"]
