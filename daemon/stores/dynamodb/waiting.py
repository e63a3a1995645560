"""What waits to be applied, as items: keys, skipped ranges, and what a commit makes of an entry.

Owns forms only. Must not know clients or outcomes.

Invariant: an entry that is gone is never brought back: every change of one is conditioned on its being there.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from daemon.core.positions import parse_position, position_text
from daemon.core.waiting import Amended, LetterRef, ParkedRef, Ref, Settle, SkippedRange
from daemon.stores.dynamodb.items import Item, attributes_of, item_of, letter_key, parked_place, sortable

SKIPPED = "skipped#"
"""How the sort keys of skipped ranges begin."""
EXISTS = "attribute_exists(pk)"


def entry_key(ref: Ref) -> str:
    """Return the sort key of a waiting entry."""
    if isinstance(ref, LetterRef):
        return letter_key(ref)
    if isinstance(ref, ParkedRef):
        return parked_place(ref)
    return f"{SKIPPED}{sortable(ref.through)}"


def skipped_item(pk: str, one: SkippedRange) -> Item:
    """Return a skipped range's item."""
    return item_of({
        "pk": pk, "sk": f"{SKIPPED}{sortable(one.through)}", "after": position_text(one.after),
        "through": position_text(one.through), "at": one.at.isoformat(), "note": one.note,
        "counted": one.counted,
    })  # fmt: skip


def skipped_of(item: Mapping[str, Mapping[str, Any]]) -> SkippedRange:
    """Return the skipped range that an item holds."""
    held = attributes_of(item)
    return SkippedRange(
        after=parse_position(held["after"]),
        through=parse_position(held["through"]),
        at=datetime.fromisoformat(held["at"]),
        note=held["note"],
        counted=held["counted"],
    )


def settle_action(table: str, pk: str, settle: Settle) -> dict[str, Any]:
    """Return the action that removes or amends an entry, on condition that it is there."""
    named = {"TableName": table, "Key": {"pk": {"S": pk}, "sk": {"S": entry_key(settle.ref)}}}
    keep = settle.keep
    if keep is None:
        return {"Delete": {**named, "ConditionExpression": EXISTS}}
    return {"Update": {**named, **_amendment(keep, settle.ref), "ConditionExpression": EXISTS}}


def _amendment(keep: Amended, ref: Ref) -> dict[str, Any]:
    texts = {"reason": keep.reason, "detail": keep.detail}
    if isinstance(ref, LetterRef):
        texts["handler"] = keep.handler
    if keep.wish is not None:
        texts["wish"] = keep.wish
    sets = ",".join(f"#{name}=:{name}" for name in texts)
    return {
        "UpdateExpression": f"SET {sets}" if keep.wish is not None else f"SET {sets} REMOVE #wish",
        "ExpressionAttributeNames": {f"#{name}": name for name in {*texts, "wish"}},
        "ExpressionAttributeValues": {f":{name}": {"S": str(text)} for name, text in texts.items()},
    }
