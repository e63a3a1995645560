"""A process that commits without end: prints `SHARD COUNT` after each acknowledged commit, `fenced OWNER` when fenced.

Arguments: the file, this owner's name, the number of shards.
"""

import sys
from pathlib import Path

import anyio

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed, Fenced, MarkerWrite
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.rows import RowWrite, WriteKind
from daemon.stores.sqlite import SqliteStore

GENERATION = Generation("flights", 1)


def say(text: str) -> None:
    """Tell the parent at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def follow(store: SqliteStore, shard: str, owner: str) -> None:
    """Commit for one shard until fenced."""
    scope = Scope(*GENERATION, "log", shard)
    checkpoint = await store.take(scope, f"{owner}-{shard}", Checkpoint())
    while True:
        count = checkpoint.counters.get("applied", 0) + 1
        after = checkpoint.next(f"{owner}-{shard}-{count}")
        after = Checkpoint(
            position=(count,), epoch=after.epoch, commit_seq=after.commit_seq, commit_id=after.commit_id,
            owner=after.owner, counters={"applied": count},
        )  # fmt: skip
        rows = tuple(
            RowWrite(RowKey("main", key), WriteKind.ADD, {"n": 1}, None, f"log/{shard}@{count}#e")
            for key in ("all", f"shard-{shard}", *(f"{shard}-{count % 50}-{n}" for n in range(20)))
        )
        marker = MarkerWrite(f"{shard}-{count}", b"d" * 16)
        outcome = await store.commit(Commit(scope, checkpoint.fence, after, rows, markers=(marker,)), 1)
        if isinstance(outcome, Fenced):
            say(f"fenced {outcome.checkpoint.owner if outcome.checkpoint else None}")
            return
        if outcome != Committed():
            raise SystemExit(f"unexpected {outcome}")
        say(f"{shard} {count}")
        checkpoint = after


async def main(path: str, owner: str, shards: int) -> None:
    """Commit for all shards at once."""
    store = SqliteStore(Path(path))
    await store.open()
    await store.create_generation(GENERATION, 1, live=True)
    async with anyio.create_task_group() as tasks:
        for shard in range(shards):
            tasks.start_soon(follow, store, str(shard), owner)
    await store.aclose()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
