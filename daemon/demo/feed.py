"""The demonstration's logs in Kafka: `python -m daemon.demo.feed --servers HOST:PORT`, for the compose file.

Owns the topics `flights` and `movements`: a partition per shard file, its lines in their order, duplicates and all, so
that Kafka holds just what the files would. Must not know who reads them.

Invariants: topics that hold all of it are left as they are, so that a second run adds nothing; topics that hold
something else are refused, not added to. Exit status: 0, or 1 with the reason on stderr.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import TopicPartition

from daemon.core.errors import ProjectiondError, SettingsProblem, StoreRefused
from daemon.demo.flights import find_csv, read_flights
from daemon.demo.log import SHARDS, write_logs
from daemon.demo.manifest import Manifest

PATIENCE_SECONDS = 120.0
"""How long a broker is waited for."""
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Feed:
    """What is to be written, and where."""

    servers: str
    directory: Path
    manifest: Manifest

    def lines(self) -> Mapping[tuple[str, int], int]:
        """Count the lines of each partition."""
        shards = self.manifest.shards
        numbers = {topic: [shard for shard in shards if shard.source == topic] for topic in self.manifest.sources}
        return {(topic, at): shard.lines for topic, found in numbers.items() for at, shard in enumerate(found)}

    def file(self, topic: str, partition: int) -> Path:
        """Return the file whose lines a partition holds."""
        found = [shard for shard in self.manifest.shards if shard.source == topic]
        return self.directory / found[partition].file

    async def run(self) -> int:
        """Write what is missing; return how many lines were written. Raises ProjectiondError, KafkaError."""
        await self._make_topics()
        held, wanted = await self._held(), self.lines()
        if held == wanted:
            return 0
        if any(held.values()):
            raise StoreRefused(
                f"topics {', '.join(self.manifest.sources)} at {self.servers} hold {sum(held.values()):,} records, and "
                f"neither none nor the {sum(wanted.values()):,} of these flights; delete them and feed again"
            )
        producer = AIOKafkaProducer(bootstrap_servers=self.servers, enable_idempotence=True, linger_ms=5)
        await producer.start()
        try:
            for topic, partition in wanted:
                with self.file(topic, partition).open("rb") as lines:
                    for line in lines:
                        await producer.send(topic, line.rstrip(b"\n"), partition=partition)
            await producer.flush()
        finally:
            await producer.stop()
        return sum(wanted.values())

    async def _make_topics(self) -> None:
        """Make the topics that are missing, once a broker answers."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    await admin.start()
                    break
                except KafkaConnectionError:
                    await anyio.sleep(_LOOK_SECONDS)
        try:
            for topic in self.manifest.sources:
                made = await admin.create_topics([NewTopic(topic, SHARDS, 1)])
                for _, code, *_ in made.topic_errors:
                    if code and for_code(code) is not TopicAlreadyExistsError:
                        raise for_code(code)
        finally:
            await admin.close()

    async def _held(self) -> Mapping[tuple[str, int], int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers)
        await consumer.start()
        try:
            partitions = {TopicPartition(topic, partition): (topic, partition) for topic, partition in self.lines()}
            ends = await consumer.end_offsets(list(partitions))
            return {partitions[partition]: end for partition, end in ends.items()}
        finally:
            await consumer.stop()


def main(words: Sequence[str] | None = None) -> int:
    """Write the logs into files, then into Kafka; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m daemon.demo.feed", description="Writes the demonstration's logs to Kafka."
    )
    option = parser.add_argument
    option("--servers", required=True, metavar="HOST:PORT", help="a broker")
    option("--csv", type=Path, metavar="FILE", help="the flights' CSV, instead of the installed data package's")
    option("--months", nargs="+", default=[], metavar="YYYY-MM", help="only the flights of these months")
    option("--limit", type=int, metavar="N", help="only the first N flights")
    option("--seed", type=int, default=1, metavar="N", help="chooses the duplicates")
    asked = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory(prefix="projectiond-feed-") as place:
            flights = read_flights(asked.csv or find_csv())
            manifest = write_logs(Path(place, "logs"), flights, seed=asked.seed, months=asked.months, limit=asked.limit)
            written = anyio.run(Feed(asked.servers, Path(place, "logs"), manifest).run)
    except TimeoutError:
        return _told(
            SettingsProblem(f"no broker answers at {asked.servers} within {PATIENCE_SECONDS:g} s; name one that runs")
        )
    except (ProjectiondError, KafkaError, OSError) as error:
        return _told(error)
    sys.stdout.write(f"{written:,} lines written, of {manifest.lines():,}\n")
    return 0


def _told(error: Exception) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
