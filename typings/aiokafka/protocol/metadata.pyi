# See `aiokafka`.

from typing import Any

class MetadataRequest:
    def __init__(self, *fields: Any, **options: Any) -> None: ...
