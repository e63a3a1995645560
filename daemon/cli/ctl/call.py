"""One request and its answers, and what becomes of a refusal.

Owns finding the daemon, the progress that is shown while it works, and errors as one message and an exit code. Must not
know what any command's result holds.

Invariants: a refusal is the daemon's own words, reason and remedy, and never a traceback; with JSON asked for, stdout
holds `{"error": {...}}` then.
"""

import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from daemon.cli.exit_codes import ExitCode
from daemon.control.client import Client, Unreachable, WrongSocket, find_socket, fresh_id
from daemon.control.frames import Kind
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.text import escaped

CONFIG_VARIABLE = "PROJECTIOND_CONFIG"
SOCKET_VARIABLE = "PROJECTIONCTL_SOCKET"
_DEFAULT_CONFIG = Path("projectiond.toml")

EXIT_CODES: Mapping[RefusalCode, ExitCode] = MappingProxyType({
    RefusalCode.USAGE: ExitCode.INVALID,
    RefusalCode.REFUSED: ExitCode.REFUSED,
    RefusalCode.FORBIDDEN: ExitCode.REFUSED,
    RefusalCode.NOT_FOUND: ExitCode.REFUSED,
    RefusalCode.CONFLICT: ExitCode.REFUSED,
    RefusalCode.PENDING: ExitCode.PENDING,
    RefusalCode.BUSY: ExitCode.UNREACHABLE,
    RefusalCode.UNAVAILABLE: ExitCode.UNREACHABLE,
    RefusalCode.BUG: ExitCode.BUG,
})  # fmt: skip

type Frame = Mapping[str, Any]
type See = Callable[[Frame], None]


class Caller:
    """Asks one daemon. `request`: the id of one that may have been asked before; `repeats`: whether one was given."""

    def __init__(self, socket: Path | None, config: Path | None, *, as_json: bool, request: str | None = None) -> None:
        """Find the daemon when it is first asked."""
        self.as_json = as_json
        self.request = request or fresh_id()
        self.repeats = request is not None
        self.socket = socket
        self.config = config

    def ask(
        self, command: str, args: Mapping[str, Any], *, progress: See | None = None, row: See | None = None
    ) -> dict[str, Any]:
        """Send a request and return its result; what it tells on the way goes to `progress` or `row`.

        Arguments that are None are left out. Raises CommandRefused, Unreachable, WrongSocket.
        """
        given = {name: value for name, value in args.items() if value is not None}
        with Client(self._path()) as client:
            for answer in client.ask(command, given, request=self.request):
                if answer.kind is Kind.RESULT:
                    return answer.content
                if answer.kind is Kind.ERROR:
                    error = answer.content
                    raise CommandRefused(RefusalCode(error["code"]), error["reason"], error["remedy"])
                see = row if answer.kind is Kind.ROW else progress
                if see is not None:
                    see(answer.content | ({"missed": answer.missed} if answer.missed else {}))
        raise Unreachable("the daemon went away before it answered; ask again")  # pragma: no cover - ask raises before

    def _path(self) -> Path:
        config = self.config
        if config is None and _DEFAULT_CONFIG.exists():
            config = _DEFAULT_CONFIG
        return find_socket(self.socket, config, os.environ)


@contextmanager
def answered(*, as_json: bool) -> Generator[None]:
    """Turn whatever leaves the block into its message and exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.SIGNALLED) from None
    except CommandRefused as refused:
        _tell(str(refused.code), refused.reason, refused.way_out, as_json=as_json)
        raise typer.Exit(EXIT_CODES[refused.code]) from None
    except Unreachable as error:
        reason, _, remedy = str(error).rpartition("; ")
        _tell("unreachable", reason, remedy, as_json=as_json)
        raise typer.Exit(ExitCode.UNREACHABLE) from None
    except WrongSocket as error:
        reason, _, remedy = str(error).rpartition("; ")
        _tell("usage", reason, remedy, as_json=as_json)
        raise typer.Exit(ExitCode.INVALID) from None


def _tell(code: str, reason: str, remedy: str, *, as_json: bool) -> None:
    sys.stderr.write(f"error: {escaped(reason)}\n{escaped(remedy)}\n")
    if as_json:
        from daemon.cli.output import write_json

        write_json({"error": {"code": code, "reason": reason, "remedy": remedy}})


@contextmanager
def progress_bar(what: str, *, wanted: bool) -> Generator[See]:
    """Show how far a command has come, on stderr, where that is a terminal; `settled` of `total`, or a sentence."""
    with ExitStack() as stack:
        if not wanted or not sys.stderr.isatty():
            yield lambda _frame: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        task = bar.add_task(what, total=None)

        def see(frame: Frame) -> None:
            total, settled = frame.get("total"), frame.get("settled")
            if isinstance(total, int) and isinstance(settled, int):
                bar.update(task, total=total, completed=settled)

        yield see
