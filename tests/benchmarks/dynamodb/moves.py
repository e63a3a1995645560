"""What every side of the DynamoDB figures folds: moves of orders, in a file of CloudEvents, into a row per order."""

from pathlib import Path

from daemon.api import Event, View, on, projection

SOURCE, LOG = "moves", "moves.jsonl"
MARKER_SECONDS = 14 * 86_400
_PLACES = ("depot", "hub", "van", "door")


class Moves:
    """A row of five attributes, whichever layer stops duplicates."""

    @on("OrderMoved")
    def moved(self, view: View, event: Event) -> None:
        data = event.data
        view.patch(status=data["status"], place=data["place"], speed=data["speed"], at=data["at"], moves=data["number"])


@projection(name="by-event", version=1, source=SOURCE, key="data.order_id", dedup="event")
class ByEvent(Moves):
    """A marker an event."""


@projection(name="by-shard", version=1, source=SOURCE, key="data.order_id", dedup="shard")
class ByShard(Moves):
    """Packed markers."""


@projection(
    name="by-sequence", version=1, source=SOURCE, key="data.order_id", dedup="sequence", sequence="data.number"
)  # fmt: skip
class BySequence(Moves):
    """The entity's own number."""


@projection(name="hot", version=1, source=SOURCE, key=lambda _: "everything", dedup="shard")
class Hot:
    """One row for all shards."""

    @on("OrderMoved")
    def moved(self, view: View, event: Event) -> None:
        view.add(moves=1, distance=event.data["speed"])


@projection(name="hot", version=1, source=SOURCE, key=lambda _: "everything", dedup="shard")
class HotInParts:
    """The same, a partial row for each shard."""

    @on("OrderMoved")
    def moved(self, view: View, event: Event) -> None:
        view.add(moves=1, distance=event.data["speed"], shared=True)


def write_moves(path: Path, events: int, keys: int, per_key: int, first: int = 0) -> None:
    """Write so many lines: `per_key` moves of one order in a row, then of the next; after `keys`, the first again.

    `first`: the number in the first event's id.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as log:
        for index in range(events):
            order, step = index // per_key % keys, index % per_key
            number = index // (per_key * keys) * per_key + step + 1
            log.write(
                f'{{"specversion":"1.0","id":"move-{first + index:08}","source":"/shop/moves","type":"OrderMoved",'
                f'"time":"2026-03-01T10:{index // 60_000 % 60:02}:{index // 1_000 % 60:02}.{index % 1_000:03}Z",'
                f'"data":{{"order_id":"order-{order:06}","number":{number},"status":"moving",'
                f'"place":"{_PLACES[index % 4]}-{index % 97}","speed":{index % 90},"at":"2026-03-01T10:15:30Z"}}}}\n'
            )
