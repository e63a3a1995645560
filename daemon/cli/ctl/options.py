"""The options that commands share, and what completes their words.

Owns their names and their help. Invariant: completing a word never fails and never takes long: no daemon, no words.
"""

from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.ctl.call import CONFIG_VARIABLE, SOCKET_VARIABLE

_COMPLETE_SECONDS = 2.0


def examples(*lines: str) -> str:
    """Return an epilog with one example a line."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines)])


def complete_target(incomplete: str) -> list[str]:
    """List projections, generations and shards that begin as the word does, as the daemon at hand knows them."""
    import os

    from daemon.control.client import Client, find_socket

    default = Path("projectiond.toml")
    try:
        socket = os.environ.get(SOCKET_VARIABLE)
        config = Path(os.environ.get(CONFIG_VARIABLE, default))
        path = find_socket(Path(socket) if socket else None, config if config.exists() else None, os.environ)
        with Client(path, timeout=_COMPLETE_SECONDS) as client:
            for answer in client.ask("shards", {}, silence=_COMPLETE_SECONDS):
                if answer.kind.final:
                    scopes = [shard["scope"] for shard in answer.content["shards"]]
                    names = {scope["projection"] for scope in scopes} | {scope["label"] for scope in scopes} | {"all"}
                    return sorted(name for name in names if name.startswith(incomplete))
    except Exception:  # noqa: BLE001 - completion has nobody to tell
        return []
    return []


_TARGET_HELP = "NAME, NAME-g2, NAME:SOURCE/SHARD, NAME-g2:SOURCE/SHARD, or all."

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help=_TARGET_HELP, autocompletion=complete_target, show_default=False)
]
AnyTarget = Annotated[
    str, typer.Argument(metavar="[TARGET]", help=_TARGET_HELP, autocompletion=complete_target, show_default=True)
]
Projection = Annotated[
    str,
    typer.Argument(
        metavar="P", help="A projection, by name; or with its generation, NAME-g2.", autocompletion=complete_target
    ),
]
Socket = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        "-s",
        envvar=SOCKET_VARIABLE,
        metavar="PATH",
        help="The daemon's socket; without it control.path of the settings, else the one daemon that runs here.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar=CONFIG_VARIABLE, metavar="FILE", help="The daemon's settings, for control.path."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of what people read.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")]
Interval = Annotated[
    float, typer.Option("--interval", min=0.1, max=3_600, metavar="S", help="Seconds from one look to the next.")
]
Request = Annotated[
    str | None,
    typer.Option(
        "--request",
        metavar="ID",
        help="The request's id, for trying again after an answer was lost: one id is carried out once.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until every shard has obeyed, however long it takes.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0, max=86_400, metavar="S", help="Wait so many seconds at most; 5 without --wait."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")]
