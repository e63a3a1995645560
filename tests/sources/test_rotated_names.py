import gzip
from pathlib import Path

import pytest

from daemon.core.errors import LogLost
from daemon.core.positions import START
from daemon.sources.file import FileSource
from tests.sources.file_log import a_source, lines, read_all, shown, to_end

pytestmark = pytest.mark.anyio

ROTATED = [
    "app.log.1",
    "app.log.2.gz",
    "app.log-20260301",
    "app.log.2026-03-01.gz",
    "app-20260301.log",
    "app-20260301.log.gz",
    "app.2026-03-01.log",
    "app.1.log",
    "app.log.gz",
    "app.log.old",
    "app.log.bak",
]


async def listed(source: FileSource) -> list[str]:
    """The names of a source's shards."""
    return [info.shard for info in await source.shards()]


@pytest.mark.parametrize("name", ROTATED)
async def test_a_rotated_name_is_no_shard_beside_its_base(tmp_path: Path, name: str):
    """What rotation left beside the log is part of its shard."""
    (tmp_path / "app.log").touch()
    (tmp_path / name).touch()
    assert await listed(a_source(tmp_path, "*app*")) == ["app.log"]


@pytest.mark.parametrize("name", ["app-1.log", "app-100234.log", "app.audit.log", "app-20260301.txt", "app2.log"])
async def test_a_name_that_only_resembles_one_is_a_log_of_its_own(tmp_path: Path, name: str):
    """Numbers of workers and days of another kind of file are not taken for rotation."""
    (tmp_path / "app.log").touch()
    (tmp_path / name).touch()
    assert await listed(a_source(tmp_path, "app*")) == sorted(["app.log", name])


@pytest.mark.parametrize("name", ROTATED)
async def test_a_rotated_name_without_a_base_is_a_log(tmp_path: Path, name: str):
    """Where the base is neither there nor known, the name is the log's only one."""
    (tmp_path / name).touch()
    assert await listed(a_source(tmp_path, "app*")) == [name]


@pytest.mark.parametrize("name", [name for name in ROTATED if not name.endswith(".gz")])
async def test_the_moment_without_a_base_is_no_new_shard(tmp_path: Path, name: str):
    """Between renaming and the new file, live, the shard is what it was, and its events are folded once."""
    path = tmp_path / "app.log"
    path.write_bytes(lines("a", "b"))
    source = a_source(tmp_path, "app*")
    reader = await source.open("app.log", START, None)
    assert shown(await to_end(reader)) == ["a", "b"]
    path.rename(tmp_path / name)
    assert await listed(source) == ["app.log"]
    assert await to_end(reader) == []
    path.write_bytes(lines("c"))
    assert await listed(source) == ["app.log"]
    assert shown(await to_end(reader)) == ["c"]
    await reader.aclose()


@pytest.mark.parametrize("name", ROTATED)
async def test_the_moment_without_a_base_after_a_restart(tmp_path: Path, name: str):
    """A checkpoint makes the base known: what was renamed while away is read to its end as that shard."""
    path = tmp_path / "app.log"
    path.write_bytes(lines("a", "b"))
    reader = await a_source(tmp_path, "app*").open("app.log", START, None)
    chunk = await reader.read(1, 1 << 20)
    identity = reader.identity(chunk.records[-1], chunk.through)
    await reader.aclose()
    content = path.read_bytes()
    path.unlink()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    source = a_source(tmp_path, "app*")
    source.remember("app.log", identity)
    assert await listed(source) == ["app.log"]
    again = await source.open("app.log", chunk.through, identity)
    assert shown(await to_end(again)) == ["b"]
    await again.aclose()


async def test_a_known_log_under_a_strange_name_is_not_folded_again(tmp_path: Path):
    """A shard whose file another shard has read, live or by its checkpoint, is refused with both names."""
    path = tmp_path / "app.log"
    path.write_bytes(lines("a"))
    source = a_source(tmp_path, "app*")
    reader = await source.open("app.log", START, None)
    records = await to_end(reader)
    identity = reader.identity(records[-1], records[-1].position)
    path.rename(tmp_path / "app-final.log")
    path.write_bytes(lines("b"))
    assert shown(await to_end(reader)) == ["b"]
    await reader.aclose()
    restarted = a_source(tmp_path, "app*")
    restarted.remember("app.log", identity)
    for each in (source, restarted):
        with pytest.raises(LogLost, match=r"app-final\.log is the log of shard 'app\.log' under a new name"):
            await each.open("app-final.log", START, None)


async def test_logs_that_begin_alike_are_two(tmp_path: Path):
    """Two files that stand beside each other are both folded, although they hold the same."""
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_bytes(lines("a"))
    source = a_source(tmp_path)
    assert [shown(await read_all(source, name)) for name in ("a.log", "b.log")] == [["a"], ["a"]]


async def test_a_log_that_took_a_rotated_name_does_not_fold_its_base(tmp_path: Path):
    """A shard `app.log.1` that is overtaken by the rotation of a later `app.log` stops before the other's events."""
    (tmp_path / "app.log.1").write_bytes(lines("a"))
    source = a_source(tmp_path, "app*")
    first = await source.open("app.log.1", START, None)
    assert shown(await to_end(first)) == ["a"]
    (tmp_path / "app.log").write_bytes(lines("b"))
    base = await source.open("app.log", START, None)
    assert shown(await to_end(base)) == ["b"]
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    with pytest.raises(LogLost, match=r"shard 'app\.log'"):
        await to_end(first)
    await first.aclose()
    await base.aclose()
