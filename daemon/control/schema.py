"""The protocol as a JSON schema: every request, every answer.

Owns how the forms of requests (pydantic models) and of answers (dataclasses) become one schema, 2020-12. Must not know
any command by name.

Invariant: what `daemon.control.encoding` writes of a value validates against what is said here of its type.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeAliasType, Union, cast, get_args, get_origin, get_type_hints

from daemon.control.frames import ID_PATTERN, VERSION
from daemon.control.models import MODELS
from daemon.control.requests import Arguments
from daemon.core.errors import RefusalCode
from daemon.core.identity import Generation, Scope, ShardId

type Schema = dict[str, Any]

_PLAIN: Mapping[object, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    NoneType: {"type": "null"},
    Decimal: {"type": "string"},
    datetime: {"type": "string", "format": "date-time"},
    timedelta: {"type": "number"},
    bytes: {"type": "string"},
    Any: {},
    object: {},
}


def schema() -> Schema:
    """Return the whole schema: a line is one of its requests or one of its answers."""
    named: dict[str, Schema] = {}
    requests = {f"request-{model.command_name}": _request(model) for model in MODELS}
    answers: dict[str, Schema] = {"error": _error()}
    for model in MODELS:
        if model.result is not None:
            answers[f"result-{model.command_name}"] = _answer("result", model.result, named)
        if model.told is not None:
            kind = "row" if model.streams else "progress"
            answers[f"{kind}-{model.command_name}"] = _answer(kind, model.told, named)
    definitions = requests | answers | dict(sorted(named.items()))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The control protocol of projectiond",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in (*requests, *answers)],
        "$defs": definitions,
    }


def _request(model: type[Arguments]) -> Schema:
    args = model.model_json_schema()
    return _frame(
        {"command": {"const": model.command_name}, "args": {**args, "title": f"The arguments of {model.command_name}"}},
        {"type": "string", "pattern": f"^{ID_PATTERN}$"},
        optional=() if args.get("required") else ("args",),
    )


def _answer(kind: str, content: type, named: dict[str, Schema]) -> Schema:
    parts: dict[str, Schema] = {"kind": {"const": kind}, kind: schema_of(content, named)}
    parts["missed"] = {"type": "integer", "minimum": 1, "description": "Frames of this request left out before this."}
    return _frame(parts, {"type": "string"}, optional=("missed",))


def _error() -> Schema:
    content: Schema = {
        "type": "object",
        "properties": {
            "code": {"enum": [str(code) for code in RefusalCode]},
            "reason": {"type": "string"},
            "remedy": {"type": "string"},
        },
        "required": ["code", "reason", "remedy"],
        "additionalProperties": False,
    }
    parts: dict[str, Schema] = {"kind": {"const": "error"}, "error": content, "missed": {"type": "integer"}}
    return _frame(parts, {"type": ["string", "null"]}, optional=("missed",))


def _frame(parts: dict[str, Schema], id_: Schema, optional: Collection[str] = ()) -> Schema:
    properties: dict[str, Schema] = {"v": {"const": VERSION}, "id": id_} | parts
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def schema_of(kind: Any, named: dict[str, Schema]) -> Schema:
    """Return the schema of a type's values as they are encoded; dataclasses go into `named`. Raises TypeError."""
    if isinstance(kind, TypeAliasType):
        return schema_of(kind.__value__, named)
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return {"anyOf": [schema_of(one, named) for one in arguments]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and (kind in {Scope, ShardId, Generation} or is_dataclass(kind)):
        return _reference(cast("type[Any]", kind), named)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1], named)}
    if isinstance(origin, type) and issubclass(origin, Collection):
        return {"type": "array", "items": schema_of(arguments[0], named)}
    raise TypeError(f"{kind} has no schema")


def _reference(kind: type[Any], named: dict[str, Schema]) -> Schema:
    name = kind.__name__
    if name not in named:
        named[name] = {}
        named[name] = _object(kind, named)
    return {"$ref": f"#/$defs/{name}"}


def _object(kind: type[Any], named: dict[str, Schema]) -> Schema:
    hints = get_type_hints(kind)
    made_of_fields = is_dataclass(kind)
    names = [field.name for field in fields(kind)] if made_of_fields else [*hints]
    properties = {name: schema_of(hints[name], named) for name in names}
    if not made_of_fields:
        properties["label"] = {"type": "string"}
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
