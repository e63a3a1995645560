"""What every test shares: the event loop's kind, and the real servers that are started once.

Warnings are errors and each test has a time limit; both stand in pyproject.toml.
"""

import pytest

pytest_plugins = ["tests.support.services"]


@pytest.fixture
def anyio_backend() -> str:
    """The backend that the daemon runs on; a test opts in with `pytestmark = pytest.mark.anyio`."""
    return "asyncio"
