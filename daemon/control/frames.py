"""The frames of the control protocol: one JSON object a line, requests one way, answers the other.

Owns the form of every frame and what is refused before a command is looked at: junk, another version, unknown fields,
repeated names, depth. Must not know sockets, nor what a command does.

A request is answered by any number of `progress` and `row` frames and then by exactly one `result` or `error`, each
carrying the request's id. A line that holds no readable id is answered under the id null.

Invariants: what `decode_request` returns has been checked to the last field but the command's own arguments; a frame is
one line whatever it holds; an error names what is wrong and what to do.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn, cast

import orjson

from daemon.core.errors import EventProblem, RefusalCode
from daemon.wire.exact_json import check_depth

VERSION = 1
"""The protocol's version. Another one is refused, and named in the refusal."""
MAX_DEPTH = 16
"""Levels of nesting in a request; the deepest that a command takes has three."""
ID_PATTERN = r"[A-Za-z0-9_.-]{1,64}"
COMMAND_PATTERN = r"[a-z]+(-[a-z]+)*(\.[a-z]+(-[a-z]+)*)?"
_ID = re.compile(ID_PATTERN)
_COMMAND = re.compile(COMMAND_PATTERN)
_FIELDS = ("v", "id", "command", "args")
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request was not carried out, and what to do about it."""

    code: RefusalCode
    reason: str
    remedy: str


class BadRequest(Exception):
    """A line that is no request. `id` is the request's, where it could be read."""

    def __init__(self, failure: Failure, id: str | None = None) -> None:  # noqa: A002 - the field's own name
        super().__init__(failure.reason)
        self.failure = failure
        self.id = id


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose frame is right; `args` are the command's to check."""

    id: str
    command: str
    args: Mapping[str, Any]


class Kind(StrEnum):
    """What an answer frame is."""

    PROGRESS = "progress"
    ROW = "row"
    RESULT = "result"
    ERROR = "error"

    @property
    def final(self) -> bool:
        """Whether nothing follows it."""
        return self in {Kind.RESULT, Kind.ERROR}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer frame: `content` stands under the kind's own name. `missed`: frames left out before this one."""

    id: str | None
    kind: Kind
    content: Any
    missed: int = 0


def encode_request(request: Request) -> bytes:
    """Write a request as a line."""
    frame = {"v": VERSION, "id": request.id, "command": request.command, "args": request.args}
    return orjson.dumps(frame, option=orjson.OPT_APPEND_NEWLINE)


def encode_answer(answer: Answer) -> bytes:
    """Write an answer as a line; its content must be plain JSON."""
    frame: dict[str, Any] = {"v": VERSION, "id": answer.id, "kind": answer.kind, answer.kind.value: answer.content}
    if answer.missed:
        frame["missed"] = answer.missed
    return orjson.dumps(frame, option=orjson.OPT_APPEND_NEWLINE)


def failure_answer(id: str | None, failure: Failure) -> Answer:  # noqa: A002 - the field's own name
    """Make the error frame of a failure."""
    content = {"code": failure.code, "reason": readable(failure.reason), "remedy": readable(failure.remedy)}
    return Answer(id, Kind.ERROR, content)


def decode_answer(line: bytes) -> Answer:
    """Read an answer frame. Raises ValueError for what is none: the other side is no projectiond of this version."""
    frame = orjson.loads(line)
    if not isinstance(frame, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one error for every way of being wrong
    fields = cast("dict[str, Any]", frame)
    if fields.get("v") != VERSION:
        raise ValueError(f"version {fields.get('v')!r:.{_SHOWN_CHARACTERS}}, expected {VERSION}")
    kind = Kind(fields.get("kind"))
    return Answer(fields.get("id"), kind, fields[kind.value], fields.get("missed", 0))


def decode_request(line: bytes) -> Request:
    """Read a request. Raises BadRequest, with the id where one could be read."""
    fields = _object(line)
    id_ = fields.get("id")
    known = id_ if isinstance(id_, str) and _ID.fullmatch(id_) else None
    _known_version(fields, known)
    for name in fields:
        if name not in _FIELDS:
            refuse(f"unknown field {_shown(name)}", f"a request has the fields {', '.join(_FIELDS)}", known)
    if known is None:
        refuse(
            f"id {_shown(id_)} is not 1 to 64 letters, digits, `_`, `.` or `-`",
            "choose a fresh id for each request; sending one again with the same id does not do it twice",
        )
    command, args = fields.get("command"), fields.get("args", {})
    if not isinstance(command, str) or not _COMMAND.fullmatch(command):
        refuse(f"command {_shown(command)} is no name of a command", "write it in lower case, as `status`", known)
    if not isinstance(args, dict):
        refuse(f"args {_shown(args)} are no object", 'write them as {"projection": "order-summary"}', known)
    return Request(known, command, cast("dict[str, Any]", args))


def refuse(reason: str, remedy: str, id: str | None = None) -> NoReturn:  # noqa: A002 - the field's own name
    """Raise BadRequest as a mistake in the request."""
    raise BadRequest(Failure(RefusalCode.USAGE, reason, remedy), id)


def _known_version(fields: Mapping[str, Any], id_: str | None) -> None:
    version = fields.get("v")
    if isinstance(version, bool) or version != VERSION:
        refuse(
            f"protocol version {_shown(version)}, this daemon speaks {VERSION}",
            f'send "v": {VERSION}, or use the projectionctl of the daemon\'s own release',
            id_,
        )


def _object(line: bytes) -> dict[str, Any]:
    try:
        orjson.loads(line)
        check_depth(line, MAX_DEPTH)
        value = json.loads(line, object_pairs_hook=_distinct)
    except orjson.JSONDecodeError as error:
        refuse(f"not JSON: {error}", "send one JSON object a line, in UTF-8")
    except EventProblem as problem:
        refuse(problem.detail, "send a flat request")
    except (ValueError, RecursionError) as error:
        refuse(f"not a request: {error}", "give each name once, and numbers of ordinary size")
    if not isinstance(value, dict):
        refuse(f"{_shown(value)} is no object", f"a request is an object with the fields {', '.join(_FIELDS)}")
    return cast("dict[str, Any]", value)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {_shown(twice)} stands there twice")
    return found


def readable(text: str) -> str:
    """Return a text that JSON can hold: names of files may be no Unicode, and then hold halves of surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
