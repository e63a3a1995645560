"""What a table needs to be as it has to be: pure comparison of its definition with what DynamoDB says of it.

Owns which differences are mended, and which are left to a person. Must not know clients.

Invariants: nothing is ever switched off, shrunk or taken away: expiry, backups, protection and indexes are only added;
billing and throughput of an existing table are a person's (or an autoscaler's) business.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.core.errors import StoreRefused
from daemon.core.inventory import Part, PartState
from daemon.core.projection import Index
from daemon.stores.dynamodb.tables import Table, key_schema

_ON = frozenset({"ENABLED", "ENABLING"})


@dataclass(frozen=True, slots=True)
class Held:
    """What DynamoDB says of an existing table.

    `description` is `DescribeTable`'s, `expiry` `DescribeTimeToLive`'s; `recovery`: whether continuous backups are on.
    None where the server knows no such thing.
    """

    description: Mapping[str, Any]
    expiry: Mapping[str, Any] | None
    recovery: bool | None

    @property
    def expires_by(self) -> str | None:
        """The attribute by which items expire, None where they don't."""
        if self.expiry is None or self.expiry.get("TimeToLiveStatus") not in _ON:
            return None
        return self.expiry.get("AttributeName")

    @property
    def protected(self) -> bool:
        """Whether the table is protected against deletion."""
        return bool(self.description.get("DeletionProtectionEnabled"))

    @property
    def billing(self) -> str:
        """The billing mode, as DynamoDB names it."""
        summary: dict[str, str] = self.description.get("BillingModeSummary") or {}
        return summary.get("BillingMode", "PROVISIONED")

    @property
    def units(self) -> tuple[int, int] | None:
        """The read and write units of provisioned billing; None on demand."""
        if self.billing != "PROVISIONED":
            return None
        held = self.description["ProvisionedThroughput"]
        return held["ReadCapacityUnits"], held["WriteCapacityUnits"]

    @property
    def kinds(self) -> dict[str, str]:
        """DynamoDB's types of the attributes that are keys of anything there."""
        return {each["AttributeName"]: each["AttributeType"] for each in self.description["AttributeDefinitions"]}

    def index(self, name: str) -> Mapping[str, Any] | None:
        """Return a secondary index's description, None where there is none."""
        for held in self.description.get("GlobalSecondaryIndexes") or ():
            if held["IndexName"] == name:
                return held
        return None


def check_keys(table: Table, description: Mapping[str, Any]) -> None:
    """Refuse a table that is somebody else's. Raises StoreRefused."""
    wanted = key_schema(table.keys)
    if description.get("KeySchema") != wanted:
        raise StoreRefused(
            f"table {table.name} has the keys {description.get('KeySchema')}, not {wanted}; it is not projectiond's: "
            "choose another store.prefix, or remove it"
        )


def parts_of(table: Table, held: Held | None) -> Iterator[Part]:
    """Yield what a table is made of, and what is to be done about it; None: there is no such table.

    Raises StoreRefused for a table that is somebody else's.
    """
    if held is None:
        yield Part("table", table.name, PartState.MAKE, _wanted(table))
        return
    check_keys(table, held.description)
    yield Part("table", table.name, PartState.EXISTS, _billing(held.billing, held.units))
    if held.billing != table.care.billing:
        detail = f"is {_billing(held.billing, held.units)}, the settings say {_billing_wanted(table)}; left as it is"
        yield Part("billing", table.name, PartState.DIFFERS, detail)
    yield from _expiry(table, held)
    for index in table.indexes:
        yield _index(table, index, held)
    yield from _guards(table, held)


def _expiry(table: Table, held: Held) -> Iterator[Part]:
    by = held.expires_by
    if held.expiry is None:
        if table.expiry is not None:
            yield Part("expiry", table.name, PartState.DIFFERS, "this server knows no expiry: nothing is removed")
    elif table.expiry is None:
        if by is not None:
            detail = f"items expire by {by!r}, which projectiond does not use here; look who switched it on"
            yield Part("expiry", table.name, PartState.DIFFERS, detail)
    elif by is None:
        yield Part("expiry", table.name, PartState.CHANGE, f"switch on, by {table.expiry!r}")
    elif by != table.expiry:
        detail = f"items expire by {by!r}, not {table.expiry!r}: switch that off, then run `projectiond init`"
        yield Part("expiry", table.name, PartState.DIFFERS, detail)
    else:
        yield Part("expiry", table.name, PartState.EXISTS, f"by {by!r}")


def _index(table: Table, index: Index, held: Held) -> Part:
    name, there = f"{table.name}/{index.name}", held.index(index.name)
    keys = _keys(index)
    other = [key for key in index.attributes if held.kinds.get(key, table.kinds[key]) != table.kinds[key]]
    if there is None and other:
        kinds = ", ".join(f"{key} is {_KINDS.get(held.kinds[key], held.kinds[key])} there" for key in other)
        detail = f"cannot be added by {keys}: {kinds}, by another index; correct Index(numbers=), or remove that index"
        return Part("index", name, PartState.DIFFERS, detail)
    if there is None:
        return Part("index", name, PartState.CHANGE, f"add, by {keys}: DynamoDB reads the whole table for it")
    if there["KeySchema"] != key_schema(index.attributes) or other:
        held_keys = (key["AttributeName"] for key in there["KeySchema"])
        found = ", ".join(f"{key} (a number)" if held.kinds.get(key) == "N" else key for key in held_keys)
        return Part("index", name, PartState.DIFFERS, f"is by {found}, not by {keys}: remove it, or rename the new one")
    return Part("index", name, PartState.EXISTS, f"by {keys}")


def _keys(index: Index) -> str:
    return ", ".join(f"{key} (a number)" if key in index.numbers else key for key in index.attributes)


_KINDS = {"S": "a string", "N": "a number"}


def _guards(table: Table, held: Held) -> Iterator[Part]:
    for what, wanted, on in (
        ("point-in-time recovery", table.care.recovery, held.recovery),
        ("deletion protection", table.care.protection, held.protected),
    ):
        if on:
            yield Part(what, table.name, PartState.EXISTS, "" if wanted else "on, although the settings do not ask")
        elif wanted and on is None:
            yield Part(what, table.name, PartState.DIFFERS, "this server knows none")
        elif wanted:
            yield Part(what, table.name, PartState.CHANGE, "switch on")


def _wanted(table: Table) -> str:
    words = [_billing_wanted(table)]
    if table.expiry is not None:
        words.append(f"items expire by {table.expiry!r}")
    words += [f"index {index.name} by {_keys(index)}" for index in table.indexes]
    if table.care.recovery:
        words.append("point-in-time recovery")
    if table.care.protection:
        words.append("deletion protection")
    return "; ".join(words)


def _billing_wanted(table: Table) -> str:
    return _billing(table.care.billing, table.care.units)


def _billing(mode: str, units: tuple[int, int] | None) -> str:
    return "on demand" if mode != "PROVISIONED" or units is None else f"provisioned, {units[0]} read, {units[1]} write"
