"""Real daemons over a real Kafka topic: replicas that share one SQLite file, and rows held against a pure fold.

The log is written here, so what was committed to it is known: the rows must be its fold, each id once.
"""

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.daemons import Ended, RealDaemon, fork_daemon
from tests.support.kafka import Hand

PROJECTION = '''
from daemon.api import Event, View, on, projection


@projection(name="tally", version=1, source="log", key="data.key")
class Tally:
    """Per key: how many events, their sum, and the order of the newest."""

    @on("Added")
    def added(self, view: View, event: Event) -> None:
        row = view.row or {"n": 0, "sum": 0, "last": []}
        view.put(n=row["n"] + 1, sum=row["sum"] + event.data["amount"], last=[*row["last"], event.id][-5:])
'''
KEYS = 40


@dataclass
class KafkaSite:
    """A directory with a store, settings and daemons; and what the log holds, by partition, in order."""

    path: Path
    hand: Hand
    servers: str
    partitions: int
    variables: dict[str, str] = field(default_factory=dict[str, str])
    written: dict[int, list[dict[str, Any]]] = field(default_factory=dict[int, list[dict[str, Any]]])
    daemons: list[RealDaemon] = field(default_factory=list[RealDaemon])
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def database(self) -> Path:
        """The store that all replicas share."""
        return self.path / "rows.db"

    @property
    def ids(self) -> int:
        """Different events in the log."""
        return len({event["id"] for events in self.written.values() for event in events})

    async def write(self, count: int, *, aborted: bool = True) -> None:
        """Append events with duplicates, each to its key's partition; some in transactions, half of those aborted."""
        events = [self._event() for _ in range(count)]
        if aborted:
            half = [self._event(ghost=True) for _ in range(count // 4)]
            await self._transact(half, commit=False)
            await self._transact(events[: count // 4])
            events = events[count // 4 :]
        for event in events:
            await self.hand.producer.send(self.hand.topic, _value(event), partition=event["partition"])
            self._note(event)
        await self.hand.producer.flush()

    async def _transact(self, events: list[dict[str, Any]], *, commit: bool = True) -> None:
        producer = await self.hand.transaction()
        for event in events:
            await producer.send(self.hand.topic, _value(event), partition=event["partition"])
            if commit:
                self._note(event)
        await (producer.commit_transaction() if commit else producer.abort_transaction())

    def _note(self, event: dict[str, Any]) -> None:
        self.written.setdefault(event["partition"], []).append(event)

    def _event(self, *, ghost: bool = False) -> dict[str, Any]:
        known = [event for events in self.written.values() for event in events]
        if known and not ghost and self.chance.random() < 0.1:
            return self.chance.choice(known)
        key = self.chance.randrange(KEYS)
        number = self.chance.getrandbits(48)
        return {
            "id": f"{'ghost' if ghost else 'e'}-{number}",
            "partition": key % self.partitions,
            "key": f"k{key}",
            "amount": self.chance.randrange(100),
        }

    def start(self, *words: str, **variables: str) -> RealDaemon:
        """Start a replica: `projectiond run --json` with more words, and settings as `ENGINE__LINGER_MS="0"`."""
        (self.path / "tally_read_model.py").write_text(PROJECTION, encoding="utf-8")
        config = self.path / "projectiond.toml"
        lines = [
            "[daemon]",
            'projections = ["tally_read_model"]',
            "[sources.log]",
            'kind = "kafka"',
            f"servers = {json.dumps([self.servers])}",
            f"topics = {json.dumps([self.hand.topic])}",
        ]
        config.write_text("\n".join(lines), encoding="utf-8")
        settings = {
            "SOURCES__LOG__POLL_INTERVAL_MS": "50",
            "STORE__PATH": str(self.database),
            "ENGINE__BATCH_MAX_EVENTS": "20",
            "ENGINE__LINGER_MS": "0",
        }
        daemon = fork_daemon(
            ("run", "--config", str(config), "--json", *words),
            settings | self.variables | variables,
            self.path,
            len(self.daemons),
        )
        self.daemons.append(daemon)
        return daemon

    def once(self, **variables: str) -> Ended:
        """Run a replica until it has settled what the log holds."""
        return self.start("--once", **variables).wait()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Read the database; nothing while it is being made."""
        try:
            with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as connection:
                return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:
            return []

    def applied(self) -> int:
        """Count the events applied, over all shards."""
        counters = [json.loads(row[0]) for row in self.query('SELECT counters FROM "projectiond-checkpoints"')]
        return sum(counter.get("applied", 0) for counter in counters)

    def owners(self) -> dict[str, str | None]:
        """Return who owns each shard."""
        return dict(self.query('SELECT shard, owner FROM "projectiond-checkpoints"'))

    def assert_right(self) -> None:
        """The rows are the pure fold of what was committed to the log, and each id was applied once."""
        rows = {key: json.loads(found) for key, found in self.query('SELECT key, attributes FROM "tally-g1"')}
        assert rows == self.expected()
        assert self.applied() == self.ids

    def expected(self) -> dict[str, dict[str, Any]]:
        """Fold the log in the plainest way; a key lives in one partition, so the order between them is no matter."""
        rows: dict[str, dict[str, Any]] = {}
        seen: Counter[str] = Counter()
        for events in self.written.values():
            for event in events:
                seen[event["id"]] += 1
                if seen[event["id"]] > 1:
                    continue
                row = rows.setdefault(event["key"], {"n": 0, "sum": 0, "last": []})
                row["n"] += 1
                row["sum"] += event["amount"]
                row["last"] = [*row["last"], event["id"]][-5:]
        return rows


@contextmanager
def kafka_site(path: Path, hand: Hand, servers: str, partitions: int) -> Generator[KafkaSite]:
    """Give a site; end every daemon that was started when the block is left."""
    site = KafkaSite(path, hand, servers, partitions)
    try:
        yield site
    finally:
        for daemon in site.daemons:
            daemon.kill()
            daemon.process.close()


def _value(event: dict[str, Any]) -> bytes:
    data = {"key": event["key"], "amount": event["amount"]}
    fields = {"specversion": "1.0", "id": event["id"], "type": "Added", "source": "/tally", "data": data}
    return json.dumps(fields).encode()
