"""How many records the next commit is likely to hold, where a store limits the actions of one transaction.

Owns the estimate alone: the planner decides what fits. Pure: must not know stores or folds.

Theory of operation. Records come to actions at a rate that changes slowly: rows and markers for each, and a few actions
that every commit has. The last batch's rate says how many records fill the limit. Where the rate wavers, every second
batch would be too large, and folded in vain; so a margin is kept that doubles with each batch that was, and melts with
each that fitted. A steady log loses nothing: its commits are filled to the last action.
"""

from dataclasses import dataclass

_MARGIN, _MOST_MARGIN, _MELTS = 2.0, 0.25, 0.95


@dataclass(slots=True)
class Room:
    """The estimate of one shard. `limit`: actions of one commit, None where none are counted."""

    limit: int | None
    _rate: float = 0.0
    _fixed: int = 1
    _margin: float = 0.0

    @property
    def records(self) -> int | None:
        """How many records to take; None: as many as there are."""
        if self.limit is None or not self._rate:
            return None
        return max(1, int((self.limit - self._fixed - int(self._margin)) / self._rate + _ROUNDING))

    def fitted(self, records: int, actions: int, fixed: int) -> None:
        """Learn from a commit: `actions` of so many records, of which `fixed` every commit has."""
        self._margin *= _MELTS
        if records:
            self._learn(records, actions, fixed)

    def exceeded(self, records: int, actions: int, fixed: int) -> int:
        """Learn from a batch that came to too many actions; return how many of its records to try."""
        if self.limit is None or records <= 1:
            return 1
        learned = self._rate > 0.0
        self._learn(records, actions, fixed)
        if learned:
            self._margin = min(max(_MARGIN, 2 * self._margin), self.limit * _MOST_MARGIN)
        return min(records - 1, self.records or 1)

    def _learn(self, records: int, actions: int, fixed: int) -> None:
        self._fixed = fixed
        self._rate = max(0, actions - fixed) / records


_ROUNDING = 1e-9
"""98 actions at 0.05 a record are 1,960 records, not 1,959."""
