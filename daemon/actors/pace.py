"""How long commits take: what this process has seen of its own, the newest of each size.

Owns the timings. Must not know what a commit is for, nor what is estimated with it.

A commit costs something once, and something for each item it touches; both differ from store to store and from hour to
hour. So commits of about one size are kept together, and those in between lie between them.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, median

_NEWEST = 25
"""Commits of about one size that are remembered: a change of the store's pace is noticed within seconds."""


@dataclass(slots=True)
class Pace:
    """Timings by projection and size (sizes of one power of two): items touched, seconds until the answer."""

    _seen: dict[str, dict[int, deque[tuple[int, float]]]] = field(
        default_factory=dict[str, dict[int, deque[tuple[int, float]]]]
    )

    def note(self, projection: str, items: int, seconds: float) -> None:
        """Take in a commit that was applied at once."""
        sizes = self._seen.setdefault(projection, {})
        sizes.setdefault(items.bit_length(), deque(maxlen=_NEWEST)).append((items, seconds))

    def estimate(self, projection: str, commits: Iterable[int], round_trip: float) -> float:
        """Return the seconds that commits of so many items take, one after the other.

        What nothing was seen of is taken to cost a round trip at least, and beyond the largest size seen as much an
        item as up to it.
        """
        sizes = self._seen.get(projection, {})
        points = [(fmean(items for items, _ in seen), median(each for _, each in seen)) for seen in sizes.values()]
        known = sorted([(0.0, round_trip), *points])
        return sum(_between(known, items) for items in commits)


def _between(known: list[tuple[float, float]], items: int) -> float:
    """Return the seconds on the line through the two sizes around one; `known` begins with no items."""
    at = next((at for at, (size, _) in enumerate(known) if size >= items), len(known))
    if at == len(known):
        size, seconds = known[-1]
        each = max(0.0, seconds - known[0][1]) / size if size else 0.0
        return seconds + each * (items - size)
    (low, before), (high, after) = known[max(0, at - 1)], known[at]
    return after if high == low else before + (after - before) * (items - low) / (high - low)
