"""Payloads as instances of the user's classes: dataclass, TypedDict, pydantic model.

Owns the use of pydantic for payloads. A payload is validated as it was decoded: JSON values, with exact `Decimal` for
every fraction, so money declared as `Decimal` never passes through a float. Text becomes dates, UUIDs or enums where
the class says so; a class with `strict=True` takes none of these conversions.

Invariant: the event itself is not touched; the handler gets a copy that carries the instance.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from daemon.core.errors import EventProblem
from daemon.core.events import Event
from daemon.loading.problems import Mistake

MAX_SHOWN = 3
"""Fields that a refusal names before it only counts the others."""
_KINDS = "use a dataclass, a TypedDict or a pydantic model, or the event type's name as a string"


def is_payload_class(value: object) -> bool:
    """Tell whether `value` is a class that payloads can be validated into."""
    if not isinstance(value, type):
        return False
    typed_dict = "__required_keys__" in vars(value)
    return typed_dict or is_dataclass(value) or issubclass(value, BaseModel)


def payload_reader(cls: type, line: int) -> Callable[[Event], Event]:
    """Return a function that gives the event with its payload as an instance of `cls`.

    The function raises EventProblem `invalid-payload`, naming fields and what was expected. Raises Mistake (at `line`)
    for a class that pydantic cannot validate.
    """
    if not is_payload_class(cls):
        raise Mistake(f"@on({cls.__name__}): {cls.__name__} is no class of a payload", _KINDS, line)
    try:
        validate = TypeAdapter[Any](cls).validate_python
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise Mistake(f"@on({cls.__name__}): its fields cannot be validated ({reason})", _KINDS, line) from error
    name = cls.__name__

    def read(event: Event) -> Event:
        try:
            data = validate(event.data)
        except ValidationError as error:
            raise EventProblem("invalid-payload", _detail(event, name, error)) from None
        return event.with_data(data)

    return read


def _detail(event: Event, name: str, error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{'.'.join(('data', *map(str, e['loc'])))}: {e['msg']}" for e in found[:MAX_SHOWN]]
    if len(found) > MAX_SHOWN:
        shown.append(f"and {len(found) - MAX_SHOWN} more")
    return f"event {event.id!r:.200} is no {name}: {'; '.join(shown)}"[:1000]
