"""What observers are told about a settled commit: derived from its values, once per commit."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from daemon.actors.folder import Prepared
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Committed
from daemon.core.dedup import Verdict
from daemon.core.events import Event
from daemon.core.identity import Scope
from daemon.core.planner import count_actions
from daemon.core.rows import WriteKind
from daemon.ports.observer import BatchCommitted, EventsDeadLettered, Fact, KeysParked, PayloadConflict, RowShared

_PUT = WriteKind.PUT
_ADD = WriteKind.ADD


def committed_facts(
    scope: Scope, before: Checkpoint, sent: Prepared, answer: Committed, seconds: float, at: datetime
) -> Iterator[Fact]:
    """Iterate the facts of a commit that settled in `seconds`, at `at`."""
    commit, folded = sent.planned.commit, sent.planned.folded
    after = commit.checkpoint
    counts = {name: total - before.counters.get(name, 0) for name, total in after.counters.items()}
    first = sent.chunk.records[0] if sent.chunk.records else None
    read = len(commit.rows) + len(commit.checks) - [write.kind for write in commit.rows].count(_ADD)
    yield BatchCommitted(
        scope=scope,
        position=after.position,
        epoch=after.epoch,
        counts={name: count for name, count in counts.items() if count},
        actions=count_actions(commit)[0],
        seconds=seconds,
        watermark=after.watermark,
        consumed=answer.consumed,
        size=answer.size,
        settled_at=at,
        oldest=first.moment if isinstance(first, Event) else None,
        hits=max(0, read - sent.loaded),
        misses=sent.loaded,
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
