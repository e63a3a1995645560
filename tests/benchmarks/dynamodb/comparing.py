"""Whether all sides of a figure do the same: their rows, markers and actions, looked at on the strict server."""

import asyncio
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, override

import orjson

from daemon.wire.aws_json import Answer, AwsJson
from tests.benchmarks.dynamodb.bare_loop import MARKERS_EACH, ROWS_AT_MOST, BareLoop
from tests.benchmarks.dynamodb.engine import Lap, fold_moves
from tests.benchmarks.dynamodb.moves import LOG, ByEvent, ByShard, write_moves
from tests.benchmarks.dynamodb.sdk_loops import SdkLoop
from tests.benchmarks.dynamodb.servers import Item, make_tables, new_prefix, read_table, store_on

_BATCHES = 3

type Hear = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is folded: a projection, and how many events of a key come in a row."""

    projection: type
    name: str
    per_key: int

    @property
    def packed(self) -> bool:
        """Tell whether markers are packed."""
        return self.projection is ByShard

    @property
    def batch(self) -> int:
        """Events of one of the bare loop's commits."""
        return ROWS_AT_MOST * self.per_key if self.packed else MARKERS_EACH


EACH, PACKED = Shape(ByEvent, "by-event", 1), Shape(ByShard, "by-shard", 20)


@dataclass(slots=True)
class _Standing:
    """What one side left: rows by key, markers, and how often each action on either was sent."""

    rows: dict[str, Item]
    markers: dict[str, str]
    marks: bytes
    actions: Counter[bytes]


def compare(shape: Shape, directory: Path, strict: str) -> None:
    """Fold a log by all sides on the strict server and compare what stands there. Raises AssertionError."""
    log = directory / f"compared-{shape.name}" / LOG
    write_moves(log, _BATCHES * shape.batch, 2 * ROWS_AT_MOST, shape.per_key)
    ours, bare = _ours(shape, log, strict), _bare(shape, log, strict)
    assert ours.rows
    assert ours.markers or ours.marks
    assert ours.markers == bare.markers
    assert ours.marks == bare.marks
    if shape.packed:  # a key whose events two commits share is written by both, and batches end elsewhere
        assert _without(ours.rows, "_v") == _without(bare.rows, "_v")
        return
    assert ours.rows == bare.rows
    assert ours.actions == bare.actions
    _compare_sdk_loops(shape, log, strict, ours)


def _compare_sdk_loops(shape: Shape, log: Path, strict: str, ours: _Standing) -> None:
    rows = _without(ours.rows, "_v", "_src")
    for batched in (False, True):
        prefix = new_prefix()
        asyncio.run(make_tables(strict, prefix, shape.name))
        loop = SdkLoop(strict, prefix, shape.name)
        asyncio.run((loop.batched if batched else loop.one_by_one)(log, Lap(0, 0)))
        stands = _standing(strict, prefix, shape, Counter())
        assert stands.rows == rows
        assert len(stands.markers) == len(ours.markers)


def _ours(shape: Shape, log: Path, strict: str) -> _Standing:
    prefix = new_prefix()
    heard: Counter[bytes] = Counter()

    def hear(body: bytes) -> None:
        heard.update(_actions(body, prefix))

    fold_moves(
        shape.projection, str(log), store_on(strict, strict, prefix, lambda client: _Overhearing(client, hear))
    )  # fmt: skip
    return _standing(strict, prefix, shape, heard)


def _bare(shape: Shape, log: Path, strict: str) -> _Standing:
    prefix = new_prefix()
    heard: Counter[bytes] = Counter()
    asyncio.run(make_tables(strict, prefix, shape.name))

    class Overheard(BareLoop):
        @override
        def _signed(self, body: bytes) -> dict[str, str]:
            heard.update(_actions(body, prefix))
            return super()._signed(body)

    asyncio.run(bare_loop(shape, strict, prefix, Overheard).run(log, Lap(0, 0)))
    return _standing(strict, prefix, shape, heard)


def bare_loop(shape: Shape, url: str, prefix: str, kind: type[BareLoop] = BareLoop) -> BareLoop:
    """Return the bare loop for a shape."""
    return kind(url, prefix, shape.name, packed=shape.packed, per_key=shape.per_key)


class _Overhearing:
    """Hears what a client sends."""

    def __init__(self, client: AwsJson, hear: Hear) -> None:
        self._client, self._hear = client, hear

    async def call(self, operation: str, body: bytes, deadline_seconds: float) -> Answer:
        self._hear(body)
        return await self._client.call(operation, body, deadline_seconds)

    async def aclose(self) -> None:
        await self._client.aclose()


def _actions(body: bytes, prefix: str) -> Iterator[bytes]:
    """Iterate a commit's actions on rows and markers; the second at which a marker expires is left out."""
    for action in orjson.loads(body.replace(prefix.encode(), b"prefix"))["TransactItems"]:
        ((_, written),) = action.items()
        if written["TableName"] != "prefix-state":
            written.get("Item", {}).pop("expires", None)
            yield orjson.dumps(action, option=orjson.OPT_SORT_KEYS)


def _standing(url: str, prefix: str, shape: Shape, actions: Counter[bytes]) -> _Standing:
    rows = {item["key"]["S"]: item for item in read_table(url, f"{prefix}-{shape.name}-g1")}
    markers = {item["pk"]["S"]: item["digest"]["B"] for item in read_table(url, f"{prefix}-markers")}
    state = sorted(
        (item for item in read_table(url, f"{prefix}-state") if item["sk"]["S"].startswith("segment#")),
        key=lambda item: item["sk"]["S"],
    )
    entries: list[Any] = [item["entries"]["B"] for item in state]
    return _Standing(rows, markers, b"".join(map(b64decode, entries)), actions)


def _without(rows: dict[str, Item], *names: str) -> dict[str, Item]:
    return {key: {name: value for name, value in item.items() if name not in names} for key, item in rows.items()}
