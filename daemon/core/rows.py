"""Rows as a store keeps them, and what one commit does to them.

Invariants: every write raises a row's version by one, `add` too. A condition compares version **and** provenance
(`_src`): a row deleted and made again starts at version 1 but never carries the old provenance. A row without
attributes but with a sequence is a tombstone: absent to readers, still remembered by the sequence layer. `StoredRow`
and `RowWrite` are never changed once made; they are not frozen only because there is one of each per row and batch, and
freezing costs most of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from daemon.core.identity import RowKey

type Attributes = dict[str, Any]
type Sequences = dict[str, int]
"""The version vector of a row: source name to the entity's last sequence number from that source."""


@dataclass(slots=True)
class StoredRow:
    """A row as read from a store. `attributes` is None for a tombstone. `source` is `_src`, `version` is `_v`."""

    attributes: Attributes | None
    version: int
    source: str
    sequences: Sequences = field(default_factory=dict[str, int])


class Expectation(NamedTuple):
    """What a row must be for a write to hold: `version` 0 means absent."""

    version: int
    source: str


ABSENT = Expectation(0, "")


class WriteKind(StrEnum):
    """How a row is written."""

    PUT = "put"
    """The whole row, on condition of `expect`."""
    ADD = "add"
    """Amounts onto whatever is there, without condition."""
    DELETE = "delete"
    """Gone, on condition of `expect`."""


@dataclass(slots=True)
class RowWrite:
    """One write of one row in one commit.

    `attributes`: the whole row for PUT (None: a tombstone that only keeps `sequences`), the amounts for ADD, None for
    DELETE. `expect`: what the row must be before; None for ADD. `source` becomes `_src`. `expires_at`: epoch seconds or
    None.
    """

    key: RowKey
    kind: WriteKind
    attributes: Mapping[str, Any] | None
    expect: Expectation | None
    source: str
    sequences: Sequences | None = None
    expires_at: int | None = None

    @property
    def version(self) -> int | None:
        """The version after a PUT; None where the store alone knows it (ADD) or the row is gone."""
        if self.kind is WriteKind.PUT and self.expect is not None:
            return self.expect.version + 1
        return None


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A row that was read but not written, which must still be what was read."""

    key: RowKey
    expect: Expectation


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to be done outside the read model, relayed by whatever reads the effects table.

    `id` is a digest of projection, event id, handler and ordinal, without the generation, so that a rebuilt generation
    emits the same id.
    """

    id: str
    name: str
    payload: Mapping[str, Any]
    event_id: str
    key: str


type Amounts = dict[str, int | Decimal]
