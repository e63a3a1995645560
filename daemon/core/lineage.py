"""Lineage: parents are drained before their children begin.

Invariant: a shard is ready when every parent that still exists is done; a parent that expired from the listing is done
by definition (its records are gone), and being done is only ever learned from a checkpoint.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShardNode:
    """A shard and the shards whose end it continues."""

    shard: str
    parents: tuple[str, ...] = ()


def ready(nodes: Iterable[ShardNode], done: Collection[str]) -> list[str]:
    """Return the shards that may run now, in listing order: not done themselves, all listed parents done."""
    listed = list(nodes)
    known = {node.shard for node in listed}
    return [
        node.shard
        for node in listed
        if node.shard not in done and all(parent in done or parent not in known for parent in node.parents)
    ]
