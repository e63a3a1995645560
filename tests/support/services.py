"""Real servers for a whole test session, each started for the first test that asks for it and ended with the session.

A fixture is a server (`endpoint` or `bootstrap` is its address). Tests share it and keep apart by names of their own:
topics, and tables below `table_prefix`. A test that kills its server starts one for itself. A server that is not there
fails its tests with what to install; none is skipped. They end with pytest even where that is killed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from daemon.demo.services.dynoxide import Dynoxide, fetch_dynoxide
from daemon.demo.services.kafka import KafkaBroker, fetch_kafka
from daemon.demo.services.ministack import Ministack
from daemon.demo.services.prometheus import fetch_prometheus
from daemon.demo.services.strict import StrictDynamoDB


@pytest.fixture(scope="session")
def kafka(tell: Callable[[str], None]) -> Iterator[KafkaBroker]:
    """A Kafka broker."""
    fetch_kafka(tell)
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def dynoxide(tell: Callable[[str], None]) -> Iterator[Dynoxide]:
    """A DynamoDB in memory."""
    fetch_dynoxide(tell)
    with Dynoxide() as server:
        yield server


@pytest.fixture(scope="session")
def ministack() -> Iterator[Ministack]:
    """Another DynamoDB in memory, which speaks SQS and EventBridge too."""
    with Ministack() as server:
        yield server


@pytest.fixture(scope="session")
def strict_dynamodb() -> Iterator[StrictDynamoDB]:
    """The project's own strict DynamoDB, in a process of its own."""
    with StrictDynamoDB() as server:
        yield server


@pytest.fixture(scope="session")
def promtool(tell: Callable[[str], None]) -> Path:
    """Prometheus' own checker."""
    return fetch_prometheus(tell) / "promtool"


@pytest.fixture
def table_prefix() -> str:
    """A name that no other test's tables begin with."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says a line on the terminal at once: what is downloaded amid the tests is not downloaded in silence."""
    reporter: pytest.TerminalReporter | None = request.config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        if reporter is not None:
            with capture.global_and_fixture_disabled():
                reporter.write_line(line)

    return say
