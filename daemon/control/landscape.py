"""What there is to command: generations and their shards, found by the names people use.

Owns how a target becomes generations and shards, and what is refused because it names nothing. Must not change
anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from daemon.control.together import both, together
from daemon.core.checkpoint import Checkpoint
from daemon.core.commands import Target
from daemon.core.errors import CommandRefused, RefusalCode, SourceProblem
from daemon.core.generations import GenerationRecord
from daemon.core.identity import Generation, Scope, ShardId
from daemon.core.operations import Standing
from daemon.ports.source import Source
from daemon.ports.store import Store

_NAMED = 8
"""Names that a refusal lists at most."""
_LISTED_WITHIN = 15.0
"""Seconds for which a source's list of shards will do: whoever grants shards has them listed more often than that."""

type _Look = tuple[Mapping[Scope, Checkpoint], frozenset[ShardId], Standing]


@dataclass(frozen=True, slots=True)
class Found:
    """A generation with its shards: `checkpoints` of those that were ever taken, `listed` by its sources now.

    `standing`: where its operations stood at about that moment.
    """

    record: GenerationRecord
    checkpoints: Mapping[Scope, Checkpoint]
    listed: frozenset[ShardId]
    standing: Standing

    @property
    def generation(self) -> Generation:
        """Which one."""
        return self.record.generation

    @property
    def shards(self) -> list[ShardId]:
        """Every shard that is known, in order."""
        return sorted(self.listed.union(scope.shard_id for scope in self.checkpoints))


@dataclass(slots=True)
class Landscape:
    """Finds what commands are about. `follows`: the sources of each generation whose code is here."""

    store: Store
    sources: Mapping[str, Source]
    follows: Mapping[Generation, Sequence[str]]

    async def records(self, target: Target) -> list[GenerationRecord]:
        """Return the generations that a target names, oldest first. Raises CommandRefused where it names none."""
        names = sorted({generation.projection for generation in self.follows})
        if target.projection is None:
            several = await together([partial(self.store.generations, name) for name in names])
            return [record for records in several for record in records]
        records = list(await self.store.generations(target.projection))
        if not records and target.generation is not None:
            # `sales-g2` is the second generation of `sales`, unless a projection is called so.
            records = list(await self.store.generations(f"{target.projection}-g{target.generation}"))
            if records:
                return records
        if not records:
            raise CommandRefused(
                RefusalCode.NOT_FOUND,
                f"there is no projection {target.projection!r:.100}",
                f"there are: {_some(names)}",
            )
        if target.generation is None:
            return records
        chosen = [record for record in records if record.generation.number == target.generation]
        if not chosen:
            numbers = [f"g{record.generation.number}" for record in records]
            raise CommandRefused(
                RefusalCode.NOT_FOUND,
                f"{target.projection} has no generation {target.generation}",
                f"it has: {_some(numbers)}",
            )
        return chosen

    async def find(self, target: Target) -> list[Found]:
        """Return the generations that a target names, with their shards.

        Raises CommandRefused where it names a shard that none of them has.
        """
        found, shard = await self._find(target, _LISTED_WITHIN), shard_of(target)
        if shard is None:
            return found
        having = [one for one in found if shard in one.shards]
        if not having:  # it may have come since they were listed
            found = await self._find(target, 0.0)
            having = [one for one in found if shard in one.shards]
        if not having:
            known = sorted({known.label for one in found for known in one.shards})
            raise CommandRefused(
                RefusalCode.NOT_FOUND,
                f"{target.projection} follows no shard {shard.label!r:.200}",
                f"it follows: {_some(known)}",
            )
        return having

    async def _find(self, target: Target, within: float) -> list[Found]:
        # What runs here is looked at while its records are read: both are there as soon as one.
        known = [generation for generation in self.follows if target.covers(generation)]
        questions = [partial(self._look, generation, within) for generation in known]
        records, looks = await both(lambda: self.records(target), lambda: together(questions))
        seen = dict(zip(known, looks, strict=True))
        others = [record.generation for record in records if record.generation not in seen]
        further = await together([partial(self._look, one, within) for one in others])
        seen |= dict(zip(others, further, strict=True))
        return [Found(record, *seen[record.generation]) for record in records]

    async def look(self, record: GenerationRecord) -> Found:
        """Return one generation with its shards; a source that does not answer lists none."""
        return Found(record, *await self._look(record.generation, _LISTED_WITHIN))

    async def _look(self, generation: Generation, within: float) -> _Look:
        names = self.follows.get(generation, ())
        several, (checkpoints, standing) = await both(
            lambda: together([partial(self._listed, name, within) for name in names]),
            lambda: both(lambda: self.store.checkpoints(generation), lambda: self.store.standing(generation)),
        )
        return checkpoints, frozenset[ShardId]().union(*several), standing

    async def _listed(self, source: str, within: float) -> set[ShardId]:
        try:
            return {ShardId(source, info.shard) for info in await self.sources[source].shards(within)}
        except SourceProblem:
            return set()


def shard_of(target: Target) -> ShardId | None:
    """Return the one shard that a target names, if it names one."""
    if target.source is None or target.shard is None:
        return None
    return ShardId(target.source, target.shard)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED]) or "none"
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
