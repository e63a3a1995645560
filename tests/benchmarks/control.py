"""Commands to a daemon that folds at full speed: how long an answer takes, and how soon every shard stands still.

The daemon is a process of its own, as is the client that asks it; where there are two cores each has one, so that what
the client's own work takes from the daemon is not counted, nor the other way round.
"""

import contextlib
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio

from daemon import app
from daemon.control.client import Client, Unreachable
from daemon.ports.observer import BatchCommitted, Fact
from daemon.settings import Settings
from tests.benchmarks.figures import Figure, Sizes, figure
from tests.benchmarks.shards import write_ticks

_FEW = 12
_LINES_FACTOR = 4
_MILLI = 1_000.0
_PATIENCE_SECONDS = 30.0
_COMMANDS_A_ROUND = 5
_OTHERS_EVERY = 6
"""One in so many rounds pauses, and asks what takes longer: `lag` looks twice, 250 ms apart, to tell rates."""
_BETWEEN_SECONDS = 0.05
"""Between two commands: folding makes way on credit, which commands without end would use up."""


def control(sizes: Sizes) -> Iterator[Figure]:
    """Measure reading and pausing, at few shards and at many; pauses beside the commits that were under way."""
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(cores)})  # the daemon takes the others
        yield from _at(_FEW, sizes, cores)
        yield from _at(sizes.shards, sizes, cores)
    finally:
        os.sched_setaffinity(0, cores)


def _at(shards: int, sizes: Sizes, cores: AbstractSet[int]) -> Iterator[Figure]:
    commands = sizes.rounds * _COMMANDS_A_ROUND
    others = max(2, sizes.rounds // _OTHERS_EVERY)
    taken: dict[str, list[float]] = {"status": [], "shards": [], "lag": [], "pause": []}
    commits: list[float] = []
    while len(taken["status"]) < commands or len(taken["pause"]) < others:
        with _folding(shards, sizes.log_lines * _LINES_FACTOR // shards, cores - {max(cores)} or cores) as (
            socket,
            told,
        ):
            while not _caught_up(socket) and (len(taken["status"]) < commands or len(taken["pause"]) < others):
                if len(taken["status"]) < commands:  # first: a shard that goes on loads its markers anew
                    taken["status"] += [_seconds(socket, "status", {}) for _ in range(_COMMANDS_A_ROUND)]
                    continue
                taken["shards"].append(_seconds(socket, "shards", {}))
                taken["lag"].append(_seconds(socket, "lag", {}))
                taken["pause"].append(_seconds(socket, "pause", {"target": "all"}))
                _seconds(socket, "resume", {"target": "all"})
        commits += told
        if sizes.rounds == 1:
            break  # a log of a few lines ends before it can be paused twice
    name = f"command round trip while {shards} shards fold, status (p99, wall)"
    yield figure(name, _p99(taken["status"]) * _MILLI, "ms", goal="value <= 20")
    yield figure("  the same, median", _middle(taken["status"]) * _MILLI, "ms")
    if sizes.rounds == 1:
        return
    for command in ("shards", "lag"):
        yield figure(f"  {command} (p99)", _p99(taken[command]) * _MILLI, "ms")
        yield figure(f"  {command} (median)", _middle(taken[command]) * _MILLI, "ms")
    # A commit that a disk kept waiting is a mild judge of the worst pause, so the middle is judged too.
    for what, of in (("p99", _p99), ("median", _middle)):
        pause, commit = of(taken["pause"]) * _MILLI, of(commits) * _MILLI
        name = f"pause acknowledged by {shards} shards, beyond one commit ({what}, wall)"
        yield figure(name, pause - commit, "ms", goal="value <= 50")
        yield figure(f"  pause in all ({what}), against a commit", pause, "ms", baseline=commit)


@contextlib.contextmanager
def _folding(shards: int, lines: int, cores: AbstractSet[int]) -> Generator[tuple[Path, list[float]]]:
    """Run a daemon on these cores over fresh logs of so many lines each.

    The list holds its commits' seconds once it has ended.
    """
    told: list[float] = []
    with tempfile.TemporaryDirectory(prefix="pd-bench-", dir="/tmp") as scratch:
        directory = Path(scratch)
        write_ticks(directory / "logs", shards, lines * shards)
        socket = directory / "c" / "control.sock"
        settings: dict[str, Any] = {
            "daemon": {"projections": ["tests.benchmarks.models"]},
            "store": {"path": str(directory / "rows.db")},
            "sources": {"ticks": {"kind": "file", "paths": [str(directory / "logs" / "ticks-*.jsonl")]}},
            "control": {"path": str(socket)},
        }
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=fold, args=(settings, theirs, cores))
        process.start()
        try:
            _wait_for(socket, shards)
            yield socket, told
        finally:
            process.terminate()
            if ours.poll(_PATIENCE_SECONDS):
                told += ours.recv()
            process.join(_PATIENCE_SECONDS)
            process.kill()
            process.close()


class _Commits:
    """Keeps how long each commit took."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def see(self, fact: Fact) -> None:
        """Take note of a commit."""
        if isinstance(fact, BatchCommitted):
            self.seconds.append(fact.seconds)


def fold(settings: Mapping[str, Any], told: Connection, cores: AbstractSet[int]) -> None:
    """Be a daemon on these cores until told to stop: the body of a child process."""
    os.sched_setaffinity(0, cores)
    commits = _Commits()

    async def main() -> None:
        await app.run(Settings.model_validate(settings), commits)

    anyio.run(main, backend_options={"use_uvloop": True})
    told.send(commits.seconds)


def _wait_for(socket: Path, shards: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            if len(_ask(socket, "shards", {})["shards"]) == shards:
                return
        except Unreachable:
            pass  # not yet
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _caught_up(socket: Path) -> bool:
    return all(shard["caught_up"] for shard in _ask(socket, "shards", {})["shards"])


def _seconds(socket: Path, command: str, args: Mapping[str, Any]) -> float:
    time.sleep(_BETWEEN_SECONDS)
    start = time.perf_counter()
    _ask(socket, command, args)
    return time.perf_counter() - start


def _ask(socket: Path, command: str, args: Mapping[str, Any]) -> Any:
    with Client(socket) as client:
        *_, last = client.ask(command, args, silence=_PATIENCE_SECONDS)
    assert "code" not in last.content, last.content
    return last.content


def _p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[math.ceil(len(seconds) * 0.99) - 1]


def _middle(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]
