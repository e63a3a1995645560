"""`pause`, `resume`, `drain`, `restart`, `skip`: what each shard did about a command.

Owns how an answer is shown and which exit code it comes to. Must not know how shards obey.
"""

import sys
from collections.abc import Mapping
from typing import Any

from daemon.cli.ctl.call import Caller, progress_bar
from daemon.cli.ctl.words import label, text
from daemon.cli.exit_codes import ExitCode
from daemon.cli.output import Output
from daemon.core.errors import CommandRefused, RefusalCode

FOR_EVER_SECONDS = 86_400.0
_SHOWN_SHARDS = 40


def change(
    caller: Caller, command: str, args: Mapping[str, Any], *, wait: bool = False, timeout: float | None = None
) -> ExitCode:
    """Give a command and show what became of it; 4 while a shard has not obeyed, 3 when one refused."""
    seconds = timeout if timeout is not None else FOR_EVER_SECONDS if wait else None
    with progress_bar(command, wanted=not caller.as_json) as progress:
        answer = caller.ask(command, {**args, "wait_seconds": seconds}, progress=progress)
    show_answer(answer, Output(as_json=caller.as_json))
    return code_of(answer)


def code_of(answer: Mapping[str, Any]) -> ExitCode:
    """Return the exit code of a change's answer."""
    if answer["refused"]:
        return ExitCode.REFUSED
    return ExitCode.PENDING if answer["pending"] else ExitCode.DONE


def show_answer(answer: Mapping[str, Any], output: Output) -> None:
    """Print what became of a change."""
    output.document(answer)
    total = answer["done"] + answer["pending"] + answer["refused"]
    parts = [f"{answer['done']} of {total} shards done" if total else "no shard yet: those that start will obey it"]
    parts += [f"{answer[name]} {name}" for name in ("pending", "refused") if answer[name]]
    before = " (asked before; nothing was done again)" if answer["repeated"] else ""
    output.line(f"{answer['command']} {answer['target']}: {', '.join(parts)}{before}")
    shards = sorted(answer["shards"], key=lambda shard: (shard["status"] == "done", label(shard["scope"])))
    if shards:
        output.table(
            ("SHARD", "STATUS", "DETAIL"),
            [(label(shard["scope"]), shard["status"], text(shard["detail"])) for shard in shards[:_SHOWN_SHARDS]],
        )
    if len(shards) > _SHOWN_SHARDS:
        output.line(f"  and {len(shards) - _SHOWN_SHARDS} more, see --json")
    if answer["pending"]:
        output.line(f"Pending shards still obey it. Ask again: projectionctl ... --wait --request {answer['request']}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be taken back. Raises CommandRefused where nobody is there to answer, or says no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandRefused(RefusalCode.USAGE, f"{question} Nobody is here to say yes", "add --yes in a script")
    import typer

    if not typer.confirm(question, err=True):
        raise CommandRefused(RefusalCode.REFUSED, "not confirmed; nothing was done", "ask again when you are sure")


def skip(caller: Caller, target: str, position: str, *, yes: bool, wait: bool, timeout: float | None) -> ExitCode:
    """Move a shard's position to `position`, from where it is seen to stand, once that was confirmed."""
    looking = Caller(caller.socket, caller.config, as_json=caller.as_json)
    shards = looking.ask("shards", {"target": target})["shards"]
    if len(shards) != 1:
        raise CommandRefused(
            RefusalCode.USAGE,
            f"{target} names {len(shards)} shards, and skipping is about one",
            "name it as NAME-g1:SOURCE/SHARD, as `projectionctl shards` shows it",
        )
    standing = shards[0]["position"]
    where = label(shards[0]["scope"])
    confirm(f"Skip what {where} has not folded, from {standing} up to {position}?", yes=yes)
    args = {"target": where, "position": position, "standing": standing}
    return change(caller, "skip", args, wait=wait, timeout=timeout)
