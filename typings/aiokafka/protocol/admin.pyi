# See `aiokafka`.

from typing import Any

class CreateAclsRequest:
    def __init__(self, *fields: Any, **options: Any) -> None: ...

class DescribeConfigsRequest:
    def __init__(self, *fields: Any, **options: Any) -> None: ...
