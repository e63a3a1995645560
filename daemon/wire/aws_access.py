"""From an aioboto3 session to calls: region, endpoint, keys, and one pool of connections for each kind of traffic.

Owns which endpoint a service has and whether that is a stand-in, and the clients made of one session. Must not know
what is called. The SDK decides what the environment, its files and roles come to, so hot calls and admin calls agree.

Invariant: every client made here is closed by `AwsAccess.aclose`.
"""

import os
import ssl
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aioboto3  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError  # pyright: ignore[reportMissingTypeStubs]
from botocore.httpsession import get_cert_path  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from botocore.loaders import Loader  # pyright: ignore[reportMissingTypeStubs]

from daemon.core.errors import SettingsProblem
from daemon.wire.aws_credentials import Credentials, CredentialsSession
from daemon.wire.aws_http import AwsJsonClient, Endpoint, HttpLimits
from daemon.wire.aws_json import AwsJson, Service


class AwsSession(CredentialsSession, Protocol):
    """What is used here of `aioboto3.Session`."""

    @property
    def region_name(self) -> str | None:
        """The region that the environment or the profile names."""
        ...

    def client(
        self, service_name: str, *, region_name: str | None = None, endpoint_url: str | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """Make an SDK client, which knows its endpoint."""
        ...


def aws_session(
    *, profile: str | None = None, region: str | None = None, keys: tuple[str, str, str | None] | None = None
) -> AwsSession:
    """Make a session; `keys` (public, secret, session token) stand for whatever the environment has, as fakes want it.

    Raises SettingsProblem for a profile that does not exist.
    """
    public, secret, token = keys or (None, None, None)
    # Platforms and every other SDK set and read AWS_REGION; botocore knows AWS_DEFAULT_REGION alone.
    region = region or os.environ.get("AWS_REGION")
    try:
        session = aioboto3.Session(public, secret, token, region, profile_name=profile)
    except BotoCoreError as error:
        raise SettingsProblem(f"no AWS session with profile {profile!r}: {error}") from error
    return cast("AwsSession", cast("object", session))  # the library has no types


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """How many connections each kind of traffic has for itself."""

    commits: int = 32
    reads: int = 16
    leases: int = 4


@dataclass(frozen=True, slots=True)
class Pools:
    """One service's calls three times over, so that no kind of traffic waits behind another."""

    commits: AwsJson
    reads: AwsJson
    leases: AwsJson

    async def aclose(self) -> None:
        """Close all three."""
        for client in (self.commits, self.reads, self.leases):
            await client.aclose()


class AwsAccess:
    """Makes clients of one session, all under the same keys.

    `region` overrides the session's; `ca_bundle` is a file of certificates (default: AWS_CA_BUNDLE, else the SDK's
    own); proxies named in the environment are used only with `proxies_from_env`.
    """

    def __init__(
        self,
        session: AwsSession,
        *,
        region: str | None = None,
        ca_bundle: str | None = None,
        proxies_from_env: bool = False,
    ) -> None:
        self.credentials = Credentials(session)
        self._session = session
        self._region = region
        self._ca_bundle = ca_bundle
        self._proxies_from_env = proxies_from_env
        self._tls: ssl.SSLContext | None = None
        self._clients: list[AwsJsonClient] = []

    async def endpoint(self, service: Service, endpoint_url: str | None = None) -> Endpoint:
        """Return where a service's calls go: to `endpoint_url`, else where the SDK would send them.

        The SDK may have been pointed at a stand-in by its own environment or files: look at the result's `test`, not at
        the setting. Raises SettingsProblem.
        """
        region = self._region or self._session.region_name
        if endpoint_url is None:
            try:
                async with self._session.client(service.client, region_name=region) as client:
                    meta = client.meta
                    endpoint_url, region = cast("str", meta.endpoint_url), cast("str", meta.region_name)
            except (BotoCoreError, ValueError) as error:
                raise SettingsProblem(f"no endpoint for {service.client} in region {region!r}: {error}") from error
        if not region:
            raise SettingsProblem(f"no region for {service.client}; set AWS_REGION, a profile's region or the setting")
        return Endpoint(service, base_url(endpoint_url), region, is_test_endpoint(endpoint_url))

    def client(self, endpoint: Endpoint, limits: HttpLimits | None = None) -> AwsJsonClient:
        """Return a client with connections of its own. Call it inside a running event loop."""
        tls = self._tls_context() if endpoint.url.startswith("https:") else None
        proxy = _proxy_for(endpoint.url) if self._proxies_from_env else None
        client = AwsJsonClient(self.credentials, endpoint, limits, tls=tls, proxy=proxy)
        self._clients.append(client)
        return client

    def pools(self, endpoint: Endpoint, sizes: PoolSizes | None = None, limits: HttpLimits | None = None) -> Pools:
        """Return three clients, each with `limits` but its own number of connections."""
        sizes, limits = sizes or PoolSizes(), limits or HttpLimits()
        return Pools(*(
            self.client(endpoint, replace(limits, connections=each))
            for each in (sizes.commits, sizes.reads, sizes.leases)
        ))  # fmt: skip

    def sdk_client(self, endpoint: Endpoint) -> AbstractAsyncContextManager[Any]:
        """Return the SDK's own client of the same service, for what is not hot; made and closed by `async with`."""
        return self._session.client(
            endpoint.service.client, region_name=endpoint.region, endpoint_url=endpoint.url.removesuffix("/")
        )

    async def aclose(self) -> None:
        """Close every client made here, and end a reading of credentials."""
        for client in self._clients:
            await client.aclose()
        await self.credentials.aclose()

    def _tls_context(self) -> ssl.SSLContext:
        """Trust whom the SDK trusts, so that hot calls reach what admin calls reach."""
        if self._tls is None:
            configured = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
            path = self._ca_bundle or configured or get_cert_path(True)
            try:
                self._tls = ssl.create_default_context(cafile=path)
            except (OSError, ssl.SSLError) as error:
                raise SettingsProblem(f"the certificates in {path} cannot be used: {error}; name a PEM file") from error
        return self._tls


def base_url(endpoint_url: str) -> str:
    """Return the URL that every call of an endpoint is posted to. Raises SettingsProblem for what cannot be one."""
    remedy = "write https://host[:port][/path]"
    try:
        parts = urlsplit(endpoint_url)
        _ = parts.port  # raises beyond 65535
    except ValueError as error:
        raise SettingsProblem(f"endpoint {endpoint_url!r} is no URL: {error}; {remedy}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise SettingsProblem(f"endpoint {endpoint_url!r} is not an http(s) URL without user and query; {remedy}")
    return endpoint_url.rstrip("/") + "/"


def is_test_endpoint(url: str) -> bool:
    """Tell whether an endpoint is anything but AWS itself over https: a fake, an emulator, a tunnel."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme != "https" or not host.endswith(_aws_suffixes())


@cache
def _aws_suffixes() -> tuple[str, ...]:
    """Return the domains of every AWS partition, as botocore's own data has them."""
    partitions = cast("Any", Loader()).load_data("partitions")["partitions"]
    names = ("dnsSuffix", "dualStackDnsSuffix")
    return tuple({f".{partition['outputs'][name]}" for partition in partitions for name in names})


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
