"""The demonstration on DynamoDB: a durable Dynoxide of its own, or a server that is given; and its progress.

Owns who the server is, what its tables are called, and reading checkpoints from it. Must not know how the daemon is
run. Imported only where it is used: the AWS SDK takes a second.

Invariants: a shell's keys and endpoints never lead to AWS unless --endpoint names it. On a server that is given, the
tables begin with a name that nobody else's do, and are removed when the block is left.
"""

import shlex
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import environ
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit
from uuid import uuid4

import boto3  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - the SDK's own
    HTTPClientError,
)

from daemon.core.errors import SettingsProblem, StoreRefused, StoreUnavailable
from daemon.core.identity import Generation, Scope
from daemon.core.positions import position_text
from daemon.demo.manifest import Manifest
from daemon.demo.place import DemoDirectory
from daemon.demo.report import FOLLOWED
from daemon.demo.services.cache import ServiceMissing, WrongDigest
from daemon.demo.services.dynoxide import Dynoxide, fetch_dynoxide
from daemon.demo.stores import store_setting
from daemon.demo.tail import ROW
from daemon.demo.watch import Look, ShardLook
from daemon.stores.dynamodb.items import CHECKPOINT, checkpoint_of, scope_key
from daemon.stores.dynamodb.tables import Tables

_ANY_KEYS = {"AWS_ACCESS_KEY_ID": "AKIDDEMO", "AWS_SECRET_ACCESS_KEY": "demo"}
"""For servers that take any keys."""
_KEYS_GIVEN = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE"}
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_REGION = "us-east-1"
_SDK = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2}, proxies={})


@dataclass(frozen=True, slots=True)
class DynamoDbDemo:
    """One prefix of tables on one server. `any_keys`: it takes any keys, so that none of a person's are used."""

    directory: DemoDirectory
    endpoint: str
    prefix: str
    region: str
    any_keys: bool

    def settings(self) -> Mapping[str, str]:
        """Return the section `store`."""
        return store_setting(
            {
                "kind": "dynamodb",
                "prefix": self.prefix,
                "region": self.region,
                "endpoint_url": self.endpoint,
                "allow_test_endpoint": True,
            }
        )

    def environment(self, inherited: Mapping[str, str]) -> Mapping[str, str]:
        """Return it, with keys that anybody may have in place of a person's where they do."""
        if not self.any_keys:
            return inherited
        return {name: value for name, value in inherited.items() if not name.startswith("AWS_")} | _ANY_KEYS

    def forget(self) -> None:
        """Remove the daemon's earlier log; the tables are new."""
        self.directory.daemon_log.unlink(missing_ok=True)

    def settle(self) -> None:
        """Do nothing: the server is in order by itself."""

    def watcher(self, manifest: Manifest | None) -> "DynamoDbWatcher":
        """Return what looks at the checkpoints of these logs' shards."""
        return DynamoDbWatcher(self, manifest)

    def check_command(self) -> Sequence[str]:
        """Return the check of tables."""
        where = ("--endpoint", self.endpoint, "--prefix", self.prefix, "--region", self.region)
        return ("daemon.demo.check_dynamodb", *where)

    def show_row(self) -> str:
        """Return a call of the AWS command line."""
        keys = [f"{name}={value}" for name, value in _ANY_KEYS.items()] if self.any_keys else []
        key = f'{{"key": {{"S": "{ROW}"}}, "view": {{"S": "main"}}}}'
        table = Tables(self.prefix).rows(Generation("board", 1))
        words = ["aws", "dynamodb", "get-item", "--endpoint-url", self.endpoint, "--region", self.region]
        return shlex.join([*keys, *words, "--table-name", table, "--key", key])

    def client(self) -> Any:
        """Make a client of the SDK."""
        keys = tuple(_ANY_KEYS.values()) if self.any_keys else (None, None)
        session = cast("Any", boto3).Session(*keys, region_name=self.region)
        return session.client("dynamodb", endpoint_url=self.endpoint, config=_SDK)

    def ask(self) -> None:
        """See whether it answers as DynamoDB. Raises StoreUnavailable, StoreRefused, SettingsProblem."""
        try:
            self.client().list_tables(Limit=1)
        except (ConnectionError, HTTPClientError) as error:
            raise StoreUnavailable(
                f"no DynamoDB answers at {self.endpoint} ({error}); start that server, or correct --endpoint"
            ) from error
        except ClientError as error:
            raise StoreRefused(
                f"{self.endpoint} refuses to list tables ({error}); correct --endpoint, the keys in the environment "
                "or AWS_REGION"
            ) from error
        except (BotoCoreError, ValueError) as error:
            raise SettingsProblem(
                f"{self.endpoint} cannot be asked as DynamoDB ({error}); correct --endpoint"
            ) from error

    def remove_tables(self, say: Callable[[str], None]) -> None:
        """Remove every table of the prefix, telling of those that remain."""
        tables = Tables(self.prefix)
        names = [table.name for table in tables.own()]
        names += [tables.rows(Generation(followed.projection, 1)) for followed in FOLLOWED]
        client = self.client()
        for name in names:
            try:
                with suppress(client.exceptions.ResourceNotFoundException):
                    client.delete_table(TableName=name)
            except (BotoCoreError, ClientError) as error:
                say(f"table {name} of {self.endpoint} remains ({error}); remove it yourself")


@contextmanager
def started(directory: DemoDirectory, say: Callable[[str], None]) -> Generator[DynamoDbDemo]:
    """Start a Dynoxide that keeps what it acknowledges in the directory, empty, for the time of the block.

    Raises SettingsProblem when it cannot be had, ServiceFailed when it does not start.
    """
    try:
        fetch_dynoxide(say)
    except (ServiceMissing, WrongDigest, OSError, subprocess.SubprocessError) as error:
        raise SettingsProblem(
            f"dynoxide, the DynamoDB that the demonstration starts, is not there: {error}. `make fetched` in a "
            "checkout fetches it; or name a running server with --endpoint"
        ) from error
    directory.forget_results()
    with Dynoxide(directory.dynamodb, directory.path) as server:
        say(f"DynamoDB: dynoxide at {server.endpoint}, durable in {directory.dynamodb}")
        yield DynamoDbDemo(directory, server.endpoint, "projectiond", _REGION, any_keys=True)


@contextmanager
def given(endpoint: str, directory: DemoDirectory, say: Callable[[str], None]) -> Generator[DynamoDbDemo]:
    """Use tables of a server for the time of the block. Raises SettingsProblem, StoreUnavailable, StoreRefused."""
    url = urlsplit(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise SettingsProblem(f"--endpoint {endpoint!r:.200} is no URL of a server; write http://host:port")
    aws = url.hostname.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
    region = next((environ[name] for name in _REGIONS if environ.get(name)), _REGION)
    any_keys = not aws and not any(environ.get(name) for name in _KEYS_GIVEN)
    store = DynamoDbDemo(directory, endpoint, f"projectiond-demo-{uuid4().hex[:8]}", region, any_keys)
    store.ask()
    directory.forget_results()
    say(f"DynamoDB: {endpoint}, tables {store.prefix}-*, removed at the end")
    try:
        yield store
    finally:
        store.remove_tables(say)


class DynamoDbWatcher:
    """Looks at the checkpoints of all shards, each by a consistent read of its own moment."""

    every = 0.1

    def __init__(self, store: DynamoDbDemo, manifest: Manifest | None) -> None:
        """Read nothing yet."""
        shards = manifest.shards if manifest else ()
        self._table = Tables(store.prefix).state
        scopes = [
            Scope(followed.projection, 1, followed.source, shard.file)
            for followed in FOLLOWED
            for shard in shards
            if shard.source == followed.source
        ]
        self._scopes = {scope_key(scope): scope for scope in scopes}
        self._client = store.client()
        self._last = Look()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections; the next look opens them again."""
        self._client.close()

    def look(self) -> Look:
        """Return what is committed now; what was seen last while the store cannot be read."""
        try:
            found = {item["pk"]["S"]: checkpoint_of(item) for item in self._items()}
        except (BotoCoreError, ClientError):
            return self._last  # the table is being made, or the server is busy
        self._last = Look([
            ShardLook(scope, position_text(checkpoint.position), checkpoint.state, checkpoint.reason,
            checkpoint.counters) for key, scope in self._scopes.items() if (checkpoint := found.get(key)) is not None
        ])  # fmt: skip
        return self._last

    def _items(self) -> list[Mapping[str, Mapping[str, Any]]]:
        keys = [{"pk": {"S": key}, "sk": {"S": CHECKPOINT}} for key in self._scopes]
        asked: dict[str, Any] = {self._table: {"Keys": keys, "ConsistentRead": True}} if keys else {}
        items: list[Mapping[str, Mapping[str, Any]]] = []
        while asked:
            answer = self._client.batch_get_item(RequestItems=asked)
            items += answer["Responses"].get(self._table, [])
            asked = answer.get("UnprocessedKeys") or {}
        return items
