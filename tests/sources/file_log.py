"""A log file under test, and reading it in one go."""

import json
from pathlib import Path

from daemon.core.events import BadRecord, Event, Record
from daemon.core.positions import START, Position
from daemon.ports.source import Reader
from daemon.sources.envelopes import CloudEvents
from daemon.sources.file import FileSource
from daemon.testing.clock import VirtualClock

MANY = 1 << 30


def line(name: str, **more: object) -> bytes:
    """One CloudEvent, without its newline."""
    fields = {"specversion": "1.0", "id": name, "type": "T", "source": "/s", "data": {"n": 1}, **more}
    return json.dumps(fields).encode()


def lines(*names: str) -> bytes:
    """Whole lines."""
    return b"".join(line(name) + b"\n" for name in names)


def a_source(folder: Path, pattern: str = "*.log", **options: object) -> FileSource:
    """A source over `folder` on a virtual clock."""
    return FileSource("files", [str(folder / pattern)], CloudEvents(), clock=VirtualClock(), **options)  # pyright: ignore[reportArgumentType]


def shown(records: list[Record]) -> list[str]:
    """Ids of events and reasons of bad records."""
    return [record.id if isinstance(record, Event) else f"!{record.reason}" for record in records]


def bad(records: list[Record]) -> BadRecord:
    """The only record, which is bad."""
    (record,) = records
    assert isinstance(record, BadRecord)
    return record


async def to_end(reader: Reader, max_events: int = 1000, max_bytes: int = MANY) -> list[Record]:
    """Read until the log says that it is at its end."""
    records: list[Record] = []
    while True:
        chunk = await reader.read(max_events, max_bytes)
        records += chunk.records
        if chunk.at_end:
            return records


async def read_all(source: FileSource, shard: str = "a.log", after: Position = START) -> list[Record]:
    """Open, read to the end, close."""
    reader = await source.open(shard, after, None)
    try:
        return await to_end(reader)
    finally:
        await reader.aclose()
