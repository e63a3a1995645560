"""What every Observer must do. An adapter subclasses `ObserverContract` and gives an `observer` fixture."""

from datetime import UTC, datetime

import pytest

from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.ports.observer import (
    BatchCommitted,
    CodeChanged,
    CommitDelayed,
    CommitRefused,
    EventsDeadLettered,
    Fact,
    GenerationNotRun,
    KeysParked,
    Observer,
    PayloadConflict,
    RowShared,
    ShardChanged,
    ShardRestarted,
    SourceAwaited,
    SourceEmpty,
    SourceReached,
    StoreAwaited,
    StoreReached,
)

SCOPE = Scope("orders", 1, "log", "a\x1b[31m.jsonl")
FACTS: list[Fact] = [
    ShardChanged(SCOPE, ShardState.RUNNING, ShardState.PARKED, "why\n\x00", 3, "Traceback é"),
    BatchCommitted(SCOPE, (1, 2**129), 1, {"read": 5}, 9, 0.01, datetime(2026, 1, 1, tzinfo=UTC), {"wcu": 2.0}),
    BatchCommitted(SCOPE, (), 1, {}, 1, 0.0, None),
    CommitRefused(SCOPE, "RowMoved"),
    CommitDelayed(SCOPE, "Busy", "locked", 3, 0.5),
    EventsDeadLettered(SCOPE, {"not-json": 2}),
    PayloadConflict(SCOPE, 1),
    RowShared(SCOPE, 1),
    KeysParked(SCOPE, 1),
    ShardRestarted(SCOPE, "x" * 100_000, 2, 1.5),
    GenerationNotRun(Generation("orders", 2), "no code of version 2"),
    CodeChanged(SCOPE, "aa", "bb"),
    SourceEmpty("log", "a\x1b[31m*.jsonl"),
    StoreAwaited("no answer \x1b[31m", 4, 2.5, "DynamoDB at \x1b[31m", 9.0),
    StoreReached("shop.db", 4, 9.5),
    SourceAwaited("log", "no broker \x1b[31m", 4, 2.5, 9.0),
    SourceReached("log", 5, 9.5),
]


class ObserverContract:
    """The suite."""

    @pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
    def test_every_fact_is_seen_without_failing(self, observer: Observer, fact: Fact) -> None:
        """Any fact, with odd characters and large values, is noted at once, twice over."""
        observer.see(fact)
        observer.see(fact)
