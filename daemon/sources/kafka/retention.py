"""How long a topic keeps what waits: its settings, and the pace at which the beginning of a partition moves.

Pure. Must not know brokers. Kafka removes whole segments, by age and by size; size says nothing about time, so the time
that it leaves is told from removals that were seen: two at the least, since the first shows no pace.

Invariants: no time is told that was not measured or set; settings that nobody may read are `untold`, never "for ever".
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

_REMOVALS = 16
"""Removals that tell the pace."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What a topic's settings say: it keeps records for `seconds`, and `bytes` of each partition; None: any number.

    `untold`: why the settings are not known.
    """

    seconds: float | None = None
    bytes: int | None = None
    untold: str = ""


def retention_of(settings: Mapping[str, str | None]) -> Retention:
    """Read a topic's settings; one that is compacted alone keeps the newest record of each key for ever."""
    if "delete" not in (settings.get("cleanup.policy") or ""):
        return Retention()
    milliseconds = int(settings.get("retention.ms") or -1)
    size = int(settings.get("retention.bytes") or -1)
    return Retention(milliseconds / 1000 if milliseconds >= 0 else None, size if size >= 0 else None)


@dataclass(slots=True)
class Removals:
    """Where a partition began when it was looked at, and when that changed; monotonic seconds, offsets."""

    begin: int | None = None
    moved: deque[tuple[float, int]] = field(default_factory=lambda: deque[tuple[float, int]](maxlen=_REMOVALS))

    def saw(self, at: float, begin: int) -> None:
        """Note where it begins at a time."""
        if self.begin is not None and begin < self.begin:
            self.moved.clear()  # another log under the name
        elif self.begin is not None and begin > self.begin:
            self.moved.append((at, begin))
        self.begin = begin

    def seconds_to(self, position: int, now: float) -> float | None:
        """Return how long the record at `position` is kept at the least, at the pace so far; None: no pace is known.

        Records are removed by the segment, so most stay longer than this.
        """
        if self.begin is not None and position < self.begin:
            return 0.0
        if len(self.moved) < 2:  # noqa: PLR2004 - one removal has no pace
            return None
        (first, low), (last, high) = self.moved[0], self.moved[-1]
        # A pause that is longer than all that was seen slows the pace: nobody writes as much any more.
        span = last - first if now - last <= last - first else now - first
        return max(0.0, last + (position - high) * span / (high - low) - now)
