"""Real daemons that fold the ledger's logs into a real DynamoDB server: what they leave behind, held against the fold.

The tables are read through a connection of the tests' own, by plain requests: nothing of the daemon's store takes part.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.daemons import Ended, RealDaemon, fork_daemon
from tests.support.ledger import MODES, Expected, Line, Tally, expected, tally, write_log
from tests.support.tables import BOOKKEEPING, KEYS, Tables, plain

SHARDS = ("s0", "s1")
PREFIX = "ledger"
_LOOK_SECONDS = 0.01


@dataclass
class LedgerSite:
    """A directory with logs and daemons, and the address (`host:port`) of the server that they write to."""

    path: Path
    address: str
    logs: dict[str, list[Line]]
    prefix: str = PREFIX
    variables: dict[str, str] = field(default_factory=dict[str, str])
    held_back: dict[str, list[Line]] = field(default_factory=dict[str, list[Line]])
    daemons: list[RealDaemon] = field(default_factory=list[RealDaemon])

    # The logs

    def lay_out(self) -> None:
        """Write settings and logs."""
        settings = [
            "[daemon]",
            'projections = ["tests.support.ledger"]',
            "[store]",
            'kind = "dynamodb"',
            f'prefix = "{self.prefix}"',
            f'endpoint_url = "http://{self.address}"',
            "allow_test_endpoint = true",
            "[sources.ledger]",
            'kind = "file"',
            f"paths = [{json.dumps(str(self.path / 'log-*.jsonl'))}]",
            'envelope = "cloudevents"',
            "poll_interval_ms = 20",
        ]
        (self.path / "projectiond.toml").write_text("\n".join(settings), encoding="utf-8")
        for shard, lines in self.logs.items():
            self._write(shard, lines)

    def hold_back(self, share: float) -> None:
        """Keep the last part of each log for later; call it before anything is written."""
        for shard, lines in self.logs.items():
            kept = int(len(lines) * (1 - share))
            self.held_back[shard] = lines[kept:]
            self.logs[shard] = lines[:kept]

    def let_out(self) -> None:
        """Append what was held back."""
        for shard, lines in self.held_back.items():
            self._write(shard, lines)
            self.logs[shard] += lines
        self.held_back.clear()

    def _write(self, shard: str, lines: Sequence[Line]) -> None:
        with (self.path / f"log-{shard}.jsonl").open("a", encoding="utf-8") as log:
            log.writelines(f"{line.text()}\n" for line in lines)

    @property
    def expected(self) -> Expected:
        """What the logs come to, for each projection."""
        return expected(self.logs)

    @property
    def total(self) -> int:
        """Lines to settle, each counted once per projection."""
        return len(MODES) * sum(map(len, self.logs.values()))

    # The daemons

    def start(self, *words: str, **variables: str) -> RealDaemon:
        """Start a daemon: `projectiond run --json` with more words, and settings as `ENGINE__LINGER_MS="0"`."""
        command = ("run", "--config", str(self.path / "projectiond.toml"), "--json", *words)
        settings = {"ENGINE__LINGER_MS": "0"} | self.variables | variables
        daemon = fork_daemon(command, settings, self.path, len(self.daemons), KEYS)
        self.daemons.append(daemon)
        return daemon

    def once(self, **variables: str) -> Ended:
        """Run a daemon until it has settled what the logs hold."""
        return self.start("--once", **variables).wait()

    # What they leave

    @property
    def tables(self) -> Tables:
        """The tables of the daemons."""
        return Tables(self.address, self.prefix)

    def checkpoints(self) -> list[dict[str, Any]]:
        """Read the checkpoints of all scopes that there are; not so often that the server has nothing else to do."""
        time.sleep(_LOOK_SECONDS)
        scopes = [f"by-{mode}-g1:ledger/log-{shard}.jsonl" for mode in MODES for shard in self.logs]
        keys = [{"pk": {"S": scope}, "sk": {"S": "checkpoint"}} for scope in scopes]
        state = f"{self.prefix}-state"
        answer = self.tables.call("BatchGetItem", {"RequestItems": {state: {"Keys": keys, "ConsistentRead": True}}})
        found: list[dict[str, Any]] = [] if answer is None else answer["Responses"].get(state, [])
        return [plain({"M": item}) for item in found]

    def commits(self) -> int:
        """Count the changes of all checkpoints: takes, commits and releases."""
        return sum(held["commit_seq"] for held in self.checkpoints())

    def settled(self) -> int:
        """Count the lines whose fate is committed."""
        return sum(held["counters"].get("read", 0) for held in self.checkpoints())

    def owners(self) -> Counter[str]:
        """Count the shards that each replica owns; those that nobody does under the empty name."""
        return Counter(held.get("owner", "").rpartition("/")[0] for held in self.checkpoints())

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Read every row, with version and provenance, by projection."""
        return {mode: self.tables.read(f"by-{mode}-g1") for mode in MODES}

    def tallies(self) -> dict[str, Tally]:
        """Hold rows, markers, effects and counters of each projection against the fold of the logs."""
        wanted, effects, marked = self.expected, self.tables.read("effects"), Counter[str]()
        for item in self.tables.read("markers"):
            marked[item["pk"].removeprefix("by-event-g1/")] += 1
        counters = {mode: Counter[str]() for mode in MODES}
        for held in self.checkpoints():
            counters[held["pk"].partition("-g1:")[0].removeprefix("by-")].update(held["counters"])
        found: dict[str, Tally] = {}
        for mode, items in self.rows().items():
            rows = {
                (item["view"], item["key"]): {name: value for name, value in item.items() if name not in BOOKKEEPING}
                for item in items
                if "_gone" not in item
            }
            told = tally(rows, wanted)
            problems = [*told.problems, *_differences(mode, counters[mode], wanted)]
            if Counter(item["event_id"] for item in effects if item["pk"] == f"by-{mode}-g1") != Counter(
                wanted.effects
            ):
                problems.append("effects differ")
            if mode == "event" and marked != Counter(wanted.ids):
                problems.append("markers differ")
            found[mode] = Tally(told.lost, told.doubled, tuple(problems))
        return found

    def assert_right(self) -> None:
        """Nothing is lost, nothing doubled, in no dedup mode."""
        for mode, found in self.tallies().items():
            assert found.right, (mode, found.lost, found.doubled, found.problems[:5])


def _differences(mode: str, counters: Mapping[str, int], wanted: Expected) -> list[str]:
    layer = "duplicate_version" if mode == "sequence" else "duplicate_marker"
    due = {
        "read": wanted.read,
        "applied": len(wanted.applied),
        layer: wanted.duplicates,
        "dead_lettered": len(wanted.dead),
    }
    return [f"{name} is {counters[name]}, not {count}" for name, count in due.items() if counters[name] != count]


@contextmanager
def ledger_site(
    path: Path, address: str, count: int, *, seed: int = 1, batch: int = 10, accounts: int = 40, held_back: float = 0.0
) -> Generator[LedgerSite]:
    """Lay out logs of `count` events a shard; end every daemon that was started over them when the block is left."""
    chance = random.Random(seed)
    unfit = dict.fromkeys(range(chance.randrange(5, 50), count, 97), "poison")
    logs = write_log(count, seed=seed, shards=SHARDS, accounts=accounts, unfit=unfit)
    site = LedgerSite(path, address, logs, variables={"ENGINE__BATCH_MAX_EVENTS": str(batch)})
    if held_back:
        site.hold_back(held_back)
    site.lay_out()
    try:
        yield site
    finally:
        for daemon in site.daemons:
            daemon.kill()
            daemon.process.close()
