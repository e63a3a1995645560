"""The sum of shared partial rows, as a reader takes it.

`view.add(..., shared=True)` keeps one partial row per shard, so that no two shards ever write one row. What a reader
wants is their sum; this is its definition, short enough to be written again in any language.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from daemon.core.errors import EventProblem
from daemon.core.values import RESERVED_NAMES, RESERVED_PREFIX, add_exact


def sum_partials(rows: Iterable[Mapping[str, Any]]) -> dict[str, int | Decimal]:
    """Return the exact sum of partial rows, attribute by attribute; no rows give {}.

    An attribute that a row lacks counts as 0 there. `key`, `view` and names that begin with `_` are the store's own and
    left out. Raises ValueError for an attribute that holds no number, or whose sum needs more than 38 digits.
    """
    total: dict[str, int | Decimal] = {}
    for row in rows:
        for name, value in row.items():
            if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIX):
                continue
            try:
                total[name] = add_exact(total.get(name), _number(value, name), name)
            except EventProblem as problem:
                raise ValueError(problem.detail) from None
    return total


def _number(value: object, name: str) -> int | Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return value
    raise ValueError(
        f"attribute {name!r} of a partial row holds {type(value).__name__}; partial rows hold numbers only"
    )
