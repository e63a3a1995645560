"""Decoding: bytes to a validated event with its payload's digest, against `orjson.loads` of the same bytes."""

from collections.abc import Callable, Iterator

import orjson

from daemon.core.events import Event
from daemon.sources.envelopes import CloudEvents, Envelope, FieldMap
from tests.benchmarks.figures import MICRO, Figure, Prepare, Sizes, figure, side_by_side

LINE_BYTES = 253
_MAX_DEPTH = 64


def decoding(sizes: Sizes) -> Iterator[Figure]:
    """Measure each envelope, and one with decimals."""
    fields = FieldMap(id="id", type="type", time="time", data="data")
    yield _measured("decode", CloudEvents(), _line, sizes, goal="ratio <= 2.5")
    yield _measured("decode, with decimals", CloudEvents(), _line_with_decimals, sizes)
    yield _measured("decode, plain JSON by field map", fields, _line, sizes)


def _measured(name: str, envelope: Envelope, line_of: Callable[[int], bytes], sizes: Sizes, goal: str = "") -> Figure:
    count = sizes.decode_lines
    lines = [line_of(number) for number in range(count)]
    positions = [(number,) for number in range(count)]
    assert {*map(len, lines)} == {LINE_BYTES}
    assert all(type(record) is Event for record in envelope.decode_many(lines, positions, _MAX_DEPTH))

    def decode() -> object:
        return envelope.decode_many(lines, positions, _MAX_DEPTH)

    def parse() -> object:
        loads = orjson.loads
        return [loads(line) for line in lines]

    ready: tuple[Prepare, Prepare] = (lambda: decode), (lambda: parse)
    ours, bare = (seconds * MICRO / count for seconds in side_by_side(*ready, sizes.rounds))
    return figure(f"{name} ({LINE_BYTES} bytes, CPU)", ours, "µs/event", baseline=bare, goal=goal)


def _line(number: int) -> bytes:
    return _order(number, "12900", "11")


def _line_with_decimals(number: int) -> bytes:
    return _order(number, "129.5", "25")


def _order(number: int, total: str, second: str) -> bytes:
    """Write the order of the project's first example, with its lines: nothing in it is there to fill the bytes."""
    return (
        f'{{"specversion":"1.0","id":"order-{number:08}/1","source":"/shop/orders","type":"OrderPlaced",'
        f'"time":"2026-03-01T10:15:30Z","data":{{"order_id":"order-{number:08}","total":{total},'
        f'"lines":[{{"sku":"AB-{number % 997:04}","items":3}},{{"sku":"BC-{number % 877:04}","items":{second}}}],'
        f'"express":true}}}}'
    ).encode()
