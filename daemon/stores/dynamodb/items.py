"""What the daemon's own items look like.

Keys and attributes of checkpoints, segments, dead letters, parked events, effects, generations.

Owns every stored form but the rows' and the markers' (`daemon.stores.dynamodb.requests` assembles those, there are many
of them). Must not know clients, conditions or outcomes.

Invariants: what is written reads back equal; attributes carry their natural types and vocabulary, so that a person can
read an item; an absent attribute is None; positions are text, since their integers exceed DynamoDB's 38 digits; sort
keys of positions compare as positions do; no key outgrows DynamoDB's 2,048 and 1,024 bytes, whatever ids and keys users
choose.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commit import DeadLetter, ParkedEvent
from daemon.core.cursor import cursor_form, cursor_of
from daemon.core.errors import StoreTooNew
from daemon.core.generations import GenerationRecord
from daemon.core.identity import Generation, Scope
from daemon.core.leases import Presence
from daemon.core.positions import Position, parse_position, position_text
from daemon.core.rows import Effect
from daemon.core.waiting import LetterRef, ParkedRef, Wish
from daemon.core.window import StoredSegment
from daemon.stores.dynamodb.damage import whole
from daemon.stores.dynamodb.values import Typed, plain, typed

type Item = dict[str, Typed]
"""An item as DynamoDB JSON."""

SCHEMA = 1
"""The form of items that this projectiond writes and reads; a generation's record carries it."""

CHECKPOINT = "checkpoint"
POINTER = "pointer"
SEGMENT, DEAD, PARKED, GENERATION, SHARD, REPLICA = (
    "segment#", "dead#", "parked#", "generation#", "shard#", "replica#",
)  # fmt: skip
"""How the sort keys of items begin that come in numbers."""
AFTER = "$"
"""The character after `#`: what follows a prefix ends before it."""

EVERY = ("\0", "\U0010ffff")
"""Between these lies every sort key."""
REPLICAS = "/replicas"
"""The partition of presences; no projection is called so."""

_SHORT_ID = 256
"""Bytes of an event id that stand in a sort key as they are."""
_MARKER_ID = 1024
"""Bytes of an event id that stand in a marker's key as they are."""
SAFE_ID = _MARKER_ID // 4
"""Characters of an id that are surely not too long for that."""
_DIGITS = 12


# ---------------------------------------------------------------------------------------------------------- keys


def scope_key(scope: Scope) -> str:
    """Return the partition key of a scope's items: its label, with a slash in the source's name escaped."""
    source = scope.source
    if "/" in source or "\\" in source:
        source = source.replace("\\", "\\\\").replace("/", "\\/")
    return f"{scope.of.label}:{source}/{scope.shard}"


def marker_key(label_slash: str, event_id: str) -> str:
    """Return a marker's key: generation label, slash, id; an id too long for a key stands as its digest."""
    if len(event_id) <= SAFE_ID and event_id[:1] != "/":
        return label_slash + event_id
    return label_slash + _key_text(event_id, _MARKER_ID)


def _key_text(text: str, longest: int) -> str:
    raw = text.encode()
    if len(raw) <= longest and raw[:1] != b"/":
        return text
    return f"/{blake2b(raw, digest_size=32).hexdigest()}"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def sortable(position: Position) -> str:
    """Return text that compares as positions do: each part as its count of digits (three), then its digits."""
    return ".".join(f"{len(digits):03d}{digits}" for digits in map(str, position))


def segment_key(number: int) -> str:
    """Return the sort key of a packed segment."""
    return f"{SEGMENT}{number:0{_DIGITS}d}"


def letter_key(ref: LetterRef) -> str:
    """Return the sort key of a dead letter."""
    return f"{DEAD}{sortable(ref.position)}#{_key_text(ref.event_id, _SHORT_ID)}"


def dead_key(letter: DeadLetter) -> str:
    """Return the sort key of a dead letter."""
    return letter_key(letter.ref)


def parked_prefix(key: str) -> str:
    """Return how the sort keys of the events behind one parked key begin."""
    return f"{PARKED}{_digest(key)}"


def parked_place(ref: ParkedRef) -> str:
    """Return the sort key of a parked event."""
    return f"{parked_prefix(ref.key)}#{sortable(ref.position)}#{_key_text(ref.event_id, _SHORT_ID)}"


def parked_key(event: ParkedEvent) -> str:
    """Return the sort key of a parked event."""
    return parked_place(event.ref)


def generation_key(number: int) -> str:
    """Return the sort key of a generation's record."""
    return f"{GENERATION}{number:0{_DIGITS}d}"


def shard_key(scope: Scope) -> str:
    """Return the sort key under which a generation lists one of its scopes."""
    return f"{SHARD}{_digest(scope_key(scope))}"


# --------------------------------------------------------------------------------------------------------- forms


def item_of(attributes: Mapping[str, object]) -> Item:
    """Return attributes as an item; what is None is left out."""
    return {name: typed(value) for name, value in attributes.items() if value is not None}


def attributes_of(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return an item's attributes."""
    return {name: plain(value) for name, value in item.items()}


_FROM_BACKUP = "restore the item from a backup"
_OR_REMOVE = f"{_FROM_BACKUP}, or remove it"


def checkpoint_item(pk: str, checkpoint: Checkpoint) -> Item:
    """Return a checkpoint's item."""
    item: Item = {
        "pk": {"S": pk},
        "sk": {"S": CHECKPOINT},
        "position": {"S": position_text(checkpoint.position)},
        "origin": {"S": position_text(checkpoint.origin)},
        "epoch": {"N": str(checkpoint.epoch)},
        "commit_seq": {"N": str(checkpoint.commit_seq)},
        "commit_id": {"S": checkpoint.commit_id},
        "state": {"S": str(checkpoint.state)},
        "caught_up": {"BOOL": checkpoint.caught_up},
        "segment": {"N": str(checkpoint.segment)},
        "segment_seq": {"N": str(checkpoint.segment_seq)},
        "parked_seq": {"N": str(checkpoint.parked_seq)},
        "dead_run": {"N": str(checkpoint.dead_run)},
        "operation_seq": {"N": str(checkpoint.operation_seq)},
        "code_digest": {"S": checkpoint.code_digest},
        "counters": {"M": {name: {"N": str(count)} for name, count in checkpoint.counters.items()}},
    }
    if checkpoint.owner is not None:
        item["owner"] = {"S": checkpoint.owner}
    if checkpoint.reason is not None:
        item["reason"] = {"S": checkpoint.reason}
    if checkpoint.incarnation is not None:
        item["incarnation"] = {"S": checkpoint.incarnation}
    if checkpoint.watermark is not None:
        item["watermark"] = {"S": checkpoint.watermark.isoformat()}
    if checkpoint.redelivery is not None:
        item["redelivery"] = typed(cursor_form(checkpoint.redelivery))
    if checkpoint.since is not None:
        item["since"] = {"S": checkpoint.since.isoformat()}
    if checkpoint.stuck_at is not None:
        item["stuck_at"] = {"S": position_text(checkpoint.stuck_at)}
    return item


@whole("the checkpoint", "restore the item from a backup, or rebuild the projection")
def checkpoint_of(item: Mapping[str, Mapping[str, Any]]) -> Checkpoint:
    """Return the checkpoint that an item holds."""
    held = attributes_of(item)
    watermark = held.get("watermark")
    return Checkpoint(
        position=parse_position(held["position"]),
        origin=parse_position(held["origin"]),
        epoch=held["epoch"],
        commit_seq=held["commit_seq"],
        commit_id=held["commit_id"],
        owner=held.get("owner"),
        state=CheckpointState(held["state"]),
        reason=held.get("reason"),
        incarnation=held.get("incarnation"),
        watermark=None if watermark is None else datetime.fromisoformat(watermark),
        caught_up=held["caught_up"],
        segment=held["segment"],
        segment_seq=held["segment_seq"],
        parked_seq=held["parked_seq"],
        dead_run=held["dead_run"],
        operation_seq=held["operation_seq"],
        code_digest=held["code_digest"],
        counters=held["counters"],
        redelivery=cursor_of(held["redelivery"]) if "redelivery" in held else None,
        since=datetime.fromisoformat(held["since"]) if "since" in held else None,
        stuck_at=parse_position(held["stuck_at"]) if "stuck_at" in held else None,
    )


def shard_item(scope: Scope) -> Item:
    """Return the item by which a generation knows one of its scopes."""
    return item_of({
        "pk": scope.of.label, "sk": shard_key(scope), "projection": scope.projection, "generation": scope.generation,
        "source": scope.source, "shard": scope.shard,
    })  # fmt: skip


@whole("the listing of a shard", _OR_REMOVE)
def scope_of(item: Mapping[str, Mapping[str, Any]]) -> Scope:
    """Return the scope that a shard's item names."""
    held = attributes_of(item)
    return Scope(held["projection"], held["generation"], held["source"], held["shard"])


def segment_item(pk: str, number: int, entries: bytes, commit_seq: int, first: int) -> Item:
    """Return a packed segment's item. `first`: the oldest segment that still counts."""
    return item_of({"pk": pk, "sk": segment_key(number), "entries": entries, "seq": commit_seq, "first": first})


@whole("packed markers", _FROM_BACKUP)
def segment_of(item: Mapping[str, Mapping[str, Any]]) -> tuple[StoredSegment, int]:
    """Return a segment, and the oldest one that counted when it was written."""
    held = attributes_of(item)
    return StoredSegment(int(held["sk"][len(SEGMENT) :]), held["entries"], held["seq"]), held["first"]


def dead_letter_item(pk: str, letter: DeadLetter) -> Item:
    """Return a dead letter's item."""
    return item_of({
        "pk": pk,
        "sk": dead_key(letter),
        "position": position_text(letter.position),
        "event_id": letter.event_id,
        "key": letter.key,
        "reason": letter.reason,
        "detail": letter.detail,
        "handler": letter.handler,
        "payload": letter.payload,
        "payload_size": letter.payload_size,
        "payload_digest": letter.payload_digest,
        "at": letter.at.isoformat(),
        "wish": letter.wish,
    })  # fmt: skip


@whole("a dead letter", _OR_REMOVE)
def dead_letter_of(item: Mapping[str, Mapping[str, Any]]) -> DeadLetter:
    """Return the dead letter that an item holds."""
    held = attributes_of(item)
    return DeadLetter(
        position=parse_position(held["position"]),
        event_id=held["event_id"],
        key=held["key"],
        reason=held["reason"],
        detail=held["detail"],
        handler=held["handler"],
        payload=held["payload"],
        payload_size=held["payload_size"],
        payload_digest=held["payload_digest"],
        at=datetime.fromisoformat(held["at"]),
        wish=Wish(held["wish"]) if "wish" in held else None,
    )


def parked_item(pk: str, event: ParkedEvent) -> Item:
    """Return a parked event's item."""
    return item_of({
        "pk": pk,
        "sk": parked_key(event),
        "key": event.key,
        "position": position_text(event.position),
        "event_id": event.event_id,
        "payload": event.payload,
        "reason": event.reason,
        "detail": event.detail,
        "at": event.at.isoformat(),
        "wish": event.wish,
    })  # fmt: skip


@whole("a parked event", _FROM_BACKUP)
def parked_of(item: Mapping[str, Mapping[str, Any]]) -> ParkedEvent:
    """Return the parked event that an item holds."""
    held = attributes_of(item)
    return ParkedEvent(
        key=held["key"],
        position=parse_position(held["position"]),
        event_id=held["event_id"],
        payload=held["payload"],
        reason=held["reason"],
        detail=held["detail"],
        at=datetime.fromisoformat(held["at"]),
        wish=Wish(held["wish"]) if "wish" in held else None,
    )


def effect_item(scope: Scope, commit_seq: int, ordinal: int, effect: Effect) -> Item:
    """Return an effect's item. `order` sorts a scope's effects as they were committed."""
    return item_of({
        "pk": scope.of.label,
        "sk": _key_text(effect.id, _SHORT_ID),
        "id": effect.id,
        "name": effect.name,
        "payload": effect.payload,
        "event_id": effect.event_id,
        "key": effect.key,
        "shard": scope.shard_id.label,
        "order": f"{commit_seq:0{_DIGITS}d}.{ordinal:03d}",
    })  # fmt: skip


@whole("an effect", _OR_REMOVE)
def effect_of(item: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, str], Effect]:
    """Return an effect, and what it sorts by."""
    held = attributes_of(item)
    effect = Effect(held["id"], held["name"], held["payload"], held["event_id"], held["key"])
    return (held["order"], held["shard"]), effect


def presence_key(replica: str) -> Item:
    """Return the key of a replica's presence."""
    return item_of({"pk": REPLICAS, "sk": REPLICA + _key_text(replica, _SHORT_ID)})


def presence_item(presence: Presence) -> Item:
    """Return a replica's presence."""
    held = {"replica": presence.replica, "beat": presence.beat, "runs": list(presence.runs)}
    return presence_key(presence.replica) | item_of(held)


@whole("the presence of a replica", "remove the item; a replica that lives writes it anew")
def presence_of(item: Mapping[str, Mapping[str, Any]]) -> Presence:
    """Return the presence that an item holds."""
    held = attributes_of(item)
    return Presence(held["replica"], held["beat"], tuple(held["runs"]))


def generation_item(generation: Generation, version: int, table: str) -> Item:
    """Return a generation's record."""
    return item_of({
        "pk": generation.projection, "sk": generation_key(generation.number), "number": generation.number,
        "version": version, "table": table, "schema": SCHEMA,
    })  # fmt: skip


def pointer_item(generation: Generation, version: int, table: str) -> Item:
    """Return the pointer that readers follow: the live generation and its table."""
    return item_of({
        "pk": generation.projection, "sk": POINTER, "generation": generation.number, "version": version,
        "table": table, "schema": SCHEMA,
    })  # fmt: skip


@whole("the record of a generation", _FROM_BACKUP)
def record_of(projection: str, item: Mapping[str, Mapping[str, Any]], live: int | None) -> GenerationRecord:
    """Return a generation's record. Raises StoreTooNew for a form that only a newer projectiond knows."""
    held = attributes_of(item)
    if held["schema"] > SCHEMA:
        raise StoreTooNew(
            f"generation {held['number']} of {projection} has schema {held['schema']}, newer than {SCHEMA}, the newest "
            "this projectiond knows; run the projectiond that wrote it, or a newer one"
        )
    return GenerationRecord(Generation(projection, held["number"]), held["version"], held["number"] == live)


# ------------------------------------------------------------------------------------------------------ updates


def keep_first(item: Item, keys: tuple[str, ...] = ("pk", "sk")) -> dict[str, Any]:
    """Return an Update, without its table, that writes an item only where none stands: what is there already stays."""
    names: dict[str, str] = {}
    values: Item = {}
    parts: list[str] = []
    for index, (name, value) in enumerate(item.items()):
        if name not in keys:
            names[f"#{index}"] = name
            values[f":{index}"] = value
            parts.append(f"#{index}=if_not_exists(#{index},:{index})")
    return {
        "Key": {name: item[name] for name in keys},
        "UpdateExpression": f"SET {','.join(parts)}",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }
