"""In which other ways the same events are delivered, and what it means when that changes anything.

Owns the names by which a test excuses a check. Must not know how a delivery is carried out.

Invariant: an order that a variant draws keeps what the daemon keeps: the events of one key in theirs (`reordered`), the
events of one log in theirs (`interleaved`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from daemon.core.identity import ShardId
from daemon.testing.specs.running import Delivery, Feed
from daemon.testing.specs.telling import Given
from daemon.testing.specs.watching import CHANCE, CLOCK, ENVIRONMENT, MUTATION, OUTSIDE, STATE

_MOST_DEATHS = 40
"""Commits of one run in between which a process dies; larger specifications commit several events at once."""


class Compared(StrEnum):
    """What of two outcomes has to be the same."""

    ALL = "all"
    """Everything, to the letter."""
    LOG = "log"
    """Rows, effects, dead letters, parked keys: whatever the order in which they came about."""
    ROWS = "rows"
    """Rows alone."""


@dataclass(frozen=True, slots=True)
class Check:
    """A kind of variant: what it means when it changes an outcome, and what to do."""

    means: str
    remedy: str
    compared: Compared = Compared.LOG


CHECKS: Mapping[str, Check] = {
    "twice": Check(
        "the same events, folded the same way a second time by the same object, come to something else: the handlers "
        "are not deterministic, or keep something between events",
        "let rows depend on the row and the event alone; a set of strings, say, has another order in each process: "
        "sort it",
        Compared.ALL,
    ),
    "batched": Check(
        "how many events are folded at once changes what they come to; the daemon cuts batches anew each time",
        "let handlers depend on the row and the event alone, and read the row by view.row each time",
    ),
    "duplicated": Check(
        "an event that is delivered again is applied again",
        'choose a dedup mode that remembers it (dedup="event"), a larger marker_window, or a number for each event',
    ),
    "reordered": Check(
        "events of different keys reach the daemon in another order (in production they lie in different shards), and "
        "the rows they share are different then",
        "write rows that several keys share only by view.at(...).add(...): additions come to the same in any order",
    ),
    "interleaved": Check(
        "the logs keep their own order, but not relative to each other, and the rows are different then",
        "let each source write attributes of its own, and derive none from what another one wrote",
    ),
    "crashed": Check(
        "the daemon dies before and after each commit and goes on from the checkpoint, and the rows are different then",
        "keep nothing outside rows: what a handler remembers is gone with the process",
    ),
    "replayed": Check(
        "delivered again from the beginning (`projectionctl rewind`), what was applied changes something",
        "report this with the specification: the position of an event proves that it was applied",
    ),
    "rebuilt": Check(
        "a rebuild folds history without handlers marked replay=False, and the rows are different then",
        "let handlers marked replay=False only emit; what writes rows belongs into a handler that runs always",
        Compared.ROWS,
    ),
}
"""The checks that deliver the events in another way, in the order in which they run."""
PURE = (CLOCK, CHANCE, OUTSIDE, ENVIRONMENT, STATE, MUTATION)
"""The checks of what handlers do while they run."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One other way. `how` says it in words; `events` in the order in which they are delivered, for reports."""

    check: str
    how: str
    delivery: Delivery
    events: tuple[Given, ...] = field(default=())


def as_given(events: Sequence[Given]) -> Delivery:
    """Return the delivery that all others are held against: as given, each event in a commit of its own."""
    return Delivery(feeds_of(events))


def feeds_of(events: Sequence[Given]) -> tuple[Feed, ...]:
    """Cut events into feeds: consecutive ones of one shard together."""
    feeds: list[tuple[ShardId, list[Given]]] = []
    for one in events:
        if not feeds or feeds[-1][0] != one.shard:
            feeds.append((one.shard, []))
        feeds[-1][1].append(one)
    return tuple(Feed(shard, tuple(held)) for shard, held in feeds)


def variants(events: Sequence[Given], keys: Mapping[int, str], seeds: Sequence[int]) -> Iterator[Variant]:
    """Yield every other way to deliver `events`. `keys`: the key of each by its number."""
    many = len(events)
    if not many:
        return
    feeds = feeds_of(events)
    yield Variant("twice", "a second time", Delivery(feeds))
    for size in sorted({2, many} - {1}):
        yield Variant("batched", f"{size} events at once", Delivery(feeds, size))
    at_once = [one for event in events for one in (event, event)]
    yield Variant("duplicated", "each event twice in a row", Delivery(feeds_of(at_once), 2 * many))
    yield Variant("duplicated", "all events, then all of them again", Delivery(feeds_of([*events, *events]), 2))
    yield from _drawn("reordered", events, lambda one: keys[one.number], seeds)
    yield from _drawn("interleaved", events, lambda one: one.shard.label, seeds)
    size = -(-many // _MOST_DEATHS)
    yield Variant("crashed", "a death before and after each commit", Delivery(feeds, size, deaths=True))
    yield Variant("replayed", "rewound to the beginning", Delivery(feeds, many, rewound=True))
    yield Variant("rebuilt", "as history", Delivery(feeds, many, rebuilding=True))


def _drawn(
    check: str, events: Sequence[Given], lane_of: Callable[[Given], str], seeds: Sequence[int]
) -> Iterator[Variant]:
    """Yield other orders, in which the events of each lane keep theirs; each order once.

    The first lets the lane that came last come first, whole: any two lanes that meet in one row do so the other way
    round, which chance may miss.
    """
    lanes: dict[str, list[Given]] = {}
    for one in events:
        lanes.setdefault(lane_of(one), []).append(one)
    known = {tuple(one.number for one in events)}
    orders = [("the last one first", [one for held in reversed(lanes.values()) for one in held])]
    orders += [(f"seed {seed}", _merged(lanes, Random(seed))) for seed in seeds]
    for at, (how, order) in enumerate(orders):
        numbers = tuple(one.number for one in order)
        if numbers not in known:
            known.add(numbers)
            yield Variant(check, how, Delivery(feeds_of(order), len(events) if at % 2 else 1), tuple(order))


def _merged(lanes: Mapping[str, Sequence[Given]], chance: Random) -> list[Given]:
    """Draw from the lanes in an order of chance."""
    tickets = [lane for lane, held in lanes.items() for _ in held]
    chance.shuffle(tickets)
    queues = {lane: iter(held) for lane, held in lanes.items()}
    return [next(queues[lane]) for lane in tickets]
