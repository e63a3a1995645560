"""What every test shares: the event loop's kind, and the real servers that are started once.

Warnings are errors and each test has a time limit; both stand in pyproject.toml.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from daemon.stores.sqlite_writer import WorkerThread

pytest_plugins = ["tests.support.services"]


@pytest.fixture
def anyio_backend() -> str:
    """The backend that the daemon runs on; a test opts in with `pytestmark = pytest.mark.anyio`."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_store_is_left_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the SQLite stores that a test leaves open, as a process that dies does: each holds files and threads."""
    begun: list[WorkerThread] = []
    start = WorkerThread.start

    async def noted(thread: WorkerThread) -> Any:
        begun.append(thread)
        return await start(thread)

    monkeypatch.setattr(WorkerThread, "start", noted)
    yield
    for thread in begun:
        thread.abandon()
