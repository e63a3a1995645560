"""Folding lists of events into a dict, through the real fold: what a test of a projection needs and nothing more.

No store, no checkpoint, no shards' actors: each call of `Rows.fold` is one batch of one shard, on top of the batches
before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count
from typing import Any

from daemon.api import Event
from daemon.core.dedup import Judged, judge_by_event
from daemon.core.fold import Failure, FoldContext, Folded, fold
from daemon.core.identity import MAIN_VIEW, RowKey, ShardId
from daemon.core.projection import ProjectionSpec
from daemon.core.rows import Effect, StoredRow
from daemon.core.values import add_exact
from daemon.core.view import Touch, View
from daemon.loading import compile_class

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_numbers = count(1)


def event(
    kind: str, data: object = None, /, *, event_id: str | None = None, at: datetime | None = NOON, **named: Any
) -> Event:
    """Make an event; `named` is its payload where `data` is not given. Each has a new id and position by default."""
    number = next(_numbers)
    payload = named if data is None else data
    digest = blake2b(repr(payload).encode(), digest_size=16).digest()
    return Event(event_id or f"e{number}", kind, "/tests", None, at, payload, {}, (number,), digest, b"{}")


def spec_of(cls: type, *sources: str) -> ProjectionSpec:
    """Compile a class that declares one projection; `sources` default to those it names."""
    (spec,) = compile_class(cls, sources or ("orders",))
    return spec


@dataclass
class Rows:
    """A read model in memory: rows, effects and failures, batch by batch."""

    spec: ProjectionSpec
    rows: dict[RowKey, StoredRow] = field(default_factory=dict[RowKey, StoredRow])
    effects: list[Effect] = field(default_factory=list[Effect])
    failures: list[Failure] = field(default_factory=list[Failure])
    parked: set[str] = field(default_factory=set[str])
    applied: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def fold(self, *events: Event, source: str | None = None, redelivery: bool = False) -> Folded:
        """Fold one batch of a shard of `source` (default: the projection's first) and keep what it comes to."""
        records = list(events)
        judged = Judged(records, [None] * len(records))
        if self.spec.sequence is None:
            judged = judge_by_event(records, judged.verdicts, self.applied, {})
        shard = ShardId(source or self.spec.sources[0], "0")
        context = FoldContext(self.spec, shard, self.rows.get, frozenset(self.parked), redelivery=redelivery)
        folded = fold(judged, context)
        assert isinstance(folded, Folded), folded
        self.applied.update((record.id, record.digest) for record in records)
        self.effects += folded.effects
        self.failures += folded.failures.values()
        self.parked |= folded.newly_parked.keys()
        for view in folded.views:
            self._keep(view)
        return folded

    def row(self, key: str, view: str = MAIN_VIEW) -> Mapping[str, Any] | None:
        """Return a row's attributes, None where there is none."""
        stored = self.rows.get(RowKey(view, key))
        return None if stored is None else stored.attributes

    def all(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Return every row by view and key."""
        return {(key.view, key.key): row.attributes for key, row in self.rows.items() if row.attributes is not None}

    def _keep(self, view: View) -> None:
        touch = view.settle()
        if touch not in {Touch.ADDED, Touch.WRITTEN}:
            return
        before = self.rows.get(view.row_key) or StoredRow(None, 0, "")
        attributes = view.image
        if touch is Touch.ADDED:
            attributes = dict(before.attributes or {})
            for name, amount in view.amounts.items():
                attributes[name] = add_exact(attributes.get(name), amount, name)
        sequences = before.sequences if view.sequences is None else view.sequences
        if attributes is None and not sequences:
            self.rows.pop(view.row_key, None)
            return
        self.rows[view.row_key] = replace(
            before, attributes=attributes, version=before.version + 1, sequences=sequences
        )  # fmt: skip
