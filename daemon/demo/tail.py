"""The demonstration kept running: what the daemon commits, as it commits it.

Owns the lines that are shown. Must not know how the daemon was started.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping

from daemon.demo.child import Daemon
from daemon.demo.place import DemoDirectory
from daemon.demo.report import COUNTED
from daemon.demo.watch import Look, ShardLook, Watching

_LOOK_SECONDS = 0.2
_NEW = (
    '{"event_id":"demo/1","kind":"TripDiverted","at":"2014-01-01T12:00:00Z","carrier":"XX","origin":"JFK",'
    '"day":"2014-01-01","dep_delay":20,"flight":1}'
)
"""A trip that the year does not hold."""
ROW = "JFK#2014-01-01"
"""The key of its row of the board."""


def follow(daemon: Daemon, watcher: Watching, say: Callable[[str], None], show_row: str) -> None:
    """Tell what is committed until interrupted.

    `show_row`: the command that shows `ROW`. Raises DaemonEnded when the daemon ends by itself.
    """
    for line in invitation(daemon.directory, show_row):
        say(line)
    seen = _counters(watcher.look())
    try:
        while not daemon.ended():
            look = watcher.look()
            for shard in look.shards:
                line = news(shard, seen.get(shard.scope.label, {}))
                if line:
                    say(f"{time.strftime('%H:%M:%S')}  {line}")
            seen = _counters(look)
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        say("stopping the daemon: what was read is committed")
        return
    daemon.result()
    raise daemon.complaint()


def invitation(directory: DemoDirectory, show_row: str) -> Iterator[str]:
    """Yield how to give the daemon something to do."""
    log = shlex.quote(str(directory.logs / "movements-0.jsonl"))
    yield "The daemon runs on and folds whatever is appended to the logs; Ctrl-C ends it. From another terminal:"
    yield f"  a new event:      echo {shlex.quote(_NEW)} >> {log}"
    yield f"  the same again:   tail -n 1 {log} >> {log}"
    yield f"  its row:          {show_row}"


def news(shard: ShardLook, before: Mapping[str, int]) -> str:
    """Say what a shard's counters gained; nothing when nothing."""
    gained = {name: shard.counters.get(name, 0) - before.get(name, 0) for name in COUNTED}
    counts = ", ".join(f"{name.replace('_', ' by ', 1)} {count:+,}" for name, count in gained.items() if count > 0)
    return f"{shard.scope.label}  {counts}  at {shard.position}" if counts else ""


def _counters(look: Look) -> dict[str, Mapping[str, int]]:
    return {shard.scope.label: shard.counters for shard in look.shards}
