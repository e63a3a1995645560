"""Tables looked at, made and guarded by `projectiond init`, under a role that may.

Owns the admin calls and their order. Must not know what differs from what (`daemon.stores.dynamodb.plan` does) nor who
makes the calls: any client of the protocol, the SDK's in the daemon.

Invariant: every step looks first and is done only where the plan asks for it, so that it may be repeated at any point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.core.inventory import Part, PartState
from daemon.stores.dynamodb.calls import Caller, is_code
from daemon.stores.dynamodb.outcomes import MISSING, problem_of
from daemon.stores.dynamodb.plan import Held, parts_of
from daemon.stores.dynamodb.tables import Table, attribute_definitions, index_request
from daemon.wire.aws_json import Success

_POLL_SECONDS = 0.5
_INDEX_SECONDS = 3600.0
"""How long a new index may take to be filled from the table's items."""
_UNKNOWN = ("UnknownOperationException", "UnsupportedOperationException", "NotImplemented")
_NOT_YET = ("ResourceInUseException", "LimitExceededException", "ContinuousBackupsUnavailableException")


@dataclass(slots=True)
class Admin:
    """Looks after tables."""

    caller: Caller

    async def parts(self, tables: Sequence[Table]) -> list[Part]:
        """Compare tables with what there is; makes and changes nothing. Raises StoreProblem."""
        return [part for table in tables for part in parts_of(table, await self._held(table))]

    async def is_missing(self, table: str) -> bool:
        """Tell whether there is no such table."""
        return await self._look("DescribeTable", table) is None

    async def may_be_missing(self, table: str) -> bool:
        """Tell whether there is no such table; one that may not even be described counts as there."""
        try:
            return await self.is_missing(table)
        except StoreRefused:
            return False

    async def establish(self, tables: Sequence[Table]) -> None:
        """Make and switch on what the plan asks for. Raises StoreProblem."""
        for table in tables:
            await self._establish(table)

    async def _establish(self, table: Table) -> None:
        held = await self._held(table)
        if held is None:
            await self._change("CreateTable", table.create_request())
            await self._until_active(table.name)
            held = await self._held(table)
            if held is None:
                raise StoreUnavailable(f"table {table.name} was made and is gone again; look who removes it")
        for part in parts_of(table, held):
            if part.state is PartState.CHANGE:
                await self._carry_out(table, part, held)
                await self._until_active(table.name)

    async def _carry_out(self, table: Table, part: Part, held: Held) -> None:
        name = {"TableName": table.name}
        match part.what:
            case "expiry":
                await self._change("UpdateTimeToLive", table.expiry_request() or {})
            case "point-in-time recovery":
                switch = {"PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
                await self._change("UpdateContinuousBackups", name | switch)
            case "deletion protection":
                await self._change("UpdateTable", name | {"DeletionProtectionEnabled": True})
            case _:
                await self._change("UpdateTable", name | _new_index(table, part, held))

    async def _held(self, table: Table) -> Held | None:
        described = await self._look("DescribeTable", table.name)
        if described is None:
            return None
        expiry = await self._look("DescribeTimeToLive", table.name)
        backups = await self._look("DescribeContinuousBackups", table.name)
        recovery = None
        if backups is not None:
            recovery = backups["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
            recovery = recovery.get("PointInTimeRecoveryStatus") == "ENABLED"
        return Held(described["Table"], None if expiry is None else expiry["TimeToLiveDescription"], recovery)

    async def _look(self, operation: str, table: str) -> dict[str, Any] | None:
        """Make a describing call; None for a table that is missing, or where the server has no such call."""

        async def attempt() -> dict[str, Any] | None:
            answer = await self.caller.once(operation, {"TableName": table})
            if isinstance(answer, Success):
                return answer.body
            if is_code(answer, *MISSING, *_UNKNOWN):
                return None
            raise problem_of(answer)

        return await self.caller.patiently(attempt)

    async def _change(self, operation: str, request: dict[str, Any]) -> None:
        """Make a changing call, waiting for another change of the table to end."""

        async def attempt() -> None:
            answer = await self.caller.once(operation, request)
            if isinstance(answer, Success):
                return
            if operation == "CreateTable" and is_code(answer, "ResourceInUseException"):
                return  # another `init` was faster
            if is_code(answer, *_NOT_YET):
                raise StoreUnavailable(f"table {request['TableName']} is still being changed")
            raise problem_of(answer)

        await self.caller.patiently(attempt)

    async def _until_active(self, name: str) -> None:
        clock, since = self.caller.clock, self.caller.clock.monotonic()
        while True:
            described = await self._look("DescribeTable", name)
            status, filling = "missing", False
            if described is not None:
                status = described["Table"]["TableStatus"]
                indexes = described["Table"].get("GlobalSecondaryIndexes") or ()
                filling = any(index.get("IndexStatus", "ACTIVE") != "ACTIVE" for index in indexes)
                if status == "ACTIVE" and not filling:
                    return
            limit = _INDEX_SECONDS if filling else self.caller.tuning.table_patience
            if clock.monotonic() - since > limit:
                raise StoreUnavailable(
                    f"table {name} is {status} after {limit:g} s; run `projectiond init` again later"
                )
            await clock.sleep(_POLL_SECONDS)


def _new_index(table: Table, part: Part, held: Held) -> dict[str, Any]:
    """Return the part of `UpdateTable` that adds one secondary index."""
    index = next(index for index in table.indexes if part.name == f"{table.name}/{index.name}")
    wanted = {name: table.kinds[name] for name in index.attributes}
    return {
        "AttributeDefinitions": attribute_definitions(wanted | held.kinds),
        "GlobalSecondaryIndexUpdates": [{"Create": index_request(index, held.units)}],
    }
