"""Tables made and verified by the store itself, as far as its role may.

Owns the calls that make tables active and expiring. Must not know what is in them.

Invariants: what exists is never changed, but for expiry that is off where it has to be on; a table is used only once it
is active.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.core.errors import StoreRefused, StoreUnavailable
from daemon.stores.dynamodb.calls import Caller, is_code
from daemon.stores.dynamodb.outcomes import MISSING, RIGHTS, problem_of
from daemon.stores.dynamodb.plan import check_keys
from daemon.stores.dynamodb.tables import Table
from daemon.wire.aws_json import Answer, Success

_POLL_SECONDS = 0.2
_USABLE = frozenset({"ACTIVE", "UPDATING"})


@dataclass(slots=True)
class Upkeep:
    """Makes what is missing. `create`: whether it may; otherwise a missing table is refused with its remedy."""

    caller: Caller
    create: bool = True

    async def ensure(self, table: Table) -> None:
        """Have a table active and expiring. Raises StoreRefused, StoreUnavailable."""
        made = False
        if await self._status(table) is None:
            await self._make(table)
            made = True
        await self._until_active(table)
        if table.expiry is not None:
            await self._expire(table, made=made)
        if made and table.care.recovery:
            request = {"PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
            await self.caller.body("UpdateContinuousBackups", {"TableName": table.name, **request})

    async def _status(self, table: Table) -> str | None:
        """Return a table's status, None when there is none."""

        async def attempt() -> str | None:
            answer = await self.caller.once("DescribeTable", {"TableName": table.name})
            if isinstance(answer, Success):
                held = answer.body["Table"]
                check_keys(table, held)
                return held["TableStatus"]
            if is_code(answer, *MISSING):
                return None
            raise problem_of(answer)

        return await self.caller.patiently(attempt)

    async def _make(self, table: Table) -> None:
        if not self.create:
            raise StoreRefused(f"table {table.name} is missing; run `projectiond init`")

        async def attempt() -> None:
            answer = await self.caller.once("CreateTable", table.create_request())
            if isinstance(answer, Success) or is_code(answer, "ResourceInUseException"):
                return
            if is_code(answer, *RIGHTS):
                raise StoreRefused(f"table {table.name} is missing and cannot be made here: {problem_of(answer)}")
            raise problem_of(answer)

        await self.caller.patiently(attempt)

    async def _until_active(self, table: Table) -> None:
        clock, patience = self.caller.clock, self.caller.tuning.table_patience
        since = clock.monotonic()
        while (status := await self._status(table)) not in _USABLE:
            if clock.monotonic() - since > patience:
                raise StoreUnavailable(
                    f"table {table.name} is {status} after {patience:g} s; look at it in the console"
                )
            await clock.sleep(_POLL_SECONDS)

    async def _expire(self, table: Table, *, made: bool) -> None:
        forbidden = () if made else RIGHTS
        answer = await self._answered("DescribeTimeToLive", {"TableName": table.name}, forbidden)
        if not isinstance(answer, Success):
            return  # `projectiond check` looks at it with other rights; items that stay longer harm nobody
        held = answer.body["TimeToLiveDescription"]
        if held.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}:
            if held.get("AttributeName") != table.expiry:
                raise StoreRefused(
                    f"table {table.name} expires by attribute {held.get('AttributeName')!r}, not {table.expiry!r}; "
                    "switch its time to live off, then run `projectiond init`"
                )
            return
        request = table.expiry_request()
        if request is None:  # pragma: no cover - asked only for tables that expire
            return
        # Another replica may have been faster; the next start verifies it.
        await self._answered("UpdateTimeToLive", request, ("ValidationException", "ResourceInUseException"))

    async def _answered(self, operation: str, request: Mapping[str, Any], tolerated: Collection[str]) -> Answer:
        """Make a call until it succeeds or meets a tolerated code, as long as patience lasts. Raises StoreProblem."""

        async def attempt() -> Answer:
            answer = await self.caller.once(operation, request)
            if isinstance(answer, Success) or is_code(answer, *tolerated):
                return answer
            raise problem_of(answer)

        return await self.caller.patiently(attempt)
