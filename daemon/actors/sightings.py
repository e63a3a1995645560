"""What observers are told about a settled commit: derived from its values, once per commit."""

from collections import Counter
from collections.abc import Iterator

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Committed
from daemon.core.dedup import Verdict
from daemon.core.identity import Scope
from daemon.core.planner import Planned
from daemon.core.rows import WriteKind
from daemon.ports.observer import BatchCommitted, EventsDeadLettered, Fact, KeysParked, PayloadConflict, RowShared

_PUT = WriteKind.PUT


def committed_facts(
    scope: Scope, before: Checkpoint, planned: Planned, answer: Committed, seconds: float
) -> Iterator[Fact]:
    """Iterate the facts of a commit that settled in `seconds`."""
    commit, folded = planned.commit, planned.folded
    after = commit.checkpoint
    counts = {name: total - before.counters.get(name, 0) for name, total in after.counters.items()}
    yield BatchCommitted(
        scope=scope,
        position=after.position,
        epoch=after.epoch,
        counts={name: count for name, count in counts.items() if count},
        actions=1 + len(commit.rows) + len(commit.markers) + len(commit.effects) + (commit.segment is not None),
        seconds=seconds,
        watermark=after.watermark,
        consumed=answer.consumed,
    )
    if commit.dead_letters:
        yield EventsDeadLettered(scope, Counter(letter.reason for letter in commit.dead_letters))
        conflicts = folded.verdicts.count(Verdict.CONFLICT)
        if conflicts:
            yield PayloadConflict(scope, conflicts)
    if folded.newly_parked:
        yield KeysParked(scope, len(folded.newly_parked))
    mine = f"{scope.shard_id.label}@"
    replaced = [
        write.expect
        for write in commit.rows
        if write.expect is not None and write.expect.version and write.kind is _PUT and not write.sequences
    ]
    shared = sum([not expect.source.startswith(mine) for expect in replaced])
    if shared:
        yield RowShared(scope, shared)
