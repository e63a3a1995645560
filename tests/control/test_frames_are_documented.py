"""Every frame of the protocol: held to a golden, to the published schema, and the page to the code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from daemon.control.encoding import plain
from daemon.control.frames import (
    Answer,
    Failure,
    Kind,
    Request,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    failure_answer,
)
from daemon.control.models import MODELS
from daemon.control.reference import PAGE, SCHEMA, page, schema_text
from daemon.control.requests import Greeting, Reached, read_arguments
from daemon.core import reports
from daemon.core.errors import RefusalCode
from tests.ctl import canned

DOCS = Path(__file__).parents[2] / "docs/reference"
GOLDEN = Path(__file__).parent / "goldens/frames.jsonl"

ABOUT = {"target": "order-summary"}
CHANGE = {"target": "order-summary:orders/orders-0.jsonl", "wait_seconds": 5.0}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "hello": {},
    "status": {},
    "shards": ABOUT,
    "lag": ABOUT,
    "top": ABOUT | {"interval_seconds": 0.5},
    "tail": ABOUT,
    "audit": ABOUT | {"limit": 5},
    "explain": ABOUT | {"key": "order-17", "view": "main"},
    "wait": {"target": "order-summary:orders/0", "position": "0.4711", "timeout_seconds": 3.0},
    "pause": CHANGE | {"reason": "INC-7"},
    "drain": CHANGE | {"reason": "INC-7"},
    "resume": CHANGE,
    "restart": CHANGE,
    "rewind": CHANGE | {"to": "earliest"},
    "replay.plan": ABOUT | {"from": "earliest", "to": "0.4711", "diff": True},
    "replay.apply": CHANGE | {"from": "earliest", "to": "0.4711", "plan": "5f0c9a"},
    "replay.status": ABOUT,
    "replay.abort": CHANGE,
    "dead-letters.list": ABOUT | {"reason": "handler-raised", "limit": 10},
    "dead-letters.show": {"target": "order-summary:orders/orders-0.jsonl", "position": "0.4700"},
    "dead-letters.retry": CHANGE | {"key": "order-17"},
    "dead-letters.discard": CHANGE | {"every": True},
    "keys.parked": {},
    "keys.release": CHANGE | {"key": "order-17"},
    "skip": CHANGE | {"position": "0.5000", "standing": "0.4711"},
}
VALUES: dict[type, object] = {
    Greeting: Greeting("shop", "1.2.3", "web-1-4f2a", 4_711, 1, ("hello", "status")),
    Reached: Reached(canned.ORDERS, canned.SHARDS[0], "0.4711", "0.4712"),
    reports.StatusReport: canned.STATUS,
    reports.ShardsReport: reports.ShardsReport(canned.NOW, (canned.shard(0), canned.STUCK)),
    reports.LagReport: reports.LagReport(canned.NOW, canned.LAGS),
    reports.TopRow: reports.TopRow(canned.NOW, canned.LAGS),
    reports.TailRow: canned.TAIL,
    reports.AuditReport: canned.AUDIT,
    reports.Explanation: canned.EXPLANATION,
    reports.Progress: reports.Progress(
        1, 3, (reports.ShardAnswer(canned.SHARDS[0], "done", "stands still; everything up to 0.4711 is committed"),)
    ),
    reports.Answer: canned.answer("pause", "order-summary", "r1", pending=1),
    **{type(value): value for value in canned.AGAIN.values()},
}


def frames() -> Iterator[bytes]:
    """Iterate every frame, as it goes over the wire."""
    for model in MODELS:
        yield encode_request(Request("r1", model.command_name, ARGUMENTS[model.command_name]))
        if model.told is not None:
            kind = Kind.ROW if model.streams else Kind.PROGRESS
            yield encode_answer(Answer("r1", kind, plain(VALUES[model.told]), missed=3))
        if model.result is not None:
            yield encode_answer(Answer("r1", Kind.RESULT, plain(VALUES[model.result])))
    for code in RefusalCode:
        yield encode_answer(failure_answer("r1", Failure(code, "replay r7 is under way", "abort it first")))
    yield encode_answer(failure_answer(None, Failure(RefusalCode.USAGE, "not JSON", "send JSON")))


def test_every_frame_is_the_golden_one():
    """What goes over the wire is, to the byte, what clients of other releases and languages were written for."""
    assert b"".join(frames()) == GOLDEN.read_bytes()


def test_every_frame_reads_back():
    """Each side reads what the other writes: a request's arguments as its model, an answer as its kind and content."""
    models = {model.command_name: model for model in MODELS}
    for line in frames():
        document = json.loads(line)
        if "command" in document:
            request = decode_request(line.rstrip(b"\n"))
            read_arguments(models[request.command], request.args, request.id)
        else:
            answer = decode_answer(line)
            assert (answer.id, answer.content) == (document["id"], document[document["kind"]])


def test_every_frame_is_in_the_schema():
    """The published schema holds every frame, and holds no frame with another field, kind or version."""
    published = json.loads((DOCS / SCHEMA).read_text(encoding="utf-8"))
    for line in frames():
        document = json.loads(line)
        assert valid(document, published, published), line
        for wrong in ({"more": 1}, {"v": 2}, {"kind": "other"}, {"id": 7}):
            assert not valid(document | wrong, published, published), (line, wrong)


@pytest.mark.parametrize(("name", "text"), [(PAGE, page), (SCHEMA, schema_text)], ids=[PAGE, SCHEMA])
def test_what_is_published_is_written_from_the_code(name: str, text: Any):
    """The page and the schema are what the code says (`python -m daemon.control.reference docs/reference`)."""
    assert (DOCS / name).read_text(encoding="utf-8") == text()


def test_every_command_is_documented_and_has_examples_here():
    """Each command has a part of the page, and a request among the goldens."""
    written = set(re.findall(r"^### `(.*)`$", page(), re.MULTILINE))
    assert written == {model.command_name for model in MODELS} == set(ARGUMENTS)


def valid(value: Any, form: dict[str, Any], root: dict[str, Any]) -> bool:
    """Tell whether a value is in a schema, as far as ours goes."""
    if "$ref" in form:
        return valid(value, root["$defs"][form["$ref"].rpartition("/")[2]], root)
    if "anyOf" in form:
        return any(valid(value, one, root) for one in form["anyOf"])
    if ("const" in form and value != form["const"]) or ("enum" in form and value not in form["enum"]):
        return False
    kinds = cast("str | list[str] | None", form.get("type"))
    if kinds is not None and not any(is_of(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if "pattern" in form and isinstance(value, str) and not re.search(form["pattern"], value):
        return False
    if isinstance(value, list):
        return all(valid(item, form.get("items", {}), root) for item in cast("list[Any]", value))
    return not isinstance(value, dict) or valid_object(cast("dict[str, Any]", value), form, root)


def valid_object(value: dict[str, Any], form: dict[str, Any], root: dict[str, Any]) -> bool:
    """Tell whether an object is in a schema."""
    properties = form.get("properties", {})
    others = form.get("additionalProperties", True)
    for name, item in value.items():
        expected = properties.get(name, others)
        if expected is False or (
            isinstance(expected, dict) and not valid(item, cast("dict[str, Any]", expected), root)
        ):
            return False
    return all(name in value for name in form.get("required", ()))


def is_of(value: Any, kind: str) -> bool:
    """Tell whether a value is of one of JSON's types."""
    if isinstance(value, bool):
        return kind == "boolean"
    types = {"string": str, "integer": int, "number": (int, float), "object": dict, "array": list, "null": type(None)}
    return kind in types and isinstance(value, types[kind])
