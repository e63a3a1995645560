"""The independent check where the rows are in DynamoDB: read by plain scans of the AWS SDK, then compared as ever.

Owns the way from items to the rows that `check` compares. Uses the SDK and `check`, and like that nothing of the
daemon: any client could read the rows so. Credentials come from the environment.

Run it as `python -m daemon.demo.check_dynamodb --csv flights.csv --endpoint URL --prefix NAME --region NAME`. Exit
status: as for `check`.

Invariants: it only reads, and consistently. An item is compared in all its attributes but its key and those whose names
begin with an underscore, which are the daemon's bookkeeping.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import boto3  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from daemon.demo.check import MODELS, CannotCheck, check_rows
from daemon.demo.check.__main__ import parser_of, told
from daemon.demo.check.found import Key, named

_KEYS = {"key", "view"}
_SDK = Config(retries={"mode": "standard", "total_max_attempts": 4}, proxies={})
"""As the daemon: no proxy of the environment's. An answer that does not come is soon told."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print the report and return the exit status."""
    parser = parser_of("python -m daemon.demo.check_dynamodb")
    option = parser.add_argument
    option("--endpoint", required=True, metavar="URL", help="where DynamoDB answers")
    option("--prefix", required=True, metavar="NAME", help="what the tables' names begin with")
    option("--region", required=True, metavar="NAME", help="the AWS region")
    options = parser.parse_args(arguments)
    models = [model for model in MODELS if model in options.models]
    return told(
        lambda: check_rows(
            options.csv,
            read_tables(
                options.endpoint,
                options.region,
                {model: f"{options.prefix}-{model}-g{options.generation:d}" for model in models},
            ),
            months=options.months,
            limit=options.limit,
        ),
        as_json=options.json,
    )


def read_tables(endpoint: str, region: str, tables: Mapping[str, str]) -> dict[str, dict[Key, str]]:
    """Return the attributes (JSON text) of each row of these tables, by their read models. Raises CannotCheck."""
    try:
        client = cast("Any", boto3).client("dynamodb", region_name=region, endpoint_url=endpoint, config=_SDK)
        return {model: _rows(client, table) for model, table in tables.items()}
    except (BotoCoreError, ClientError, ValueError) as error:
        raise CannotCheck(f"the rows cannot be read from {endpoint}: {error}; has the daemon run there?") from error


def _rows(client: Any, table: str) -> dict[Key, str]:
    found: dict[Key, str] = {}
    for page in client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for item in cast("list[dict[str, Any]]", page["Items"]):
            key, view = str(item["key"]["S"]), str(item["view"]["S"])
            name = key if view == "main" else (key, view)
            if name in found:
                raise CannotCheck(f"table {table!r} gives {named(name)} twice")
            found[name] = json_of(item)
    return found


def json_of(item: Mapping[str, Mapping[str, Any]]) -> str:
    """Return an item's own attributes as JSON in which every number keeps its digits. Raises CannotCheck."""
    return f"{{{', '.join(_entries(item))}}}"


def _entries(item: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, value in item.items():
        if name not in _KEYS and not name.startswith("_"):
            yield f"{json.dumps(name)}: {_json(value)}"


def _json(value: Mapping[str, Any]) -> str:
    ((kind, held),) = value.items()
    match kind:
        case "N":
            return str(held)
        case "S" | "BOOL":
            return json.dumps(held)
        case "NULL":
            return "null"
        case _:  # no read model of the demonstration's holds one: it is told as a text that is not expected
            return json.dumps(f"{kind} {held!r}")


if __name__ == "__main__":
    sys.exit(main())
