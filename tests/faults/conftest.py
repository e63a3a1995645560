from collections.abc import Mapping
from typing import Any

import pytest

from daemon.testing.memory_source import MemoryReader
from tests.support.virtual_loop import VIRTUAL


@pytest.fixture
def anyio_backend() -> tuple[str, Mapping[str, Any]]:
    """Time is virtual: half an hour of trouble takes milliseconds."""
    return VIRTUAL


@pytest.fixture(autouse=True)
def patient_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader at the end of its log is woken by what is appended; virtual hours need not be spent in looking."""
    monkeypatch.setattr(MemoryReader, "poll_seconds", 5.0)
