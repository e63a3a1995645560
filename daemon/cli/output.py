"""What a command prints: one JSON document for scripts, or tables and lines for people.

Owns the form. On a terminal, tables are as wide as it is and long values are folded; elsewhere they are plain columns,
one line a row, never cut, so that they can be searched. `NO_COLOR` switches every escape sequence off.

Invariants: a stdout that cannot be written ends the command with a line on stderr, a reader that left without a word;
with JSON asked for, nothing but `document` reaches stdout; control characters never reach a terminal.
"""

import json
import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from daemon.cli.exit_codes import ExitCode
from daemon.core.text import escaped

INDENT = 2


class Output:
    """Where a command prints its result."""

    def __init__(self, *, as_json: bool) -> None:
        """Print JSON, or what people read."""
        self.as_json = as_json
        plain = "NO_COLOR" in os.environ and os.environ["NO_COLOR"] != ""
        self._console = _Console(
            file=sys.stdout, highlight=False, markup=False, emoji=False, color_system=None if plain else "auto"
        )

    def document(self, value: object) -> None:
        """Print a JSON document, if JSON was asked for."""
        if self.as_json:
            write_json(value)

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._say(Text(f"\n{escaped(text)}", style="bold"))

    def line(self, text: str) -> None:
        """Print one line."""
        self._say(Text(escaped(text)))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print rows under their columns' names."""
        body = [[escaped(cell) for cell in row] for row in rows]
        if self._console.is_terminal:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
            for name in columns:
                table.add_column(name, overflow="fold")
            for row in body:
                table.add_row(*map(Text, row))
            self._say(Padding(table, (0, 0, 0, INDENT)))
        else:
            self._columns([list(columns), *body])

    def lines_left(self, used: int) -> int:
        """Return how many rows a table may have so that it fits the terminal; any number where there is none."""
        return max(1, self._console.size.height - used - 2) if self._console.is_terminal else sys.maxsize

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Print names and what they stand for; a name that repeats the one above it is left out."""
        rows: list[list[str]] = []
        above = ""
        for name, text in pairs:
            rows.append(["" if name == above else name, escaped(text)])
            above = name
        if self._console.is_terminal:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(overflow="fold")
            for name, text in rows:
                grid.add_row(Text(name), Text(text))
            self._say(Padding(grid, (0, 0, 0, INDENT)))
        else:
            self._columns(rows)

    def _columns(self, rows: list[list[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._say(Text(f"{' ' * INDENT}{'  '.join(cells)}".rstrip()))

    def _say(self, content: Text | Padding) -> None:
        if not self.as_json:
            with to_stdout():
                self._console.print(content, soft_wrap=not self._console.is_terminal)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `to_stdout`."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


@contextmanager
def to_stdout() -> Generator[None]:
    """Write to stdout in this block. A stdout that cannot be written ends the command, with its exit code."""
    try:
        yield
    except OSError as error:
        # What is still held back would fail again as the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(ExitCode.UNREAD) from None
        sys.stderr.write(
            f"error: stdout cannot be written ({error.strerror}); make room there or send it elsewhere, "
            "and run the command again; what was committed stays\n"
        )
        raise typer.Exit(ExitCode.UNREACHABLE) from None


def write_json(value: object) -> None:
    """Write one JSON document and a line end to stdout. Raises as `to_stdout` does."""
    write_text(json.dumps(value, indent=INDENT, ensure_ascii=False, default=str))


def write_text(text: str) -> None:
    """Write a text and a line end to stdout. Raises as `to_stdout` does."""
    with to_stdout():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def said(value: object) -> str:
    """Show a setting's value as it stands in a file."""
    if value is None:
        return "(none)"
    if isinstance(value, bool | int | float | str | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
