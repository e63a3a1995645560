"""Keys and sequence numbers: dotted paths into an event, compiled to closures.

Owns what a path may be. A key is read once per event and projection, so the usual shapes (one or several fields of
`data`) have closures of their own; anything unusual in a value falls through to `daemon.core.keys.key_text`, which
decides and explains.

Invariant: the fast closures give exactly the text that `key_text` gives.
"""

import inspect
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Never, cast

from daemon.core.errors import EventProblem
from daemon.core.events import Event
from daemon.core.keys import MAX_KEY_BYTES, SEPARATOR, key_text
from daemon.loading.problems import Mistake

type KeyFunction = Callable[[Event], str]
type Reader = Callable[[Event], object]

_SAFE = MAX_KEY_BYTES // 4
"""A text of so many characters fits a key whatever they are."""
_KNOWN_KEYS = 4_096
_FIELDS = ("subject", "id", "type", "source")
_PATHS = "use data.FIELD (or data.A.B), subject, id, type, source or headers.NAME"


def key_function(key: object) -> KeyFunction:
    """Compile a projection's `key`.

    The function raises EventProblem `no-key` (nothing there) or `bad-key`. Raises Mistake for a key that is none.
    """
    if isinstance(key, str):
        return _single(key)
    if isinstance(key, tuple) and key:
        paths = tuple(part for part in cast("tuple[object, ...]", key) if isinstance(part, str))
        if paths == key:
            return _single(paths[0]) if len(paths) == 1 else _composite(paths)
    elif callable(cast("object", key)):
        return _computed(cast("Callable[[Event], object]", key))
    raise Mistake(f"key={key!r:.80} is no path, no tuple of paths and no function", _PATHS)


def key_field(key: object) -> str | None:
    """Return the payload field that holds the key, where `key` is just that: `order_id` for `data.order_id`."""
    if not isinstance(key, str):
        return None
    root, _, name = key.partition(".")
    return name if root == "data" and name and "." not in name else None


def sequence_function(path: object) -> Callable[[Event], int]:
    """Compile a projection's `sequence`: a path into `data`.

    The function raises EventProblem `no-sequence`. Raises Mistake for a path that is none.
    """
    if not isinstance(path, str) or not path.startswith("data."):
        raise Mistake(f"sequence={path!r:.80} is no path into the payload", 'write it as "data.seq" or "data.meta.seq"')
    read = reader(path)

    def sequence(event: Event) -> int:
        try:
            value = read(event)
        except EventProblem:
            value = None
        if type(value) is int and value >= 0:
            return value
        detail = (
            f"{path} of event {event.id!r:.200} is {value!r:.80}; the entity's sequence number must be an int from 0"
        )
        raise EventProblem("no-sequence", detail)

    return sequence


def reader(path: str) -> Reader:
    """Compile one path to a function that returns the value there and raises EventProblem `no-key` where none is."""
    root, _, rest = path.partition(".")
    if not rest and root in _FIELDS:
        return _field(path)
    if root == "headers" and rest:
        return _header(path, rest)
    fields = tuple(rest.split("."))
    if root == "data" and all(fields):
        return _payload(path, fields)
    raise Mistake(f"{path!r:.80} is no path into an event", _PATHS)


def _field(name: str) -> Reader:
    def read(event: Event) -> object:
        value = getattr(event, name)
        return _absent(event, name) if value is None else value

    return read


def _header(path: str, name: str) -> Reader:
    def read(event: Event) -> object:
        value = event.headers.get(name)
        return _absent(event, path) if value is None else value

    return read


def _payload(path: str, fields: tuple[str, ...]) -> Reader:
    def read(event: Event) -> object:
        value: Any = event.data
        try:
            for name in fields:
                value = value[name]
        except (LookupError, TypeError):
            _absent(event, path)
        return value

    return read


def _single(path: str) -> KeyFunction:
    read = reader(path)

    def slow(event: Event) -> str:
        return _text(path, (read(event),))

    root, _, name = path.partition(".")
    if root != "data" or "." in name:
        return slow

    def key(event: Event) -> str:
        try:
            value = event.data[name]
        except (LookupError, TypeError):
            return slow(event)
        if type(value) is str and 0 < len(value) <= _SAFE:
            return value
        return slow(event)

    return key


def _composite(paths: tuple[str, ...]) -> KeyFunction:
    reads = tuple(reader(path) for path in paths)
    label = ", ".join(paths)

    def slow(event: Event) -> str:
        return _text(label, tuple(read(event) for read in reads))

    if any(path.count(".") != 1 or not path.startswith("data.") for path in paths):
        return slow
    pick = cast("Callable[[object], tuple[str, ...]]", itemgetter(*(path.removeprefix("data.") for path in paths)))
    separators = len(paths) - 1
    known: dict[tuple[str, ...], str] = {}
    """Keys made before, since many an event has the key of another. Only of texts, which equal nothing else."""

    def key(event: Event) -> str:
        try:
            parts = pick(event.data)
            return known[parts]
        except KeyError:
            pass
        except (LookupError, TypeError):
            return slow(event)
        return made(event)

    def made(event: Event) -> str:
        try:
            parts = pick(event.data)
            text = SEPARATOR.join(parts)
        except (LookupError, TypeError):
            return slow(event)
        if len(text) <= _SAFE and text.count(SEPARATOR) == separators and "\\" not in text and "" not in parts:
            if len(known) >= _KNOWN_KEYS:
                known.clear()
            known[parts] = text
            return text
        return slow(event)

    return key


def _computed(function: Callable[[Event], object]) -> KeyFunction:
    try:
        inspect.signature(function).bind(object())
    except TypeError as error:
        remedy = "give a function of one argument, the event"
        raise Mistake(f"the key function cannot be called with an event ({error})", remedy) from error
    except ValueError:
        pass  # a builtin that tells no signature

    def key(event: Event) -> str:
        try:
            value = function(event)
        except EventProblem:
            raise
        except Exception as error:
            detail = f"the key function raised {type(error).__name__}: {error} on event {event.id!r:.200}"[:1000]
            raise EventProblem("no-key", detail) from error
        if type(value) is str and 0 < len(value) <= _SAFE:
            return value
        return _text("the key function", cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,))

    return key


def _text(label: str, parts: tuple[object, ...]) -> str:
    try:
        return key_text(parts)
    except EventProblem as problem:
        raise EventProblem(problem.reason, f"{label}: {problem.detail}") from None


def _absent(event: Event, path: str) -> Never:
    detail = (
        f"event {event.id!r:.200} of type {event.type!r:.200} has no {path}; the producer must send it, "
        "or the projection take another key"
    )
    raise EventProblem("no-key", detail)
