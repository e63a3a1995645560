"""Folding and planning: a batch of 20 events for each key, against a bare loop that does the same dict updates by hand.

No markers are judged or planned here; what judging costs is a figure of its own. Both sides fold the types they are
for and pass over any other, as a log demands; both get the events decoded, and
rows that are known to be absent (counters: that nobody read). Before anything is timed, their rows must be equal.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import prod
from typing import Any

from daemon.api import Event, View, on, projection
from daemon.core.batcher import Chunk
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Limits
from daemon.core.dedup import Judged, judge_packed
from daemon.core.events import Record
from daemon.core.fold import FoldContext, Folded, fold
from daemon.core.identity import Scope
from daemon.core.planner import PlanContext, Planned, plan
from daemon.core.projection import ProjectionSpec
from daemon.core.view import UNLOADED, Base
from daemon.core.window import ENTRY_BYTES, MarkerWindow
from daemon.loading import compile_class
from tests.benchmarks.figures import MICRO, Figure, Sizes, figure, seconds_of, side_by_side

EVENTS_PER_KEY = 20
GOAL = "ratio <= 4"
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_SHIPMENTS = 4
"""Of an order's events, the last ones."""

type Rows = dict[tuple[str, str], Mapping[str, Any]]


@projection(name="sensor", version=1, source="events", key="data.key", dedup="shard")
class LastKnownState:
    """Patches of 8 attributes."""

    @on("Seen")
    def seen(self, view: View, event: Event) -> None:
        data = event.data
        view.patch(
            latitude=data["latitude"],
            longitude=data["longitude"],
            speed=data["speed"],
            heading=data["heading"],
            fuel=data["fuel"],
            driver=data["driver"],
            status=data["status"],
            seen_at=data["seen_at"],
        )


def last_known_state(events: Sequence[Event]) -> Rows:
    """Fold by hand."""
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.type != "Seen":
            continue
        data = event.data
        key = data["key"]
        row = rows.get(key)
        if row is None:
            row = rows[key] = {}
        row["latitude"] = data["latitude"]
        row["longitude"] = data["longitude"]
        row["speed"] = data["speed"]
        row["heading"] = data["heading"]
        row["fuel"] = data["fuel"]
        row["driver"] = data["driver"]
        row["status"] = data["status"]
        row["seen_at"] = data["seen_at"]
    return {("main", key): row for key, row in rows.items()}


def _sighting(_: int, number: int) -> tuple[str, dict[str, Any]]:
    return "Seen", {
        "latitude": 52_520_000 + number,
        "longitude": 13_405_000 - number,
        "speed": number % 90,
        "heading": number % 360,
        "fuel": 100 - number % 100,
        "driver": f"driver-{number % 7}",
        "status": "moving",
        "seen_at": "2026-03-01T12:00:00Z",
    }


@projection(name="order", version=1, source="events", key="data.key", dedup="shard")
class OrderLifecycle:
    """A put of 4, patches of 2, and additions to another row."""

    @on("Placed")
    def placed(self, view: View, event: Event) -> None:
        data = event.data
        view.put(status="placed", total=data["total"], items=data["items"], customer=data["customer"])

    @on("Moved")
    def moved(self, view: View, event: Event) -> None:
        view.patch(status="moved", place=event.data["place"])

    @on("Shipped")
    def shipped(self, view: View, event: Event) -> None:
        view.patch(status="shipped", place=event.data["place"])
        view.at("daily", event.time.date()).add(shipped=1)


def order_lifecycle(events: Sequence[Event]) -> Rows:
    """Fold by hand."""
    orders: dict[str, dict[str, Any]] = {}
    days: dict[str, dict[str, Any]] = {}
    for event in events:
        data, kind = event.data, event.type
        key = data["key"]
        if kind == "Placed":
            orders[key] = {
                "status": "placed", "total": data["total"], "items": data["items"], "customer": data["customer"]
            }  # fmt: skip
            continue
        row = orders.get(key)
        if row is None:
            row = orders[key] = {}
        row["place"] = data["place"]
        if kind == "Moved":
            row["status"] = "moved"
            continue
        row["status"] = "shipped"
        day = event.time.date().isoformat()
        daily = days.get(day)
        if daily is None:
            daily = days[day] = {"shipped": 0}
        daily["shipped"] += 1
    rows: Rows = {("main", key): row for key, row in orders.items()}
    rows.update({("daily", day): row for day, row in days.items()})
    return rows


def _order_step(step: int, number: int) -> tuple[str, dict[str, Any]]:
    if step == 0:
        return "Placed", {"total": 1_000 + number, "items": 3, "customer": f"customer-{number}"}
    kind = "Moved" if step < EVENTS_PER_KEY - _SHIPMENTS else "Shipped"
    return kind, {"place": f"hub-{number % 9}"}


@projection(name="counters", version=1, source="events", key="data.key", dedup="shard")
class Counters:
    """Additions of 3 integers."""

    @on("Sold")
    def sold(self, view: View, event: Event) -> None:
        data = event.data
        view.add(orders=1, items=data["items"], cents=data["cents"])


def counters(events: Sequence[Event]) -> Rows:
    """Fold by hand."""
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.type != "Sold":
            continue
        data = event.data
        key = data["key"]
        row = rows.get(key)
        if row is None:
            row = rows[key] = {"orders": 0, "items": 0, "cents": 0}
        row["orders"] += 1
        row["items"] += data["items"]
        row["cents"] += data["cents"]
    return {("main", key): row for key, row in rows.items()}


def _sale(_: int, number: int) -> tuple[str, dict[str, Any]]:
    return "Sold", {"items": number % 5 + 1, "cents": 100 + number}


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of projection, and the same by hand. `payload` gives type and payload of a key's n-th event."""

    name: str
    projection: type
    by_hand: Callable[[Sequence[Event]], Rows]
    payload: Callable[[int, int], tuple[str, dict[str, Any]]]
    base: Base = None


SHAPES = (
    Shape("last known state", LastKnownState, last_known_state, _sighting),
    Shape("order lifecycle", OrderLifecycle, order_lifecycle, _order_step),
    Shape("counters", Counters, counters, _sale, UNLOADED),
)


def folding(sizes: Sizes) -> Iterator[Figure]:
    """Measure each shape, and give their geometric mean."""
    ours: list[float] = []
    bare: list[float] = []
    shapes: list[Figure] = []
    for shape in SHAPES:
        records = events_of(shape, sizes.fold_keys)
        spec = spec_of(shape)
        assert rows_of(fold_and_plan(spec, records, shape.base)) == shape.by_hand(records)
        seconds = side_by_side(
            lambda shape=shape, spec=spec, records=records: lambda: fold_and_plan(spec, records, shape.base),
            lambda shape=shape, records=records: lambda: shape.by_hand(records),
            sizes.rounds,
        )
        mine, other = (each * MICRO / len(records) for each in seconds)
        ours.append(mine)
        bare.append(other)
        shapes.append(figure(f"  {shape.name} (CPU)", mine, "µs/event", baseline=other))
    value, baseline = _geometric_mean(ours), _geometric_mean(bare)
    name = f"fold + plan, {EVENTS_PER_KEY} events a key (CPU, geometric mean)"
    yield figure(name, value, "µs/event", baseline=baseline, goal=GOAL)
    yield from shapes
    yield _judging(sizes)


def spec_of(shape: Shape) -> ProjectionSpec:
    """Compile a shape's projection."""
    (spec,) = compile_class(shape.projection, ("events",))
    return spec


def events_of(shape: Shape, keys: int) -> list[Event]:
    """Make a batch: each key's events in their order, those of all keys interleaved."""
    events: list[Event] = []
    for step in range(EVENTS_PER_KEY):
        for key in range(keys):
            number = step * keys + key
            kind, data = shape.payload(step, number)
            payload = {"key": f"key-{key:04}", **data}
            digest = blake2b(repr(payload).encode(), digest_size=16).digest()
            moment = _NOON + timedelta(seconds=number)
            events.append(Event(f"e{number}", kind, None, None, moment, payload, {}, (number,), digest, b"{}"))
    return events


def fold_and_plan(spec: ProjectionSpec, events: Sequence[Event], base: Base) -> Planned:
    """Do what the folder does with a batch that was judged."""
    records: list[Record] = list(events)
    scope = Scope(spec.name, 1, "events", "0")
    context = FoldContext(spec, scope.shard_id, lambda _: base)
    folded = fold(Judged(records, [None] * len(records)), context)
    assert isinstance(folded, Folded)
    chunk = Chunk(records, records[-1].position)
    planned = plan(folded, chunk, PlanContext(scope, spec, Checkpoint(), "commit", _NOON, Limits()))
    assert isinstance(planned, Planned)
    return planned


def rows_of(planned: Planned) -> Rows:
    """Return the rows that a commit on absent rows leaves."""
    return {(write.key.view, write.key.key): write.attributes or {} for write in planned.commit.rows}


def _judging(sizes: Sizes) -> Figure:
    events = events_of(SHAPES[0], sizes.fold_keys)
    window = MarkerWindow(sizes.window_ids)
    ids = (number.to_bytes(8) for number in range(sizes.window_ids))
    window.remember(b"".join(blake2b(each, digest_size=ENTRY_BYTES).digest() for each in ids))

    def prepare() -> Callable[[], object]:
        return lambda: judge_packed(events, [None] * len(events), window, {})

    seconds = min(seconds_of(prepare) for _ in range(sizes.rounds))
    name = f"judge by packed markers, {sizes.window_ids:,} ids known (CPU)"
    return figure(name, seconds * MICRO / len(events), "µs/event")


def _geometric_mean(values: Sequence[float]) -> float:
    return prod(values) ** (1 / len(values))
