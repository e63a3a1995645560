"""Secrets: values that settings name but never hold.

Owns the type of a setting such as a password. It is written as `{env = "NAME"}`, so that the file can be shown to
anyone, and read from the environment when the settings are loaded.

Invariants: the value leaves the object only through `reveal()`. No repr, text, format, serialisation, copy, pickle or
error message shows it; a plain text where a secret belongs is refused without being repeated.
"""

from collections.abc import Mapping
from typing import NoReturn, Self, cast

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from daemon.settings.base import refuse

ENVIRONMENT = "environment"
"""Key of the validation context under which a Secret finds the environment."""

_EXPECTED = 'a secret named by its environment variable, {env = "NAME"}'


class Secret:
    """A text taken from the environment variable `env`; only `reveal()` gives it."""

    __slots__ = ("__value", "_env")

    def __init__(self, env: str, value: str) -> None:
        self._env = env
        self.__value = value

    @property
    def env(self) -> str:
        """Name of the environment variable that holds the value."""
        return self._env

    def reveal(self) -> str:
        """Give the value itself, for the one call that needs it."""
        return self.__value

    def __repr__(self) -> str:
        return f"Secret(env={self._env!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._env, self.__value) == (other.env, other.reveal())

    def __hash__(self) -> int:
        return hash((self._env, self.__value))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: its value would leave the process; load the settings there")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read `{env = "NAME"}`, and write the same back."""
        return core_schema.with_info_plain_validator_function(
            _from_table,
            serialization=core_schema.plain_serializer_function_ser_schema(_to_table),
        )


def _from_table(value: object, info: ValidationInfo) -> Secret:
    if isinstance(value, Secret):
        return value
    table: Mapping[object, object] = cast("Mapping[object, object]", value) if isinstance(value, Mapping) else {}
    name = table.get("env")
    if len(table) != 1 or not isinstance(name, str) or not name:
        raise refuse(_EXPECTED, 'put the value into an environment variable and write {env = "ITS_NAME"} here')
    context = cast("Mapping[str, object]", info.context or {})
    environment = cast("Mapping[str, str]", context.get(ENVIRONMENT, {}))
    if not environment.get(name):
        raise refuse(f"a secret in the environment variable {name}, which is not set", f"set {name}, or name another")
    return Secret(name, environment[name])


def _to_table(secret: Secret) -> dict[str, str]:
    return {"env": secret.env}
