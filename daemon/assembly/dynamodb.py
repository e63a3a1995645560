"""The DynamoDB store from settings: its connections, and the refusal of endpoints that are not AWS.

Apart from `daemon.assembly.stores`, since the AWS SDK takes a second to import and no other store needs it.

Invariant: a stand-in for AWS is reached only where the settings allow it by name, whoever pointed there: settings,
environment or the SDK's files.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.core.errors import SettingsProblem
from daemon.core.identity import Generation
from daemon.core.projection import Index
from daemon.ports.clock import Clock
from daemon.ports.observer import Observer, UnitsConsumed
from daemon.settings import DynamoDbStoreSettings
from daemon.stores.dynamodb import Care, DynamoDbStore, Tuning
from daemon.stores.dynamodb.tables import Tables
from daemon.stores.dynamodb.template import cloudformation
from daemon.wire.aws_access import AwsAccess, Pools, PoolSizes, aws_session
from daemon.wire.aws_http import Endpoint, HttpLimits
from daemon.wire.aws_json import DYNAMODB, AwsJson
from daemon.wire.aws_sdk import SdkJson


def dynamodb_store(store: DynamoDbStoreSettings, clock: Clock, observer: Observer) -> DynamoDbStore:
    """Build the store, unopened. `observer` is told what it consumes outside commits."""
    return DynamoDbStore(
        connecting(store),
        clock,
        prefix=store.prefix,
        tuning=tuning_of(store),
        care=care_of(store),
        administer=administering(store),
        create_tables=store.create_tables,
        consumed=lambda generation, units: observer.see(UnitsConsumed(generation, units)),
    )


def tuning_of(store: DynamoDbStoreSettings) -> Tuning:
    """Turn settings into the store's times."""
    return Tuning(
        commit_deadline=store.commit_request_seconds,
        read_deadline=store.read_request_seconds,
        patience=store.patience_seconds,
        opening=0.0,  # whoever opens it waits, and tells of each try
    )


def care_of(store: DynamoDbStoreSettings) -> Care:
    """Turn settings into how tables are billed and guarded."""
    return Care(
        (store.provisioned_read_units, store.provisioned_write_units) if store.billing == "provisioned" else None,
        store.point_in_time_recovery,
        store.deletion_protection,
    )


def access_of(store: DynamoDbStoreSettings) -> AwsAccess:
    """Build what makes clients of the SDK's session. Raises SettingsProblem for a profile that does not exist."""
    return AwsAccess(
        aws_session(profile=store.profile, region=store.region),
        region=store.region,
        ca_bundle=store.ca_file,
        proxies_from_env=store.proxy_from_environment,
    )


async def endpoint_of(store: DynamoDbStoreSettings, access: AwsAccess) -> Endpoint:
    """Return where the store's requests go. Raises SettingsProblem, for a stand-in that is not allowed too."""
    endpoint = await access.endpoint(DYNAMODB, store.endpoint_url)
    if endpoint.test and not store.allow_test_endpoint:
        named = "store.endpoint_url" if store.endpoint_url else "the environment or a file of the AWS SDK"
        raise SettingsProblem(
            f"{named} points DynamoDB at {endpoint.url}, which is not AWS over https; correct it, or set "
            "store.allow_test_endpoint = true if an emulator or a tunnel is what you mean"
        )
    return endpoint


@dataclass(frozen=True, slots=True)
class AwsConnections:
    """The three clients of one store, and what made them."""

    access: AwsAccess
    pools: Pools

    @property
    def commits(self) -> AwsJson:
        """For commits."""
        return self.pools.commits

    @property
    def reads(self) -> AwsJson:
        """For rows, markers and lists."""
        return self.pools.reads

    @property
    def leases(self) -> AwsJson:
        """For checkpoints and tables."""
        return self.pools.leases

    async def aclose(self) -> None:
        """Close the clients, and end a reading of credentials."""
        await self.access.aclose()


def connecting(store: DynamoDbStoreSettings) -> Callable[[], Awaitable[AwsConnections]]:
    """Return what a store connects with."""

    async def connect() -> AwsConnections:
        access = access_of(store)
        sizes = PoolSizes(store.commit_connections, store.read_connections, store.lease_connections)
        limits = HttpLimits(connect_seconds=store.connect_timeout_ms / 1000)
        return AwsConnections(access, access.pools(await endpoint_of(store, access), sizes, limits))

    return connect


def administering(store: DynamoDbStoreSettings) -> Callable[[], Awaitable[AwsJson]]:
    """Return what makes the SDK's own client, for admin calls."""

    async def administer() -> AwsJson:
        access = access_of(store)
        return await SdkJson.opened(access.sdk_client(await endpoint_of(store, access)))

    return administer


def template_of(
    store: DynamoDbStoreSettings, generations: Mapping[Generation, Sequence[Index]], *, own: bool
) -> dict[str, Any]:
    """Return the CloudFormation template of these generations' rows, and of the daemon's `own` tables before them."""
    tables = Tables(store.prefix, care_of(store))
    rows = [tables.of_generation(generation, indexes) for generation, indexes in generations.items()]
    return cloudformation([*(tables.own() if own else ()), *rows])
