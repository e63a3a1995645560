"""A process without rights on a file, or with a disk that refuses to grow: prints what the store said.

Arguments: `rights` or `disk`, and the file. Rights are given up after everything is imported: root ignores modes.
"""

import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

import anyio

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit
from daemon.core.errors import StoreProblem
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.rows import ABSENT, RowWrite, WriteKind
from daemon.stores.sqlite import SqliteStore

SCOPE = Scope("flights", 1, "log", "0")
NOBODY = 65_534


def size_of(path: str) -> int:
    """Bytes of a file."""
    return Path(path).stat().st_size


async def without_rights(path: str) -> None:
    """Open the store as a user without rights."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    store = SqliteStore(Path(path))
    try:
        await store.open()
    except StoreProblem as problem:
        print(type(problem).__name__, problem)  # noqa: T201 - the parent reads it
    else:
        await store.aclose()


async def with_a_failing_disk(path: str) -> None:
    """Commit while no file may grow, then again when it may."""
    store = SqliteStore(Path(path))
    await store.open()
    await store.create_generation(Generation("flights", 1), 1, live=True)
    taken = await store.take(SCOPE, "me", Checkpoint())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_of(f"{path}-wal") + 8_192, hard))
    row = RowWrite(RowKey("main", "k"), WriteKind.PUT, {"text": "x" * 60_000}, ABSENT, "log/0@1#e")
    commit = Commit(SCOPE, taken.fence, replace(taken.next("c1"), position=(1,)), (row,))
    print(type(await store.commit(commit, 1)).__name__)  # noqa: T201 - the parent reads it
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(await store.read_checkpoint(SCOPE) == taken)  # noqa: T201 - as above
    print(type(await store.commit(commit, 1)).__name__)  # noqa: T201 - as above
    print(type(await store.commit(commit, 1)).__name__)  # noqa: T201 - as above
    await store.aclose()


if __name__ == "__main__":
    Path("/").as_uri()  # imports what it needs only now, while it may
    anyio.run({"rights": without_rights, "disk": with_a_failing_disk}[sys.argv[1]], sys.argv[2])
