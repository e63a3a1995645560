"""What every test shares: the event loop's kind.

Warnings are errors and each test has a time limit; both stand in pyproject.toml.
"""

from collections.abc import Iterator

import pytest

from daemon.demo.services.kafka import KafkaBroker


@pytest.fixture
def anyio_backend() -> str:
    """The backend that the daemon runs on; a test opts in with `pytestmark = pytest.mark.anyio`."""
    return "asyncio"


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    """A real Kafka broker, started for the first test that needs one; each test makes topics of its own."""
    with KafkaBroker() as broker:
        yield broker
