"""What a DynamoDB store stands on, open or not: its settings, its tables as they are, and who may do what on them.

Owns the store's settings, the looks that `projectiond init` and `check` take, and whom consumption is told. Must not
know commits, shards or what rows hold.

Invariant: nothing here needs the store to be open; what it connects for itself it disconnects.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio

from daemon.core.generations import GenerationRecord
from daemon.core.identity import Generation
from daemon.core.inventory import Part
from daemon.core.projection import Index
from daemon.ports.clock import Clock
from daemon.stores.dynamodb.admin import Admin
from daemon.stores.dynamodb.calls import Caller, Consumed
from daemon.stores.dynamodb.connections import Connect
from daemon.stores.dynamodb.items import GENERATION, POINTER, record_of
from daemon.stores.dynamodb.rights import MissingRight, missing_rights
from daemon.stores.dynamodb.tables import Table, Tables
from daemon.stores.dynamodb.tuning import Tuning
from daemon.wire.aws_json import AwsJson


class Foundation:
    """The part of a store that does not have to be open."""

    def __init__(
        self,
        connect: Connect,
        clock: Clock,
        tables: Tables,
        tuning: Tuning,
        consumed: Consumed,
        administer: Callable[[], Awaitable[AwsJson]] | None,
    ) -> None:
        """Keep the settings."""
        self._connect = connect
        self._clock = clock
        self.tables = tables
        self.tuning = tuning
        self._consumed = consumed
        self._administer = administer

    def _at_hand(self) -> Caller | None:
        """Return a caller that is connected already, None while the store is not open."""
        return None

    async def recorded(self, projections: Collection[str]) -> Mapping[str, Sequence[GenerationRecord]]:
        """List generations by projection, as far as there is a state table."""
        async with self._looking() as caller:
            if await Admin(caller).is_missing(self.tables.state):
                return {}
            found = {name: await self._generations(caller, name) for name in projections}
        return {name: records for name, records in found.items() if records}

    async def survey(self, generations: Mapping[Generation, Sequence[Index]]) -> Sequence[Part]:
        """Compare the tables with what there is: keys, billing, expiry, indexes, recovery, protection."""
        async with self._looking() as caller:
            return await Admin(caller).parts(self._all(generations))

    async def establish(self, generations: Mapping[Generation, Sequence[Index]]) -> None:
        """Make tables, and switch on or add what is missing of them; nothing is switched off, shrunk or removed."""
        async with self._looking() as caller:
            await Admin(caller).establish(self._all(generations))

    async def missing_rights(self, generations: Collection[Generation]) -> list[MissingRight]:
        """Return what the store's own credentials may not do on tables that exist; open or not. Changes nothing."""
        missing: list[MissingRight] = []
        connections = await self._connect()
        try:
            caller = self._caller(connections.reads)
            for table in self._all(dict.fromkeys(generations, ())):
                if not await Admin(caller).may_be_missing(table.name):
                    missing += await missing_rights(caller, table, self.tables.kind(table.name))
        finally:
            with anyio.CancelScope(shield=True):
                await connections.aclose()
        return missing

    def _all(self, generations: Mapping[Generation, Sequence[Index]]) -> list[Table]:
        rows = (self.tables.of_generation(generation, indexes) for generation, indexes in generations.items())
        return [*self.tables.own(), *rows]

    @asynccontextmanager
    async def _looking(self) -> AsyncGenerator[Caller]:
        """Give a caller for admin calls, whether or not the store is open."""
        if self._administer is not None:
            client = await self._administer()
            close = client.aclose
        elif (caller := self._at_hand()) is not None:
            yield caller
            return
        else:
            connections = await self._connect()
            client, close = connections.leases, connections.aclose
        try:
            yield self._caller(client)
        finally:
            with anyio.CancelScope(shield=True):
                await close()

    async def _generations(self, caller: Caller, projection: str) -> list[GenerationRecord]:
        items = await caller.some(self.tables.state, projection, (GENERATION, POINTER))
        live = next((int(item["generation"]["N"]) for item in items if item["sk"]["S"] == POINTER), None)
        return [record_of(projection, item, live) for item in items if item["sk"]["S"] != POINTER]

    def _caller(self, client: AwsJson) -> Caller:
        return Caller(client, self._clock, self.tuning, self._bill)

    def _bill(self, generation: Generation | None, units: Mapping[str, float]) -> None:
        self._consumed(generation, self._by_kind(units))

    def _by_kind(self, units: Mapping[str, float]) -> dict[str, float]:
        totals: dict[str, float] = {}
        for name, count in units.items():
            unit, _, table = name.partition(":")
            kind = f"{unit}:{self.tables.kind(table)}"
            totals[kind] = totals.get(kind, 0.0) + count
        return totals
