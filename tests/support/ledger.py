"""A read model made for being checked: each row says which events it was made of. Its log, and a fold in plain dicts.

One projection for each dedup mode. An account's row lists the events that it holds; the row of a branch is a sum that
every shard adds to; some events emit an effect. What is lost or doubled is therefore counted, not guessed. The fold
here (`expected`) shares nothing with the daemon's.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daemon.api import Event, View, on, projection

BRANCHES = 3
MODES = ("event", "shard", "sequence")


class Line(NamedTuple):
    """One line of a shard's log.

    `kind`: `plain`; `shared` (touches no row but the branch's); `poison` (its handler raises); `wide`, `heavy`, `many`
    (more than an item, a transaction's bytes or its actions can hold).
    """

    id: str
    account: str
    number: int
    """The account's own sequence number, from 1."""
    amount: int
    kind: str = "plain"

    @property
    def branch(self) -> str:
        """The branch whose sum it belongs to."""
        return f"b{self.number % BRANCHES}"

    @property
    def payload(self) -> dict[str, Any]:
        """What the event holds."""
        return {
            "account": self.account, "number": self.number, "amount": self.amount, "kind": self.kind,
            "branch": self.branch,
        }  # fmt: skip

    @property
    def emits(self) -> bool:
        """Whether it has an effect."""
        return self.number % 5 == 0

    def text(self) -> str:
        """Return it as a CloudEvent in one line."""
        fields = {"specversion": "1.0", "id": self.id, "type": "Moved", "source": "/ledger", "data": self.payload}
        return json.dumps(fields)


_OVERSIZE = {"wide": (1, 450_000), "heavy": (12, 380_000), "many": (120, 1)}
"""Rows, and bytes of each, that such an event asks for."""
UNFIT = frozenset({"poison", *_OVERSIZE})
"""Kinds of lines that have to end as dead letters."""


class _Ledger:
    """What the three projections have in common."""

    @on("Moved")
    def moved(self, view: View, event: Event) -> None:
        data = event.data
        kind = data["kind"]
        view.at("branch", data["branch"]).add(n=1, amount=data["amount"])
        if data["number"] % 7 == 0:  # read and not written: it joins the commit as a check
            _ = view.at("closed", data["account"]).row
        if kind == "shared":
            return
        row = view.row or {"balance": 0, "seen": []}
        view.put(balance=row["balance"] + data["amount"], seen=[*row["seen"], event.id])
        if data["number"] % 5 == 0:
            view.emit("notice", id=event.id)
        if kind == "poison":
            raise ValueError("poison")
        rows, size = _OVERSIZE.get(kind, (0, 0))
        for number in range(rows):
            view.at("parts", f"{event.id}-{number}").put(text="x" * size)


@projection(name="by-event", version=1, source="ledger", key="data.account", dedup="event")
class ByEvent(_Ledger):
    """Duplicates are known by their marker, wherever they come from."""


@projection(name="by-shard", version=1, source="ledger", key="data.account", dedup="shard")
class ByShard(_Ledger):
    """Duplicates are known by packed markers."""


@projection(
    name="by-sequence", version=1, source="ledger", key="data.account", dedup="sequence", sequence="data.number"
)
class BySequence(_Ledger):
    """Duplicates are known by the account's own numbers."""


PROJECTIONS: Mapping[str, type] = {"event": ByEvent, "shard": ByShard, "sequence": BySequence}


# ------------------------------------------------------------------------------------------------------------ logs


def write_log(
    count: int,
    *,
    seed: int,
    shards: Sequence[str] = ("s0",),
    accounts: int = 8,
    duplicates: float = 0.1,
    unfit: Mapping[int, str] | None = None,
) -> dict[str, list[Line]]:
    """Make each shard's lines: `count` new ones, repeats of earlier ones among them; `unfit` by index in each shard."""
    chance = random.Random(seed)
    logs: dict[str, list[Line]] = {}
    for shard in shards:
        numbers: Counter[str] = Counter()
        lines: list[Line] = []
        for index in range(count):
            account = f"{shard}-a{chance.randrange(accounts)}"
            numbers[account] += 1
            kind = (unfit or {}).get(index, "plain")
            lines.append(Line(f"{shard}-{index}", account, numbers[account], chance.randrange(-50, 100), kind))
            if chance.random() < duplicates:
                lines.append(lines[max(0, len(lines) - 1 - int(chance.expovariate(0.1)))])
        logs[shard] = lines
    return logs


# ---------------------------------------------------------------------------------------------------------- oracle


@dataclass
class Expected:
    """What a log comes to. `rows` by view and key."""

    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict[tuple[str, str], dict[str, Any]])
    sources: dict[str, str] = field(default_factory=dict[str, str])
    """Account to the id of the event that touched its row last."""
    effects: set[str] = field(default_factory=set[str])
    applied: list[str] = field(default_factory=list[str])
    dead: list[str] = field(default_factory=list[str])
    parked: list[str] = field(default_factory=list[str])
    ids: set[str] = field(default_factory=set[str])
    read: int = 0

    @property
    def duplicates(self) -> int:
        """Lines that come to nothing, because they were there before."""
        return self.read - len(self.applied) - len(self.dead) - len(self.parked)


def expected(logs: Mapping[str, Sequence[Line]], *, parks: bool = False) -> Expected:
    """Fold a log in the plainest way: each id once, in the order of its shard.

    `parks`: an account whose event fails is parked, and what comes later queues behind.
    """
    found = Expected()
    parked: set[str] = set()
    for lines in logs.values():
        found.read += len(lines)
        for line in lines:
            if line.id in found.ids:
                continue
            found.ids.add(line.id)
            if parks and (line.account in parked or line.kind in UNFIT):
                parked.add(line.account)
                found.parked.append(line.id)
                continue
            if line.kind in UNFIT:
                found.dead.append(line.id)
                continue
            found.applied.append(line.id)
            branch = found.rows.setdefault(("branch", line.branch), {"n": 0, "amount": 0})
            branch["n"] += 1
            branch["amount"] += line.amount
            if line.kind == "shared":
                continue
            row = found.rows.setdefault(("main", line.account), {"balance": 0, "seen": []})
            row["balance"] += line.amount
            row["seen"].append(line.id)
            found.sources[line.account] = line.id
            if line.emits:
                found.effects.add(line.id)
    return found


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a log's events: how many are missing from the rows, how many are in them twice, what else."""

    lost: int
    doubled: int
    problems: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether every row is what it has to be."""
        return not (self.lost or self.doubled or self.problems)


def tally(found: Mapping[tuple[str, str], Mapping[str, Any]], wanted: Expected) -> Tally:
    """Compare rows with what they have to be. `found` by view and key, without bookkeeping."""
    seen = Counter(name for (view, _), row in found.items() if view == "main" for name in row["seen"])
    due = Counter(name for (view, _), row in wanted.rows.items() if view == "main" for name in row["seen"])
    lost, doubled = (due - seen).total(), (seen - due).total()
    sums = {key: row["n"] - found.get(key, {"n": 0})["n"] for key, row in wanted.rows.items() if key[0] == "branch"}
    lost = max(lost, sum(count for count in sums.values() if count > 0))
    doubled = max(doubled, -sum(count for count in sums.values() if count < 0))
    problems = [
        f"{view}/{key} is {found.get((view, key))}, not {wanted.rows.get((view, key))}"
        for view, key in sorted(found.keys() | wanted.rows.keys())
        if found.get((view, key)) != wanted.rows.get((view, key))
    ]
    return Tally(lost, doubled, tuple(problems))
