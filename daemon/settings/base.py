"""What every settings model is made of: the section, tables of named entries, the choice of a model by `kind`.

Owns the pydantic configuration that makes settings strict and frozen, and the small annotations the models share. Must
not know any particular setting, nor where values come from.

Invariants: a section is frozen, refuses unknown keys and converts nothing (a text "1" is no number); a pydantic error
never holds the input it refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    WrapSerializer,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALUE_REFUSED = "value_refused"
"""Type of the pydantic errors that `refuse` makes; their context holds `expected` and `remedy`."""

KIND = "kind"
"""The key that chooses a table's model where there are several."""


class Section(BaseModel):
    """One table of the settings file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_default=True,
    )


def refuse(expected: str, remedy: str) -> PydanticCustomError:
    """Build the error of a value that its type alone does not rule out: what was expected, and what to do."""
    context = {"expected": expected, "remedy": remedy}
    return PydanticCustomError(VALUE_REFUSED, "expected {expected}; {remedy}", context)


def matching(pattern: str, expected: str, remedy: str) -> AfterValidator:
    """Annotate a text that has to match `pattern` as a whole."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise refuse(expected, remedy)
        return text

    return AfterValidator(check)


def distinct[T](values: tuple[T, ...]) -> tuple[T, ...]:
    """Refuse a list that holds a value twice."""
    if len(set(values)) != len(values):
        raise refuse("a list without repetitions", "remove the repeated entry")
    return values


NAME_PATTERN = r"[a-z][a-z0-9_-]{0,62}"

Name = Annotated[
    str,
    matching(
        NAME_PATTERN,
        "a name of at most 63 lower-case letters, digits, `-` and `_` that begins with a letter",
        "rename it",
    ),
]
"""The NAME of a table such as [sources.NAME]. Lower case, because environment variables spell it in upper case."""

Text = Annotated[str, matching(r"[^\x00-\x1f\x7f]+", "text without control characters, not empty", "write it out")]


def _as_dict(table: Mapping[str, object], handler: SerializerFunctionWrapHandler) -> Any:
    return handler(dict(table))


type Table[T] = Annotated[Mapping[Name, T], AfterValidator(MappingProxyType), WrapSerializer(_as_dict)]
"""A read-only table of named entries, `{NAME: T}`."""

type Array[T] = Annotated[tuple[T, ...], Field(strict=False)]
"""A TOML array, kept as a tuple. Only the container is lenient; its items stay strict."""


def kind_of(model: type[Section]) -> str:
    """Give the `kind` that chooses `model`: the default of its `kind` field."""
    return cast("str", model.model_fields[KIND].default)


@dataclass(frozen=True, slots=True)
class Kinds:
    """Annotates a table whose model is chosen by its `kind`. The first model is taken where the key is left out.

    A pydantic discriminated union wants the key in the input and at least two models; this one needs neither, so a
    second kind of store or source is one more class in the tuple, and no file written before it has to change.
    """

    models: tuple[type[Section], ...]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the tagged union, keyed by each model's kind."""
        choices = {kind_of(model): handler.generate_schema(model) for model in self.models}
        return core_schema.tagged_union_schema(choices, discriminator=self._tagger())

    def _tagger(self) -> Callable[[object], str]:
        default = kind_of(self.models[0])

        def tag(value: object) -> str:
            if isinstance(value, Mapping):
                return str(cast("Mapping[str, object]", value).get(KIND, default))
            return str(getattr(value, KIND, default))

        return tag
