"""Projections that are each wrong in one way, and the smallest log that shows it.

Owns one mistake for every check by which the test kit tells one; nothing here is right.
"""

import os
import random
import secrets
import socket
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from time import time as seconds_since_the_epoch
from typing import Any

from daemon.api import Event, View, on, projection
from daemon.testing import event

type Handle = Callable[[Any, View, Event], None]


def broken(handle: Handle, *, replay: bool = True, **options: Any) -> type:
    """Make a projection of one handler."""

    class Broken:
        def __init__(self) -> None:
            self.seen: list[str] = []
            self.calls = remembering()
            next(self.calls)

        @on("Told", replay=replay)
        def told(self, view: View, event: Event) -> None:
            handle(self, view, event)

    given: dict[str, Any] = {"name": "broken", "version": 1, "source": "log", "key": "data.key"}
    return projection(**(given | options))(Broken)


def remembering() -> Generator[int, str]:
    """Answer how often a text was sent. What a generator keeps cannot be seen from outside."""
    times: dict[str, int] = {}
    count = 0
    while True:
        text = yield count
        count = times[text] = times.get(text, 0) + 1


KNOWN: dict[str, int] = {}


def peeking(_self: Any, view: View, _event: Event) -> None:
    """Look at what the engine keeps about the batch."""
    view.add(n=1 if view.touch == 0 else 10)


def counting(_self: Any, view: View, _event: Event) -> None:
    """Count."""
    view.add(n=1)


def last(_self: Any, view: View, event: Event) -> None:
    """Let all keys write one row."""
    view.at("newest", "all").put(of=event.key)


def saying(_self: Any, view: View, event: Event) -> None:
    """Let each source write one attribute."""
    view.patch(said=event.data["word"])


def calling(self: Any, view: View, event: Event) -> None:
    """Remember how often each event was handled: once, but for a second run, and a batch that was never committed."""
    view.add(calls=self.calls.send(event.id))


def late(_self: Any, view: View, _event: Event) -> None:
    """Write a row."""
    view.put(status="told")


TOLD = [event("Told", key=key) for key in ("a", "b", "a", "c")]

VARIANTS: Mapping[str, tuple[type, Sequence[object]]] = {
    "twice": (broken(calling), TOLD[:2]),
    "batched": (broken(peeking), TOLD),
    "duplicated": (broken(counting, dedup="shard", marker_window=1), TOLD),
    "reordered": (broken(last), TOLD),
    "interleaved": (
        broken(saying, source=("one", "two")),
        [event("Told", key="a", word=name, source=name) for name in ("one", "two")],
    ),
    "crashed": (broken(calling), TOLD[:2]),
    "rebuilt": (broken(late, replay=False), TOLD),
}
"""By the check that tells of it."""


def kept_in_self(self: Any, view: View, event: Event) -> None:
    """Append to the object's own list."""
    self.seen.append(event.id)
    view.put(n=1)


def kept_in_the_class(self: Any, view: View, event: Event) -> None:
    """Set an attribute of the class."""
    type(self).newest = event.key
    view.put(n=1)


def kept_in_the_module(_self: Any, view: View, event: Event) -> None:
    """Count in the module."""
    KNOWN[event.key] = KNOWN.get(event.key, 0) + 1
    view.put(n=1)


def kept_in_a_default(_self: Any, view: View, event: Event, known: list[str] = []) -> None:  # noqa: B006 - the mistake
    """Append to a default."""
    known.append(event.id)
    view.put(n=1)


def sorts_the_payload(_self: Any, view: View, event: Event) -> None:
    """Sort a list of the event in place."""
    event.data["lines"].sort()
    view.put(n=1)


def renames_the_event(_self: Any, view: View, event: Event) -> None:
    """Set the event's own type."""
    event.type = "Other"
    view.put(n=1)


def reading(read: Callable[[], object]) -> Handle:
    """Read something that a handler must not, and let it change nothing."""

    def handle(_self: Any, view: View, _event: Event) -> None:
        read()
        view.put(n=1)

    return handle


def from_a_socket() -> None:
    """Connect."""
    with socket.socket() as connection:
        connection.connect_ex(("127.0.0.1", 1))


def from_another_thread() -> None:
    """Start a thread."""
    import threading

    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


PURITY: Mapping[str, tuple[str, Handle]] = {
    "self": ("state", kept_in_self),
    "class": ("state", kept_in_the_class),
    "module": ("state", kept_in_the_module),
    "default": ("state", kept_in_a_default),
    "payload": ("mutation", sorts_the_payload),
    "event": ("mutation", renames_the_event),
    "time.time": ("clock", reading(time.time)),
    "a name for time": ("clock", reading(seconds_since_the_epoch)),
    "time.monotonic": ("clock", reading(time.monotonic)),
    "datetime.now": ("clock", reading(lambda: datetime.now(UTC))),
    "date.today": ("clock", reading(date.today)),
    "random.random": ("randomness", reading(random.random)),
    "random.choice": ("randomness", reading(lambda: random.choice("ab"))),
    "Random()": ("randomness", reading(lambda: random.Random().random())),
    "uuid4": ("randomness", reading(uuid.uuid4)),
    "os.urandom": ("randomness", reading(lambda: os.urandom(4))),
    "secrets": ("randomness", reading(lambda: secrets.token_hex(4))),
    "hash": ("randomness", reading(lambda: hash("text"))),
    "open": ("outside", reading(lambda: Path(__file__).open().close())),
    "read_text": ("outside", reading(lambda: Path(__file__).read_text(encoding="utf-8"))),
    "socket": ("outside", reading(from_a_socket)),
    "thread": ("outside", reading(from_another_thread)),
    "getenv": ("environment", reading(lambda: os.getenv("HOME"))),
    "os.environ": ("environment", reading(lambda: os.environ["PATH"])),
}
"""What a handler does, and the check that tells of it."""
