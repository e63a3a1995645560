import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.positions import START
from tests.sources.file_log import a_source, bad, line, lines, read_all, shown, to_end

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b" \t \n" + lines("a") + b"  \r\n\t\n" + lines("b"), ["a", "b"]),
        (lines("a", "b"), ["a", "b"]),
        (line("a") + b"\r\n" + line("b") + b"\r\n", ["a", "b"]),
        (b"\xef\xbb\xbf" + lines("a", "b"), ["a", "b"]),
        (lines("a") + b"\n\n" + lines("b"), ["a", "b"]),
        (lines("a") + b"nonsense\n" + lines("b"), ["a", "!not-json", "b"]),
        (lines("a") + line("b"), ["a"]),
    ],
    ids=["empty", "blank", "spaces", "plain", "crlf", "bom", "gaps", "bad", "half"],
)
async def test_lines_become_records(tmp_path: Path, content: bytes, expected: list[str]):
    """Each whole line is one record, whatever ends it; blank lines are none, and a half line waits."""
    (tmp_path / "a.log").write_bytes(content)
    assert shown(await read_all(a_source(tmp_path))) == expected


async def test_positions_are_offsets_after_the_line(tmp_path: Path):
    """A record's position is (file number, offset just after its newline), BOM, CR and blank lines counted."""
    first, second = b"\xef\xbb\xbf" + line("a") + b"\r\n", b"\n" + lines("b")
    (tmp_path / "a.log").write_bytes(first + second)
    records = await read_all(a_source(tmp_path))
    assert [record.position for record in records] == [(0, len(first)), (0, len(first) + len(second))]


async def test_trailing_blank_lines_move_the_position(tmp_path: Path):
    """Blank lines after the last record move `through`, so that they are not read again."""
    content = lines("a") + b"\n\n\n"
    (tmp_path / "a.log").write_bytes(content)
    reader = await a_source(tmp_path).open("a.log", START, None)
    assert (await reader.read(10, 1000)).through == (0, len(content))
    await reader.aclose()


async def test_half_line_byte_by_byte(tmp_path: Path):
    """A line written byte by byte is one record, and only once its newline is there."""
    path = tmp_path / "a.log"
    path.touch()
    reader = await a_source(tmp_path).open("a.log", START, None)
    content = lines("a")
    for index in range(len(content)):
        assert await to_end(reader) == []
        with path.open("ab") as log:
            log.write(content[index : index + 1])
    assert shown(await to_end(reader)) == ["a"]
    await reader.aclose()


@pytest.mark.parametrize("size", [1001, 5_000, 700_000])
async def test_too_long_line_is_passed_over(tmp_path: Path, size: int):
    """A line beyond the limit is one bad record with its beginning, and the next line is read."""
    content = lines("a") + b"x" * size + b"\n"
    (tmp_path / "a.log").write_bytes(content + lines("b"))
    records = await read_all(a_source(tmp_path, max_line_bytes=1000))
    assert shown(records) == ["a", "!too-large", "b"]
    long = bad(records[1:2])
    assert long.position == (0, len(content))
    assert long.raw == b"x" * min(size, 4096)
    assert f"{size} bytes" in long.detail
    assert "1000" in long.detail


async def test_too_long_line_that_grows(tmp_path: Path):
    """A line beyond the limit that is still being written is one bad record, once it ends."""
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 1500)
    reader = await a_source(tmp_path, max_line_bytes=1000).open("a.log", START, None)
    assert await to_end(reader) == []
    for _ in range(3):
        with path.open("ab") as log:
            log.write(b"y" * 700)
        assert await to_end(reader) == []
    with path.open("ab") as log:
        log.write(b"z\n" + lines("b"))
    assert shown(await to_end(reader)) == ["!too-large", "b"]
    await reader.aclose()


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
async def test_gzip_is_read_as_what_it_holds(tmp_path: Path, bom: bytes):
    """A compressed file gives the records of its content, at offsets of its content, from anywhere."""
    content = bom + lines(*(f"e{n}" for n in range(5000)))
    (tmp_path / "a.log").write_bytes(content)
    (tmp_path / "b.gz").write_bytes(gzip.compress(content))
    plain = await read_all(a_source(tmp_path))
    packed = await read_all(a_source(tmp_path, "*.gz"), "b.gz")
    assert [(record.position, record.raw) for record in packed] == [(record.position, record.raw) for record in plain]
    place = plain[3000].position
    assert shown(await read_all(a_source(tmp_path, "*.gz"), "b.gz", place)) == [f"e{n}" for n in range(3001, 5000)]


pieces = st.lists(
    st.sampled_from([lines("a"), lines("b"), line("c") + b"\r\n", b"\n", b"bad\n", b"x" * 300 + b"\n", b"{", b"\r\n"]),
    max_size=12,
).map(b"".join)


@settings(max_examples=60, deadline=None)
@given(content=pieces, bom=st.booleans(), data=st.data())
def test_any_growth_gives_the_same_records(content: bytes, bom: bool, data: st.DataObject):
    """However the bytes arrive, and however few are asked for at once, records and positions are those of one reading;
    reopening at any of the positions goes on exactly there.
    """
    whole = (b"\xef\xbb\xbf" if bom else b"") + content
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    sizes = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 400)))

    async def check(folder: Path) -> None:
        (folder / "once.log").write_bytes(whole)
        source = a_source(folder, max_line_bytes=200)
        expected = await read_all(source, "once.log")
        path = folder / "a.log"
        path.touch()
        reader = await source.open("a.log", START, None)
        records = await to_end(reader)
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            with path.open("ab") as log:
                log.write(whole[start:end])
            records += await to_end(reader, *sizes)
        await reader.aclose()
        facts = [(record.position, record.raw) for record in expected]
        assert [(record.position, record.raw) for record in records] == facts
        for index, record in enumerate(records):
            rest = await read_all(source, after=record.position)
            assert [(each.position, each.raw) for each in rest] == facts[index + 1 :]

    with TemporaryDirectory() as folder:
        anyio.run(check, Path(folder))
