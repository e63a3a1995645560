"""A full, locked, read-only, foreign, corrupt or newer file: each says what to do, and nothing is lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Busy, Committed, Rejected
from daemon.core.errors import StoreDamaged, StoreFull, StoreRefused, StoreTooNew, StoreUnavailable
from daemon.core.identity import Generation, RowKey
from daemon.stores.sqlite import SqliteStore
from daemon.stores.sqlite_schema import SCHEMA_VERSION
from daemon.stores.sqlite_writer import Work

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("refused_child.py")


def run_child(*arguments: str) -> str:
    """Run the refused child and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(CHILD), *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def content_of(path: Path) -> bytes | None:
    """Bytes of a file, None where there is none."""
    return path.read_bytes() if path.is_file() else None


def overwrite(path: Path, content: bytes, start: int = 0) -> None:
    """Replace a file's bytes from `start` on, to its end."""
    size = path.stat().st_size if path.exists() else start + len(content)
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(start)
        file.write(content * ((size - start) // len(content) + 1))


def run(statement: str) -> Work:
    """Return a job that runs one statement and returns the first value."""

    def work(connection: sqlite3.Connection) -> Any:
        row = connection.execute(statement).fetchone()
        return row and row[0]

    return work


def fenced_off(copy: Path, what: str) -> None:
    """Take away the right to write a file, or the directory it lies in."""
    copy.parent.parent.chmod(0o755)
    copy.chmod(0o444 if what == "file" else 0o666)
    copy.parent.chmod(0o777 if what == "file" else 0o555)


async def refusal_of(path: Path, **settings: Any) -> Exception:
    """Open a store that must refuse, and return why; the file's bytes must not have changed."""
    before = content_of(path)
    with pytest.raises(Exception, match=str(path.name)) as caught:
        await SqliteStore(path, **settings).open()
    assert content_of(path) == before
    return caught.value


async def test_a_full_disk_loses_nothing(opened: Any, kit: Any) -> None:
    """Out of space, a commit raises StoreFull and leaves no trace; with space again the same one is applied."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        first = kit.commit(taken, "c1", kit.put("kept", 1))
        assert await store.commit(first, 1) == Committed()
        pages = await store._write(run("PRAGMA page_count"))
        await store._write(run(f"PRAGMA max_page_count = {pages + 1}"))
        large = kit.commit(first.checkpoint, "c2", kit.put("large", "x" * 100_000), kit.add("kept2", 1))
        with pytest.raises(StoreFull, match="free space"):
            await store.commit(large, 1)
        assert await store.read_checkpoint(kit.scope()) == first.checkpoint
        rows = await store.load_rows(kit.generation, [RowKey("main", key) for key in ("kept", "kept2", "large")])
        assert [row is not None for row in rows.values()] == [True, False, False]
        await store._write(run("PRAGMA max_page_count = 1000000"))
        assert await store.commit(large, 1) == Committed()


async def test_a_commit_that_does_not_fit_harms_no_other(opened: Any, kit: Any) -> None:
    """Where one of many shards' commits fills the disk, those that still fit are applied."""
    outcomes: dict[int, Any] = {}
    async with opened() as store:
        pages = await store._write(run("PRAGMA page_count"))
        taken = [await store.take(kit.scope(str(number)), "me", Checkpoint()) for number in range(9)]
        await store._write(run(f"PRAGMA max_page_count = {pages + 10}"))

        async def send(number: int) -> None:
            value = "x" * 500_000 if number == 4 else "x"
            try:
                commit = kit.commit(taken[number], "c", kit.put(f"k{number}", value), shard=str(number))
                outcomes[number] = await store.commit(commit, 1)
            except StoreFull as full:
                outcomes[number] = full

        async with anyio.create_task_group() as tasks:
            for number in range(9):
                tasks.start_soon(send, number)
        assert isinstance(outcomes.pop(4), StoreFull)
        assert all(outcome == Committed() for outcome in outcomes.values())


async def test_a_lock_beyond_the_deadline_is_busy_and_passes(opened: Any, kit: Any, path: Path) -> None:
    """Locked by another for longer than the timeout: Busy naming the limit, reads go on, and the retry is applied."""
    async with opened(busy_timeout_ms=50) as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        commit = kit.commit(taken, "c1", kit.put("k", 1))
        busy = await store.commit(commit, 1)
        assert isinstance(busy, Busy)
        assert "50 ms" in busy.reason
        assert await store.read_checkpoint(kit.scope()) == taken
        with pytest.raises(StoreUnavailable, match="busy_timeout"):
            await store.take(kit.scope(), "you", Checkpoint())
        other.execute("ROLLBACK")
        other.close()
        assert await store.commit(commit, 2) == Committed()


async def test_a_disk_that_fails_a_commit_is_never_guessed_about() -> None:
    """A write that the disk refuses leaves no trace, and the identical commit is applied once when it works again."""
    with tempfile.TemporaryDirectory() as directory:
        first, *rest = run_child("disk", f"{directory}/s.db").split()
    assert first == "Unknown"
    assert rest == ["True", "Committed", "Committed"]


@pytest.mark.parametrize("what", ["file", "directory"])
async def test_a_file_without_rights_is_refused(opened: Any, path: Path, what: str) -> None:
    """A file or a directory that the daemon's user may not write is refused at the start, naming the rights."""
    async with opened():
        pass
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "store"
        place.mkdir()
        copy = place / "s.db"
        shutil.copy(path, copy)
        fenced_off(copy, what)
        said = run_child("rights", str(copy))
        place.chmod(0o755)
    assert said.startswith("StoreRefused")
    assert str(copy) in said
    assert "rights" in said


async def test_a_file_that_is_no_database_is_damaged(path: Path) -> None:
    """A file of other bytes is reported as damaged and left alone."""
    path.parent.mkdir()
    overwrite(path, b"not a database, whatever it is " * 100)
    assert isinstance(await refusal_of(path), StoreDamaged)


async def test_a_corrupt_page_is_reported(opened: Any, kit: Any, path: Path) -> None:
    """Overwritten pages are reported as damage when they are met, at a commit as at a read, never as absent rows."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        commit = kit.commit(taken, "c1", *(kit.put(f"k{number}", "x" * 500) for number in range(500)))
        assert await store.commit(commit, 1) == Committed()
    overwrite(path, b"\xa5" * 4096, start=40 * 4096)
    keys = [RowKey("main", f"k{number}") for number in range(500)]
    async with opened() as store:
        with pytest.raises(StoreDamaged, match="restore"):
            await store.load_rows(kit.generation, keys)
        with pytest.raises(StoreDamaged, match="restore"):
            await store.commit(kit.commit(commit.checkpoint, "c2", *(kit.add(key.key, 1) for key in keys)), 1)
        assert await store.read_checkpoint(kit.scope()) == commit.checkpoint


async def test_a_newer_schema_is_left_alone(opened: Any, path: Path) -> None:
    """A file of a newer schema is refused naming both versions, for writers and for readers."""
    async with opened():
        pass
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.execute("PRAGMA journal_mode = DELETE")
    other.close()
    newer = await refusal_of(path)
    assert isinstance(newer, StoreTooNew)
    assert f"version 99 is newer than {SCHEMA_VERSION}" in str(newer)
    assert isinstance(await refusal_of(path, read_only=True), StoreTooNew)


@pytest.mark.parametrize("statement", ["PRAGMA application_id = 42", "CREATE TABLE theirs (x)"])
async def test_another_applications_file_is_left_alone(path: Path, statement: str) -> None:
    """A database of another application is refused and not changed."""
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute(statement)
    other.commit()
    other.close()
    assert isinstance(await refusal_of(path), StoreRefused)


async def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """A directory in the file's place, a file in the directory's, no file for a reader: refused with the path."""
    (tmp_path / "file").write_bytes(b"")
    assert isinstance(await refusal_of(tmp_path), StoreRefused)
    with pytest.raises(StoreRefused, match="cannot be made"):
        await SqliteStore(tmp_path / "file" / "s.db").open()
    assert isinstance(await refusal_of(tmp_path / "missing.db", read_only=True), StoreRefused)
    assert not (tmp_path / "missing.db").exists()


async def test_a_reader_writes_nothing(opened: Any, kit: Any) -> None:
    """A read-only store refuses every write, naming why."""
    async with opened(), opened(read_only=True) as reader:
        with pytest.raises(StoreRefused, match="read-only"):
            await reader.take(kit.scope(), "me", Checkpoint())
        with pytest.raises(StoreRefused, match="read-only"):
            await reader.commit(kit.commit(Checkpoint(), "c"), 1)
        with pytest.raises(StoreRefused, match="read-only"):
            await reader.create_generation(Generation("x", 1), 1, live=True)


async def test_a_missing_table_names_no_event(opened: Any, kit: Any) -> None:
    """A rows table dropped by hand is refused as such: no event is to blame, and other generations go on."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        await store._write(run('DROP TABLE "flights-g1"'))
        with pytest.raises(StoreRefused, match="dropped by hand"):
            await store.commit(kit.commit(taken, "c1", kit.put("k", 1)), 1)
        assert await store.commit(kit.commit(taken, "c1"), 1) == Committed()


async def test_a_value_that_cannot_be_stored_is_rejected(opened: Any, kit: Any) -> None:
    """A key that is no text is that commit's own fault: rejected, with nothing applied."""
    async with opened() as store:
        taken = await store.take(kit.scope(), "me", Checkpoint())
        outcome = await store.commit(kit.commit(taken, "c1", kit.put("\ud800", 1)), 1)
        assert isinstance(outcome, Rejected)
        assert await store.read_checkpoint(kit.scope()) == taken


async def test_a_closed_store_says_so(opened: Any, kit: Any) -> None:
    """After `aclose` every call is refused as unavailable, and closing again is harmless."""
    async with opened() as store:
        await store.aclose()
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.read_checkpoint(kit.scope())
        assert isinstance(await store.commit(kit.commit(Checkpoint(), "c"), 1), Busy)


async def test_what_is_answered_is_on_the_disk(opened: Any) -> None:
    """The writer's log is flushed at every commit: `synchronous = FULL` over a write-ahead log."""
    async with opened() as store:
        assert await store._write(run("PRAGMA journal_mode")) == "wal"
        assert await store._write(run("PRAGMA synchronous")) == 2


async def test_an_sqlite_that_is_too_old_is_refused_before_the_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that is there, the one that is needed, and what to do."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 32, 3))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.32.3")
    store = SqliteStore(tmp_path / "rows.db")
    with pytest.raises(StoreRefused, match=r"SQLite 3\.32\.3.* 3\.33 or newer .*run a Python with a newer one"):
        await store.open()
    assert content_of(tmp_path / "rows.db") is None
