# See `aiokafka`.

from collections.abc import Sequence
from typing import Any

class FetchRequest:
    topics: Sequence[tuple[str, Sequence[tuple[int, int, int]]]]
    def __init__(self, *fields: Any, **options: Any) -> None: ...
