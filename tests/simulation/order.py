"""What each commit put into the rows, against the log: only what it settled, in the order of the log, once.

Nothing of a key is applied while an earlier event of it is parked. A commit that moves the live position may apply the
events of that stretch alone, each key's in the order of the log. One that does not may apply what waited (dead letters,
parked events, skipped ranges), and nothing else. Knows the log and stored values; must not know how they came about.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from daemon.core.positions import Position
from tests.simulation.plan import Plan
from tests.support.ledger import Line


class Waits(NamedTuple):
    """What waits in one shard: positions and ids of dead letters and parked events, and ranges that were skipped."""

    dead: frozenset[tuple[Position, str]] = frozenset()
    parked: frozenset[tuple[Position, str]] = frozenset()
    skipped: frozenset[tuple[Position, Position]] = frozenset()

    def holds(self, position: Position) -> bool:
        """Tell whether an event at a position waits."""
        return any(position == place for place, _ in (*self.dead, *self.parked)) or self.passes(position)

    def passes(self, position: Position) -> bool:
        """Tell whether a position was skipped."""
        return any(after < position <= through for after, through in self.skipped)


type Log = Sequence[tuple[Position, Line]]


def logs_of(plan: Plan) -> dict[str, list[tuple[Position, Line]]]:
    """Return the lines of each shard with their positions, as they came."""
    logs: dict[str, list[tuple[Position, Line]]] = {shard: [] for shard in plan.shards}
    for arrival in plan.arrivals:
        logs[arrival.shard].append(((arrival.position,), arrival.line))
    return logs


@dataclass(slots=True)
class Order:
    """Follows the accounts' rows of every shard. `broke` is told of each violation."""

    logs: Mapping[str, Log]
    broke: Callable[[str], None]
    waits: dict[str, Waits] = field(default_factory=dict[str, Waits])
    effects: Counter[str] = field(default_factory=Counter[str])
    """Ids of the events whose effect is due."""
    given_up: set[str] = field(default_factory=set[str])
    """Ids of dead letters that were removed and not applied."""
    _seen: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    _places: dict[str, dict[str, list[Position]]] = field(default_factory=dict[str, dict[str, list[Position]]])
    _lines: dict[str, Line] = field(default_factory=dict[str, Line])

    def __post_init__(self) -> None:
        """Know where each event lies."""
        for shard, log in self.logs.items():
            places = self._places.setdefault(shard, {})
            for position, line in log:
                places.setdefault(line.id, []).append(position)
                self._lines[line.id] = line

    def committed(
        self,
        shard: str,
        before: Position,
        now: Position,
        rows: Mapping[str, Sequence[str]],
        waits: Waits,
        *,
        redelivers: bool,
    ) -> None:
        """Take in a commit of a shard: its positions, the ids in each account's row that changed, what waits now.

        `redelivers`: it moved the second cursor.
        """
        earlier = self.waits.get(shard, Waits())
        self.waits[shard] = waits
        applied: set[str] = set()
        for account, ids in rows.items():
            held = self._seen.get(account, ())
            if tuple(ids[: len(held)]) != held:
                self.broke(f"{shard}: the row of {account} held {held}, now {ids}")
            self._seen[account] = tuple(ids)
            fresh = ids[len(held) :]
            applied.update(fresh)
            for problem in self._wrong(shard, before, now, fresh, earlier):
                self.broke(f"{shard}: {account} took {fresh} when the position went from {before} to {now}: {problem}")
            self._behind(shard, account, before if now > before else (), fresh, waits)
            for name in fresh:
                line = self._lines.get(name)
                if line is not None and line.emits and not (redelivers and now == before):
                    self.effects[name] += 1
        gone = earlier.dead - waits.dead
        self.given_up.update(name for _, name in gone if name not in applied and not self._holds(name))

    def _behind(self, shard: str, account: str, after: Position, fresh: Sequence[str], waits: Waits) -> None:
        """See that nothing was applied while an earlier event of its key is parked still."""
        first = min((at for at, name in waits.parked if self._lines[name].account == account), default=None)
        if first is None:
            return
        for name in fresh:
            places = [one for one in self._places[shard].get(name, []) if one > after]
            if places and min(places) > first:
                self.broke(f"{shard}: {account} took {name} at {places}, and an event of it at {first} is parked still")

    def _wrong(self, shard: str, before: Position, now: Position, fresh: Sequence[str], waits: Waits) -> list[str]:
        problems: list[str] = []
        last = before
        for name in fresh:
            places = self._places[shard].get(name, [])
            if now > before:
                place = next((one for one in places if last < one <= now), None)
                if place is None:
                    problems.append(f"{name} lies at {places}, not after {last}")
                else:
                    last = place
            elif not any(waits.holds(place) for place in places):
                problems.append(f"{name} at {places} did not wait")
        return problems

    def _holds(self, name: str) -> bool:
        line = self._lines.get(name)
        return line is not None and name in self._seen.get(line.account, ())
