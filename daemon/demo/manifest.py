"""What a directory of event logs holds: the demonstration's record of every duplicate it mixed in.

Owns `Manifest`, its file `manifest.json`, and the numbers that a report compares with what the daemon stopped.

Invariant: a manifest is written last, and loading one compares each file's size with it, so that logs cut short by a
kill or a power cut are never taken for complete.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST_FILE = "manifest.json"
FORMAT = 3
"""Raised whenever the same flights and seed give other bytes than before; logs of another format are written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCount:
    """What one shard file holds."""

    source: str
    file: str
    events: int
    """Unique events whose own shard this is."""
    at_once: int
    """Copies right behind their original."""
    later: int
    """Copies of single lines, much later in the shard."""
    ranges: int
    """Lines in ranges delivered again."""
    elsewhere: int
    """Copies of events whose own shard is another one."""
    size_bytes: int

    @property
    def duplicates(self) -> int:
        """Lines that tell nothing new."""
        return self.at_once + self.later + self.ranges + self.elsewhere

    @property
    def lines(self) -> int:
        """Lines of the file."""
        return self.events + self.duplicates


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedDuplicates:
    """The duplicates in all shards of one source: what each projection that follows it has to stop, once each."""

    at_once: int
    later: int
    ranges: int
    elsewhere: int

    @property
    def within_shard(self) -> int:
        """Duplicates whose original is in the same shard: what `dedup = "shard"` has to find."""
        return self.at_once + self.later + self.ranges

    @property
    def total(self) -> int:
        """All duplicates: what `dedup = "event"` has to find."""
        return self.within_shard + self.elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the logs of one directory were made of, and what they hold."""

    format: int
    seed: int
    months: tuple[str, ...]
    """The months chosen, such as `2013-01`; all when empty."""
    limit: int | None
    """How many flights were chosen at most, counted in the data's order; None for all."""
    flights: int
    shards: tuple[ShardCount, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources."""
        return tuple(dict.fromkeys(shard.source for shard in self.shards))

    @property
    def size_bytes(self) -> int:
        """Bytes of all shard files."""
        return sum(shard.size_bytes for shard in self.shards)

    def events(self, source: str | None = None) -> int:
        """Unique events of a source, or of all."""
        return sum(shard.events for shard in self.shards if source in {None, shard.source})

    def lines(self, source: str | None = None) -> int:
        """Lines of a source's files, or of all."""
        return sum(shard.lines for shard in self.shards if source in {None, shard.source})


def expected_duplicates(manifest: Manifest) -> Mapping[str, ExpectedDuplicates]:
    """Return, per source, how many duplicates every projection that follows all of it must have stopped.

    Each counts once per projection, whatever the kills: what a restart reads again below its checkpoint comes on top.
    """
    return {
        source: ExpectedDuplicates(
            at_once=sum(shard.at_once for shard in manifest.shards if shard.source == source),
            later=sum(shard.later for shard in manifest.shards if shard.source == source),
            ranges=sum(shard.ranges for shard in manifest.shards if shard.source == source),
            elsewhere=sum(shard.elsewhere for shard in manifest.shards if shard.source == source),
        )
        for source in manifest.sources
    }


def save_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest into its directory, after all that it speaks of."""
    (directory / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def load_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of complete logs, or None: no logs, logs cut short, or logs of another format."""
    try:
        fields: dict[str, Any] = json.loads((directory / MANIFEST_FILE).read_bytes())
        shards = tuple(ShardCount(**shard) for shard in fields.pop("shards"))
        manifest = Manifest(shards=shards, months=tuple(fields.pop("months")), **fields)
        complete = all((directory / shard.file).stat().st_size == shard.size_bytes for shard in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if complete and manifest.format == FORMAT else None
