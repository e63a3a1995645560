"""`wait`: until a projection has settled a position or an event, so that whoever wrote it can read it.

Owns how it is told that something is settled, from the store alone: any replica can say it, whoever owns the shard.
Must not know who asks.

Settled is: applied, a duplicate, dead-lettered, parked or skipped: nothing more will come of it by itself.

Invariants: what is answered was read from the store after it was committed; an event's id is looked for where the
projection's dedup mode keeps ids, and a mode that keeps none is told so.
"""

from collections.abc import Mapping

import anyio

from daemon.control.requests import Reached, WaitFor
from daemon.control.serving import Tell
from daemon.core.checkpoint import Checkpoint, CheckpointState
from daemon.core.commands import Target
from daemon.core.dedup import id_digest
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.identity import Generation, Scope
from daemon.core.positions import Position, position_text
from daemon.core.projection import Dedup, ProjectionSpec
from daemon.core.window import ENTRY_BYTES
from daemon.ports.clock import Clock
from daemon.ports.store import Store

FIRST_LOOK_SECONDS = 0.02
SLOWEST_LOOK_SECONDS = 0.5
_GROWTH = 1.5
_NEWEST_IDS = 2_000
_STANDING = frozenset({CheckpointState.PARKED, CheckpointState.PAUSED})


class Waiting:
    """Waits, by looking at the store."""

    def __init__(self, store: Store, specs: Mapping[Generation, ProjectionSpec], clock: Clock) -> None:
        """Look at `store`; `specs` are the generations whose code is here."""
        self._store = store
        self._specs = specs
        self._clock = clock

    async def wait_for(self, wanted: WaitFor, tell: Tell) -> Reached:
        """Return once it is settled. Raises CommandRefused: `pending` when the time is over."""
        generation = await self._generation(wanted.target)
        with anyio.move_on_after(wanted.timeout):
            if wanted.position is not None:
                return await self._position(self._scope(generation, wanted.target), wanted.position)
            if wanted.event is not None:
                return await self._event(generation, wanted.target, wanted.event)
        raise CommandRefused(
            RefusalCode.PENDING,
            f"{await self._standing(generation, wanted)} after {wanted.timeout:g} seconds",
            "wait again, or see `projectionctl status` and `projectionctl lag`",
        )

    async def _position(self, scope: Scope, wanted: Position) -> Reached:
        look = FIRST_LOOK_SECONDS
        while True:
            now = await self._store.read_checkpoint(scope)
            if now is not None and now.position >= wanted:
                return Reached(scope.of, scope, position_text(wanted), position_text(now.position))
            await self._clock.sleep(look)
            look = min(look * _GROWTH, SLOWEST_LOOK_SECONDS)

    async def _event(self, generation: Generation, target: Target, event_id: str) -> Reached:
        spec = self._specs.get(generation)
        if spec is None:
            raise CommandRefused(
                RefusalCode.REFUSED,
                f"this daemon has no code of {generation.label}, and so cannot tell where its ids are kept",
                "wait for a position, or ask a daemon that runs it",
            )
        if spec.dedup is Dedup.SEQUENCE:
            raise CommandRefused(
                RefusalCode.REFUSED,
                f'{generation.label} keeps no ids of events (dedup = "sequence")',
                "wait for a position: projectionctl wait P --position SOURCE/SHARD:POS",
            )
        look = FIRST_LOOK_SECONDS
        seen: dict[Scope, int] = {}
        while True:
            if spec.dedup is Dedup.EVENT:
                if await self._store.find_markers(generation, [event_id]):
                    return Reached(generation, None, event_id, None)
            elif (found := await self._in_segments(generation, target, spec, event_id, seen)) is not None:
                return found
            await self._clock.sleep(look)
            look = min(look * _GROWTH, SLOWEST_LOOK_SECONDS)

    async def _in_segments(
        self, generation: Generation, target: Target, spec: ProjectionSpec, event_id: str, seen: dict[Scope, int]
    ) -> Reached | None:
        """Look for an id in the packed segments of each shard that has committed since; the whole window at first."""
        digest = id_digest(event_id)
        for scope, checkpoint in (await self._store.checkpoints(generation)).items():
            if target.shard is not None and (target.source, target.shard) != (scope.source, scope.shard):
                continue
            before = seen.get(scope)
            if before == checkpoint.segment_seq:
                continue
            # Between two looks a shard may have filled many segments; then the whole window is read again.
            newest = before is not None and checkpoint.commit_seq - before <= 1
            segments = await self._store.load_segments(scope, _NEWEST_IDS if newest else spec.marker_window)
            if any(_holds(segment.entries, digest) for segment in segments):
                return Reached(generation, scope, event_id, position_text(checkpoint.position))
            seen[scope] = checkpoint.segment_seq
        return None

    async def _generation(self, target: Target) -> Generation:
        if target.projection is None:
            raise CommandRefused(RefusalCode.USAGE, "waiting is about one projection", "name it instead of `all`")
        records = await self._store.generations(target.projection)
        for record in records:
            if record.generation.number == target.generation or (target.generation is None and record.live):
                return record.generation
        known = ", ".join(record.generation.label for record in records) or "none"
        raise CommandRefused(
            RefusalCode.NOT_FOUND,
            f"{target.label} names no generation of {target.projection}",
            f"there are: {known}; see `projectionctl status`",
        )

    @staticmethod
    def _scope(generation: Generation, target: Target) -> Scope:
        if target.source is None or target.shard is None:
            raise CommandRefused(
                RefusalCode.USAGE,
                "a position is one within a shard",
                "name the shard: NAME:SOURCE/SHARD, or --position SOURCE/SHARD:POS",
            )
        return Scope(generation.projection, generation.number, target.source, target.shard)

    async def _standing(self, generation: Generation, wanted: WaitFor) -> str:
        """Say how things stand when the time is over."""
        if wanted.position is None:
            return f"event {wanted.event!r:.200} is not settled in {generation.label}"
        scope = self._scope(generation, wanted.target)
        now = await self._store.read_checkpoint(scope)
        if now is None:
            return f"{scope.label} has no checkpoint yet"
        at, wanted_at = position_text(now.position), position_text(wanted.position)
        return f"{scope.label} stands at {at}{_halted(now)}, before {wanted_at}"


def _halted(checkpoint: Checkpoint) -> str:
    if checkpoint.state not in _STANDING:
        return ""
    return f" and is {checkpoint.state}" + (f" ({checkpoint.reason})" if checkpoint.reason else "")


def _holds(entries: bytes, digest: bytes) -> bool:
    at = entries.find(digest)
    while at >= 0:
        if at % ENTRY_BYTES == 0:
            return True
        at = entries.find(digest, at + 1)
    return False
