import io
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, override
from uuid import UUID

import pytest
import structlog

from daemon.core.errors import EventProblem, StoreFull
from daemon.core.identity import Scope
from daemon.telemetry import LogForm, LogLevel, configure_logging
from daemon.telemetry import logs as module
from tests.telemetry.conftest import Logs


def test_a_record_is_one_json_line(logs: Logs):
    """A record has time, level and event first, then what was bound, then its own fields."""
    logger = logs.configure().bind(projection="order-summary", generation=1)
    logger.info("batch committed", shard="orders-0.jsonl", epoch=3, position="120")
    (line,) = logs.lines
    assert line == (
        '{"timestamp": "2026-01-02T03:04:05.678+00:00", "level": "info", "event": "batch committed", '
        '"projection": "order-summary", "generation": 1, "shard": "orders-0.jsonl", "epoch": 3, "position": "120"}'
    )


@pytest.mark.parametrize(
    ("form", "is_terminal", "readable"),
    [
        ("auto", False, False),
        ("auto", True, True),
        ("json", True, False),
        ("console", False, True),
    ],
)
def test_the_form_follows_the_terminal_unless_told(logs: Logs, form: LogForm, is_terminal: bool, readable: bool):
    """`auto` is for people on a terminal and JSON elsewhere; the others are what they say, anywhere."""
    logs.configure(form=form, is_terminal=is_terminal).info("started", epoch=1)
    (line,) = logs.lines
    assert line.startswith("{") is not readable


def test_a_readable_line_has_no_colours_where_there_is_no_terminal(logs: Logs):
    """The readable form in a file is plain text."""
    logs.configure(form="console").warning("lag grows", shard="s", seconds=1.5)
    (line,) = logs.lines
    assert re.sub(" +", " ", line) == "2026-01-02T03:04:05.678+00:00 [warning ] lag grows shard=s seconds=1.5"


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_records_below_the_level_are_not_written(logs: Logs, level: LogLevel):
    """The level is the least severe that is written, for the daemon's records and for libraries' alike."""
    logger, library = logs.configure(level=level), logging.getLogger("some.library")
    order = ["debug", "info", "warning", "error", "critical"]
    for name in order:
        getattr(logger, name)("own")
        getattr(library, name)("library")
    expected = [(name, event) for name in order[order.index(level) :] for event in ("own", "library")]
    assert [(record["level"], record["event"]) for record in logs.records] == expected


def test_a_library_s_record_names_the_library(logs: Logs):
    """What goes through the standard library ends in the same form, with its logger's name and its whole text."""
    logs.configure()
    logging.getLogger("some.library").warning("%s of %d", "two", 3)
    assert logs.record == {
        "timestamp": "2026-01-02T03:04:05.678+00:00",
        "level": "warning",
        "logger": "some.library",
        "event": "two of 3",
    }


def test_a_library_that_logs_nonsense_is_heard_all_the_same(logs: Logs):
    """A record whose arguments do not fit its text is written without them, and nothing is raised or printed."""
    logs.configure()
    logging.getLogger("some.library").warning("%d events", "secret")
    assert logs.record["event"] == "%d events (its arguments do not fit: TypeError)"


def test_warnings_are_logged(logs: Logs):
    """Python's own warnings go to the logs instead of the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure()
        warnings.warn("old\nthing", DeprecationWarning, stacklevel=1)
    assert logs.record["logger"] == "py.warnings"
    assert "DeprecationWarning: old\\nthing" in logs.record["event"]


def test_structlog_s_own_loggers_are_routed_too(logs: Logs):
    """A library that uses structlog writes through the same chain."""
    logs.configure()
    structlog.get_logger().info("hello", key="k-1")
    assert logs.record["event"] == "hello"
    assert "key" not in logs.record


def test_configuring_again_replaces_what_was(logs: Logs):
    """A second configuration leaves no line doubled and none at the old stream."""
    held = structlog.get_logger()
    logs.configure()
    held.info("before")
    other = io.StringIO()
    logger = configure_logging(level="info", form="json", max_field_characters=80, stream=other, is_terminal=False)
    logger.info("own")
    held.info("held")
    logging.getLogger("some.library").info("library")
    assert logs.record["event"] == "before"
    assert len(other.getvalue().splitlines()) == 3


class Colour(Enum):
    """An enumeration that is no text."""

    RED = "red"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("1.10"), "1.10"),
        (datetime(2013, 1, 1, tzinfo=UTC), "2013-01-01T00:00:00+00:00"),
        (date(2013, 1, 1), "2013-01-01"),
        (timedelta(seconds=1.5), "0:00:01.500000"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/var/x"), "/var/x"),
        (Colour.RED, "red"),
        ((1, 2), [1, 2]),
        (Scope("p", 1, "s", "f"), {"projection": "p", "generation": 1, "source": "s", "shard": "f"}),
        (None, None),
        (True, True),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        pytest.param(10**5000, "<integer of 16610 bits>", id="huge"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"abc", "<3 bytes>"),
        (Logs, "<tests.telemetry.conftest.Logs>"),
    ],
)
def test_values_are_written_as_plain_json(logs: Logs, value: object, written: object):
    """Each kind of value has one form that any reader of JSON keeps."""
    logs.configure().info("x", value=value)
    assert logs.record["value"] == written


def test_an_exception_is_told_in_short(logs: Logs, raised: Callable[..., BaseException]):
    """An exception becomes a table: type, message, the innermost places, and its causes."""
    error = raised(StoreFull("the disk is full"), raised(OSError(28, "No space left on device")))
    logs.configure().error("commit failed", exc_info=error)
    told = logs.record["error"]
    where = told.pop("where")
    assert len(where) == 1
    assert re.fullmatch(r"telemetry/conftest\.py:\d+ raised\.<locals>\.inner", where[0])
    assert told["cause"].pop("where")
    assert told == {
        "type": "daemon.core.errors.StoreFull",
        "message": "the disk is full",
        "cause": {"type": "builtins.OSError", "message": "[Errno 28] No space left on device"},
    }


def test_an_exception_being_handled_is_found(logs: Logs):
    """`exception` and `exc_info=True` take the exception of the moment, in the daemon's loggers and in libraries'."""
    logger = logs.configure()
    try:
        raise StoreFull("full")
    except StoreFull:
        logger.exception("own")
        logging.getLogger("some.library").exception("library")
        logger.warning("plain", exc_info=True)
    assert [record["error"]["type"] for record in logs.records] == ["daemon.core.errors.StoreFull"] * 3
    assert [record["level"] for record in logs.records] == ["error", "error", "warning"]


def test_what_an_exception_was_raised_instead_of_is_told_unless_hidden(logs: Logs):
    """The exception that was being handled is a cause too, but not where `from None` took it away."""
    logger = logs.configure()
    try:
        {}["o-1"]
    except KeyError:
        for hidden in (False, True):
            try:
                if hidden:
                    raise StoreFull("full") from None
                raise StoreFull("full")
            except StoreFull:
                logger.exception("failed")
    assert ["cause" in record["error"] for record in logs.records] == [True, False]


def test_every_way_of_logging_has_a_plain_level(logs: Logs):
    """Old names for a level are written as the level itself."""
    logger = logs.configure()
    for method in ("warn", "fatal", "msg"):
        getattr(logger, method)("x")
    assert [record["level"] for record in logs.records] == ["warning", "critical", "info"]


def test_an_exception_group_is_told_with_its_parts(logs: Logs):
    """The parts of a group are told as exceptions of their own."""
    logs.configure().error("failed", error=ExceptionGroup("two", [StoreFull("full"), TypeError("no")]))
    assert [part["message"] for part in logs.record["error"]["parts"]] == ["full", "no"]


def test_a_long_chain_of_causes_is_cut(logs: Logs, raised: Callable[..., BaseException]):
    """Of a chain of causes the last three exceptions are told."""
    error = raised(StoreFull("0"))
    for number in range(1, 10):
        error = raised(StoreFull(str(number)), error)
    logs.configure().error("failed", error=error)
    chain: list[str] = []
    told = logs.record["error"]
    while told:
        chain.append(told["message"])
        told = told.get("cause")
    assert chain == ["9", "8", "7"]


def test_deep_stacks_are_cut_to_the_innermost_places(logs: Logs):
    """Of a deep stack the innermost six places are told."""

    def deep(level: int) -> None:
        if level == 0:
            raise StoreFull("here")
        deep(level - 1)

    try:
        deep(50)
    except StoreFull as error:
        logs.configure().error("failed", error=error)
    where = logs.record["error"]["where"]
    assert len(where) == 6
    assert all(place.split()[1].endswith("deep") for place in where)


@pytest.mark.parametrize(
    ("error", "at_info", "at_debug"),
    [
        (ValueError("bad order o-1"), None, "bad order o-1"),
        (KeyError("o-1"), None, "'o-1'"),
        (EventProblem("bad-value", "o-1 is no number"), "bad-value", "bad-value: o-1 is no number"),
        (TypeError("unsupported operand"), "unsupported operand", "unsupported operand"),
        (ImportError("no module x"), "no module x", "no module x"),
        (ExceptionGroup("order o-1", [TypeError()]), None, "order o-1 (1 sub-exception)"),
    ],
)
def test_messages_that_may_quote_data_are_kept_for_debugging(
    logs: Logs, error: Exception, at_info: str | None, at_debug: str
):
    """A foreign exception's message is written where it speaks of code; where it may quote data, only at debug."""
    logs.configure().error("failed", error=error)
    logs.configure(level="debug").error("failed", error=error)
    assert [record["error"].get("message") for record in logs.records] == [at_info, at_debug]


class Counting(io.StringIO):
    """A slow stream that counts how often it was entered while somebody was writing."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = threading.Lock()
        self.overlaps = 0

    @override
    def write(self, text: str, /) -> int:
        alone = self.busy.acquire(blocking=False)
        self.overlaps += not alone
        for at in range(0, len(text), 10):
            super().write(text[at : at + 10])
            time.sleep(0)  # lets another thread come in, if one can
        if alone:
            self.busy.release()
        return len(text)


def test_lines_from_several_threads_stay_whole(logs: Logs):
    """Records written at the same time by many threads, half of them through a library, are never mixed."""
    logs.stream = stream = Counting()
    logger, library = logs.configure(), logging.getLogger("some.library")

    def write(number: int) -> None:
        for at in range(50):
            (logger if number % 2 else library).info(f"{number}-{at}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.overlaps == 0
    assert {record["event"] for record in logs.records} == {f"{a}-{b}" for a in range(4) for b in range(50)}


class FullDisk(io.StringIO):
    """A stream that takes nothing."""

    @override
    def write(self, _: str, /) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [FullDisk(), io.StringIO()], ids=["full", "closed"])
def test_a_line_that_cannot_be_written_stops_nothing(logs: Logs, stream: io.StringIO):
    """A full disk or a closed stream loses lines; whoever logs goes on."""
    logs.stream = stream
    logger = logs.configure()
    if not isinstance(stream, FullDisk):
        stream.close()
    logger.info("own")
    logging.getLogger("some.library").info("library")


def test_a_stream_that_lacks_characters_gets_them_escaped(logs: Logs):
    """On a stream whose encoding is narrow, other characters are escaped and nothing is lost."""
    raw = io.BytesIO()
    stream: Any = io.TextIOWrapper(raw, encoding="ascii")
    logs.stream = stream
    logs.configure().info("café")
    assert b'"event": "caf\\xe9"' in raw.getvalue()


def test_the_table_of_fields_is_the_vocabulary():
    """Every field of the module's table that is at debug only is one that is dropped, and the rest are not."""
    table = re.findall(r"^    (\w+(?:, \w+)*)  +(.+)$", module.__doc__ or "", re.MULTILINE)
    assert len(table) >= 20
    marked = {name for names, text in table if "at debug only" in text for name in names.split(", ")}
    assert marked == {"event_id", "key", "payload"}
    assert marked <= module.DEBUG_ONLY
    assert module.DEBUG_ONLY.isdisjoint(name for names, _ in table for name in names.split(", ") if name not in marked)
