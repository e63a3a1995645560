"""A SQLite store on a temporary file, and commits to send to it."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.rows import ABSENT, Expectation, RowWrite, WriteKind
from daemon.stores.sqlite import SqliteStore

GENERATION = Generation("flights", 1)


class Opening(Protocol):
    """Opens a store on the test's file."""

    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[SqliteStore]: ...


class Kit:
    """Makes the commits that the tests send."""

    generation = GENERATION

    def scope(self, shard: str = "0") -> Scope:
        return Scope(*GENERATION, "log", shard)

    def put(self, key: str, value: Any, expect: Expectation = ABSENT, source: str = "log/0@1#e") -> RowWrite:
        return RowWrite(RowKey("main", key), WriteKind.PUT, {"value": value}, expect, source)

    def add(self, key: str, amount: Any, source: str = "log/0@1#e") -> RowWrite:
        return RowWrite(RowKey("main", key), WriteKind.ADD, {"value": amount}, None, source)

    def commit(self, before: Checkpoint, commit_id: str, *rows: RowWrite, shard: str = "0", **parts: Any) -> Commit:
        return Commit(self.scope(shard), before.fence, before.next(commit_id), rows, **parts)


@pytest.fixture
def kit() -> Kit:
    """The commits' maker."""
    return Kit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's file is to be."""
    return tmp_path / "store" / "flights.db"


@pytest.fixture
def opened(path: Path) -> Opening:
    """Opens stores on one file, with the test's generation made."""

    @asynccontextmanager
    async def opening(**settings: Any) -> AsyncGenerator[SqliteStore]:
        store = SqliteStore(path, **settings)
        await store.open()
        try:
            if not settings.get("read_only"):
                await store.create_generation(GENERATION, 1, live=True)
            yield store
        finally:
            await store.aclose()

    return opening
