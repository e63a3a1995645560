# ruff: noqa: ASYNC240 - the test is the log's writer, and nothing else runs meanwhile
import gzip
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from daemon.core.errors import LogLost, SourceUnavailable
from daemon.core.positions import START, Position
from daemon.ports.source import Reader
from daemon.sources.file import FileSource
from daemon.sources.file_identity import OpenFile
from tests.sources.file_log import a_source, line, lines, read_all, shown, to_end

pytestmark = pytest.mark.anyio

BEFORE = ("a", "b", "c")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of three events."""
    path = tmp_path / "a.log"
    path.write_bytes(lines(*BEFORE))
    return path


async def checkpoint(source: FileSource, count: int) -> tuple[Position, str | None]:
    """Read `count` events in another life of the daemon; return what its checkpoint would hold."""
    reader = await source.open("a.log", START, None)
    chunk = await reader.read(count, 1 << 20)
    kept = chunk.through, reader.identity(chunk.records[-1], chunk.through)
    await reader.aclose()
    return kept


async def resumed(folder: Path, place: tuple[Position, str | None]) -> Reader:
    """Open a fresh source at a checkpoint."""
    return await a_source(folder).open("a.log", *place)


def rename(path: Path) -> None:
    """Rotate as logrotate does."""
    older = path.with_name("a.log.1")
    if older.exists():
        older.rename(path.with_name("a.log.2"))
    path.rename(older)


def rename_by_date(path: Path) -> None:
    """Rotate to a dated name."""
    path.rename(path.with_name("a.log-20260301"))


def rename_and_compress(path: Path) -> None:
    """Rotate, and compress at once."""
    packed = path.with_name("a.log.1.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def truncate(path: Path) -> None:
    """Empty it in place."""
    os.truncate(path, 0)


def copytruncate(path: Path) -> None:
    """Copy it away and empty it."""
    shutil.copy(path, path.with_name("a.log.1"))
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    """Write other, longer content in place."""
    with path.open("r+b") as log:
        log.write(lines("x", "y", "z", "u", "v"))


ROTATIONS = [rename, rename_by_date, rename_and_compress]


@pytest.mark.parametrize("rotate", [rename, rename_by_date])
async def test_live_rotation_goes_on_with_the_new_file(path: Path, rotate: Callable[[Path], None]):
    """A renamed file is read to its end, what is written to it after the renaming too, then the new one follows."""
    reader = await a_source(path.parent).open("a.log", START, None)
    assert shown(await to_end(reader)) == ["a", "b", "c"]
    with path.open("ab") as writer:
        rotate(path)
        writer.write(lines("late"))
        writer.flush()
        assert shown(await to_end(reader)) == ["late"]
        path.touch()
        assert await to_end(reader) == []
        writer.write(lines("later"))
        writer.flush()
        assert shown(await to_end(reader)) == ["later"]
    path.write_bytes(lines("d"))
    records = await to_end(reader)
    assert shown(records) == ["d"]
    assert records[0].position == (1, len(lines("d")))
    await reader.aclose()


async def test_last_line_of_a_rotated_file_needs_no_newline(path: Path):
    """What a writer left without a newline is a record once the file has a successor, at the file's end."""
    with path.open("ab") as log:
        log.write(line("half"))
    size = path.stat().st_size
    reader = await a_source(path.parent).open("a.log", START, None)
    assert shown(await to_end(reader)) == ["a", "b", "c"]
    rename(path)
    path.write_bytes(lines("d"))
    records = await to_end(reader)
    assert shown(records) == ["half", "d"]
    assert records[0].position == (0, size)
    await reader.aclose()


@pytest.mark.parametrize("rotate", ROTATIONS)
async def test_rotation_while_away(path: Path, rotate: Callable[[Path], None]):
    """A file renamed, or compressed, while nobody read is found by its head and read to its end."""
    place = await checkpoint(a_source(path.parent), 1)
    rotate(path)
    path.write_bytes(lines("d", "e"))
    reader = await resumed(path.parent, place)
    records = await to_end(reader)
    assert shown(records) == ["b", "c", "d", "e"]
    assert [record.position[0] for record in records] == [0, 0, 1, 1]
    await reader.aclose()


async def test_several_rotations_while_away(path: Path):
    """Every file in between is read, in order, and each raises the file number."""
    place = await checkpoint(a_source(path.parent), 2)
    rename(path)
    path.write_bytes(lines("d"))
    rename(path)
    path.write_bytes(lines("e"))
    reader = await resumed(path.parent, place)
    records = await to_end(reader)
    assert [(name, record.position[0]) for name, record in zip(shown(records), records, strict=True)] == [
        ("c", 0),
        ("d", 1),
        ("e", 2),
    ]
    identity = reader.identity(records[-1], records[-1].position)
    await reader.aclose()
    again = await resumed(path.parent, (records[1].position, None if identity is None else identity))
    await again.aclose()


async def test_checkpoint_keeps_the_file_it_lies_in(path: Path):
    """A checkpoint in a rotated file, made after the reader went on to the next, opens the rotated file."""
    source = a_source(path.parent)
    reader = await source.open("a.log", START, None)
    records = await to_end(reader)
    rename(path)
    path.write_bytes(lines("d"))
    records += await to_end(reader)
    identity = reader.identity(records[1], records[1].position)
    await reader.aclose()
    again = await resumed(path.parent, (records[1].position, identity))
    assert shown(await to_end(again)) == ["c", "d"]
    await again.aclose()


async def test_start_is_the_oldest_file_that_was_numbered(path: Path):
    """After a rotation seen by this source, reading from START gives the same records and positions as before."""
    source = a_source(path.parent)
    reader = await source.open("a.log", START, None)
    records = await to_end(reader)
    rename(path)
    path.write_bytes(lines("d"))
    records += await to_end(reader)
    again = await source.open("a.log", START, None)
    assert [record.position for record in await to_end(again)] == [record.position for record in records]
    await reader.aclose()
    await again.aclose()
    path.with_name("a.log.1").unlink()
    rest = await source.open("a.log", START, None)
    assert [record.position for record in await to_end(rest)] == [records[3].position]
    await rest.aclose()


@pytest.mark.parametrize("harm", [truncate, copytruncate, rewrite])
async def test_live_truncation_stops_the_shard(path: Path, harm: Callable[[Path], None]):
    """A file that shrank or changed in place raises LogLost with path, offset and remedy, again at every read."""
    reader = await a_source(path.parent).open("a.log", START, None)
    await to_end(reader)
    harm(path)
    for _ in range(2):
        with pytest.raises(LogLost, match=r"a\.log .*rewind or rebuild"):
            await to_end(reader)
    await reader.aclose()


async def test_line_written_while_the_new_file_appears(path: Path):
    """A line that reaches the old file just before the step to the new one is read, not skipped."""
    reader = await a_source(path.parent).open("a.log", START, None)
    await to_end(reader)
    with path.open("ab") as writer:
        rename(path)
        path.write_bytes(lines("d"))
        find, late = reader._successor, [lines("late")]

        def find_late() -> OpenFile | None:
            found = find()
            writer.write(late.pop() if late else b"")
            writer.flush()
            return found

        reader._successor = find_late
        assert shown(await to_end(reader)) == ["late", "d"]
    await reader.aclose()


async def test_live_loss_of_the_end_stops_the_shard(path: Path):
    """A file whose head is whole, but whose end is gone, raises LogLost with both lengths."""
    path.write_bytes(lines(*(f"e{n}" for n in range(200))))
    size = path.stat().st_size
    reader = await a_source(path.parent).open("a.log", START, None)
    await to_end(reader)
    os.truncate(path, 5000)
    with pytest.raises(LogLost, match=rf"5000 bytes long, but {size} were read"):
        await to_end(reader)
    await reader.aclose()


@pytest.mark.parametrize("harm", [truncate, copytruncate, rewrite])
async def test_truncation_while_away_stops_the_shard(path: Path, harm: Callable[[Path], None]):
    """The same is found when the shard is opened at its checkpoint."""
    place = await checkpoint(a_source(path.parent), 3)
    harm(path)
    with pytest.raises(LogLost, match=r"a\.log .*rewind or rebuild"):
        await resumed(path.parent, place)


async def test_file_that_lost_its_end_stops_the_shard(path: Path):
    """A file whose beginning is the same, but shorter than the checkpoint, is refused with both sizes."""
    place = await checkpoint(a_source(path.parent), 3)
    os.truncate(path, len(lines("a", "b")))
    with pytest.raises(LogLost):
        await resumed(path.parent, place)


async def test_growth_while_away_is_no_loss(path: Path):
    """A file that only grew is read on, however short its head was when the checkpoint was made."""
    place = await checkpoint(a_source(path.parent), 3)
    with path.open("ab") as log:
        log.write(lines(*(f"e{n}" for n in range(200))))
    reader = await resumed(path.parent, place)
    assert len(await to_end(reader)) == 200
    await reader.aclose()


async def test_rotated_away_and_gone(path: Path):
    """Where the file that was read is gone and another has its name, the shard stops."""
    place = await checkpoint(a_source(path.parent), 1)
    path.rename(path.with_name("elsewhere"))
    path.write_bytes(lines("d"))
    with pytest.raises(LogLost, match=r"gone.*rewind or rebuild"):
        await resumed(path.parent, place)


async def test_vanished_file_is_waited_for(path: Path):
    """A file without successor is waited for: an open reader stays at its end, an opening says unavailable."""
    source = a_source(path.parent)
    place = await checkpoint(source, 3)
    reader = await source.open("a.log", *place)
    path.rename(path.with_name("elsewhere"))
    assert await to_end(reader) == []
    with pytest.raises(SourceUnavailable, match="does not exist"):
        await resumed(path.parent, place)
    await reader.aclose()


async def test_rotation_not_followed(path: Path):
    """With follow_rotation off, a replaced file stops its shard, live and at the next opening."""
    source = a_source(path.parent, follow_rotation=False)
    place = await checkpoint(source, 3)
    reader = await source.open("a.log", *place)
    rename(path)
    path.write_bytes(lines("d"))
    with pytest.raises(LogLost, match="follow_rotation"):
        await to_end(reader)
    with pytest.raises(LogLost, match="follow_rotation"):
        await source.open("a.log", *place)
    await reader.aclose()


async def test_broken_gzip_is_unavailable(tmp_path: Path):
    """A compressed file that is not whole is waited for."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(lines("a"))[:-9])
    with pytest.raises(SourceUnavailable, match="gzip"):
        await a_source(tmp_path, "*.gz").open("a.gz", START, None)


async def test_shards_are_files_and_rotated_ones_are_not(tmp_path: Path):
    """Every file that matches is a shard by its path below the pattern's directory, new ones too, unless an older list
    will do; what rotation left is part of the shard it came from.
    """
    source = a_source(tmp_path, "**/*")
    for name in ("a.log", "a.log.1", "a.log.2.gz", "a.log-20260301", "deep/a.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [info.shard for info in await source.shards()] == ["a.log", "deep/a.log"]
    (tmp_path / "b.log").touch()
    assert [info.shard for info in await source.shards(60.0)] == ["a.log", "deep/a.log"]
    assert [info.shard for info in await source.shards()] == ["a.log", "b.log", "deep/a.log"]


async def test_backlog_counts_the_bytes_of_every_file(path: Path):
    """The backlog spans the rotated files that are still to be read."""
    source = a_source(path.parent)
    reader = await source.open("a.log", START, None)
    first = (await reader.read(1, 1 << 20)).through
    await reader.aclose()
    rename(path)
    path.write_bytes(lines("d"))
    backlog = await source.backlog("a.log", first)
    assert backlog.bytes == len(lines("b", "c", "d"))
    assert backlog.end == (1, len(lines("d")))


async def test_a_time_is_located(tmp_path: Path):
    """`locate` of a time gives the position before the first event at or after it; beyond the last, the end."""
    path = tmp_path / "a.log"
    times = [f"2026-03-01T1{n}:00:00Z" for n in range(3)]
    path.write_bytes(b"".join(line(f"e{n}", time=time) + b"\n" for n, time in enumerate(times)))
    source = a_source(tmp_path)
    moments = [datetime.fromisoformat(time) for time in times]
    ends = [record.position for record in await read_all(source)]
    assert await source.locate("a.log", moments[0]) == START
    assert await source.locate("a.log", moments[1]) == ends[0]
    assert await source.locate("a.log", moments[2] + timedelta(1)) == ends[2]
    with pytest.raises(ValueError, match="earliest"):
        await source.locate("a.log", "noon")
