# See `aiokafka`.

from collections.abc import Iterable
from typing import Any

class _Batch(Iterable[Any]):
    is_control_batch: bool

class MemoryRecords:
    def __init__(self, data: bytes) -> None: ...
    def has_next(self) -> bool: ...
    def next_batch(self) -> _Batch | None: ...
