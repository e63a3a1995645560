"""Logs: one line per record, JSON for machines, readable for people, safe whatever a record holds.

Owns the configuration of structlog and of the standard library's `logging`, which both end in one chain and one writer,
so that what a library logs is as safe as what the daemon logs. `configure_logging` is called once, by the application;
everyone else is handed a logger and binds to it what his records have in common.

Fields have the vocabulary's names, in every record:

    timestamp      when the record was made, ISO 8601, UTC
    level          debug, info, warning, error, critical
    logger         the library a record comes from; absent in the daemon's own
    event          what happened, in a few constant words; what varies is in the fields
    projection     name of the projection
    version        the projection's version, from its code
    generation     number of the generation
    source         name of the source
    shard          the source's shard
    epoch          the fencing number under which the shard is owned
    position       a position in the shard, as text
    commit_seq     number of the commit in its shard
    state          the shard's state; `before` and `after` for a change of it
    outcome        what a commit came to
    reason         a stable word for why, as kept in dead letters
    attempt        which try this is, from 1
    wait_seconds   until the next try
    seconds        how long it took
    events, rows   how many
    error          an exception: its type, message, places, causes
    event_id       identity of an event: at debug only
    key            key of an entity or row: at debug only
    payload        content of an event, also `data` and `raw`: at debug only

Invariants: a record is one line; no control character reaches the stream; texts, lists and tables are cut to their
limits at any depth; what is "at debug only" is dropped from every record above debug, at any depth, as is the inside of
objects this module does not know. An exception's message is kept if it is the daemon's own or speaks of code or the
system; others (a handler's ValueError, say) may quote a payload and are kept only where the configured level is debug.
Logging raises nothing: a line that cannot be written is lost, the work goes on.
"""

import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from math import isfinite
from pathlib import PurePath
from traceback import walk_tb
from types import CodeType, TracebackType
from typing import Any, Literal, TextIO, cast, override
from uuid import UUID

import structlog
from structlog.dev import ConsoleRenderer
from structlog.typing import EventDict, FilteringBoundLogger

from daemon.core.errors import EventProblem, ProjectiondError

type LogLevel = Literal["debug", "info", "warning", "error"]
type LogForm = Literal["auto", "json", "console"]
type Logger = FilteringBoundLogger
"""What is handed to whoever logs; `bind` gives one with more fields."""

DEBUG_ONLY = frozenset({"event_id", "event_ids", "key", "keys", "payload", "payloads", "data", "raw"})
"""Fields that name or hold somebody's data."""

QUIET_LIBRARIES = ("boto3", "botocore", "aioboto3", "aiobotocore", "s3transfer", "urllib3")
"""Libraries whose debug records hold request headers, and so credentials: never enabled."""

MAX_ITEMS = 50
"""Entries of one list or table that are written."""
MAX_VALUES = 400
"""Values of one record that are written, at all depths together."""
MAX_DEPTH = 6
MAX_NAME_CHARACTERS = 100
MAX_FRAMES = 6
MAX_CAUSES = 3
MAX_INTEGER_BITS = 64
"""Larger integers become texts: many readers of JSON would round them."""

_CUT = "…"
_CODE_ERRORS = (OSError, TypeError, AttributeError, NameError, ImportError)
"""Foreign errors whose messages speak of code or the system, not of data."""

type _Render = Callable[[dict[str, Any]], str]


def configure_logging(
    *,
    level: LogLevel,
    form: LogForm,
    max_field_characters: int,
    stream: TextIO,
    is_terminal: bool,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Logger:
    """Send all logs, the libraries' too, to `stream`; give the daemon's logger.

    `form` "auto" is "console" on a terminal and "json" elsewhere. Texts longer than `max_field_characters` (at least
    80) are cut. `now` gives the time of a record, aware. Called again, it replaces what was configured before.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    readable = form == "console" or (form == "auto" and is_terminal)
    render = _console(colors=is_terminal) if readable else _json
    writer = _Writer(stream)
    finish = _Finish(render, now, max_field_characters, all_messages=threshold <= logging.DEBUG)
    structlog.configure(
        processors=[finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(finish, writer)]
    root.setLevel(threshold)
    for library in QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(max(threshold, logging.INFO))
    logging.captureWarnings(capture=True)
    logger: Logger = structlog.get_logger()
    return logger.bind()


class _Writer:
    """Writes whole lines, one at a time, from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()  # a signal handler may log while its thread is writing

    def write(self, line: str) -> None:
        with self._lock:
            try:
                try:
                    self._stream.write(f"{line}\n")
                except UnicodeEncodeError:  # the stream's encoding lacks a character
                    self._stream.write(f"{line.encode('ascii', 'backslashreplace').decode()}\n")
                self._stream.flush()
            except (OSError, ValueError, RuntimeError):
                return  # full, closed, or entered again by a signal handler: a lost line must not stop a shard

    debug = info = warning = error = critical = log = msg = write


class _Bridge(logging.Handler):
    """Takes the records of the standard library's `logging` into the same chain."""

    def __init__(self, finish: "_Finish", writer: _Writer) -> None:
        super().__init__()
        self._finish = finish
        self._writer = writer

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.INFO and record.name.split(".")[0] in QUIET_LIBRARIES:
            return
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a library's own arguments do not fit its own text
            message = f"{record.msg} (its arguments do not fit: {type(error).__name__})"
        fields: EventDict = {"logger": record.name, "event": message, "exc_info": record.exc_info}
        self._writer.write(self._finish(None, logging.getLevelName(record.levelno).lower(), fields))


class _Finish:
    """The chain: puts a record together, cleans it and renders it as one line."""

    def __init__(
        self, render: _Render, now: Callable[[], datetime], max_characters: int, *, all_messages: bool
    ) -> None:
        self._render = render
        self._now = now
        self._max_characters = max_characters
        self._all_messages = all_messages

    def __call__(self, _logger: object, level: str, fields: EventDict) -> str:
        """Give the line of a record, as the last of structlog's processors."""
        error = _exception_of(fields.pop("exc_info", None))
        if error is not None:
            fields.setdefault("error", error)
        stamp = {"timestamp": self._now().isoformat(timespec="milliseconds"), "level": level}
        lead = {name: fields.pop(name) for name in ("logger", "event") if name in fields}
        given = {f"{name}_" if name in stamp else name: value for name, value in fields.items()}
        record = {**stamp, **lead, **given}
        cleaning = _Cleaning(self._max_characters, is_debug=level == "debug", all_messages=self._all_messages)
        try:
            return self._render(cleaning.table(record, 0))
        except Exception as failure:  # noqa: BLE001 - whatever a value does when it is looked at, the work goes on
            return self._render({**stamp, "event": "a record could not be written", "error": type(failure).__name__})


def _exception_of(exc_info: object) -> BaseException | None:
    """Give the exception that `exc_info` stands for, in any of the forms that logging allows."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        triple = cast("tuple[object, BaseException | None, TracebackType | None]", exc_info)
        return triple[1]
    return sys.exception() if exc_info else None


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _console(*, colors: bool) -> _Render:
    renderer = ConsoleRenderer(colors=colors, sort_keys=False)

    def render(record: dict[str, Any]) -> str:
        # The renderer would print fields of these two names on lines of their own.
        renamed = {f"{name}_" if name in {"exception", "stack"} else name: value for name, value in record.items()}
        return renderer(None, "", renamed)

    return render


class _Cleaning:
    """Turns one record into plain JSON values that are safe to write."""

    def __init__(self, max_characters: int, *, is_debug: bool, all_messages: bool) -> None:
        self._max_characters = max_characters
        self._is_debug = is_debug
        self._all_messages = all_messages
        self._values_left = MAX_VALUES

    def table(self, table: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """Clean a table and drop what may not be shown at this level."""
        entries = ((str(name), value) for name, value in table.items())
        kept = [(name, value) for name, value in entries if self._is_debug or name not in DEBUG_ONLY]
        clean = {_name(name): self.value(value, depth + 1) for name, value in kept[:MAX_ITEMS]}
        if len(kept) > MAX_ITEMS:
            clean[_CUT] = f"{len(kept) - MAX_ITEMS} more"
        return clean

    def value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - one return per form reads as the table it is
        """Clean any value."""
        self._values_left -= 1
        if self._values_left < 0:
            return _CUT
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value)
            case int():
                return self._integer(int(value))
            case float():
                return float(value) if isfinite(value) else str(float(value))
            case bytes() | bytearray():
                return self._bytes(value)
            case Enum():
                return self.value(value.value, depth)
            case date() | time():
                return value.isoformat()
            case timedelta() | Decimal() | UUID() | PurePath():
                return self._text(str(value))
            case _:
                return self._compound(value, depth)

    def _compound(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            return _CUT
        match value:
            case BaseException():
                return self._error(value, depth)
            case Mapping():
                return self.table(cast("Mapping[Any, Any]", value), depth)
            case tuple() if hasattr(cast("object", value), "_asdict"):
                return self.table(cast("Any", value)._asdict(), depth)
            case list() | tuple() | set() | frozenset():
                return self._items(cast("Iterable[Any]", value), len(cast("list[Any]", value)), depth)
            case _:
                return self._object(value)

    def _items(self, items: Iterable[Any], count: int, depth: int) -> list[Any]:
        clean = [self.value(item, depth + 1) for item in islice(items, MAX_ITEMS)]
        if count > MAX_ITEMS:
            clean.append(f"{_CUT} {count - MAX_ITEMS} more")
        return clean

    def _text(self, text: str) -> str:
        limit = self._max_characters
        clean = _escaped(text[:limit])  # escaping only lengthens
        if len(text) <= limit and len(clean) <= limit:
            return clean
        note = f"{_CUT} ({len(text)} characters)"
        return clean[: limit - len(note)] + note

    def _integer(self, number: int) -> int | str:
        bits = number.bit_length()
        if bits <= MAX_INTEGER_BITS:
            return number
        return f"<integer of {bits} bits>" if bits > MAX_INTEGER_BITS * 4 else str(number)

    def _bytes(self, value: bytes | bytearray) -> str:
        head = value[: self._max_characters].decode("utf-8", "backslashreplace")
        return self._text(head) if self._is_debug else f"<{len(value)} bytes>"

    def _object(self, value: object) -> str:
        kind = value if isinstance(value, type) else type(value)
        return self._text((self._is_debug and _said(repr, value)) or f"<{kind.__module__}.{kind.__qualname__}>")

    def _error(self, error: BaseException, depth: int) -> dict[str, Any]:
        """Give an exception's short form: type, message, the innermost places in the code, causes, parts."""
        kind = type(error)
        short: dict[str, Any] = {"type": f"{kind.__module__}.{kind.__qualname__}"}
        message = self._message(error)
        if message:
            short["message"] = message
        frames = deque(walk_tb(error.__traceback__), maxlen=MAX_FRAMES)
        if frames:
            short["where"] = [_place(frame.f_code, line) for frame, line in frames]
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None and depth < MAX_CAUSES:
            short["cause"] = cause
        if isinstance(error, BaseExceptionGroup):
            short["parts"] = list(cast("BaseExceptionGroup[BaseException]", error).exceptions)
        return self.table(short, depth)

    def _message(self, error: BaseException) -> str:
        if isinstance(error, EventProblem) and not self._all_messages:
            return error.reason
        shown = self._all_messages or isinstance(error, (ProjectiondError, *_CODE_ERRORS))
        return _said(str, error) if shown else ""


def _place(code: CodeType, line: int) -> str:
    return f"{'/'.join(PurePath(code.co_filename).parts[-2:])}:{line} {code.co_qualname}"


def _said(how: Callable[[object], str], value: object) -> str:
    """Give the text an object has for itself, none if it fails to say it."""
    try:
        return how(value)
    except Exception:  # noqa: BLE001 - somebody else's code, and only for a log
        return ""


def _name(name: str) -> str:
    return _escaped(name[:MAX_NAME_CHARACTERS])[:MAX_NAME_CHARACTERS]


def _escaped(text: str) -> str:
    """Replace what is not printable (control characters, line and paragraph separators, marks that reverse text)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
