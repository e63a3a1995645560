"""Items that cannot be read: told of by name, and kept from taking others along.

Owns what becomes of an item of the daemon's own that is not in its form. Must not know what items hold.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, cast

from daemon.core.errors import StoreDamaged

_SHOWN = 200


def whole[**P, T](what: str, remedy: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have a reader of items tell of one that it cannot read: which it is, what is wrong, and what to do."""

    def guarded(read: Callable[P, T]) -> Callable[P, T]:
        @wraps(read)
        def reading(*args: P.args, **named: P.kwargs) -> T:
            try:
                return read(*args, **named)
            except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
                item = next(cast("Mapping[str, Any]", arg) for arg in args if isinstance(arg, Mapping))
                raise StoreDamaged(
                    f"{what} at {_place(item)} was not written by projectiond, or is damaged ({error!r:.200}); {remedy}"
                ) from error

        return reading

    return guarded


def readable[T](read: Callable[[Mapping[str, Any]], T], items: Iterable[Mapping[str, Any]]) -> Iterator[T]:
    """Read those items that can be read: one that is damaged is its own shard's, or replica's, trouble alone."""
    for item in items:
        try:
            yield read(item)
        except StoreDamaged:
            continue


def _place(item: Mapping[str, Any]) -> str:
    keys = (cast("dict[str, Any]", item.get(name) or {}) for name in ("pk", "sk"))
    return "/".join(repr(key.get("S"))[:_SHOWN] for key in keys)
