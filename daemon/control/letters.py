"""Dead letters and parked keys, listed and shown; and what is refused before anything is wished for them.

Owns the reading. Must not know how a wish is carried out: the shards' owners do that.

Invariants: nothing is changed here; whoever asks for everything has to say so; counts are of all that a filter means,
whatever is listed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.control.landscape import Landscape
from daemon.core.again import (
    KeysParked,
    KeysRelease,
    KeysReport,
    Letter,
    LetterReport,
    LettersDiscard,
    LettersList,
    LettersReport,
    LettersRetry,
    LettersShow,
    ParkedKey,
)
from daemon.core.commands import Target
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.identity import Scope
from daemon.core.positions import parse_position, position_text
from daemon.core.waiting import LetterNote, ParkedNote, Waiting, names
from daemon.ports.clock import Clock
from daemon.ports.store import Store


@dataclass(slots=True)
class Letters:
    """Answers about what waits."""

    store: Store
    clock: Clock
    landscape: Landscape

    async def listed(self, query: LettersList) -> LettersReport:
        """List dead letters, in position order shard by shard. Raises CommandRefused, StoreProblem."""
        arguments = query.which.arguments() or {"every": True}
        found = [
            (scope, note)
            for scope, waiting in await self.waiting(query.target)
            for note in waiting.letters
            if names(arguments, note)
        ]
        return LettersReport(
            at=self.clock.now(),
            total=len(found),
            by_reason=dict(Counter(note.reason for _, note in found).most_common()),
            by_shard=dict(Counter(scope.label for scope, _ in found)),
            letters=tuple(_letter(scope, note) for scope, note in found[: query.limit]),
        )

    async def show(self, query: LettersShow) -> LetterReport:
        """Show one dead letter with what is kept of it. Raises CommandRefused where there is none, or several."""
        try:
            position = parse_position(query.position)
        except ValueError as error:
            raise CommandRefused(RefusalCode.USAGE, str(error), "copy it from `dead-letters list`") from None
        found = [
            (scope, note)
            for scope, waiting in await self.waiting(query.target)
            for note in waiting.letters
            if note.position == position and query.event in {None, note.event_id}
        ]
        if len(found) != 1:
            many = ", ".join(f"{scope.label} {note.event_id!r}" for scope, note in found[:5])
            raise CommandRefused(
                RefusalCode.USAGE if found else RefusalCode.NOT_FOUND,
                f"{len(found)} dead letters stand at {query.position}" + (f": {many}" if many else ""),
                "name the shard and the event id" if found else "list them (projectionctl dead-letters list)",
            )
        ((scope, note),) = found
        letters = await self.store.find_letters(scope, [note.ref])
        if not letters:
            raise CommandRefused(
                RefusalCode.NOT_FOUND, f"the dead letter at {query.position} was settled meanwhile", "list them again"
            )
        held = letters[0]
        return LetterReport(
            letter=_letter(scope, note),
            detail=held.detail,
            payload=held.payload.decode(errors="backslashreplace"),
            payload_size=held.payload_size,
            retry=f"projectionctl dead-letters retry {scope.label} --position {query.position}",
        )

    async def keys(self, query: KeysParked) -> KeysReport:
        """List parked keys, the longest parked first. Raises CommandRefused, StoreProblem."""
        queues = [
            (scope, queue) for scope, waiting in await self.waiting(query.target) for queue in waiting.queues.values()
        ]
        queues.sort(key=lambda held: held[1][0].at)
        return KeysReport(
            at=self.clock.now(),
            total=len(queues),
            events=sum(len(queue) for _, queue in queues),
            by_shard=dict(Counter(scope.label for scope, _ in queues)),
            keys=tuple(_parked_key(scope, queue) for scope, queue in queues[: query.limit]),
        )

    async def check(self, command: LettersRetry | LettersDiscard | KeysRelease) -> None:
        """Refuse a change that says neither which entries it means nor that it means all, or that means none."""
        verb = command.name.rpartition(".")[2]
        if isinstance(command, KeysRelease):
            if command.key is None and not command.every:
                raise CommandRefused(RefusalCode.USAGE, f"{verb} which key?", "name it (--key KEY), or all (--all)")
            parked = [waiting.queues.keys() for _, waiting in await self.waiting(command.target)]
            if command.key is not None and not any(command.key in keys for keys in parked):
                raise CommandRefused(
                    RefusalCode.NOT_FOUND, f"key {command.key!r:.200} is not parked", "see `keys parked`"
                )
            return
        if not command.arguments():
            raise CommandRefused(
                RefusalCode.USAGE,
                f"{verb} which dead letters?",
                "name them (--key, --reason, --handler, --event, --position), or all (--all)",
            )
        listed = await self.listed(LettersList(command.target, command.which, 0))
        if not listed.total and not command.which.every:
            raise CommandRefused(RefusalCode.NOT_FOUND, "no dead letter agrees with that", "see `dead-letters list`")

    async def waiting(self, target: Target) -> list[tuple[Scope, Waiting]]:
        """Read what waits in every shard that a target names."""
        found: list[tuple[Scope, Waiting]] = []
        for one in await self.landscape.find(target):
            for scope, checkpoint in sorted(one.checkpoints.items()):
                named = target.shard is None or (scope.source, scope.shard) == (target.source, target.shard)
                waits = checkpoint.counters.get("dead_lettered", 0) or checkpoint.counters.get("parked", 0)
                if named and waits:
                    found.append((scope, await self.store.waiting(scope)))
        return found


def _letter(scope: Scope, note: LetterNote) -> Letter:
    return Letter(
        scope, position_text(note.position), note.event_id, note.key, note.reason, note.handler, note.at,
        None if note.wish is None else str(note.wish),
    )  # fmt: skip


def _parked_key(scope: Scope, queue: Sequence[ParkedNote]) -> ParkedKey:
    first = queue[0]
    return ParkedKey(
        scope, first.key, len(queue), position_text(first.position), first.event_id, first.reason, first.at,
        None if first.wish is None else str(first.wish),
    )  # fmt: skip
