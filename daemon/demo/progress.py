"""How far the demonstration is: bars on a terminal, a line every few seconds elsewhere. Always on stderr.

Owns the form, the rate and the time left. Must not know how the figures are come by.
"""

import sys
import time
from collections import deque
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from daemon.demo.watch import LAYERS, Look

_WINDOW_SECONDS = 5.0
_BAR_SECONDS = 0.1
_LINE_SECONDS = 5.0
_MINUTE = 60


class Rate:
    """Events per second over the newest seconds."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, events: int) -> float:
        """Note how many events are settled at `now` (monotonic seconds); return the rate."""
        seen = self._seen
        seen.append((now, events))
        while len(seen) > 2 and seen[1][0] <= now - _WINDOW_SECONDS:  # noqa: PLR2004 - a rate needs two
            seen.popleft()
        seconds = now - seen[0][0]
        return (events - seen[0][1]) / seconds if seconds > 0 else 0.0


class Display(Protocol):
    """What the demonstration tells while it works."""

    def begin(self, text: str, total: int) -> None:
        """Begin a phase of `total` steps."""
        ...

    def advance(self, done: int) -> None:
        """So many steps are done."""
        ...

    def fold(self, look: Look) -> None:
        """So much is committed."""
        ...

    def say(self, text: str) -> None:
        """Say a line that stays."""
        ...

    def finish(self) -> None:
        """The phase is done."""
        ...


class Shown:
    """A display that shows something now and then. Subclasses say how; use it as a context manager."""

    every = _LINE_SECONDS

    def __init__(self, console: Console) -> None:
        """Show on `console`."""
        self.console = console
        self.text, self.total = "", 0
        self._rate = Rate()
        self._per_second = self._due = self._sample_due = 0.0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self.close()

    def begin(self, text: str, total: int) -> None:
        """Begin a phase of `total` steps."""
        self.finish()
        self.text, self.total = text, total
        self._rate, self._due = Rate(), time.monotonic() + (0.0 if self.every < 1 else self.every)
        self.started()

    def advance(self, done: int) -> None:
        """So many steps are done."""
        if self._is_due():
            self.show(done, "")

    def fold(self, look: Look) -> None:
        """So much is committed."""
        now = time.monotonic()
        if now >= self._sample_due:
            self._sample_due = now + _BAR_SECONDS
            self._per_second = self._rate.add(now, look.read)
        if self._is_due():
            self.show(look.read, figures(look, self.total, self._per_second))

    def say(self, text: str) -> None:
        """Say a line that stays."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self) -> None:
        """Show that the phase has begun."""
        self.say(f"{self.text} ...")

    def show(self, done: int, more: str) -> None:
        """Show how far the phase is."""
        share = done / self.total if self.total else 1.0
        self.say(f"  {share:6.1%}  {more}".rstrip())

    def finish(self) -> None:
        """The phase is done."""

    def close(self) -> None:
        """Show nothing more."""

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + self.every
        return True


class Bars(Shown):
    """A bar for each phase."""

    every = _BAR_SECONDS

    def __init__(self, console: Console) -> None:
        """Show on `console`."""
        super().__init__(console)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def started(self) -> None:
        """Show an empty bar."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[more]}", style="dim"),
            console=self.console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task(self.text, total=self.total, more="")
        self._progress.start()

    def show(self, done: int, more: str) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, more=more, refresh=True)

    def say(self, text: str) -> None:
        """Say a line above the bar."""
        console = self.console if self._progress is None else self._progress.console
        console.print(text, markup=False, highlight=False)

    def finish(self) -> None:
        """Leave a full bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=self.total)
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def display() -> Shown:
    """Return the display that fits stderr."""
    console = Console(stderr=True, emoji=False)
    return Bars(console) if console.is_terminal and not sys.stderr.closed else Shown(console)


def figures(look: Look, total: int, rate: float) -> str:
    """Say rate, lag, duplicates by layer and the time left."""
    lag = max(0, total - look.read)
    stopped = look.duplicates()
    duplicates = ", ".join(f"{stopped[layer]:,} by {layer}" for layer in LAYERS if stopped[layer])
    left = f"{_seconds(lag / rate)} left" if rate > 0 else "waiting"
    return f"{rate:,.0f} events/s, lag {lag:,}, duplicates: {duplicates or 'none'}, {left}"


def _seconds(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < _MINUTE else f"{whole // _MINUTE} min {whole % _MINUTE} s"
