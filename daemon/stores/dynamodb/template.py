"""The tables as a CloudFormation template, for those who make tables themselves.

Owns the template's form. Pure; made of the one definition of tables that the daemon itself uses.

Invariant: deleting the stack, or replacing a table in it, leaves the table and its rows.
"""

import re
from collections.abc import Iterable
from typing import Any

from daemon.stores.dynamodb.tables import Table

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9]+")


def cloudformation(tables: Iterable[Table]) -> dict[str, Any]:
    """Return the template that makes these tables, keyed by an id made of each table's name."""
    resources: dict[str, Any] = {}
    for table in tables:
        name = _logical_id(table.name)
        while name in resources:  # two names may differ in signs alone
            name += "X"
        resources[name] = _resource(table)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Tables of projectiond, as `projectiond init --print` gives them.",
        "Resources": resources,
    }


def _resource(table: Table) -> dict[str, Any]:
    properties = table.create_request()
    if table.expiry is not None:
        properties["TimeToLiveSpecification"] = {"AttributeName": table.expiry, "Enabled": True}
    if table.care.recovery:
        properties["PointInTimeRecoverySpecification"] = {"PointInTimeRecoveryEnabled": True}
    return {
        "Type": "AWS::DynamoDB::Table",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": properties,
    }


def _logical_id(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in _NOT_IN_IDS.split(name)) + "Table"
