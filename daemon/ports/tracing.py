"""The Tracing port: commits as spans of distributed traces. Tracing never fails a shard and never awaits.

Where nobody traces there is no tracer at all, and nothing is paid.
"""

from collections.abc import Sequence
from typing import Protocol

from daemon.core.events import Record
from daemon.core.identity import Scope


class Tracing(Protocol):
    """Turns commits into spans."""

    def commit(self, scope: Scope, records: Sequence[Record], outcome: str, seconds: float) -> None:
        """Take note of a commit that was answered just now, `seconds` after it was sent; `outcome` is its name.

        `records` are what it holds: their headers name the traces they belong to.
        """
        ...
