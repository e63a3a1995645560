"""`rewind`, `replay`, `dead-letters`, `keys`: the words of the command line.

Each command imports what it needs when it is run.
"""

from typing import Annotated, Any

import typer

from daemon.cli.ctl.call import Caller, answered
from daemon.cli.ctl.options import (
    AnyTarget,
    AsJson,
    Config,
    Interval,
    Request,
    Socket,
    Target,
    Timeout,
    Wait,
    Watch,
    Yes,
    examples,
)

_CONTEXT = {"help_option_names": ["-h", "--help"]}
replay = typer.Typer(
    help="Deliver a bounded range again: plan, apply, watch, abort.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings=_CONTEXT,
)
letters = typer.Typer(
    help="Events that could not be applied: list, show, retry, discard.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings=_CONTEXT,
)
keys = typer.Typer(
    help="Keys whose events wait: see which, release them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings=_CONTEXT,
)

From = Annotated[
    str,
    typer.Option("--from", metavar="PLACE", help="earliest, a position, or a time: what comes after it is delivered."),
]
To = Annotated[str, typer.Option("--to", metavar="PLACE", help="now, a position, or a time.")]
OfKey = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only those of this key.")]
OfReason = Annotated[str | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason.")]
OfHandler = Annotated[str | None, typer.Option("--handler", metavar="NAME", help="Only those of this handler.")]
OfEvent = Annotated[str | None, typer.Option("--event", metavar="ID", help="Only that of the event of this id.")]
AtPosition = Annotated[str | None, typer.Option("--position", metavar="POS", help="Only what lies at this position.")]
Every = Annotated[bool, typer.Option("--all", help="All of the target.")]
Most = Annotated[int, typer.Option("--limit", min=0, max=10_000, help="How many are listed; counts are of all.")]


def rewind(
    target: Target,
    to: Annotated[
        str, typer.Option("--to", metavar="PLACE", help="earliest, a position, or a time such as 2026-03-01T00:00:00Z.")
    ],
    shard: Annotated[str | None, typer.Option("--shard", metavar="SOURCE/SHARD", help="Only this shard.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Fold the range, show the rows that would change, and change nothing.")
    ] = False,
    yes: Yes = False,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Deliver again what lies after a place, up to where each shard stands.

    The live position never moves and live events go on. What was applied is
    suppressed and counted by the layer that proves it; what was dead-lettered,
    parked or skipped is applied now. Price and duration are shown first.
    """
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import rewind as rewind_it
        from daemon.cli.ctl.again_view import show_plan
        from daemon.cli.ctl.reading import look

        caller = Caller(socket, config, as_json=as_json, request=request)
        about = target if shard is None else f"{target}:{shard}"
        if dry_run:
            look(caller, "replay.plan", {"target": about, "from": to, "to": "now", "diff": True}, show_plan)
            return
        code = rewind_it(caller, about, to, yes=yes, wait=wait_, timeout=timeout)
    raise typer.Exit(code)


@replay.command(epilog=examples("projectionctl replay plan order-summary --from 2026-03-01T00:00:00Z --to now"))
def plan(
    target: Target,
    since: From,
    until: To = "now",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Also show the rows that would change, as a diff.")
    ] = False,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what delivering a range again would come to, and the id under which it can be applied."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import show_plan
        from daemon.cli.ctl.reading import look

        args = {"target": target, "from": since, "to": until, "diff": dry_run}
        look(Caller(socket, config, as_json=as_json), "replay.plan", args, show_plan)


@replay.command(
    epilog=examples("projectionctl replay apply order-summary --from earliest --to 0.4711 --plan 5f0c --wait")
)
def apply(
    target: Target,
    since: From,
    until: To,
    plan_: Annotated[str, typer.Option("--plan", metavar="ID", help="The id that the plan gave.")],
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Deliver a planned range again; refused when anything has changed since it was planned."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import apply as apply_it

        caller = Caller(socket, config, as_json=as_json, request=request)
        code = apply_it(caller, target, since, until, plan_, wait=wait_, timeout=timeout)
    raise typer.Exit(code)


@replay.command(epilog=examples("projectionctl replay status order-summary --watch"))
def status(
    target: AnyTarget = "all",
    watch: Watch = False,
    interval: Interval = 2.0,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show how far re-deliveries have come, and what each layer suppressed."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import show_cursors
        from daemon.cli.ctl.reading import look

        caller = Caller(socket, config, as_json=as_json)
        look(caller, "replay.status", {"target": target}, show_cursors, watch=watch, interval=interval)


@replay.command(epilog=examples("projectionctl replay abort order-summary"))
def abort(
    target: Target,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """End the re-delivery under way, rewind or replay; what it applied stays applied."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.changing import change

        caller = Caller(socket, config, as_json=as_json, request=request)
        code = change(caller, "replay.abort", {"target": target}, wait=wait_, timeout=timeout)
    raise typer.Exit(code)


@letters.command("list", epilog=examples("projectionctl dead-letters list order-summary --reason handler-raised"))
def list_letters(
    target: AnyTarget = "all",
    key: OfKey = None,
    reason: OfReason = None,
    handler: OfHandler = None,
    event: OfEvent = None,
    position: AtPosition = None,
    limit: Most = 100,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, counts first."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import show_letters
        from daemon.cli.ctl.reading import look

        args = {"target": target, "limit": limit} | _which(key, reason, handler, event, position, every=False)
        look(Caller(socket, config, as_json=as_json), "dead-letters.list", args, show_letters)


@letters.command(epilog=examples("projectionctl dead-letters show order-summary:orders/0 --position 0.4711"))
def show(
    target: Target,
    position: Annotated[str, typer.Option("--position", metavar="POS", help="Where its event lies.")],
    event: OfEvent = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its payload, which may hold personal data."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import show_letter
        from daemon.cli.ctl.reading import look

        args = {"target": target, "position": position, "event": event}
        look(Caller(socket, config, as_json=as_json), "dead-letters.show", args, show_letter)


@letters.command(epilog=examples("projectionctl dead-letters retry order-summary --reason handler-raised --wait"))
def retry(
    target: Target,
    key: OfKey = None,
    reason: OfReason = None,
    handler: OfHandler = None,
    event: OfEvent = None,
    position: AtPosition = None,
    every: Every = False,
    yes: Yes = False,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Fold dead letters again, now that what was wrong is mended.

    Each is applied once, and out of the order of its key by nature: later
    events of the key have been applied before it.
    """
    which = _which(key, reason, handler, event, position, every=every)
    _settle_letters(
        "retry", target, which, yes, wait_, timeout, Caller(socket, config, as_json=as_json, request=request)
    )


@letters.command(epilog=examples("projectionctl dead-letters discard order-summary --event 3f1c --yes"))
def discard(
    target: Target,
    key: OfKey = None,
    reason: OfReason = None,
    handler: OfHandler = None,
    event: OfEvent = None,
    position: AtPosition = None,
    every: Every = False,
    yes: Yes = False,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Remove dead letters for good; they count as skipped."""
    which = _which(key, reason, handler, event, position, every=every)
    caller = Caller(socket, config, as_json=as_json, request=request)
    _settle_letters("discard", target, which, yes, wait_, timeout, caller)


@keys.command(epilog=examples("projectionctl keys parked order-summary"))
def parked(
    target: AnyTarget = "all",
    limit: Most = 100,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the parked keys, the longest parked first, and how many events queue behind them."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import show_keys
        from daemon.cli.ctl.reading import look

        look(Caller(socket, config, as_json=as_json), "keys.parked", {"target": target, "limit": limit}, show_keys)


@keys.command(epilog=examples("projectionctl keys release order-summary order-17 --wait"))
def release(
    target: Target,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="The key.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every parked key of the target.")] = False,
    yes: Yes = False,
    wait_: Wait = False,
    timeout: Timeout = None,
    request: Request = None,
    socket: Socket = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Fold what queues behind a parked key, in order; then the key goes on."""
    with answered(as_json=as_json):
        from daemon.cli.ctl.again_view import release as release_key

        caller = Caller(socket, config, as_json=as_json, request=request)
        code = release_key(caller, target, key, every=every, yes=yes, wait=wait_, timeout=timeout)
    raise typer.Exit(code)


def _which(
    key: str | None,
    reason: str | None,
    handler: str | None,
    event: str | None,
    position: str | None,
    *,
    every: bool,
) -> dict[str, Any]:
    names = {"key": key, "reason": reason, "handler": handler, "event": event, "position": position}
    given: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
    return given | ({"every": True} if every else {})


def _settle_letters(
    verb: str, target: str, which: dict[str, Any], yes: bool, wait_: bool, timeout: float | None, caller: Caller
) -> None:
    with answered(as_json=caller.as_json):
        from daemon.cli.ctl.again_view import letters as settle

        code = settle(caller, verb, target, which, yes=yes, wait=wait_, timeout=timeout)
    raise typer.Exit(code)
