"""What goes on beside a table's requests: expiry of items, continuous backups.

Owns TTL and point-in-time recovery as settings, and removing what has expired. Must not know requests for items.

Invariant: nothing expires by itself: the service promises days, so a test says when.
"""

from decimal import Decimal
from typing import Any

from daemon.testing.dynamodb.catalog import known
from daemon.testing.dynamodb.database import Database
from daemon.testing.dynamodb.errors import ServiceError, invalid
from daemon.testing.dynamodb.parameters import require, take
from daemon.testing.dynamodb.tables import Table

TTL_CHANGE_SECONDS = 3600.0
TTL_OLDEST_SECONDS = 5 * 365 * 86400


def update_time_to_live(database: Database, body: Any) -> dict[str, Any]:
    """UpdateTimeToLive: one change an hour."""
    request = take(body, {"TableName": str, "TimeToLiveSpecification": dict})
    require(request, "TableName", "TimeToLiveSpecification")
    table = known(database, request["TableName"])
    wanted = take(request["TimeToLiveSpecification"], {"AttributeName": str, "Enabled": bool})
    require(wanted, "AttributeName", "Enabled")
    settings, now = table.settings, database.clock.monotonic()
    if wanted["Enabled"] == (settings["ttl"] is not None):
        raise invalid(f"TimeToLive is already {'enabled' if wanted['Enabled'] else 'disabled'}")
    if settings["ttl_changed"] is not None and now - settings["ttl_changed"] < TTL_CHANGE_SECONDS:
        raise invalid("Time to live has been modified multiple times within a fixed interval")
    if not wanted["Enabled"] and wanted["AttributeName"] != settings["ttl"]:
        raise invalid(f"TimeToLive is active on a different AttributeName: current AttributeName is {settings['ttl']}")
    settings["ttl"] = wanted["AttributeName"] if wanted["Enabled"] else None
    settings["ttl_changed"] = now
    return {"TimeToLiveSpecification": wanted}


def describe_time_to_live(database: Database, body: Any) -> dict[str, Any]:
    """DescribeTimeToLive."""
    table = known(database, take(body, {"TableName": str}).get("TableName"))
    name = table.settings["ttl"]
    shown = {"TimeToLiveStatus": "DISABLED"} if name is None else {"TimeToLiveStatus": "ENABLED", "AttributeName": name}
    return {"TimeToLiveDescription": shown}


def _backups(table: Table) -> dict[str, Any]:
    status = "ENABLED" if table.settings["backups"] else "DISABLED"
    return {
        "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": status},
        }
    }


def describe_continuous_backups(database: Database, body: Any) -> dict[str, Any]:
    """DescribeContinuousBackups."""
    return _backups(_known_for_backups(database, take(body, {"TableName": str}).get("TableName")))


def update_continuous_backups(database: Database, body: Any) -> dict[str, Any]:
    """UpdateContinuousBackups."""
    request = take(body, {"TableName": str, "PointInTimeRecoverySpecification": dict})
    require(request, "TableName", "PointInTimeRecoverySpecification")
    table = _known_for_backups(database, request["TableName"])
    wanted = take(
        request["PointInTimeRecoverySpecification"], {"PointInTimeRecoveryEnabled": bool, "RecoveryPeriodInDays": int}
    )
    require(wanted, "PointInTimeRecoveryEnabled")
    table.settings["backups"] = wanted["PointInTimeRecoveryEnabled"]
    return _backups(table)


def _known_for_backups(database: Database, given: Any) -> Table:
    try:
        return known(database, given)
    except ServiceError:
        raise ServiceError("TableNotFoundException", f"Table not found: {given}") from None


def expire(database: Database, table: Table) -> int:
    """Remove what TTL may remove now; return how many. The service takes its time: nothing happens by itself here."""
    name = table.settings["ttl"]
    if name is None:
        return 0
    now = database.clock.now().timestamp()
    gone = [
        key
        for key, record in table.records.items()
        if "N" in (value := record.item.get(name, {}))
        and Decimal(now - TTL_OLDEST_SECONDS) < Decimal(value["N"]) < Decimal(now)
        and key not in table.holders
    ]
    for key in gone:
        table.store(key, None, database.clock.monotonic())
    return len(gone)
