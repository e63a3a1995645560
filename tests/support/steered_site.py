"""Two real daemons on one durable DynamoDB server, each with a control socket of its own, and `projectionctl` for both.

Owns the logs, what is expected of every row, and the daemons' lives. Tests share one pair: each leaves every shard
running and settled, whichever daemon has it, and `assert_right` holds rows and counters against the fold of the logs.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.demo.services.dynoxide import Dynoxide
from tests.ctl.conftest import run_here
from tests.support.commands import CTL, Ended
from tests.support.daemons import RealDaemon, fork_daemon
from tests.support.steered import FAULTS, PROJECTIONS
from tests.support.tables import BOOKKEEPING, KEYS, Tables

SHARDS = ("s0", "s1")
SCOPES = len(PROJECTIONS) * len(SHARDS)
KEYS_OF_A_SHARD = 3
LEASE_SECONDS = 2.0
PATIENCE_SECONDS = 90.0
"""How long anything awaited may take; its test fails after that."""
_PREFIX = "steered"
_LOOK_SECONDS = 0.05
_ENDS = (
    "applied", "duplicate_position", "duplicate_marker", "duplicate_version", "dead_lettered", "parked", "skipped",
)  # fmt: skip


@dataclass
class Pair:
    """The two daemons, numbered 0 and 1. `without` holds, by projection, events that a person gave up."""

    path: Path
    sockets: Path
    server: Dynoxide
    daemons: dict[int, RealDaemon] = field(default_factory=dict[int, RealDaemon])
    logs: dict[str, list[str]] = field(default_factory=lambda: {shard: [] for shard in SHARDS})
    without: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in PROJECTIONS})
    faults: set[str] = field(default_factory=set[str])
    spoiled: bool = False
    """Something was waited for in vain: no other test should wait as long."""
    _started: int = 0

    # The daemons

    def start(self, which: int) -> None:
        """Start a daemon, and wait until its socket answers."""
        settings = {"CONTROL__PATH": str(self.socket(which))}
        command = ("run", "--config", str(self.path / "projectiond.toml"), "--json")
        environment = KEYS | {FAULTS: str(self.path / "faults")}
        self.daemons[which] = fork_daemon(command, settings, self.path, self._started, environment)
        self._started += 1
        self.until(lambda: not self.daemons[which].alive or self.ctl(which, "status").code == 0)

    def freeze(self, which: int) -> None:
        """Stop a daemon amid whatever it does; it neither obeys nor gives up what it owns."""
        pid = self.daemons[which].process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)

    def thaw(self, which: int) -> None:
        """Let a frozen daemon go on."""
        pid = self.daemons[which].process.pid
        assert pid is not None
        os.kill(pid, signal.SIGCONT)

    def socket(self, which: int) -> Path:
        """Return a daemon's socket."""
        return self.sockets / str(which) / "control.sock"

    # Asking

    def ctl(self, which: int, *words: str) -> Ended:
        """Run `projectionctl` against one of the daemons."""
        return run_here(self.path, words, {"PROJECTIONCTL_SOCKET": str(self.socket(which))})

    def told(self, which: int, *words: str, code: int = 0) -> Any:
        """Run a command that has to end with `code`, and return its document."""
        ended = self.ctl(which, *words, "--json")
        assert ended.code == code, (words, ended)
        return ended.document

    @contextmanager
    def begun(self, which: int, *words: str) -> Generator["subprocess.Popen[str]"]:
        """Run a command as a process of its own, which is ended with the block."""
        environment = os.environ | {"PROJECTIONCTL_SOCKET": str(self.socket(which))}
        process = subprocess.Popen(
            [CTL, *words, "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def shards(self, which: int, target: str = "all") -> dict[str, Any]:
        """Return how each shard stands, by its label, as one daemon says."""
        return {shard["scope"]["label"]: shard for shard in self.told(which, "shards", target)["shards"]}

    def owner(self, label: str) -> int:
        """Return which daemon runs a shard, once one does."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [which for which in self.daemons if self.shards(which, label)[label]["here"]]
            return len(found) == 1

        self.until(look)
        return found[0]

    # Waiting

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self.spoiled = time.monotonic() > deadline
            assert not self.spoiled, {which: one.log()[-2_000:] for which, one in self.daemons.items()}
            time.sleep(_LOOK_SECONDS)

    def until_divided(self) -> None:
        """Wait until each daemon runs half of the shards."""
        self.until(lambda: all(self._here(which) == SCOPES // 2 for which in (0, 1)))

    def _here(self, which: int) -> int:
        return sum(shard["here"] for shard in self.shards(which).values())

    def until_settled(self) -> None:
        """Wait until every shard runs and has settled what its log holds, nothing being left to obey."""
        self.until(lambda: len(self.shards(0)) == SCOPES and all(map(self._is_settled, self.shards(0).values())))

    def _is_settled(self, shard: Any) -> bool:
        lines = len(self.logs[shard["scope"]["shard"].removesuffix(".jsonl")])
        return shard["state"] == "running" and not shard["pending"] and shard["counters"].get("read") == lines

    # The logs

    def append(self, count: int, *shards: str) -> dict[str, list[str]]:
        """Append so many events to the shards (all, where none is named); return their ids by shard."""
        made: dict[str, list[str]] = {}
        for shard in shards or SHARDS:
            first = len(self.logs[shard])
            made[shard] = [f"{shard}-{number}" for number in range(first, first + count)]
            self.logs[shard] += made[shard]
            with (self.path / f"{shard}.jsonl").open("a", encoding="ascii") as log:
                log.writelines(map(_line, made[shard]))
        return made

    def append_failing(self, kind: str, count: int, shard: str) -> list[str]:
        """Append events that fail: `poison` or `deadly`."""
        first = len(self.logs[shard])
        self.faults |= {f"{kind} {shard}-{number}" for number in range(first, first + count)}
        self._write_faults()
        return self.append(count, shard)[shard]

    def end_of(self, event: str) -> int:
        """Return the offset behind an event's line."""
        shard, _, number = event.partition("-")
        lines = (self.path / f"{shard}.jsonl").read_bytes().splitlines(keepends=True)
        return sum(map(len, lines[: int(number) + 1]))

    def mends(self) -> None:
        """Have no event fail any more."""
        self.faults.clear()
        self._write_faults()

    def _write_faults(self) -> None:
        beside = self.path / "faults.new"
        beside.write_text("\n".join(sorted(self.faults)), encoding="ascii")
        beside.rename(self.path / "faults")

    # What they come to

    def rows(self, projection: str) -> dict[str, dict[str, Any]]:
        """Read a projection's rows, without bookkeeping."""
        items = Tables(self.server.address, _PREFIX).read(f"{projection}-g1")
        return {item["key"]: {name: item[name] for name in item.keys() - BOOKKEEPING} for item in items}

    def assert_right(self) -> None:
        """Every row is the fold of what its log holds, each event once, and every event ended as one thing."""
        self.until_settled()
        for projection in PROJECTIONS:
            wanted: dict[str, Counter[str]] = {}
            for events in self.logs.values():
                for event in events:
                    if event not in self.without[projection]:
                        wanted.setdefault(key_of(event), Counter())[event] += 1
            rows = self.rows(projection)
            assert {key: Counter(row["seen"]) for key, row in rows.items()} == wanted, projection
            amounts = {key: sum(map(amount_of, seen)) for key, seen in wanted.items()}
            assert {key: row["amount"] for key, row in rows.items()} == amounts, projection
        for label, shard in self.shards(1).items():
            counters = shard["counters"]
            assert counters["read"] == sum(counters.get(end, 0) for end in _ENDS), (label, counters)


def label(projection: str, shard: str) -> str:
    """Return a shard's label."""
    return f"{projection}-g1:log/{shard}.jsonl"


def key_of(event: str) -> str:
    """Return the key of an event: no two shards share one."""
    shard, _, number = event.partition("-")
    return f"{shard}-k{int(number) % KEYS_OF_A_SHARD}"


def amount_of(event: str) -> int:
    """Return the amount of an event."""
    return int(event.partition("-")[2]) * 7 % 13


def _line(event: str) -> str:
    data = {"key": key_of(event), "amount": amount_of(event)}
    return json.dumps({"specversion": "1.0", "id": event, "type": "Moved", "source": "/log", "data": data}) + "\n"


def _settings(site: Path, server: Dynoxide) -> str:
    return f"""\
[daemon]
projections = ["tests.support.steered"]
[store]
kind = "dynamodb"
prefix = "{_PREFIX}"
endpoint_url = "{server.endpoint}"
allow_test_endpoint = true
[sources.log]
kind = "file"
paths = [{json.dumps(str(site / "s*.jsonl"))}]
envelope = "cloudevents"
poll_interval_ms = 20
[coordination]
kind = "lease"
lease_seconds = {LEASE_SECONDS}
poll_ms = 100
[engine]
linger_ms = 0
batch_max_events = 10
"""


@contextmanager
def steered_pair(path: Path) -> Generator[Pair]:
    """Start the server and both daemons over logs of a few events, which they settle; end what runs at the end."""
    with Dynoxide(path / "dynoxide/db") as server, tempfile.TemporaryDirectory(prefix="pd-", dir="/tmp") as sockets:
        pair = Pair(path, Path(sockets), server)
        (path / "projectiond.toml").write_text(_settings(path, server), encoding="utf-8")
        pair.mends()
        pair.append(30)
        try:
            pair.start(0)
            pair.start(1)
            pair.until_divided()
            pair.until_settled()
            yield pair
        finally:
            for daemon in pair.daemons.values():
                daemon.kill()
                daemon.process.close()
