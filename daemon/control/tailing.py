"""`tail`: events as they are committed, with what became of each.

Owns how much of a commit is told. Must not know payloads: ids, types, keys and verdicts only.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import anyio

from daemon.control.serving import Tell
from daemon.core.commands import Tail, Target
from daemon.core.dedup import Verdict
from daemon.core.events import BadRecord, Record
from daemon.core.identity import Scope
from daemon.core.positions import Position, position_text
from daemon.core.reports import TailEvent, TailRow
from daemon.ports.taps import Taps

MOST_EVENTS = 20
"""Events of one commit that are told one by one; of a larger commit the rest is counted."""
_APPLIED = "applied"


class Tailing:
    """Tells of commits as they happen in this process."""

    def __init__(self, taps: Taps) -> None:
        """Listen at `taps`."""
        self._taps = taps

    async def tail(self, command: Tail, tell: Tell) -> object:
        """Tell a row for each commit of the target's shards, until cancelled."""

        def see(
            scope: Scope,
            position: Position,
            at: datetime,
            records: Sequence[Record],
            verdicts: Sequence[Verdict | None],
        ) -> None:
            if meant(command.target, scope) and verdicts:
                tell(row_of(scope, position, at, records, verdicts))

        with self._taps.listening(see):
            await anyio.sleep_forever()


def meant(target: Target, scope: Scope) -> bool:
    """Tell whether a target is about a scope."""
    return target.covers(scope.of) and target.source in {None, scope.source} and target.shard in {None, scope.shard}


def row_of(
    scope: Scope, position: Position, at: datetime, records: Sequence[Record], verdicts: Sequence[Verdict | None]
) -> TailRow:
    """Return what is told of one commit."""
    pairs = zip(records[:MOST_EVENTS], verdicts, strict=False)
    events = tuple(_event(record, verdict) for record, verdict in pairs)
    counts = dict(Counter(map(_word, verdicts)))
    return TailRow(scope, at, position_text(position), events, len(verdicts) - len(events), counts)


def _event(record: Record, verdict: Verdict | None) -> TailEvent:
    if isinstance(record, BadRecord):
        return TailEvent(position_text(record.position), "", "", "", _word(verdict))
    return TailEvent(position_text(record.position), record.id, record.type, record.key, _word(verdict))


def _word(verdict: Verdict | None) -> str:
    return _APPLIED if verdict in {None, Verdict.NEW} else str(verdict)
