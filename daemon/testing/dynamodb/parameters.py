"""The shape of requests: which members an operation knows, of which JSON type.

Owns refusing what is unknown, missing or of the wrong type. Must not know what members mean.

Invariant: AWS ignores members that it does not know; this server refuses them, because a member misspelt in a test is a
condition that is not checked in production.
"""

from collections.abc import Mapping
from typing import Any, cast

from daemon.testing.dynamodb.errors import ServiceError, invalid, unreadable

_LEGACY = frozenset(
    {
        "AttributeUpdates",
        "AttributesToGet",
        "ConditionalOperator",
        "Expected",
        "KeyConditions",
        "QueryFilter",
        "ScanFilter",
    }
)


def take(request: Any, members: Mapping[str, type]) -> dict[str, Any]:
    """Return a request's object, nulls left out; refuse unknown members and wrong types. Not to be changed."""
    if not isinstance(request, dict):
        raise unreadable("Start of structure or map found where not expected")
    given = cast("dict[str, Any]", request)
    nulls = False
    for name, value in given.items():
        kind = members.get(name)
        if value.__class__ is kind:
            continue
        if kind is None:
            raise _unknown(name, members)
        if value is not None:
            raise unreadable(f"{name} has the JSON type {type(value).__name__}, which is not {kind.__name__}")
        nulls = True
    return {name: value for name, value in given.items() if value is not None} if nulls else given


def _unknown(name: str, members: Mapping[str, type]) -> ServiceError:
    if name in _LEGACY:
        return invalid(f"The legacy parameter {name} is not served here; use an expression")
    return invalid(f"Unknown parameter {name} (AWS would ignore it); known: {', '.join(sorted(members))}")


def require(request: Mapping[str, Any], *names: str) -> None:
    """Refuse a request that lacks a member."""
    for name in names:
        if request.get(name) is None:
            shown = name[0].lower() + name[1:]
            raise invalid(
                f"1 validation error detected: Value null at '{shown}' failed to satisfy constraint: "
                "Member must not be null"
            )


def objects(value: Any, what: str) -> dict[str, Any]:
    """Return a JSON object, or refuse."""
    if not isinstance(value, dict):
        raise unreadable(f"{what} is an object")
    return cast("dict[str, Any]", value)


def listed(value: Any, what: str) -> list[Any]:
    """Return a JSON list, or refuse."""
    if not isinstance(value, list):
        raise unreadable(f"{what} is a list")
    return cast("list[Any]", value)


def one_of(request: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    """Return a member that must be one of a few words."""
    value = request.get(name, default)
    if value not in choices:
        shown = name[0].lower() + name[1:]
        raise invalid(
            f"1 validation error detected: Value '{value}' at '{shown}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(choices)}]"
        )
    return cast("str", value)
