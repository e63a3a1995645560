"""The names things have: generations, scopes, shards.

Generations are in every key from the start, so that a rebuild beside the live read model is never a special case.
"""

from typing import NamedTuple


class Generation(NamedTuple):
    """One life of a projection's read model. `number` counts the generations of a projection from 1.

    Its rows live in a table of their own, `{projection}-g{number}`.
    """

    projection: str
    number: int

    @property
    def label(self) -> str:
        """The rows' table name without any prefix, `order-summary-g1`."""
        return f"{self.projection}-g{self.number}"


class ShardId(NamedTuple):
    """One ordered part of one source: a file, a Kafka partition, a Kinesis shard, a queue, an outbox table."""

    source: str
    shard: str

    @property
    def label(self) -> str:
        """`orders/orders-0.jsonl`, as it stands in `_src` and in logs."""
        return f"{self.source}/{self.shard}"


class Scope(NamedTuple):
    """What one checkpoint is about: one generation following one shard."""

    projection: str
    generation: int
    source: str
    shard: str

    @property
    def of(self) -> Generation:
        """The generation this scope belongs to."""
        return Generation(self.projection, self.generation)

    @property
    def shard_id(self) -> ShardId:
        """The shard this scope follows."""
        return ShardId(self.source, self.shard)

    @property
    def label(self) -> str:
        """`order-summary-g1:orders/orders-0.jsonl`."""
        return f"{self.projection}-g{self.generation}:{self.source}/{self.shard}"


class RowKey(NamedTuple):
    """A row of a generation: `view` names the kind of row (`main` for the projection's own), `key` its natural key."""

    view: str
    key: str


MAIN_VIEW = "main"
"""The view a handler's own `view` writes to."""
