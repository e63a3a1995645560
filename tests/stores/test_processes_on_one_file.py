"""Processes that share one file, or die while they write it."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Committed
from daemon.core.identity import Generation, RowKey
from daemon.stores import sqlite_writer
from daemon.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("committing_child.py")
KILLS = 20
SHARDS = 4


def start(path: Path, owner: str, shards: int) -> subprocess.Popen[str]:
    """Start the committing child."""
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(path), owner, str(shards)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def read_some(child: subprocess.Popen[str], lines: int) -> list[str]:
    """Wait for so many acknowledged commits."""
    assert child.stdout is not None
    return [child.stdout.readline().strip() for _ in range(lines)]


async def test_a_kill_loses_nothing_acknowledged_and_doubles_nothing(path: Path, opened: Any, kit: Any) -> None:
    """After each of many SIGKILLs amid commits, every acknowledged commit is there, each exactly once and whole."""
    chance = random.Random(7)
    acknowledged: dict[str, int] = {}
    for kill in range(KILLS):
        child = start(path, f"owner{kill}", SHARDS)
        said = read_some(child, chance.randrange(1, 60))
        child.kill()
        assert child.stdout is not None
        said += child.stdout.read().split("\n")[:-1]
        child.wait()
        child.stdout.close()
        for line in said:
            shard, count = line.split()
            assert int(count) == acknowledged.get(shard, 0) + 1
            acknowledged[shard] = int(count)
        async with opened() as store:
            checkpoints = await store.checkpoints(kit.generation)
            counts = {scope.shard: held.counters.get("applied", 0) for scope, held in checkpoints.items()}
            assert all(acknowledged[shard] <= counts[shard] for shard in acknowledged)
            keys = [RowKey("main", key) for key in ("all", *(f"shard-{shard}" for shard in counts))]
            rows = await store.load_rows(kit.generation, keys)
            found = {key.key: row.attributes["n"] if row else 0 for key, row in rows.items()}
            assert found == {"all": sum(counts.values()), **{f"shard-{shard}": n for shard, n in counts.items()}}
            marked = [f"{shard}-{n}" for shard, count in counts.items() for n in range(1, count + 2)]
            assert len(await store.find_markers(kit.generation, marked)) == sum(counts.values())
            acknowledged = counts


async def test_the_second_process_takes_over_by_epoch_alone(path: Path, opened: Any, kit: Any) -> None:
    """While one process commits, another takes its shard; the first is fenced and told by whom, and the rows agree."""
    child = start(path, "first", 1)
    read_some(child, 5)
    async with opened() as store:
        taken = await store.take(kit.scope(), "second", Checkpoint())
        assert taken.epoch == 2
        assert await store.take(kit.scope(), "second", Checkpoint()) == taken
        output = await anyio.to_thread.run_sync(child.communicate)
        assert child.returncode == 0
        *counts, last = output[0].strip().split("\n")
        assert last == "fenced second"
        assert all(int(line.split()[1]) <= taken.counters["applied"] for line in counts)
        commit = kit.commit(taken, "mine", kit.add("all", 0))
        assert await store.commit(commit, 1) == Committed()
        row = (await store.load_rows(kit.generation, [RowKey("main", "all")]))[RowKey("main", "all")]
        assert row.attributes["n"] == taken.counters["applied"]


async def test_two_processes_make_one_file_at_once(path: Path) -> None:
    """Processes that open a missing file together agree on its tables and on who made the generation."""
    children = [start(path, f"o{n}", 1) for n in range(3)]
    try:
        said = [await anyio.to_thread.run_sync(read_some, child, 1) for child in children]
        assert all(line != [""] for line in said)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    store = SqliteStore(path)
    await store.open()
    assert len(await store.generations("flights")) == 1
    await store.aclose()


async def test_another_process_looks_while_the_daemon_runs(path: Path, opened: Any, kit: Any) -> None:
    """A read-only store beside a writing process sees its commits."""
    child = start(path, "first", 1)
    try:
        read_some(child, 3)
        async with opened(read_only=True) as store:
            seen = (await store.checkpoints(Generation("flights", 1)))[kit.scope()]
            assert seen.counters["applied"] >= 3
            read_some(child, 200)
            later = (await store.checkpoints(Generation("flights", 1)))[kit.scope()]
            assert later.counters["applied"] >= 203
            assert replace(later, position=(), commit_seq=0, commit_id="", counters={}) == replace(
                seen, position=(), commit_seq=0, commit_id="", counters={}
            )
    finally:
        child.kill()
        child.communicate()


async def test_a_log_that_outgrew_its_limit_begins_anew(opened: Any, kit: Any, path: Path, monkeypatch: Any) -> None:
    """What others wrote and read past the log's limit is copied into the file as soon as they leave a gap, and the log
    begins anew: it does not grow for as long as two processes write.
    """
    monkeypatch.setattr(sqlite_writer, "RESTART_MS", 60_000)
    async with opened(wal_autocheckpoint_pages=64) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            taken = await store.take(kit.scope(), "me", Checkpoint())
            other.execute("PRAGMA wal_autocheckpoint = 0")
            other.execute("CREATE TABLE beside (text)")
            other.execute("INSERT INTO beside VALUES (zeroblob(4000000))")
            with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM beside").fetchone()
                leaving = threading.Timer(0.5, reader.execute, ("ROLLBACK",))
                leaving.start()
                assert await store.commit(kit.commit(taken, "c1", kit.put("a", 1)), 1) == Committed()
                assert await store.read_checkpoint(kit.scope()) == taken.next("c1")
                await anyio.to_thread.run_sync(leaving.join)
            second = kit.commit(taken.next("c1"), "c2", kit.put("b", 1))
            assert await store.commit(second, 1) == Committed()
            assert path.with_name(f"{path.name}-wal").stat().st_size < 1_000_000
            rows = await store.load_rows(kit.generation, [RowKey("main", "a"), RowKey("main", "b")])
            assert [row.attributes for row in rows.values()] == [{"value": 1}, {"value": 1}]
