"""The tables: names, keys, expiry, secondary indexes, and the requests that make them.

Owns the one definition that the store, `projectiond init` and its `--print` share. Pure: must not know clients or
commits.

Invariants: every generation of a projection gets the same indexes and the same expiry attribute; a definition holds
nothing that an existing table could lose by being compared with it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.core.errors import SettingsProblem
from daemon.core.identity import Generation
from daemon.core.projection import Index

PARTITION, SORT = "pk", "sk"
"""Key attributes of the daemon's own tables."""
ROW_KEY, ROW_VIEW = "key", "view"
"""Key attributes of a rows table."""
MARKER_EXPIRY = "expires"
ROW_EXPIRY = "_expires"
"""The attributes, in epoch seconds, after which DynamoDB removes an item by itself."""

MAX_TABLE_NAME = 255
_LONGEST_LABEL = 80
"""Bytes that a generation's label may take: a projection's name of 63, and its number."""
_PREFIX = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_TABLE_NAME - _LONGEST_LABEL}}}")


@dataclass(frozen=True, slots=True)
class Care:
    """How new tables are billed and how all are guarded.

    `units`: read and write units a second of a table with provisioned billing; None: on demand. `recovery`: continuous
    backups. `protection`: against being deleted.
    """

    units: tuple[int, int] | None = None
    recovery: bool = False
    protection: bool = False

    @property
    def billing(self) -> str:
        """The billing mode, as DynamoDB names it."""
        return "PAY_PER_REQUEST" if self.units is None else "PROVISIONED"


@dataclass(frozen=True, slots=True)
class Table:
    """One table as it has to be. `keys`: partition key, and sort key where there is one; all keys are strings."""

    name: str
    keys: tuple[str, ...]
    expiry: str | None = None
    indexes: tuple[Index, ...] = ()
    care: Care = Care()

    @property
    def kinds(self) -> dict[str, str]:
        """DynamoDB's types of all key attributes, the indexes' too: strings and numbers."""
        kinds = dict.fromkeys(self.keys, "S")
        for index in self.indexes:
            for name in index.attributes:
                kinds.setdefault(name, "N" if name in index.numbers else "S")
        return kinds

    def create_request(self) -> dict[str, Any]:
        """Return the `CreateTable` request; every secondary index projects all attributes."""
        request: dict[str, Any] = {
            "TableName": self.name,
            "BillingMode": self.care.billing,
            "KeySchema": key_schema(self.keys),
            **throughput(self.care.units),
        }
        if self.indexes:
            request["GlobalSecondaryIndexes"] = [index_request(index, self.care.units) for index in self.indexes]
        request["AttributeDefinitions"] = attribute_definitions(self.kinds)
        if self.care.protection:
            request["DeletionProtectionEnabled"] = True
        return request

    def expiry_request(self) -> dict[str, Any] | None:
        """Return the `UpdateTimeToLive` request, None for a table whose items never expire."""
        if self.expiry is None:
            return None
        return {
            "TableName": self.name,
            "TimeToLiveSpecification": {"Enabled": True, "AttributeName": self.expiry},
        }


def index_request(index: Index, units: tuple[int, int] | None) -> dict[str, Any]:
    """Return one secondary index as `CreateTable` takes it, on a table with so many units."""
    return {
        "IndexName": index.name,
        "KeySchema": key_schema(index.attributes),
        "Projection": {"ProjectionType": "ALL"},
        **throughput(units),
    }


def throughput(units: tuple[int, int] | None) -> dict[str, Any]:
    """Return the throughput of a table or an index, nothing for on-demand billing."""
    if units is None:
        return {}
    return {"ProvisionedThroughput": {"ReadCapacityUnits": units[0], "WriteCapacityUnits": units[1]}}


def attribute_definitions(kinds: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the definitions of key attributes of these types."""
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in kinds.items()]


def key_schema(keys: Sequence[str]) -> list[dict[str, str]]:
    """Return keys as DynamoDB has them: the partition key, then the sort key."""
    kinds = ("HASH", "RANGE")
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(keys, kinds, strict=False)]


class Tables:
    """All tables under one prefix."""

    __slots__ = ("care", "effects", "markers", "prefix", "state")

    def __init__(self, prefix: str, care: Care | None = None) -> None:
        """Derive every name from the prefix. Raises SettingsProblem for one that no table can carry."""
        if not _PREFIX.fullmatch(prefix):
            raise SettingsProblem(
                f"prefix {prefix!r:.300} cannot begin a table's name; use 1 to {MAX_TABLE_NAME - _LONGEST_LABEL + 1} "
                "of a-z, A-Z, 0-9, '_', '-' and '.', a letter or digit first"
            )
        self.prefix = prefix
        self.care = care or Care()
        self.state = f"{prefix}-state"
        self.markers = f"{prefix}-markers"
        self.effects = f"{prefix}-effects"

    def rows(self, generation: Generation) -> str:
        """Return the name of a generation's rows table."""
        return f"{self.prefix}-{generation.label}"

    def own(self) -> tuple[Table, ...]:
        """Return the daemon's own tables."""
        return (
            Table(self.state, (PARTITION, SORT), care=self.care),
            Table(self.markers, (PARTITION,), MARKER_EXPIRY, care=self.care),
            Table(self.effects, (PARTITION, SORT), care=self.care),
        )

    def of_generation(self, generation: Generation, indexes: Sequence[Index] = ()) -> Table:
        """Return the rows table of one generation."""
        return Table(self.rows(generation), (ROW_KEY, ROW_VIEW), ROW_EXPIRY, tuple(indexes), self.care)

    def namesakes(self, generation: Generation) -> Iterator[tuple["Tables", Generation]]:
        """Iterate the prefixes and projections whose rows table of the same number has the same name as this one.

        A prefix and a projection are joined by a dash, and may both hold dashes.
        """
        parts = self.rows(generation).removesuffix(f"-g{generation.number}").split("-")
        for count in range(1, len(parts)):
            prefix, name = "-".join(parts[:count]), "-".join(parts[count:])
            if prefix != self.prefix and name and _PREFIX.fullmatch(prefix):
                yield Tables(prefix, self.care), Generation(name, generation.number)

    def kind(self, table: str) -> str:
        """Return what a table of this prefix holds: `state`, `markers`, `effects` or `rows`."""
        return _KINDS.get(table[len(self.prefix) :], "rows")


_KINDS = {"-state": "state", "-markers": "markers", "-effects": "effects"}
