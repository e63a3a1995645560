"""What observers and traces are told about a commit that was answered: derived from its values, once per answer.

Every commit that holds entries of the log, live or late, is told of here. Changes of a checkpoint alone (a take, a
release, a beat, an operation) hold none and are not: their states and units are told of where they happen.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.actors.committer import Answer
from daemon.actors.runtime import Runtime
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Commit, Committed
from daemon.core.dedup import Verdict
from daemon.core.events import Event, Record
from daemon.core.fold import Folded
from daemon.core.planner import count_actions
from daemon.core.rows import WriteKind
from daemon.ports.observer import (
    BatchCommitted,
    CommitRefused,
    EventsDeadLettered,
    Fact,
    KeysParked,
    PayloadConflict,
    RowShared,
)

_PUT = WriteKind.PUT
_ADD = WriteKind.ADD


@dataclass(frozen=True, slots=True)
class Sent:
    """A commit that was sent on top of the checkpoint `before`.

    `records`: what of the log it holds. `folded`: what became of them, None where nothing was folded. `loaded`: rows
    that were fetched for it. `late`: what it holds was read long ago, so its age says nothing of how the shard does.
    """

    before: Checkpoint
    commit: Commit
    records: Sequence[Record] = ()
    folded: Folded | None = None
    loaded: int = 0
    late: bool = False


def tell_answered(runtime: Runtime, sent: Sent, answer: Answer, seconds: float) -> None:
    """Tell observers and traces of an answer that came `seconds` after the commit was sent."""
    scope = sent.commit.scope
    if runtime.tracing is not None:
        runtime.tracing.commit(scope, sent.records, type(answer).__name__, seconds)
    if not isinstance(answer, Committed):
        runtime.observer.see(CommitRefused(scope, type(answer).__name__))
        return
    for fact in _committed_facts(sent, answer, seconds, runtime.clock.now()):
        runtime.observer.see(fact)


def _committed_facts(sent: Sent, answer: Committed, seconds: float, at: datetime) -> Iterator[Fact]:
    commit, folded, before = sent.commit, sent.folded, sent.before
    scope, after = commit.scope, commit.checkpoint
    counts = {name: total - before.counters.get(name, 0) for name, total in after.counters.items()}
    first = sent.records[0] if sent.records and not sent.late else None
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
        conflicts = 0 if folded is None else folded.verdicts.count(Verdict.CONFLICT)
        if conflicts:
            yield PayloadConflict(scope, conflicts)
    if folded is not None and folded.newly_parked:
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
