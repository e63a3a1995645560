# See `aiokafka`.

from typing import Any

class OffsetRequest:
    def __init__(self, *fields: Any, **options: Any) -> None: ...
