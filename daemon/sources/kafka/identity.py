"""What a checkpoint remembers of a partition, to tell the log that was read from another one under its name.

Owns the text of an incarnation and the digest of a record. Must not know how records are fetched.

Invariants: the digest covers timestamp, key and value, so that a topic filled anew differs even where payloads repeat;
the text names the partitions there were when this shard was first read, so that one added later is known as such.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from daemon.core.errors import LogLost
from daemon.sources.kafka.client import Raw

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """The log's incarnation: `partitions` it had at first; the newest applied record, if any, and its digest (hex)."""

    partitions: int
    offset: int | None = None
    digest: str = ""

    def of(self, record: Raw) -> "Identity":
        """Return the identity once `record` is the newest."""
        return Identity(self.partitions, record.offset, digest_of(record))

    def text(self) -> str:
        """Write it as it is kept: `12`, or `12/4711/9f…`."""
        return str(self.partitions) if self.offset is None else f"{self.partitions}/{self.offset}/{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote. Raises LogLost when it is another source's."""
        partitions, _, rest = text.partition("/")
        offset, _, digest = rest.partition("/")
        try:
            return cls(int(partitions), int(offset), digest) if rest else cls(int(partitions))
        except ValueError:
            detail = f"the checkpoint's incarnation {text!r} is none of a Kafka topic: its source was of another kind"
            raise LogLost(f"{detail}; name this source differently, or rebuild the projection") from None


def digest_of(record: Raw) -> str:
    """Return the digest of a record: timestamp, key and value."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    digest.update(record.timestamp.to_bytes(8, signed=True))
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else len(part).to_bytes(8))
        digest.update(part or b"")
    return digest.hexdigest()
