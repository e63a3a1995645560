"""A table: its keys, its items in the order of queries, what was there a moment ago, and who holds which item.

Owns storage and the rules of keys. Must not know operations, expressions or answers.

Invariants: a stored item is never changed in place; `records`, `partitions` and `history` change in `store` alone; an
item held by a transaction is in `holders` until that transaction has ended.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from zlib import crc32

from daemon.testing.dynamodb.capacity import Bucket
from daemon.testing.dynamodb.errors import invalid, invalid_item, unreadable
from daemon.testing.dynamodb.values import Item, Value, measured, sortable

HASH_KEY_BYTES = 2048
RANGE_KEY_BYTES = 1024
MISMATCH = "The provided key element does not match the schema"
_INVALID = "One or more parameter values were invalid: "
_EMPTY = "One or more parameter values are not valid. "

type Order = tuple[Any, ...]


class Key(NamedTuple):
    """The canonical contents of an item's key attributes."""

    hash: str
    range: str | None = None


class Record(NamedTuple):
    """An item as stored and its size in bytes."""

    item: Item
    size: int


@dataclass(slots=True)
class Index:
    """A secondary index; `attributes` are what it projects beside the keys, None for all."""

    name: str
    hash: str
    range: str | None
    attributes: frozenset[str] | None
    local: bool
    throughput: tuple[int, int] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The index's key attributes."""
        return (self.hash,) if self.range is None else (self.hash, self.range)


@dataclass(slots=True)
class Schema:
    """The key attributes of a table and the types of its and its indexes' keys."""

    hash: str
    range: str | None
    types: dict[str, str]

    @property
    def keys(self) -> tuple[str, ...]:
        """The table's key attributes."""
        return (self.hash,) if self.range is None else (self.hash, self.range)


@dataclass(slots=True)
class Table:
    """One table's items."""

    name: str
    schema: Schema
    indexes: dict[str, Index] = field(default_factory=dict[str, Index])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    reads: Bucket | None = None
    writes: Bucket | None = None
    history_seconds: float = 0.0
    records: dict[Key, Record] = field(default_factory=dict[Key, Record])
    partitions: dict[str, list[tuple[Any, Key]]] = field(default_factory=dict[str, list[tuple[Any, Key]]])
    history: dict[Key, deque[tuple[float, Record | None]]] = field(
        default_factory=dict[Key, deque[tuple[float, Record | None]]]
    )
    holders: dict[Key, object] = field(default_factory=dict[Key, object])
    _scan: list[tuple[Order, Key]] | None = None

    # -- keys -------------------------------------------------------------------------------------------------------

    def key_of_item(self, item: Item) -> Key:
        """Return the key of a whole item; refuse a missing, empty, too long or wrongly typed key attribute."""
        schema = self.schema
        key = Key(
            self._item_content(item, schema.hash),
            None if schema.range is None else self._item_content(item, schema.range),
        )
        if self.indexes:
            self.check_index_keys(item)
        return key

    def _item_content(self, item: Item, name: str) -> str:
        value = item.get(name)
        if value is None:
            raise invalid_item(f"{_INVALID}Missing the key {name} in the item")
        return self._content(name, value, self.schema.types[name], item_form=True)

    def key_of_key(self, key: Any) -> tuple[Key, Item]:
        """Return a request's `Key`, which names the key attributes and nothing else, and its attributes."""
        if not isinstance(key, dict):
            raise unreadable("Key is an object of attribute values")
        given = cast("dict[str, Any]", key)
        made = {name: measured(value)[0] for name, value in given.items()}
        names = self.schema.keys
        if len(made) != len(names) or not all(name in made for name in names):
            raise invalid_item(MISMATCH)
        types = self.schema.types
        return Key(*(self._content(name, made[name], types[name], item_form=False) for name in names)), made

    def _content(self, name: str, value: Value, kind: str, *, item_form: bool) -> str:
        content = value.get(kind)
        if content is None:
            (actual,) = value
            raise invalid_item(
                f"{_INVALID}Type mismatch for key {name} expected: {kind} actual: {actual}" if item_form else MISMATCH
            )
        if content == "":
            what = "string" if kind == "S" else "binary"
            raise invalid(
                f"{_EMPTY}The AttributeValue for a key attribute cannot contain an empty {what} value. Key: {name}"
            )
        limit = HASH_KEY_BYTES if name == self.schema.hash else RANGE_KEY_BYTES
        # A text of n characters has at most 4n bytes: only a long one is measured.
        if len(content) * 4 > limit and measured(value)[1] > limit:
            raise invalid(
                f"{_INVALID}Size of hashkey has exceeded the maximum size limit of2048 bytes"
                if limit == HASH_KEY_BYTES
                else f"{_INVALID}Aggregated size of all range keys has exceeded the size limit of 1024 bytes"
            )
        return content

    def check_index_keys(self, item: Item) -> None:
        """Refuse an item whose value cannot be the key of an index; a missing one only keeps it out of the index."""
        for index in self.indexes.values():
            for name in index.keys:
                value = item.get(name)
                if value is None:
                    continue
                kind = self.schema.types[name]
                if kind not in value:
                    (actual,) = value
                    raise invalid_item(
                        f"{_INVALID}Type mismatch for Index Key {name} Expected: {kind} Actual: {actual} "
                        f"IndexName: {index.name}"
                    )
                if value[kind] == "":
                    what = "string" if kind == "S" else "binary"
                    raise invalid(
                        f"{_EMPTY}A value specified for a secondary index key is not supported. The AttributeValue for "
                        f"a key attribute cannot contain an empty {what} value. "
                        f"IndexName: {index.name}, IndexKey: {name}"
                    )

    def key_attributes(self, item: Item, index: Index | None = None) -> Item:
        """Return the attributes that a page's last key consists of."""
        names = self.schema.keys if index is None else (*self.schema.keys, *index.keys)
        return {name: item[name] for name in names}

    # -- storage ----------------------------------------------------------------------------------------------------

    def store(self, key: Key, record: Record | None, now: float) -> None:
        """Write (or remove, for None) an item at the monotonic time `now`."""
        old = self.records.get(key)
        if self.history_seconds:
            images = self.history.setdefault(key, deque())
            images.append((now, old))
            while images and images[0][0] < now - self.history_seconds:
                images.popleft()
        if record is None:
            if old is None:
                return
            del self.records[key]
        else:
            self.records[key] = record
            if old is not None:
                return
        self._scan = None
        if self.schema.range is not None:
            self._place(key, record)

    def _place(self, key: Key, record: Record | None) -> None:
        order = (self._range_order(key), key)
        partition = self.partitions.setdefault(key.hash, [])
        if record is not None:
            insort(partition, order)
            return
        del partition[bisect_left(partition, order)]
        if not partition:
            del self.partitions[key.hash]

    def _range_order(self, key: Key) -> Any:
        name = self.schema.range
        return "" if name is None else sortable({self.schema.types[name]: key.range})

    def as_of(self, key: Key, then: float | None) -> Record | None:
        """Return an item as it was at a monotonic time, as far back as history goes; None: as it is."""
        if then is not None:
            for at, previous in self.history.get(key, ()):
                if at > then:
                    return previous
        return self.records.get(key)

    # -- order ------------------------------------------------------------------------------------------------------

    def partition(self, content: str, then: float | None) -> Iterator[tuple[Order, Record]]:
        """Give a partition's items in the order of its sort key."""
        if then is None or not self.history:
            if self.schema.range is None:
                record = self.records.get(Key(content))
                if record is not None:
                    yield ("", Key(content)), record
                return
            for order in self.partitions.get(content, ()):
                yield order, self.records[order[1]]
            return
        keys = {key for key in (*self.records, *self.history) if key.hash == content}
        yield from self._then(sorted(((self._range_order(key), key), key) for key in keys), then)

    def everything(self, then: float | None) -> Iterator[tuple[Order, Record]]:
        """Give all items in the order of a scan: by the hash of the partition key, which is no order to rely on."""
        if then is None or not self.history:
            if self._scan is None:
                self._scan = sorted((self.scan_order(key), key) for key in self.records)
            for order, key in self._scan:
                yield order, self.records[key]
            return
        yield from self._then(sorted((self.scan_order(key), key) for key in {*self.records, *self.history}), then)

    def _then(self, ordered: list[tuple[Order, Key]], then: float) -> Iterator[tuple[Order, Record]]:
        for order, key in ordered:
            record = self.as_of(key, then)
            if record is not None:
                yield order, record

    def scan_order(self, key: Key) -> Order:
        """Return where a key stands in a scan."""
        return (crc32(key.hash.encode()), key.hash, self._range_order(key))

    def index_entries(self, index: Index, then: float | None) -> Iterator[tuple[Order, Record]]:
        """Give the items that an index holds, in its order, each with the attributes that it projects."""
        found: list[tuple[Order, Record]] = []
        for order, record in self.everything(then):
            item = record.item
            if all(name in item for name in index.keys):
                hashed = item[index.hash]
                content = next(iter(hashed.values()))
                ranged = sortable(item[index.range]) if index.range is not None else ""
                found.append(((crc32(content.encode()), content, ranged, order), self.entry(index, record)))
        yield from sorted(found, key=lambda pair: pair[0])

    def entry(self, index: Index, record: Record) -> Record:
        """Return what an index stores of an item."""
        if index.attributes is None:
            return record
        names = {*self.schema.keys, *index.keys, *index.attributes}
        item = {name: value for name, value in record.item.items() if name in names}
        return Record(item, sum(len(name.encode()) + measured(value)[1] for name, value in item.items()))

    # -- for tests --------------------------------------------------------------------------------------------------

    def items(self) -> list[Item]:
        """Return every item, in the order of a scan, as its attribute values."""
        return [record.item for _, record in self.everything(None)]

    def plain(self) -> list[dict[str, Any]]:
        """Return every item as plain Python: text, Decimal, bytes, bool, None, list, dict, set."""
        return [plain_item(item) for item in self.items()]


def plain_item(item: Mapping[str, Value]) -> dict[str, Any]:
    """Return an item as plain Python values."""
    return {name: plain(value) for name, value in item.items()}


def plain(value: Value) -> Any:
    """Return one attribute value as plain Python."""
    ((kind, content),) = value.items()
    if kind in {"N", "B"}:
        return sortable(value)
    if kind == "NULL":
        return None
    if kind == "L":
        return [plain(one) for one in content]
    if kind == "M":
        return plain_item(content)
    if kind in {"SS", "NS", "BS"}:
        return {sortable({kind[0]: one}) for one in content}
    return content
