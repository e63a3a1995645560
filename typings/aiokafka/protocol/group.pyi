# See `aiokafka`.

from typing import Any

class HeartbeatRequest:
    def __init__(self, *fields: Any, **options: Any) -> None: ...
