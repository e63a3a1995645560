"""Logging is the process's own; each test gets a stream of its own and leaves everything as it was."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from daemon.telemetry import LogForm, Logger, LogLevel, configure_logging
from daemon.telemetry.logs import QUIET_LIBRARIES

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


class Logs:
    """A configured logger, and what came out of it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def configure(
        self, level: LogLevel = "info", form: LogForm = "json", limit: int = 200, *, is_terminal: bool = False
    ) -> Logger:
        """Configure logging to this stream."""
        return configure_logging(
            level=level,
            form=form,
            max_field_characters=limit,
            stream=self.stream,
            is_terminal=is_terminal,
            now=lambda: NOW,
        )

    @property
    def lines(self) -> list[str]:
        """The lines as a terminal would see them."""
        text = self.stream.getvalue()
        assert not text or text.endswith("\n")
        return text.split("\n")[:-1]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON records."""
        return [json.loads(line, parse_constant=_refuse) for line in self.lines]

    @property
    def record(self) -> dict[str, Any]:
        """The only record."""
        (record,) = self.records
        return record


def _refuse(constant: str) -> None:
    pytest.fail(f"{constant} is no JSON")


@pytest.fixture
def logs() -> Iterator[Logs]:
    """Logs of one test."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, [logging.getLogger(name).level for name in QUIET_LIBRARIES])
    yield Logs()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in zip(QUIET_LIBRARIES, before[2], strict=True):
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def raised() -> Callable[..., BaseException]:
    """Raise an exception, from another where one is given, and give it with its traceback."""

    def inner(error: BaseException, cause: BaseException | None = None) -> BaseException:
        try:
            raise error from cause
        except BaseException as caught:  # noqa: BLE001 - any kind is what a test asks for
            return caught

    return inner
