"""`wait`: until a projection has settled a position or an event, so that what was written can be read.

Owns the forms of `--position`. Must not know how it is told that something is settled.
"""

from daemon.cli.ctl.call import Caller
from daemon.cli.exit_codes import ExitCode
from daemon.cli.output import Output
from daemon.core.errors import CommandRefused, RefusalCode


def wait_for(caller: Caller, projection: str, position: str | None, event: str | None, *, timeout: float) -> ExitCode:
    """Wait, and show what was reached. Raises CommandRefused: `pending` once the time is over."""
    args: dict[str, object] = {"target": projection, "event": event, "timeout_seconds": timeout}
    if position is not None:
        shard, _, place = position.rpartition(":")
        if not shard or not place:
            raise CommandRefused(
                RefusalCode.USAGE,
                f"--position {position!r:.200} is no place",
                "write SOURCE/SHARD:POSITION, as orders/0:4711",
            )
        args |= {"target": f"{projection}:{shard}", "position": place}
    reached = caller.ask("wait", args)
    output = Output(as_json=caller.as_json)
    output.document(reached)
    what = f"event {event}" if event is not None else f"position {reached['wanted']}"
    output.line(f"{reached['scope']['label'] if reached['scope'] else projection} has settled {what}")
    return ExitCode.DONE
