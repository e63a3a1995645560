"""Telemetry: what the daemon tells people and machines about itself.

Owns the logs. Must not know settings, stores or sources: it is handed plain values, and the others are handed its
loggers or an Observer. Telling never fails a shard and never awaits.
"""

from daemon.telemetry.logs import LogForm, Logger, LogLevel, configure_logging

__all__ = ["LogForm", "LogLevel", "Logger", "configure_logging"]
