"""Loss guards: whether the log at a position is still the log that was read, and what to say when it is not.

Owns the judgement. Must not know consumers or readers.

Invariants: another record at the place of the newest applied one is another log; one that is gone by retention or
compaction tells nothing; a loss names its range and the ways to go on. Nothing is ever skipped by itself.
"""

from collections import Counter

from daemon.core.errors import LogLost
from daemon.sources.kafka.client import Partition
from daemon.sources.kafka.cluster import EARLIEST, LATEST, UNCOMMITTED, Cluster, Missing
from daemon.sources.kafka.identity import Identity, digest_of


class Guard:
    """Judges partitions of one source.

    Counted by partition: `restarts` of consumers that hung and were made anew; `withheld` offsets that were passed over
    and gave no record.
    """

    def __init__(self, source: str, cluster: Cluster) -> None:
        """Ask `cluster`; `source` names it in errors."""
        self._source, self._cluster = source, cluster
        self.restarts: Counter[str] = Counter()
        self.withheld: Counter[str] = Counter()

    async def check(self, partition: Partition, applied: Identity, position: int) -> None:
        """Check that reading may go on at `position`, after `applied`.

        Raises LogLost, SourceUnavailable.
        """
        name = f"{partition[0]}-{partition[1]}"
        try:
            begin = await self._cluster.offset(partition, EARLIEST, UNCOMMITTED) or 0
            end = await self._cluster.offset(partition, LATEST, UNCOMMITTED) or 0
            if position > end:
                detail = (
                    f"{name} ends at offset {end}, but all below {position} was read: it was truncated or made anew"
                )
                raise LogLost(f"{detail}; {self._rebuild(partition)}")
            if position < begin:
                lost = f"offsets {position} to {begin - 1} ({begin - position} of them)"
                detail = f"{name} lost {lost} before they were read: it begins at {begin} now"
                raise LogLost(f"{detail}; {self._skip(partition, begin - 1)}")
            if applied.offset is None or applied.offset < begin:
                return
            record = await self._cluster.record(partition, applied.offset)
        except Missing as missing:
            raise self._gone(partition) from missing
        if record is None and applied.offset >= end:
            detail = f"{name} ends at offset {end}, but the record at {applied.offset} was applied: it was truncated"
            raise LogLost(f"{detail} or made anew; {self._rebuild(partition)}")
        if record is not None and digest_of(record) != applied.digest:
            detail = f"{name} holds another record at offset {applied.offset} than the one that was applied: the topic"
            raise LogLost(f"{detail} was made anew, or truncated and written again; {self._rebuild(partition)}")

    async def explain_out_of_range(self, partition: Partition, position: int) -> None:
        """Raise LogLost saying what is missing at `position`; return where the log holds it.

        Raises SourceUnavailable.
        """
        await self.check(partition, Identity(0), position)

    async def explain_missing(self, partition: Partition) -> None:
        """Raise LogLost where brokers say that the partition does not exist. Raises SourceUnavailable."""
        found = await self._cluster.partitions([partition[0]])
        if partition[1] not in found[partition[0]]:
            raise self._gone(partition)

    async def hangs(self, partition: Partition, position: int) -> bool:
        """Tell whether records wait at `position` that a consumer does not bring though brokers answer; count it.

        Raises SourceUnavailable, when they do not.
        """
        waits = (await self._cluster.offset(partition, LATEST) or 0) > position
        if waits:
            self.restarts[f"{partition[0]}-{partition[1]}"] += 1
        return waits

    def _gone(self, partition: Partition) -> LogLost:
        detail = f"{partition[0]}-{partition[1]} does not exist any more: the topic was deleted, or made with fewer"
        return LogLost(
            f"{detail} partitions. Restore it with its records; or retire the projection; or, once the topic is there "
            f"again, {self._rebuild(partition)}"
        )

    def _rebuild(self, partition: Partition) -> str:
        return (
            f"its offsets mean nothing now: rebuild the projections that follow source {self._source!r} "
            "(`projectionctl rebuild start NAME`), or restore the log"
        )

    def _skip(self, partition: Partition, to: int) -> str:
        shard = f"{partition[0]}-{partition[1]}"
        return (
            f"go on without them (`projectionctl skip NAME {self._source}/{shard} --position {to}`), or rebuild the "
            "projection from what is left (`projectionctl rebuild start NAME --accept-truncated`)"
        )
