"""What waits to be applied, listed without payloads, and wished for.

Owns the calls. Must not know commits, or what a wish comes to.

Invariants: an entry that is gone stays gone, whatever is wished for it; what is listed leaves payloads where they are.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.core.commit import DeadLetter
from daemon.core.identity import Scope
from daemon.core.positions import parse_position
from daemon.core.waiting import LetterNote, LetterRef, ParkedNote, ParkedRef, Ref, Waiting, Wish
from daemon.stores.dynamodb.calls import Caller, is_code
from daemon.stores.dynamodb.items import AFTER, DEAD, PARKED, attributes_of, dead_letter_of, scope_key
from daemon.stores.dynamodb.outcomes import problem_of
from daemon.stores.dynamodb.values import Typed
from daemon.stores.dynamodb.waiting import EXISTS, SKIPPED, entry_key, skipped_of
from daemon.wire.aws_json import Success

_NOTED = ("key", "position", "event_id", "reason", "handler", "at", "wish")


@dataclass(slots=True)
class WaitingItems:
    """Reads what waits, and notes wishes. `table`: the state table's name."""

    reads: Caller
    table: str

    async def read(self, scope: Scope) -> Waiting:
        """Read what waits in one scope, without payloads."""
        letters = [_letter_note(held) async for held in self._noted(scope, DEAD)]
        parked = [_parked_note(held) async for held in self._noted(scope, PARKED)]
        between = (SKIPPED, SKIPPED[:-1] + AFTER)
        skipped = await self.reads.of(scope.of).some(self.table, scope_key(scope), between)
        return Waiting(letters, sorted(parked, key=lambda note: note.ref), [skipped_of(item) for item in skipped])

    async def _noted(self, scope: Scope, prefix: str) -> AsyncGenerator[dict[str, Any]]:
        between = (prefix, prefix[:-1] + AFTER)
        pages = self.reads.of(scope.of).pages(self.table, scope_key(scope), between, attributes=_NOTED)
        async with aclosing(pages):
            async for page in pages:
                for item in page:
                    yield attributes_of(item)

    async def letters(self, scope: Scope, refs: Collection[LetterRef]) -> Sequence[DeadLetter]:
        """Return those of these dead letters that are there, in position order."""
        keys = [_key(scope, ref) for ref in dict.fromkeys(refs)]
        items = await self.reads.of(scope.of).get_many(self.table, keys)
        return sorted(map(dead_letter_of, items), key=lambda letter: letter.ref)

    async def wish(self, scope: Scope, refs: Collection[LetterRef | ParkedRef], wish: Wish | None) -> int:
        """Note a wish on entries, one after the other. Returns how many are there. Raises StoreProblem."""
        caller, found = self.reads.of(scope.of), 0
        change = "REMOVE #w" if wish is None else "SET #w=:w"
        for ref in refs:
            request: dict[str, Any] = {
                "TableName": self.table,
                "Key": _key(scope, ref),
                "UpdateExpression": change,
                "ConditionExpression": EXISTS,
                "ExpressionAttributeNames": {"#w": "wish"},
                "ReturnConsumedCapacity": "TOTAL",
            }
            if wish is not None:
                request["ExpressionAttributeValues"] = {":w": {"S": str(wish)}}

            async def attempt(request: dict[str, Any] = request) -> bool:
                answer = await caller.once("UpdateItem", request)
                if is_code(answer, "ConditionalCheckFailedException"):
                    return False
                if isinstance(answer, Success):
                    return True
                raise problem_of(answer)

            found += await caller.patiently(attempt)
        return found


def _key(scope: Scope, ref: Ref) -> dict[str, Typed]:
    return {"pk": {"S": scope_key(scope)}, "sk": {"S": entry_key(ref)}}


def _letter_note(held: Mapping[str, Any]) -> LetterNote:
    return LetterNote(
        parse_position(held["position"]), held["event_id"], held["key"], held["reason"], held["handler"],
        datetime.fromisoformat(held["at"]), _wish_of(held),
    )  # fmt: skip


def _parked_note(held: Mapping[str, Any]) -> ParkedNote:
    return ParkedNote(
        held["key"], parse_position(held["position"]), held["event_id"], held["reason"],
        datetime.fromisoformat(held["at"]), _wish_of(held),
    )  # fmt: skip


def _wish_of(held: Mapping[str, Any]) -> Wish | None:
    return Wish(held["wish"]) if "wish" in held else None
