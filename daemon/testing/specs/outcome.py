"""What a run leaves behind, and where two outcomes differ.

Owns reading the memory store, equality of values, and differences by row and attribute. Must not know variants, nor how
a difference is told.

Invariant: numbers are equal when they are exactly the same number, whatever their form; a boolean is no number.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

from daemon.core.commit import Commit, DeadLetter
from daemon.core.identity import MAIN_VIEW, Generation, RowKey
from daemon.core.rows import Effect
from daemon.loading import sum_partials
from daemon.testing.memory_store import MemoryData

ABSENT: Any = object()
"""Stands for an attribute that is not there."""

type Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tables hold. `parked`: keys, with the reason; `stopped`: shards that do not go on, with the reason.

    Shared partial rows are summed, as a reader does.
    """

    rows: Mapping[RowKey, Row]
    effects: tuple[Effect, ...] = ()
    letters: Mapping[str, DeadLetter] = field(default_factory=dict[str, DeadLetter])
    parked: Mapping[str, str] = field(default_factory=dict[str, str])
    waiting: tuple[str, ...] = ()
    """Ids of the events that queue behind parked keys."""
    stopped: Mapping[str, str] = field(default_factory=dict[str, str])
    touched: Mapping[RowKey, tuple[str, ...]] = field(default_factory=dict[RowKey, tuple[str, ...]])
    """Ids of the events whose commit wrote a row: exact where each event had a commit of its own."""


def outcome_of(data: MemoryData, generation: Generation, stopped: Mapping[str, str], commits: Iterable[Commit],
               ids: Mapping[tuple[str, Any], str]) -> Outcome:  # fmt: skip
    """Read what the store holds. `ids`: the event at each shard's position."""
    rows: dict[RowKey, Row] = {}
    partials: dict[RowKey, list[Row]] = {}
    for (of, key), row in data.rows.items():
        if of != generation or row.attributes is None:
            continue
        view, at, _ = key.view.partition("@")
        if at:
            partials.setdefault(RowKey(view, key.key), []).append(row.attributes)
        else:
            rows[key] = row.attributes
    for key, parts in partials.items():
        rows[key] = sum_partials([rows[key], *parts] if key in rows else parts)
    letters = {
        one.event_id or ids.get((scope.shard_id.label, one.position), ""): one  # what is no event has a line, and no id
        for scope, held in data.dead.items()
        for one in held.values()
    }
    queued = [one for held in data.parked.values() for one in held]
    return Outcome(
        rows,
        tuple(data.effects.get(generation, {}).values()),
        letters,
        {one.key: one.reason for one in reversed(queued) if one.reason},
        tuple(sorted(one.event_id for one in queued)),
        dict(stopped),
        _touched(commits, ids),
    )


def _touched(commits: Iterable[Commit], ids: Mapping[tuple[str, Any], str]) -> dict[RowKey, tuple[str, ...]]:
    found: dict[RowKey, dict[str, None]] = {}
    for commit in commits:
        event_id = ids.get((commit.scope.shard_id.label, commit.checkpoint.position))
        if event_id is None:
            continue
        for write in commit.rows:
            view = write.key.view.partition("@")[0]
            found.setdefault(RowKey(view, write.key.key), {})[event_id] = None
    return {key: tuple(events) for key, events in found.items()}


def same(one: object, other: object) -> bool:
    """Tell whether two stored values are the same."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        mine, theirs = cast("list[object]", one), cast("list[object]", other)
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    if isinstance(one, dict):
        held, given = cast("dict[str, object]", one), cast("dict[str, object]", other)
        return held.keys() == given.keys() and all(same(value, given[name]) for name, value in held.items())
    return one == other


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that is not what it should be: attribute to (expected, got), `ABSENT` where there is none.

    `expected` or `got` is None where the whole row is not there.
    """

    key: RowKey
    expected: Row | None
    got: Row | None
    attributes: tuple[tuple[str, Any, Any], ...] = ()


def compare_rows(expected: Mapping[RowKey, Row | None], got: Mapping[RowKey, Row]) -> list[RowDifference]:
    """Return the rows of either that are not the same in both, by view and key. None: expected to be absent."""
    found: list[RowDifference] = []
    for key in sorted({*expected, *got}, key=lambda key: (key.view != MAIN_VIEW, key)):
        mine, theirs = expected.get(key), got.get(key)
        if mine is None and theirs is None:
            continue
        if mine is None or theirs is None:
            found.append(RowDifference(key, mine, theirs))
            continue
        names = [*mine, *(name for name in theirs if name not in mine)]
        wrong = tuple(
            (name, mine.get(name, ABSENT), theirs.get(name, ABSENT))
            for name in names
            if not same(mine.get(name, ABSENT), theirs.get(name, ABSENT))
        )
        if wrong:
            found.append(RowDifference(key, mine, theirs, wrong))
    return found


def spelled(value: object) -> str:
    """Spell a value as a test would write it."""
    if value is ABSENT:
        return "nothing"
    if isinstance(value, Decimal):
        return f'Decimal("{value}")'
    if isinstance(value, str):
        return '"' + value.replace('"', '\\"') + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, cast('list[object]', value)))}]"
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, object]", value)
        return "{" + ", ".join(f"{spelled(name)}: {spelled(item)}" for name, item in entries.items()) + "}"
    return repr(value)


def effect_text(name: str, payload: Mapping[str, Any]) -> str:
    """Spell an effect: `mail(order_id="o1")`; equal effects in the same words."""
    values = (f"{key}={spelled(_canonical(payload[key]))}" for key in sorted(payload))
    return f"{name}({', '.join(values)})"


def _canonical(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    if isinstance(value, list):
        return [_canonical(item) for item in cast("list[Any]", value)]
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        return {name: _canonical(entries[name]) for name in sorted(entries)}
    return value


def missing_and_extra(expected: Iterable[str], got: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return what is expected and not there, and what is there and not expected; each as often as it is."""
    mine, theirs = Counter(expected), Counter(got)
    return list((mine - theirs).elements()), list((theirs - mine).elements())
