"""Commits of what waited are told of as live ones are: by facts, refusals and spans."""

from collections.abc import Sequence

import pytest

from daemon.core.commit import Commit, Outcome, RowMoved
from daemon.core.events import Event, Record
from daemon.core.identity import Scope
from daemon.ports.observer import BatchCommitted, CommitRefused, UnitsConsumed
from daemon.testing.memory_store import MemoryStore
from tests.actors.test_ranges_are_delivered_again import fragile, log_of, redelivered
from tests.support.engine import engine

pytestmark = pytest.mark.anyio


class Spans:
    """Keeps what a tracer would make spans of."""

    def __init__(self) -> None:
        """Begin with none."""
        self.commits: list[tuple[str, list[str]]] = []

    def commit(self, scope: Scope, records: Sequence[Record], outcome: str, seconds: float) -> None:
        """Keep the outcome, and the ids of the events."""
        assert seconds >= 0.0, scope
        self.commits.append((outcome, [one.id for one in records if isinstance(one, Event)]))


async def test_what_is_applied_late_is_counted_and_traced() -> None:
    """A range that applies a dead letter: as many facts and spans as the store saw commits, with their rows and ids."""

    class Moves(MemoryStore):
        """Answers the first late commit of a row as moved."""

        late = False

        async def commit(self, commit: Commit, attempt: int) -> Outcome:
            if self.late and commit.rows:
                self.late = False
                self.commits.append((commit, attempt))
                return RowMoved(frozenset(row.key for row in commit.rows))
            return await super().commit(commit, attempt)

    broken, store, spans = {"e(5,)"}, Moves(), Spans()
    async with engine(fragile(broken), store, log_of(100), tracing=spans) as running:
        await running.caught_up()
        broken.clear()
        before, facts, seen = len(store.commits), len(running.observer.facts), len(spans.commits)
        counters = (await running.checkpoint()).counters
        store.late = True
        done = await redelivered(running, to="earliest")
        after = (await running.checkpoint()).counters
    assert done.counters["late_dead_lettered"] == 1
    told = running.observer.facts[facts:]
    sent = [commit for commit, _ in store.commits[before:] if commit.checkpoint.redelivery or commit.rows]
    committed = [fact for fact in told if isinstance(fact, BatchCommitted)]
    assert [fact.outcome for fact in told if isinstance(fact, CommitRefused)] == ["RowMoved"]
    assert len(committed) == len(spans.commits) - seen - 1
    assert 1 <= len(committed) <= len(sent)
    for name in ("applied", "rows", "dead_lettered"):
        assert sum(fact.counts.get(name, 0) for fact in committed) == after.get(name, 0) - counters.get(name, 0), name
    assert [ids for outcome, ids in spans.commits[seen:] if "e(5,)" in ids and outcome == "Committed"]
    assert all(fact.oldest is None for fact in committed), "how old it is says nothing of how the shard does"
    assert not [fact for fact in told if isinstance(fact, UnitsConsumed)], "a commit's units are the commit's"
