"""The protocol's page, `docs/reference/control.md`, and its schema, written from the code.

`python -m daemon.control.reference DIRECTORY` writes both; a test holds the committed files equal to them.
"""

import json
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from daemon.control.limits import ControlLimits
from daemon.control.models import MODELS
from daemon.control.peers import Access
from daemon.control.requests import Arguments
from daemon.control.schema import schema
from daemon.core.errors import RefusalCode

PAGE = "control.md"
SCHEMA = "control.schema.json"
_LIMITS = ControlLimits()

HEAD = f"""\
# The control socket

<!-- stage: stuck -->

A running daemon listens on a Unix socket. `projectionctl` speaks to it, and so can anything that writes a line of JSON;
here to a daemon whose `control.path` is `run/control.sock`:

```sh
echo '{{"v":1,"id":"a1","command":"status"}}' | nc -U -q1 run/control.sock
```

```text
...result...
```

Written from the code by `python -m daemon.control.reference docs/reference`; do not edit it by hand. The schema of
every frame is [{SCHEMA}]({SCHEMA}).

## Where it stands, and who may speak

The socket is `control.path`, or `/tmp/projectiond-UID/NAME.sock` where that is left out (`NAME` is `daemon.name`;
`NAME-2.sock` and so on while it is taken). It has mode 0600, its directory 0700; a directory that others can reach, or
own, is refused. Beside it lies a lock file, held for as long as the daemon lives: a second daemon with the same
`control.path` refuses to start and names the first one's process; the socket of a daemon that was killed is taken over.

Who speaks is what the kernel says (`SO_PEERCRED`). The daemon's own user may do everything, users in
`control.change_uids` too (root by default), those in `control.read_uids` may read; all others are answered `forbidden`.
Inside a container numbers of users are those of its own namespace.

## Frames

One JSON object a line, UTF-8, each side. A request:

```json
{{"v": 1, "id": "a1", "command": "pause", "args": {{"target": "order-summary", "reason": "INC-7"}}}}
```

`id` is the client's choice (1 to 64 letters, digits, `_`, `.`, `-`). A change is carried out **once** for an id:
whoever lost an answer asks again with the same id and is told what became of it. `args` may be left out where nothing
is needed. Unknown fields and arguments, a name given twice, another version and more than 16 levels of nesting are
refused.

Requests of one connection are answered as they are done, not in order. Each is answered by any number of `progress` or
`row` frames, then by exactly one `result` or `error`:

```json
{{"v": 1, "id": "a1", "kind": "progress", "progress": {{"settled": 1, "total": 4, "shards": []}}}}
{{"v": 1, "id": "a1", "kind": "error", "error": {{"code": "conflict", "reason": "...", "remedy": "..."}}}}
```

A line in which no id can be read is answered under the id `null`. `missed` in a frame counts the `progress` and `row`
frames that were left out before it, because the client did not read fast enough; results and errors are never left out.
A client may stop sending (half-close) and still reads its answers. When it hangs up, what only reads is cancelled, and
**what changes something goes on**.

Times are ISO 8601 with offset, durations seconds, positions texts (`4711`, `1.20480`, `start`), whole numbers beyond 53
bits texts. A target is a text: `all`, `NAME`, `NAME-g2`, `NAME:SOURCE/SHARD` or `NAME-g2:SOURCE/SHARD`.

## Limits

| what | default | then |
|---|---|---|
| connections, `control.max_connections` | {_LIMITS.max_connections} | one more is answered `busy` and closed |
| requests under way on one, `control.max_requests` | {_LIMITS.max_requests} | one more is answered `busy` |
| a line, `control.max_line_bytes` | {_LIMITS.max_line_bytes:,} bytes | answered `usage`, closed |
| from a line's first byte to its end, `control.line_seconds` | {_LIMITS.line:g} s | answered `usage`, closed |
| without a request, `control.idle_seconds` | {_LIMITS.idle:g} s | closed |
| unread answers, `control.write_seconds` | {_LIMITS.write:g} s | closed; what was changed goes on |
| rows and progress unread | 64 | left out, and counted by `missed` |

## Errors and exit codes

| code | meaning | `projectionctl` ends with |
|---|---|---|
"""

TAIL = """\
`projectionctl` ends with 0 when it is done, and with 5 too when no daemon answers; a change ends with 4 while a shard
has not obeyed, with 3 when a shard refused.

## Read your writes

Over the socket, `wait` answers once a position or an event is settled: applied, a duplicate, dead-lettered, parked or
skipped, so that nothing more comes of it by itself. A command side that cannot reach a socket looks at the
checkpoint, which any client in any language can read. Ten lines of `daemon.api` say where it is and what it means;
what the log gave when the event was written (Kafka's offset, Kinesis' sequence number, an outbox row's number, a
file's length) is the position.

```python
import boto3
from daemon.api import checkpoint_key, has_settled

state = boto3.resource("dynamodb").Table("projectiond-state")


def readable(shard: str, position: str) -> bool:
    key = checkpoint_key("order-summary", 1, "orders", shard)
    return has_settled(state.get_item(Key=key, ConsistentRead=True).get("Item"), position)
```

```python
import sqlite3
from daemon.api import has_settled

rows = sqlite3.connect("file:shop.db?mode=ro", uri=True)
rows.row_factory = sqlite3.Row
FROM = 'SELECT position FROM "projectiond-checkpoints" '
WHERE = "WHERE projection = ? AND generation = ? AND source = ? AND shard = ?"


def readable(shard: str, position: str) -> bool:
    return has_settled(rows.execute(FROM + WHERE, ("order-summary", 1, "orders", shard)).fetchone(), position)
```

The number of the live generation is `generation` in the item of `pointer_key("order-summary")`, or
`SELECT number FROM "projectiond-generations" WHERE projection = ? AND live`.
"""

_MEANINGS = {
    RefusalCode.USAGE: ("the request or its arguments are wrong; nothing was done", 2),
    RefusalCode.REFUSED: ("right, and not to be done as things stand", 3),
    RefusalCode.FORBIDDEN: ("the peer's user may not do this", 3),
    RefusalCode.NOT_FOUND: ("no such command, projection, shard, row or event", 3),
    RefusalCode.CONFLICT: ("another operation stands in the way; it is named", 3),
    RefusalCode.PENDING: ("not done in the time given; it goes on", 4),
    RefusalCode.BUSY: ("too many connections or requests at once", 5),
    RefusalCode.UNAVAILABLE: ("store or log do not answer, or the daemon is stopping", 5),
    RefusalCode.BUG: ("a bug; the daemon's log holds the report", 70),
}


def page() -> str:
    """Return the text of the page."""
    return "\n".join(_lines()) + "\n"


def schema_text() -> str:
    """Return the text of the schema."""
    return json.dumps(schema(), indent=1) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD.rstrip("\n")
    for code, (meaning, number) in _MEANINGS.items():
        yield f"| `{code}` | {meaning} | {number} |"
    yield f"\n{TAIL.rstrip()}\n"
    yield "## Commands\n"
    yield "Fields of answers are in the schema, under the names given here. Later releases add commands beside these."
    for model in MODELS:
        yield from _command(model)


def _command(model: type[Arguments]) -> Iterator[str]:
    yield f"\n### `{model.command_name}`\n"
    right = "change" if model.access is Access.CHANGE else "read"
    answers = [f"`{model.result.__name__}`" if model.result is not None else "nothing"]
    if model.told is not None:
        answers.insert(0, f"{'rows' if model.streams else 'progress'} `{model.told.__name__}`")
    yield f"{cleandoc(model.__doc__ or '')} Right: {right}. Answers: {', then '.join(answers)}."
    described = model.model_json_schema()
    if not described.get("properties"):
        return
    yield "\n| argument | form | |\n|---|---|---|"
    for name, field in described["properties"].items():
        needed = "" if name in described.get("required", ()) else f" Default: `{json.dumps(field.get('default'))}`."
        yield f"| `{name}` | {_form(field)} | {field.get('description', '')}{needed} |"


def _form(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_form(one) for one in field["anyOf"])
    bounds = [f"{word} {field[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in field]
    if "maxLength" in field:
        bounds.append(f"of at most {field['maxLength']:,} characters")
    return " ".join([str(field.get("type", "any")), *bounds])


def main(directory: Path) -> None:
    """Write both files."""
    (directory / PAGE).write_text(page(), encoding="utf-8")
    (directory / SCHEMA).write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
