"""What can be wrong with settings, said so that it can be put right.

Owns the error of loading, which holds every problem of a file and the environment at once, and how a refused value is
shown. Must not know where problems come from.

Invariants: each problem names the key, the value, what was expected and the remedy; a secret's value, or a value under
an unknown key (which may be a misspelt secret), is never shown; nor is the inside of a list or table.
"""

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from datetime import date, time

from daemon.core.errors import SettingsProblem
from daemon.core.text import escaped

type Key = tuple[str | int, ...]
"""The path of a key: names of tables and keys, then the index in a list."""

HIDDEN = "(hidden)"
MAX_SHOWN_CHARACTERS = 60
MAX_SHOWN_BITS = 256

DEFAULT = "default"
"""Origin of a value that nobody set."""


def from_file(path: object) -> str:
    """Give the origin of a value read from the file `path`."""
    return f"file {escaped(str(path))}"


def from_environment(name: str) -> str:
    """Give the origin of a value read from the environment variable `name`."""
    return f"environment {escaped(name)}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `path` is a dotted key, empty for a whole file; `value` is empty where there is none to show.

    `origin` is where the value comes from: "file PATH", "environment NAME" or "default".
    """

    path: str
    value: str
    expected: str
    remedy: str
    origin: str

    def __str__(self) -> str:
        subject = " = ".join(part for part in (self.path, self.value) if part)
        return f"{subject or 'settings'} ({self.origin}): expected {self.expected}; {self.remedy}"


class SettingsError(SettingsProblem):
    """Settings that cannot be used. `problems` holds all of them, in the order of the keys."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = [f"{count} {'problem' if count == 1 else 'problems'} in the settings"]
        lines += [f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1)]
        super().__init__("\n".join(lines))


def dotted(key: Key) -> str:
    """Spell a key as in TOML, `sources.orders.paths[0]`; a name that needs quotes gets them."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("-", "_").isidentifier()
            text += ("." if text else "") + (part if bare else quoted(part))
    return text


def quoted(text: str) -> str:
    """Show a text on one line in quotes, cut where it is long."""
    rest = "…" if len(text) > MAX_SHOWN_CHARACTERS else ""
    return f'"{escaped(text[:MAX_SHOWN_CHARACTERS])}{rest}"'


def shown(value: object) -> str:
    """Show a refused value as it stands in a file; of a list or table only its form."""
    match value:
        case None | bool():
            return {None: "", True: "true", False: "false"}[value]
        case int():
            large = value.bit_length() > MAX_SHOWN_BITS
            return f"a whole number of {value.bit_length()} bits" if large else str(value)
        case float():
            return repr(value)
        case str():
            return quoted(value)
        case date() | time():
            return value.isoformat()
        case Mapping():
            return "a table"
        case _:
            return f"a list of {len(value)}" if isinstance(value, Sized) else type(value).__name__
