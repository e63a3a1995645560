"""Read your writes: whether a read model holds what a command side has just written. Pure, and short on purpose.

The checkpoint item is the one thing to look at, and any language can: where it is (`checkpoint_key`, or a row of
SQLite's table), and whether its position has reached the one that the log gave for what was written (`has_settled`).

    item = state.get_item(Key=checkpoint_key("order-summary", 1, "orders", "0"), ConsistentRead=True).get("Item")
    if has_settled(item, position): ...  # read the row

Invariant: positions compare part by part as whole numbers, never as text; no checkpoint has settled nothing.
"""

from typing import Any, Protocol


def checkpoint_key(projection: str, generation: int, source: str, shard: str) -> dict[str, str]:
    """Return the key of a checkpoint in DynamoDB's table `PREFIX-state`; read it consistently.

    In SQLite it is the row of `"projectiond-checkpoints"` with these four as `projection`, `generation`, `source` and
    `shard`.
    """
    name = source.replace("\\", "\\\\").replace("/", "\\/")
    return {"pk": f"{projection}-g{generation}:{name}/{shard}", "sk": "checkpoint"}


def pointer_key(projection: str) -> dict[str, str]:
    """Return the key of the item whose `generation` is the number of the live one, and `table` where its rows are."""
    return {"pk": projection, "sk": "pointer"}


class Row(Protocol):
    """An item or a row: a mapping, or what a database client has in place of one."""

    def __getitem__(self, name: str, /) -> Any:
        """Return an attribute or a column."""
        ...


def has_settled(checkpoint: Row | None, position: str) -> bool:
    """Tell whether a checkpoint has settled `position`: its rows hold every event up to there.

    `checkpoint`: the item or row as it was read, None where there is none; its `position` may be a text, or DynamoDB's
    `{"S": ...}`. `position`: of what was written, as the log gave it, such as Kafka's offset `"4711"`.
    Raises ValueError for a position that is none.
    """
    if checkpoint is None:
        return False
    reached: str | dict[str, str] = checkpoint["position"]
    return _parts(reached if isinstance(reached, str) else reached["S"]) >= _parts(position)


def _parts(position: str) -> tuple[int, ...]:
    return () if position == "start" else tuple(map(int, position.split(".")))
