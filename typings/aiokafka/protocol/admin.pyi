# See `aiokafka`.

from typing import Any

class DescribeConfigsRequest:
    def __init__(self, *fields: Any, **options: Any) -> None: ...
