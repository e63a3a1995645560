"""The command `projectionctl`: its options and its help.

Owns the words of the command line. Each command imports what it needs when it is run, so that help and completion stay
quick.
"""

from typing import Annotated

import typer

from daemon import __version__
from daemon.cli.ctl import again
from daemon.cli.ctl.call import Caller, answered
from daemon.cli.ctl.options import (
    AnyTarget,
    AsJson,
    Config,
    Interval,
    Projection,
    Request,
    Socket,
    Target,
    Timeout,
    Wait,
    Watch,
    Yes,
    examples,
)
from daemon.cli.exit_codes import ExitCode

EXIT_CODES = {
    ExitCode.DONE: "done",
    ExitCode.INVALID: "wrong command line or arguments; nothing was done",
    ExitCode.REFUSED: "refused: not permitted, not found, in conflict, or not as things stand",
    ExitCode.PENDING: "accepted or waited for, and not done in the time given; it goes on",
    ExitCode.UNREACHABLE: "no daemon answers, or its store or log does not; try again",
    ExitCode.BUG: "a bug in projectiond; the daemon's log holds the report",
    ExitCode.SIGNALLED: "interrupted; what was begun goes on",
}


def _table_of_exit_codes() -> str:
    rows = [f"[cyan]{code.value:>3}[/cyan]  {meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join(["[bold]Exit codes[/bold]", *rows])


app = typer.Typer(
    name="projectionctl",
    help="Steers a running projectiond over its socket. Every command is answered by what each shard did about it, or "
    "by why not and what to do.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{
        examples(
            'projectionctl status                           what is stuck, and the way out',
            'projectionctl pause order-summary              stand still, over restarts too',
            'projectionctl resume order-summary:orders/0    go on with one shard',
            'projectionctl wait order-summary --event 4711  read your writes',
            'kubectl exec deploy/projectiond -- projectionctl lag --json',
            'projectionctl --install-completion             complete names in your shell',
        )
    }\n\n{_table_of_exit_codes()}",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"projectionctl {__version__}")
        raise typer.Exit(ExitCode.DONE)


@app.callback()
def projectionctl(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Take the options that stand before a command; the help is the application's."""


# -- reading -------------------------------------------------------------------------------------------------------


@app.command(epilog=examples("projectionctl status", "projectionctl status order-summary --watch"))
def status(
    target: AnyTarget = "all",
    watch: Watch = False,
    interval: Interval = 2.0,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show how every projection stands, and each shard that is stuck.

    Of a stuck shard: why, since when, at which event, and the command that
    leaves that state.
    """
    _look("status", target, watch, interval, Caller(socket, config, as_json=as_json))


@app.command(epilog=examples("projectionctl shards", "projectionctl shards order-summary --json"))
def shards(
    target: AnyTarget = "all",
    watch: Watch = False,
    interval: Interval = 2.0,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show every shard: its state, position, counters and owner."""
    _look("shards", target, watch, interval, Caller(socket, config, as_json=as_json))


@app.command(epilog=examples("projectionctl lag", "projectionctl lag order-summary --watch --interval 5"))
def lag(
    target: AnyTarget = "all",
    watch: Watch = False,
    interval: Interval = 2.0,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show how far every shard is behind: events, seconds, and until when it has caught up."""
    _look("lag", target, watch, interval, Caller(socket, config, as_json=as_json))


@app.command(epilog=examples("projectionctl top", "projectionctl top order-summary --interval 0.5"))
def top(
    target: AnyTarget = "all",
    interval: Interval = 1.0,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show a live table of every shard, until Ctrl-C; with --json one document a line."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.reading import show_top, stream

        args = {"target": target, "interval_seconds": interval}
        stream(Caller(socket, config, as_json=as_json), "top", args, show_top, anew=True)


@app.command(epilog=examples("projectionctl tail order-summary", "projectionctl tail --json | jq .events[].id"))
def tail(target: AnyTarget = "all", socket: Socket = None, config: Config = None, as_json: AsJson = False) -> None:
    """Show events as they are committed, with what became of each, until Ctrl-C.

    Of shards that the daemon asked runs itself; no payloads. Where events come
    faster than they are read, some are left out, and counted.
    """
    with answered(as_json=as_json):
        from daemon.cli.ctl.reading import show_tail, stream

        stream(Caller(socket, config, as_json=as_json), "tail", {"target": target}, show_tail, anew=False)


@app.command(epilog=examples("projectionctl audit", "projectionctl audit order-summary --limit 5 --json"))
def audit(
    target: AnyTarget = "all",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Operations at most.")] = 50,
    watch: Watch = False,
    interval: Interval = 2.0,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show who asked for what, when, and what became of it, newest first."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.reading import look, show_audit

        caller = Caller(socket, config, as_json=as_json)
        look(caller, "audit", {"target": target, "limit": limit}, show_audit, watch=watch, interval=interval)


@app.command(
    epilog=examples("projectionctl explain order-summary order-17", "projectionctl explain order-summary-g2 17")
)
def explain(
    projection: Projection,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The row's own key.", show_default=False)],
    view: Annotated[str, typer.Option("--view", metavar="VIEW", help="The kind of row.")] = "main",
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show where a row comes from: the event, position, commit and generation that last touched it, and its marker."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.reading import look, show_explanation

        args = {"target": projection, "key": key, "view": view}
        look(Caller(socket, config, as_json=as_json), "explain", args, show_explanation)


@app.command(
    epilog=examples(
        "projectionctl wait order-summary --position orders/0:4711",
        "projectionctl wait order-summary --event 3f1c --timeout 10 || echo 'not yet'",
    )
)
def wait(
    projection: Projection,
    position: Annotated[
        str | None, typer.Option("--position", metavar="SOURCE/SHARD:POS", help="Until the shard has settled this.")
    ] = None,
    event: Annotated[
        str | None, typer.Option("--event", metavar="ID", help="Until the event of this id is settled.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, max=86_400, metavar="S", help="Seconds to wait at most.")
    ] = 30.0,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Wait until what was written can be read; 0 when it can, 4 when the time is over."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.waiting import wait_for

        caller = Caller(socket, config, as_json=as_json)
        code = wait_for(caller, projection, position, event, timeout=timeout)
    raise typer.Exit(code)


# -- changing ------------------------------------------------------------------------------------------------------

Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever reads status and audit later.")]


@app.command(epilog=examples("projectionctl pause order-summary --reason 'INC-12'", "projectionctl pause all --wait"))
def pause(
    target: Target,
    reason: Why = "",
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Stop after the commit in flight, until resumed; across restarts, and on every replica."""
    caller = Caller(socket, config, as_json=as_json, request=request)
    _change("pause", {"target": target, "reason": reason}, wait_, timeout, caller)


@app.command(epilog=examples("projectionctl drain order-summary --wait", "projectionctl drain all --timeout 60"))
def drain(
    target: Target,
    reason: Why = "",
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Commit all that was read, then stand still until resumed."""
    caller = Caller(socket, config, as_json=as_json, request=request)
    _change("drain", {"target": target, "reason": reason}, wait_, timeout, caller)


@app.command(epilog=examples("projectionctl resume all", "projectionctl resume order-summary-g1:orders/0"))
def resume(
    target: Target,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Go on with what is paused, drained or parked."""
    caller = Caller(socket, config, as_json=as_json, request=request)
    _change("resume", {"target": target}, wait_, timeout, caller)


@app.command(epilog=examples("projectionctl restart order-summary-g1:orders/0"))
def restart(
    target: Target,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Drop all memory of a shard and take it again; a parked one tries again, a paused one stays paused."""
    caller = Caller(socket, config, as_json=as_json, request=request)
    _change("restart", {"target": target}, wait_, timeout, caller)


@app.command(
    epilog=examples(
        "projectionctl skip order-summary orders/0 --position 4711",
        "projectionctl skip order-summary orders/0 --position 4711 --yes --json",
    )
)
def skip(
    projection: Projection,
    shard: Annotated[
        str, typer.Argument(metavar="SHARD", help="SOURCE/SHARD, as `shards` shows it.", show_default=False)
    ],
    position: Annotated[
        str, typer.Option("--position", metavar="X", help="Where to go on after; nothing up to it is folded.")
    ],
    yes: Yes = False,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Move a shard's position past events that cannot be folded.

    The shard is moved only if it still stands where it was when you were asked.
    What was skipped is kept as one range, and a re-delivery can apply it later.
    """
    with answered(as_json=as_json):
        from daemon.cli.ctl.changing import skip as skip_shard

        caller = Caller(socket, config, as_json=as_json, request=request)
        code = skip_shard(caller, f"{projection}:{shard}", position, yes=yes, wait=wait_, timeout=timeout)
    raise typer.Exit(code)


# -- again, or at last ---------------------------------------------------------------------------------------------

app.command(
    epilog=examples(
        "projectionctl rewind order-summary --to 2026-03-01T00:00:00Z",
        "projectionctl rewind order-summary --shard orders/0 --to 4711 --dry-run",
        "projectionctl rewind order-summary --to earliest --yes --wait",
    )
)(again.rewind)
app.add_typer(again.replay, name="replay")
app.add_typer(again.letters, name="dead-letters")
app.add_typer(again.keys, name="keys")


def _look(command: str, target: str, watch: bool, interval: float, caller: Caller) -> None:
    with answered(as_json=caller.as_json):
        from daemon.cli.ctl import reading

        show = {"status": reading.show_status, "shards": reading.show_shards, "lag": reading.show_lag}[command]
        reading.look(caller, command, {"target": target}, show, watch=watch, interval=interval)


def _change(command: str, args: dict[str, object], wait_: bool, timeout: float | None, caller: Caller) -> None:
    with answered(as_json=caller.as_json):
        from daemon.cli.ctl.changing import change

        code = change(caller, command, args, wait=wait_, timeout=timeout)
    raise typer.Exit(code)


def app_main() -> None:
    """Run the command line; always ends by SystemExit with one of the exit codes."""
    app(prog_name="projectionctl")
