"""The command `projectiond`: its options and its help.

Owns the words of the command line. Each command imports what it needs when it is run, so that help and completion stay
quick.
"""

import os
import signal
from pathlib import Path
from typing import Annotated, Literal

import typer

from daemon import __version__
from daemon.cli.exit_codes import ExitCode
from daemon.cli.failures import told
from daemon.cli.signals import EarlySignals

CONFIG_VARIABLE = "PROJECTIOND_CONFIG"
SIGNAL_EXIT_BASE = 128
"""What shells and platforms add to a signal's number, to tell it as an exit status."""


def examples(*lines: str) -> str:
    """Return an epilog with one example a line."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines)])


def _table_of_exit_codes() -> str:
    rows = [f"[cyan]{code.value:>3}[/cyan]  {code.meaning}" for code in ExitCode]
    return "\n".join(["[bold]Exit codes[/bold]", *rows])


app = typer.Typer(
    name="projectiond",
    help="Keeps read models true: folds event logs into rows, and commits rows, checkpoint and idempotency markers "
    "together.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{
        examples(
            'projectiond check                  what would run, and every setting',
            'projectiond init --plan            what the store still lacks',
            'projectiond run                    fold until told to stop',
            'projectiond demo                   see it work on a real event log',
            'projectiond --install-completion   complete these commands in your shell',
        )
    }\n\n{_table_of_exit_codes()}",
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar=CONFIG_VARIABLE,
        metavar="FILE",
        help="The settings file; without it ./projectiond.toml, where there is one. PROJECTIOND__ variables are laid "
        "over it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of what people read.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from daemon.cli.output import write_text

        write_text(f"projectiond {__version__}")
        raise typer.Exit(ExitCode.DONE)


@app.callback()
def projectiond(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Take the options that stand before a command; the help is the application's."""


@app.command(
    epilog=examples(
        "projectiond run --config shop.toml",
        "projectiond run --once --json   fold what the logs hold now, then tell",
        "projectiond run --resume 'orders-g1:orders/orders-0.jsonl'",
        "projectiond run --resume all    go on with every parked shard, once mended",
    )
)
def run(
    config: Config = None,
    once: Annotated[
        bool, typer.Option("--once", help="Stop when everything the logs hold now is settled; 1 if a shard is parked.")
    ] = False,
    resume: Annotated[
        list[str] | None,
        typer.Option(
            "--resume",
            metavar="LABEL",
            help="Go on with a parked or paused shard, named as logs and results name it, or 'all'. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the daemon until it is told to stop.

    Logs go to stderr, the result to stdout. SIGTERM or SIGINT drains: what was
    read is folded, committed and released within daemon.grace_period_seconds,
    then it leaves with 0. A second signal ends it at once, which loses nothing.
    """
    early = EarlySignals()  # before all else: what is imported and loaded takes its time
    with told(as_json=as_json):
        from daemon.cli.output import Output
        from daemon.cli.run import run_daemon

        code = run_daemon(config, once=once, resume=resume or (), output=Output(as_json=as_json), early=early)
    raise typer.Exit(code)


@app.command(
    epilog=examples(
        "projectiond check",
        "projectiond check --offline     where DynamoDB cannot be reached, as in a build",
        "projectiond check --json | jq '.projections[].guarantee'",
        "PROJECTIOND__ENGINE__LINGER_MS=0 projectiond check",
    )
)
def check(
    config: Config = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Leave DynamoDB's tables and rights out: check the files alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Validate settings and projections without starting.

    Prints each effective value and where it came from, and for each projection
    what it follows, which guarantee it gets and what that costs. All mistakes of
    settings and projections are told at once. Makes nothing. Of a store in
    DynamoDB it looks at the tables' keys and expiry, and tries every right that
    a run needs, by requests without effect; any other store is not opened.
    """
    with told(as_json=as_json):
        from daemon.cli.check import check_setup
        from daemon.cli.output import Output

        check_setup(config, Output(as_json=as_json), offline=offline)


@app.command(
    epilog=examples(
        "projectiond init --plan              only show what would be made",
        "projectiond init --config shop.toml",
        "projectiond init --yes --json        in a script, for a store in an AWS account",
        "projectiond init --print > tables.json && aws cloudformation deploy --template-file tables.json ...",
        "projectiond init --generation 2      tables for a rebuild's rows, made by a role that may",
    )
)
def init(
    config: Config = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Print the plan and make nothing.")] = False,
    template: Annotated[
        bool,
        typer.Option(
            "--print",
            help="For DynamoDB, print the tables as a CloudFormation template, and look at nothing; else as --plan.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before an AWS account is changed.")] = False,
    generation: Annotated[
        int | None,
        typer.Option("--generation", min=1, metavar="N", help="Make the tables for the rows of generation N ahead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make what the store lacks: database or tables, and each projection's first generation.

    Prints the plan first. What exists is left as it is, or strengthened: expiry,
    indexes, recovery and protection are added where settings or code ask for
    them, and never taken away. So it may be run as often as you like. `run`
    makes missing tables too, unless store.create_tables is off.
    """
    with told(as_json=as_json):
        from daemon.cli.init import InitOptions, initialise
        from daemon.cli.output import Output

        initialise(config, Output(as_json=as_json), InitOptions(only_plan, template, yes, generation))


# Commands that live in modules of their own join here: app.command("demo")(demo_command).


@app.command(
    epilog=examples(
        "projectiond demo                          the year: a million events",
        "projectiond demo --months 2013-01         a month of it",
        "projectiond demo --kills 10 --json",
        "projectiond demo --store dynamodb         January, on a durable DynamoDB server that it starts",
        "projectiond demo --keep                   then run on and tail",
    )
)
def demo(
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where logs and database go; new, or an earlier demo's.")
    ] = Path("var/demo"),
    months: Annotated[
        list[str] | None,
        typer.Option("--months", metavar="YYYY-MM", help="Only the flights of this month. May be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N flights.")] = None,
    kills: Annotated[int, typer.Option("--kills", min=0, metavar="N", help="How often to kill the daemon.")] = 3,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Chooses duplicates and where to kill.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Write the logs anew although they are there.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Run on afterwards, and tell what is committed.")] = False,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="The flights' CSV, instead of the installed data package's."),
    ] = None,
    store: Annotated[
        Literal["sqlite", "dynamodb"], typer.Option("--store", help="Where rows go. dynamodb: January's flights alone.")
    ] = "sqlite",
    full: Annotated[bool, typer.Option("--full", help="The whole year, with --store dynamodb too.")] = False,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="A DynamoDB server, instead of one that is started."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fold a real event log, kill the daemon on the way, check every row.

    Writes the flights that left New York in 2013 as event logs with duplicates
    mixed in, folds them into three read models in a child process that is
    killed with SIGKILL several times, and compares every row with an
    independent pass over the CSV. Ends with 1 if any row or count is wrong.
    """
    with told(as_json=as_json):
        from daemon.cli.demo import run_demo
        from daemon.cli.output import Output
        from daemon.demo.runner import DemoOptions
        from daemon.demo.stores import months_of

        options = DemoOptions(
            directory=directory,
            csv=csv,
            months=months_of(store, months or (), full=full),
            limit=limit,
            kills=kills,
            seed=seed,
            fresh=fresh,
            store=store,
            endpoint=endpoint,
        )
        code = run_demo(options, Output(as_json=as_json), keep=keep)
    raise typer.Exit(code)


def app_main() -> None:
    """Run the command line; always ends by SystemExit with one of `ExitCode`."""
    if os.getpid() == 1:  # the first process of a container: for it the kernel's own action is to ignore the signal
        signal.signal(signal.SIGTERM, _end)
    app(prog_name="projectiond")


def _end(number: int, _frame: object) -> None:
    """End as the signal would end any other process, while nothing else is there to obey it."""
    os._exit(SIGNAL_EXIT_BASE + number)
