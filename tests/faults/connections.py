"""Real connections to the strict server: credentials that expire, connections that break, fall silent or lie.

Time is real here.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from aiobotocore.credentials import AioRefreshableCredentials  # pyright: ignore[reportMissingTypeStubs]

from daemon.core.recovery import RetryPolicy
from daemon.stores.dynamodb import Tuning
from daemon.testing.dynamodb import Drop, Fault, LoseAnswer
from daemon.testing.dynamodb.http import HttpServer
from daemon.testing.dynamodb.signatures import Credentials as Known
from daemon.wire.aws_credentials import Credentials, SessionCredentials
from daemon.wire.aws_http import AwsJsonClient, Endpoint, HttpLimits
from daemon.wire.aws_json import DYNAMODB, AwsJson
from tests.faults.kinds import caught_up, fired, scenario, two_shards
from tests.support.trial import WRITE, Trial


@dataclass
class Provider:
    """Gives out temporary keys, each newer than the last; `away`: cannot now."""

    known: Known
    given: int = 0
    asked: int = 0
    away: bool = False

    async def get_credentials(self) -> SessionCredentials:
        """Begin with a key, as a session does."""
        keys = await self.fetch()
        end = datetime.now(UTC) + timedelta(hours=6)
        return AioRefreshableCredentials(keys["access_key"], keys["secret_key"], keys["token"], end, self.fetch, "test")

    async def fetch(self) -> dict[str, str]:
        """Give out the next key."""
        self.asked += 1
        if self.away:
            raise OSError("no metadata service")
        self.given += 1
        self.known.secrets[f"KEY{self.given}"] = "secret"
        end = datetime.now(UTC) + timedelta(hours=6)
        return {
            "access_key": f"KEY{self.given}", "secret_key": "secret", "token": "t", "expiry_time": end.isoformat(),
        }  # fmt: skip

    def expire(self) -> None:
        """Let every key that was given out expire now."""
        self.known.expired.update(self.known.secrets)


@dataclass
class Wired:
    """A trial whose processes reach the server by HTTP."""

    trial: Trial
    provider: Provider
    clock: float = 0.0
    clients: list[AwsJsonClient] = field(default_factory=list[AwsJsonClient])


@asynccontextmanager
async def wired(trial: Trial) -> AsyncGenerator[Wired]:
    """Put a trial's server behind a socket."""
    known = Known()
    provider = Provider(known)
    async with HttpServer(trial.server, credentials=known) as http:
        site = Wired(trial, provider)
        credentials = Credentials(provider, lambda: site.clock)
        endpoint = Endpoint(DYNAMODB, f"{http.url}/", "us-east-1", test=True)

        def connect(_name: str) -> AwsJson:
            client = AwsJsonClient(credentials, endpoint, HttpLimits(connections=2))
            site.clients.append(client)
            return client

        trial.connect = connect
        try:
            yield site
        finally:
            for client in site.clients:
                await client.aclose()
            await credentials.aclose()


def quick(mode: str, seed: int) -> Trial:
    """A trial that has no time to lose."""
    tuning = Tuning(commit_deadline=0.1, read_deadline=0.1, initial_backoff=0.005, max_backoff=0.02)
    trial = Trial(two_shards(seed, 80), mode=mode, seed=seed, tuning=tuning, latency_seconds=0.0, hold_seconds=0.0)
    retry = RetryPolicy(initial_backoff=0.005, max_backoff=0.02)
    trial.policy = replace(trial.policy, retry=retry)
    return trial


@scenario(16, "credentials expire", virtual=False)
async def credentials_expire(mode: str, seed: int) -> int:
    """Temporary keys expire amid the work, once while their provider is away; over HTTP, signatures checked."""
    trial = quick(mode, seed)
    async with wired(trial) as site, trial.process() as process:
        total, times = trial.expected.read, 5
        for number in range(times):
            await trial.until(lambda number=number: trial.settled >= total * number // (times + 1) + 1)
            site.clock += 60.0
            site.provider.away = number == 2
            site.provider.expire()
            if site.provider.away:
                settled, asked = trial.settled, site.provider.asked
                await trial.until(lambda asked=asked: site.provider.asked > asked)
                assert trial.settled <= settled + 4 * 12, "what was answered before the keys expired may still count"
                site.clock += 60.0
                site.provider.away = False
        await caught_up(trial, process)
        assert site.provider.given > times / 2
    trial.check()
    return times


@scenario(14, "half-open and broken connections", virtual=False)
async def broken_connections(mode: str, seed: int) -> int:
    """Real connections stay open in silence, are reset, or bring half an answer or one with a wrong checksum."""
    trial = quick(mode, seed)
    actions = (
        Drop("hang"), LoseAnswer("hang"), Drop("reset"), LoseAnswer("reset"), LoseAnswer("cut"), LoseAnswer("crc"),
    )  # fmt: skip
    faults = [Fault(actions[n % 6], WRITE, nth=2 * n + 2) for n in range(12)]
    reads = [Fault(Drop("hang"), "BatchGetItem", nth=3), Fault(LoseAnswer("cut"), "GetItem", nth=3)]
    trial.server.faults.add(*faults, *reads)
    async with wired(trial):
        await trial.settle()
    assert fired(faults) >= len(actions)
    trial.check()
    return fired(faults) + fired(reads)
