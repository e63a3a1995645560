"""Checkpoints as they were read, of one moment, each decoded when somebody asks for it.

Who asks how hundreds of shards stand looks into few of their checkpoints: decoding all takes longer than reading them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, override

from daemon.core.checkpoint import Checkpoint
from daemon.core.identity import Generation, Scope
from daemon.stores.sqlite_codec import checkpoint_of


class StoredCheckpoints(Mapping[Scope, Checkpoint]):
    """Checkpoints by scope. Rows begin with source and shard; `CHECKPOINT_COLUMNS` follow."""

    def __init__(self, generation: Generation, rows: Sequence[Sequence[Any]]) -> None:
        """Keep the rows."""
        self._rows = {Scope(*generation, row[0], row[1]): row for row in rows}
        self._decoded: dict[Scope, Checkpoint] = {}

    @override
    def __getitem__(self, scope: Scope) -> Checkpoint:
        held = self._decoded.get(scope)
        if held is None:
            held = self._decoded[scope] = checkpoint_of(self._rows[scope][2:])
        return held

    @override
    def __contains__(self, scope: object) -> bool:
        return scope in self._rows

    @override
    def __iter__(self) -> Iterator[Scope]:
        return iter(self._rows)

    @override
    def __len__(self) -> int:
        return len(self._rows)
