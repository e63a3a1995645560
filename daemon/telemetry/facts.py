"""Observers: facts turned into log records, and one observer that fans out to several.

Must not know how records are rendered (`daemon.telemetry.logs`) or what actors do. Owns the level of each fact: what a
person must act on is a warning or an error, a settled commit is debug.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from daemon.core.identity import Scope
from daemon.core.lifecycle import ShardState
from daemon.core.positions import position_text
from daemon.ports.observer import (
    BatchCommitted,
    CodeChanged,
    CommandAnswered,
    CommitDelayed,
    CommitRefused,
    ControlTrouble,
    EventsDeadLettered,
    Fact,
    GenerationNotRun,
    KeysParked,
    Observer,
    PayloadConflict,
    RedeliveryProgress,
    RowShared,
    ShardChanged,
    ShardRestarted,
    SourceAwaited,
    SourceEmpty,
    SourceReached,
    StoreAwaited,
    StoreReached,
    UnitsConsumed,
    WaitingSettled,
)
from daemon.telemetry.logs import Logger


class FanOut:
    """Tells several observers; one that fails is told no more, and the work goes on."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        """Tell `observers`, in order."""
        self._observers = list(observers)

    def see(self, fact: Fact) -> None:
        """Pass a fact on."""
        for observer in self._observers:
            try:
                observer.see(fact)
            except Exception:  # noqa: BLE001 - observing never fails a shard
                self._observers = [one for one in self._observers if one is not observer]


class LogObserver:
    """Writes facts to a logger."""

    def __init__(self, logger: Logger) -> None:
        """Write to `logger`."""
        self._logger = logger
        self._left_out = frozenset[type]() if logger.is_enabled_for(logging.DEBUG) else _FREQUENT

    def see(self, fact: Fact) -> None:
        """Write a fact as one record."""
        if type(fact) not in self._left_out:
            _WRITERS[type(fact)](self._logger, fact)


def _scope(scope: Scope) -> dict[str, Any]:
    return {
        "projection": scope.projection,
        "generation": scope.generation,
        "source": scope.source,
        "shard": scope.shard,
    }


_QUOTING = ("handler-raised: ", "bug: ")
"""Reasons that go on with a foreign exception's own words, which may quote a payload."""


def public_reason(reason: str) -> str:
    """Return a reason without words that may quote a payload: the stable code and the exception's type remain."""
    for start in _QUOTING:
        if reason.startswith(start):
            return start + reason[len(start) :].partition(":")[0]
    return reason


_STATE_LEVELS = {
    ShardState.PARKED: "error",
    ShardState.RETRYING: "warning",
    ShardState.FENCED: "warning",
    ShardState.PAUSED: "warning",
}


def _shard_changed(logger: Logger, fact: ShardChanged) -> None:
    fields = _scope(fact.scope) | {"before": fact.before, "state": fact.after, "epoch": fact.epoch}
    if fact.reason:
        fields["reason"] = public_reason(fact.reason)
    if fact.report:
        logger.error("a bug parked the shard, please report it", **fields, report=fact.report)
        return
    level = _STATE_LEVELS.get(fact.after, "info")
    getattr(logger, level)("shard changed state", **fields)


def _batch_committed(logger: Logger, fact: BatchCommitted) -> None:
    logger.debug(
        "committed",
        **_scope(fact.scope),
        epoch=fact.epoch,
        position=position_text(fact.position),
        actions=fact.actions,
        seconds=round(fact.seconds, 6),
        **fact.counts,
        **fact.consumed,
    )


def _commit_refused(logger: Logger, fact: CommitRefused) -> None:
    logger.debug("commit not applied", **_scope(fact.scope), outcome=fact.outcome)


def _units_consumed(logger: Logger, fact: UnitsConsumed) -> None:
    generation = fact.generation
    whose = {} if generation is None else {"projection": generation.projection, "generation": generation.number}
    logger.debug("units consumed", **whose, **fact.consumed)


def _commit_delayed(logger: Logger, fact: CommitDelayed) -> None:
    logger.warning(
        "commit not settled yet",
        **_scope(fact.scope),
        outcome=fact.outcome,
        reason=fact.detail,
        attempt=fact.attempt,
        wait_seconds=round(fact.wait, 3),
    )


def _dead_lettered(logger: Logger, fact: EventsDeadLettered) -> None:
    logger.warning("events dead-lettered", **_scope(fact.scope), **{f"reason {k}": n for k, n in fact.reasons.items()})


def _payload_conflict(logger: Logger, fact: PayloadConflict) -> None:
    logger.error("an id came again with another payload", **_scope(fact.scope), events=fact.count)


def _row_shared(logger: Logger, fact: RowShared) -> None:
    logger.error(
        "rows of another shard were written here; share rows by add() or a version vector only",
        **_scope(fact.scope),
        rows=fact.count,
    )


def _keys_parked(logger: Logger, fact: KeysParked) -> None:
    logger.warning("keys parked", **_scope(fact.scope), count=fact.count)


def _redelivery(logger: Logger, fact: RedeliveryProgress) -> None:
    cursor = fact.cursor
    say = logger.debug if cursor.active else logger.warning if cursor.reason else logger.info
    say(
        f"re-delivery {cursor.state}",
        **_scope(fact.scope),
        command=cursor.command,
        position=position_text(cursor.position),
        until=position_text(cursor.until),
        **fact.counts,
    )


def _waiting_settled(logger: Logger, fact: WaitingSettled) -> None:
    logger.info("wishes for what waits were carried out", **_scope(fact.scope), wish=str(fact.wish), **fact.counts)


def _restarted(logger: Logger, fact: ShardRestarted) -> None:
    logger.warning(
        "shard restarts",
        **_scope(fact.scope),
        reason=public_reason(fact.error),
        attempt=fact.restarts,
        wait_seconds=round(fact.wait, 3),
    )


def _not_run(logger: Logger, fact: GenerationNotRun) -> None:
    logger.warning(
        "generation not run here",
        projection=fact.generation.projection,
        generation=fact.generation.number,
        reason=fact.reason,
    )


def _store_awaited(logger: Logger, fact: StoreAwaited) -> None:
    logger.warning(
        "the store is away; waiting for it",
        store=fact.where,
        reason=public_reason(fact.detail),
        attempt=fact.tries,
        seconds=round(fact.seconds, 1),
        wait_seconds=round(fact.wait, 3),
    )


def _store_reached(logger: Logger, fact: StoreReached) -> None:
    logger.info(
        "the store that was awaited answers", store=fact.where, attempts=fact.tries, seconds=round(fact.seconds, 1)
    )


def _source_awaited(logger: Logger, fact: SourceAwaited) -> None:
    logger.warning(
        "the source is away; waiting for it",
        source=fact.source,
        reason=public_reason(fact.detail),
        attempt=fact.tries,
        seconds=round(fact.seconds, 1),
        wait_seconds=round(fact.wait, 3),
    )


def _source_reached(logger: Logger, fact: SourceReached) -> None:
    logger.info(
        "the source that was awaited answers",
        source=fact.source,
        attempts=fact.tries,
        seconds=round(fact.seconds, 1),
    )


def _source_empty(logger: Logger, fact: SourceEmpty) -> None:
    logger.warning("the source matches no file now; new files are looked for", source=fact.source, paths=fact.paths)


def _code_changed(logger: Logger, fact: CodeChanged) -> None:
    logger.warning(
        "the handlers' code changed under the same version",
        **_scope(fact.scope),
        before=fact.before[:12],
        after=fact.after[:12],
    )


def _command_answered(logger: Logger, fact: CommandAnswered) -> None:
    (logger.info if fact.changes else logger.debug)(
        "command answered",
        command=fact.command,
        request=fact.request,
        uid=fact.uid,
        user=fact.user,
        outcome=fact.outcome,
        seconds=round(fact.seconds, 6),
    )


def _control_trouble(logger: Logger, fact: ControlTrouble) -> None:
    if fact.report:
        logger.error(fact.reason, report=fact.report)
    else:
        logger.warning("control socket", reason=fact.reason)


_FREQUENT = frozenset({BatchCommitted, CommitRefused, UnitsConsumed})
"""Written at debug alone, and so many that not even their fields are gathered where nobody writes them."""

_WRITERS: dict[type, Callable[[Logger, Any], None]] = {
    ShardChanged: _shard_changed,
    BatchCommitted: _batch_committed,
    CommitRefused: _commit_refused,
    UnitsConsumed: _units_consumed,
    CommitDelayed: _commit_delayed,
    EventsDeadLettered: _dead_lettered,
    PayloadConflict: _payload_conflict,
    RowShared: _row_shared,
    KeysParked: _keys_parked,
    RedeliveryProgress: _redelivery,
    WaitingSettled: _waiting_settled,
    ShardRestarted: _restarted,
    GenerationNotRun: _not_run,
    StoreAwaited: _store_awaited,
    StoreReached: _store_reached,
    SourceAwaited: _source_awaited,
    SourceReached: _source_reached,
    SourceEmpty: _source_empty,
    CodeChanged: _code_changed,
    CommandAnswered: _command_answered,
    ControlTrouble: _control_trouble,
}
