"""Errors as people and scripts meet them: one message, one exit code.

Owns the last word on every error of a command. Must not know what the commands do.

Invariants: an error of our tree is one message without a traceback; anything else shows its traceback on stderr and
ends with `ExitCode.BUG`; with JSON asked for, stdout holds `{"error": {...}}` either way.
"""

import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from re import sub

import typer

from daemon import __version__
from daemon.cli.exit_codes import ExitCode, exit_code_of
from daemon.core import errors
from daemon.core.errors import ProjectiondError, Remedy

_PUBLIC = {id(value) for value in vars(errors).values()}
"""The classes of the tree itself; adapters derive their own from them."""


@contextmanager
def told(*, as_json: bool) -> Generator[None]:
    """Turn whatever leaves the block into its message and exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError, SystemExit, GeneratorExit):
        raise  # no failure, or for Click to settle, or an exit with a code of its own
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.SIGNALLED) from None
    except BaseException as error:  # noqa: BLE001 - the last word on every error is here
        raise typer.Exit(tell(error, as_json=as_json)) from None


def tell(error: BaseException, *, as_json: bool) -> ExitCode:
    """Say what went wrong on stderr, and on stdout where JSON was asked for; return the exit code."""
    from daemon.actors.shard import worst

    cause = worst(error)
    code = exit_code_of(cause)
    if code is ExitCode.BUG:
        sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.write(
            f"error: this is a bug in projectiond {__version__}, please report it with the lines above; "
            "nothing committed is lost\n"
        )
    else:
        sys.stderr.write(f"error: {cause}\n")
    if as_json:
        from daemon.cli.output import write_json

        write_json({"error": _document(cause)})
    return code


def _document(error: BaseException) -> dict[str, object]:
    known = isinstance(error, ProjectiondError)
    document: dict[str, object] = {
        "code": code_of(error),
        "message": str(error) if known else f"{type(error).__name__}: {error}",
        "remedy": error.remedy if known else Remedy.REPORT,
    }
    problems = getattr(error, "documents", None)
    if problems is not None:
        document["problems"] = problems
    return document


def code_of(error: BaseException) -> str:
    """Return an error's stable code: the name of its class in the tree, `store-too-new`; `bug` outside the tree."""
    kind = next(
        (kind for kind in type(error).__mro__ if id(kind) in _PUBLIC and issubclass(kind, ProjectiondError)), None
    )
    return "bug" if kind is None else sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()
